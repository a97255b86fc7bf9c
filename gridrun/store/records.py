"""What the store keeps of a trial: a row in `trials.parquet` and one an epoch in `epochs.parquet`."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gridrun.store.from_json import read
from trainer.metrics import Epoch
from trainer.schema import without_none

Status = Literal["done", "diverged", "failed"]
"""done: trained to the last epoch. diverged: the loss became non-finite. failed: stopped by an error."""

Failure = Literal[
    "exception",
    "data",
    "gpu_memory",
    "host_memory",
    "worker_killed",
    "node_lost",
    "checkpoints",
    "divergence",
]
"""Why a trial is not done. exception: an error of the code or the config. data: the data set is not there.
gpu_memory, host_memory: there was too little. worker_killed: something killed its process. node_lost: the
machine was lost. checkpoints: their copies could not be read when it started. divergence: a non-finite
loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a result comes from."""

    commit: str | None = None
    """The commit of the code that trained it; None outside a git checkout."""
    dirty: bool | None = None
    """Whether that code had uncommitted changes."""
    gridrun_version: str | None = None
    trainer_version: int | None = None
    python_version: str | None = None
    torch_version: str | None = None
    cuda_version: str | None = None
    driver_version: str | None = None
    gpu: str | None = None
    cpu: str | None = None
    host: str | None = None
    device: str | None = None
    threads: int | None = None
    gpu_share: float | None = None
    """The fraction of a GPU that the trial had; None without a GPU."""
    user: str | None = None
    """Who launched it."""
    tag: str | None = None
    """What `launch --tag` said."""
    sources: str | None = None
    """Digests of the source files of what the config names (`trainer.sources`), as JSON by path."""


# Without slots, a field that `from_columns` does not set has its default from the class.
@dataclass(kw_only=True)
class Record:
    """A trial that has ended, with all that the store keeps of it."""

    trial_id: str
    config_id: str
    seed: int
    status: Status
    config: Mapping[str, Any]
    """Every option by dotted name (`TrainConfig.flat`)."""
    config_json: str
    """The canonical config, enough to run the trial again."""
    ended_at: str
    """UTC, ISO 8601."""
    test_error: float | None = None
    """At the last epoch, a fraction."""
    test_loss: float | None = None
    top5_error: float | None = None
    """At the last epoch; None for a data set of five classes or fewer."""
    best_test_error: float | None = None
    best_epoch: int | None = None
    train_loss: float | None = None
    train_error: float | None = None
    epochs_trained: int = 0
    train_seconds: float | None = None
    time_to_train_seconds: float | None = None
    """Preparation, training and the last test (`trainer.Result`)."""
    images_per_second: float | None = None
    peak_memory_mib: float | None = None
    energy_kwh: float | None = None
    """What its GPUs have taken, or on the CPU the CPU packages, tests and idle time included; None where that
    was not measured (`gridrun.energy`)."""
    num_params: int | None = None
    macs: int | None = None
    """Multiply-accumulates of the conv and linear layers, for one image."""
    checkpoint: str | None = None
    """Which weights `checkpoints/` has: `last` or `best`; None if it has none."""
    resumes: int = 0
    """How often the trial went on from a checkpoint."""
    compiled: bool | None = None
    """Whether a compiled network was trained, which rounds differently; None in records of early versions."""
    started_at: str | None = None
    """UTC, ISO 8601."""
    notes: str | None = None
    error: str | None = None
    """Why a trial failed or diverged, in one line."""
    traceback: str | None = None
    failure: Failure | None = None
    """Category of the failure; see `Failure`."""
    attempts: int = 1
    """Number of attempts up to and including this end, over all launches."""
    provenance: Provenance = Provenance()
    epochs: tuple[Epoch, ...] = ()

    @property
    def gpu_hours(self) -> float | None:
        """Hours of training steps, times GPUs or the part of one; None without a GPU."""
        share = self.provenance.gpu_share
        if self.provenance.gpu is None or share is None or self.train_seconds is None:
            return None
        num_gpus = measurement(self.config.get("num_gpus", 1))
        return None if num_gpus is None else self.train_seconds * num_gpus * min(share, 1.0) / 3600

    def without_weights(self, error: OSError) -> Record:
        """Return the record of a trial whose weights could not be written, with a note that says so."""
        note = f"the weights could not be kept: {error.strerror or error}"
        notes = "; ".join(filter(None, (self.notes, note)))
        return dataclasses.replace(self, checkpoint=None, notes=notes)

    def row(self) -> dict[str, Any]:
        """Return the trial's row: flat columns, config options under their dotted names."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in _NESTED}
        return {**own, **dataclasses.asdict(self.provenance), **self.config}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Record:
        """Make a record of one row of `trials.parquet`, or of some of its columns (`from_columns`)."""
        (record,) = cls.from_columns({name: [value] for name, value in row.items()}, 1)
        return record

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any]], length: int) -> list[Record]:
        """Make the records of `trials.parquet`, or of some of its columns.

        A missing column (older versions have fewer) and an impossible value give the field's default; for
        a measurement that is negative, infinite or a text, that is None. `config` has the options that are
        not null. `epochs` stays empty. Records may share their `config` and `provenance`.
        """
        checked = {name: [default] * length for name, default in _REQUIRED.items()}
        checked |= {name: _checked(name, values) for name, values in columns.items() if name in _CHECKS}
        sources = {name: checked.pop(name) for name in _PROVENANCE if name in checked}
        options = {name: values for name, values in columns.items() if name not in _CHECKS}
        # A table has a record for each trial, of a few columns: `__init__`, which sets all fields, is slow.
        records = [cls.__new__(cls) for _ in range(length)]
        for name, values in checked.items():
            for record, value in zip(records, values, strict=True):
                setattr(record, name, value)
        last = None
        for record, *row in zip(records, *sources.values(), *options.values(), strict=True):
            if row != last:  # most rows have the same as the row before
                last = row
                provenance = Provenance(**dict(zip(sources, row, strict=False)))
                given = zip(options, row[len(sources) :], strict=True)
                config = {key: value for key, value in given if value is not None}
            record.provenance, record.config = provenance, config
        return records

    def epoch_rows(self) -> list[dict[str, Any]]:
        """Return the epochs' rows, each with the trial's id."""
        return [{"trial_id": self.trial_id, **dataclasses.asdict(epoch)} for epoch in self.epochs]

    def to_json(self) -> str:
        """Return the record as one line of strict JSON."""
        return json.dumps(_fields(self), default=_fields, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote. Raises ValueError: the text is not such a record."""
        try:
            values = json.loads(text)
            # Refuse half a surrogate pair, NaN and infinity: they could not be written again.
            json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
            record = read(cls, values)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a trial record: {error}") from None
        if taken := TRIAL_TYPES.keys() & record.config.keys():
            raise ValueError(f"not a trial record: config: {min(taken)} is no option")
        for name, value in record.config.items():
            if not _is_option(value):
                raise ValueError(
                    f"not a trial record: config: {name}: {str(value)[:50]} is no value of an option"
                )
        return record


def _fields(made: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as a dict, without the deep copies that `dataclasses.asdict` makes."""
    return {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}


_MAX_DEPTH = 8
"""Of lists in lists; a config has two. Arrow writes files with deeper ones that it cannot read."""


def _is_option(value: Any, depth: int = 0) -> bool:
    """Return whether a config could hold a JSON value: a number, a text, a truth, null, or lists of these."""
    if isinstance(value, list):
        return depth < _MAX_DEPTH and all(_is_option(item, depth + 1) for item in value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63  # what a column holds
    return value is None or isinstance(value, str | float)


_NESTED = {"config", "provenance", "epochs"}


def _types(cls: type) -> dict[str, type]:
    """Return the plain type of each of a class's columns, `T` for `T | None`."""
    hints = typing.get_type_hints(cls)
    plain = {field.name: without_none(hints[field.name]) for field in dataclasses.fields(cls)}
    return {name: str if typing.get_origin(hint) is Literal else hint for name, hint in plain.items()}


TRIAL_TYPES = {name: hint for name, hint in _types(Record).items() if name not in _NESTED} | _types(
    Provenance
)
"""The type of every column but the config's: a column needs one before it has a value."""
EPOCH_TYPES = {"trial_id": str, **_types(Epoch)}
_EPOCH_FIELDS = _types(Epoch)


def epoch_of(row: Mapping[str, Any]) -> Epoch:
    """Return the epoch of a whole row of `epochs.parquet`."""
    return Epoch(**{name: row[name] for name in _EPOCH_FIELDS})


MAX_MEASUREMENT = 1e100
"""Larger than any float32; its square is still finite."""


def measurement(value: Any) -> float | None:
    """Return a measured value, or None if nobody can have measured it: NaN, infinite, negative, a text."""
    return value if type(value) in (int, float) and 0 <= value <= MAX_MEASUREMENT else None


def _count(value: Any) -> int | None:
    """Return a whole number; a column that was once widened to float has 5.0 for 5."""
    number = measurement(value)
    return None if number is None or number != int(number) else int(number)


_CHECK_OF: dict[type, Callable[[Any], Any]] = {
    float: measurement,
    int: _count,
    str: lambda value: value if type(value) is str else None,
    bool: lambda value: value if type(value) is bool else None,
}
_PROVENANCE = [field.name for field in dataclasses.fields(Provenance)]
_REQUIRED = {
    field.name: TRIAL_TYPES[field.name]()
    for field in dataclasses.fields(Record)
    if field.name in TRIAL_TYPES and field.default is dataclasses.MISSING
}
_CHECKS = {
    name: (_CHECK_OF[kind], _REQUIRED.get(name, getattr(Record, name, None)))
    for name, kind in TRIAL_TYPES.items()
}
"""Of each column but the config's: what returns a value if it is possible, else None; and the default."""


def _checked(name: str, values: Sequence[Any]) -> list[Any]:
    """Return a column with its default in place of nulls and impossible values."""
    check, default = _CHECKS[name]
    if values and values.count(values[0]) == len(values):  # as most columns: check one value for all
        found = check(values[0])
        return [default if found is None else found] * len(values)
    return [default if value is None else value for value in map(check, values)]


def is_trial_id(text: str) -> bool:
    """Return whether a text is 16 hex digits, and so safe as the name of a file."""
    return re.fullmatch(r"[0-9a-f]{16}", text) is not None


def about(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Split a row of `trials.parquet` into `trial`, `config` and `provenance`, without nulls."""
    parts: dict[str, dict[str, Any]] = {"trial": {}, "config": {}, "provenance": {}}
    for name, value in row.items():
        part = "provenance" if name in _PROVENANCE else "trial" if name in TRIAL_TYPES else "config"
        if value is not None and name != "config_json":
            parts[part][name] = value
    return parts
