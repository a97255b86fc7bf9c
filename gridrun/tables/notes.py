"""The notes below a table: what a reader must know beyond its numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gridrun.changed_code import source_notes
from gridrun.grid.describe import describe_options, describe_shared, describe_tta, varying_columns
from gridrun.metrics import METRICS, metric_of
from gridrun.resources import HARDWARE_KEYS, UNKNOWN, hardware_of
from gridrun.text import format_option, number_of

if TYPE_CHECKING:
    from gridrun.grid import TableSpec
    from gridrun.store.records import Provenance, Record
    from gridrun.tables.model import Line
    from trainer import TrainConfig

OPTIONS_NOTED = {
    "precision": "precisions",
    "epochs": "numbers of epochs",
    "num_gpus": "numbers of GPUs",
}
"""Options that are noted where trials differ in them and no column shows it, with their plurals."""
_PROVENANCE = {*HARDWARE_KEYS, "commit", "dirty", "torch_version", "trainer_version", "sources"}
NOTED_COLUMNS = frozenset({"status", "error", "notes", "compiled", *OPTIONS_NOTED, *_PROVENANCE})
"""Columns of the store that notes are made from."""
MAX_REASON = 160
"""Longest error that a note shows, in characters."""
MAX_NAMED = 4
"""A note names up to this many trials or rows; of more, it gives the number."""


def notes_of(
    spec: TableSpec,
    lines: Sequence[Line],
    records: Mapping[str, Record],
    origins: Counter[Origin],
) -> Iterator[str]:
    """Yield a table's notes on its trials. `lines` are those with trials, `origins` those of the done."""
    if spec.rows and not spec.columns_are_given:
        yield f"all: {describe_shared([row.config for row in spec.rows])}"
    label = line_labels(spec.columns, lines)
    measured = (pair for pair in zip(spec.rows, lines, strict=True) if pair[1].done)
    pairs = [(row.config, label(line)) for row, line in measured]
    yield from _held_out_notes(
        spec, [(row.config, label(line)) for row, line in zip(spec.rows, lines, strict=True)]
    )
    yield from tta_notes(spec.columns, pairs, held_out=spec.held_out)
    yield from _ending_notes(label, lines, records)
    yield from _trial_notes(label, lines, records)
    yield from provenance_notes(spec.columns, origins)
    yield from source_notes(
        (row.config, records[line.trials[seed]].provenance.sources)
        for row, line in zip(spec.rows, lines, strict=True)
        for seed in line.done
    )


def line_labels(columns: Sequence[str], lines: Sequence[Line]) -> Callable[[Line], str]:
    """Return a function that names a line by the options that tell it from the other lines."""
    shown = [column for column in columns if column not in METRICS and column != "paper"]
    telling = varying_columns(shown, [line.options for line in lines]) or shown[:1]

    def label(line: Line) -> str:
        words = describe_options({column: line.options[column] for column in telling})
        return words or line.name or f"config {line.config_id}"

    return label


def _held_out_notes(spec: TableSpec, rows: Sequence[tuple[TrainConfig, str]]) -> Iterator[str]:
    """Say which rows are tested on held-out images, if others are not. `rows`: configs and their labels."""
    found = [METRICS[name] for name in spec.columns if name in METRICS]
    metrics = [metric.label for metric in found if metric.is_of_test]
    held = [label for config, label in rows if config.num_held_out]
    if metrics and held and not spec.held_out:
        named = "; ".join(held) if len(held) <= MAX_NAMED else number_of(len(held), "row")
        yield f"{', '.join(metrics)} of {named}: on images held out of the training set"


def tta_notes(
    columns: Sequence[str], rows: Iterable[tuple[TrainConfig, str]], *, held_out: bool = False
) -> Iterator[str]:
    """Say which test metrics are with test-time augmentation. `rows` are configs and their labels."""
    found = [metric_of(name, held_out=held_out) for name in columns if name in METRICS]
    metrics = [metric.label for metric in found if metric.is_of_test]
    labels: dict[str, list[str]] = {}
    for config, label in rows:
        labels.setdefault(describe_tta(config.tta, config.tta_least_confident), []).append(label)
    for words, of_words in labels.items():
        if metrics and words:
            named = "; ".join(of_words) if len(of_words) <= MAX_NAMED else number_of(len(of_words), "row")
            yield f"{', '.join(metrics)}{f' of {named}' if len(labels) > 1 else ''}: {words}"


# --- where trials come from ----------------------------------------------------------------------


class Origin(NamedTuple):
    """Where a trial comes from, each part as a note writes it."""

    hardware: str
    compiled: bool
    commit: str
    dirty: bool
    torch_version: str
    trainer_version: str
    precision: str
    epochs: str
    num_gpus: str

    @property
    def speed(self) -> str:
        """What the trial's speed depends on."""
        return f"{self.hardware}, compiled" if self.compiled else self.hardware


def origins_of(records: Iterable[Record]) -> Counter[Origin]:
    """Count trials by where they come from."""
    counts = Counter(
        (record.provenance, record.compiled is True, tuple(map(record.config.get, OPTIONS_NOTED)))
        for record in records
    )
    origins = Counter[Origin]()
    for (provenance, compiled, options), count in counts.items():
        origins[_origin(provenance, compiled, options)] += count
    return origins


def hardware_name(provenance: Provenance) -> str:
    """Return the name of the hardware that a trial has run on."""
    return hardware_of(*(getattr(provenance, key) for key in HARDWARE_KEYS)).name


def _origin(provenance: Provenance, compiled: bool, options: Iterable[object]) -> Origin:
    return Origin(
        hardware_name(provenance),
        compiled,
        (provenance.commit or UNKNOWN)[:10],
        provenance.dirty is True,
        provenance.torch_version or UNKNOWN,
        UNKNOWN if provenance.trainer_version is None else str(provenance.trainer_version),
        *(UNKNOWN if value is None else format_option(value) for value in options),
    )


def provenance_notes(columns: Sequence[str], origins: Counter[Origin]) -> Iterator[str]:
    """Say where trials that are shown together differ in hardware, options or code."""
    yield from _hardware_notes(columns, origins)
    for option, plural in OPTIONS_NOTED.items():
        if option not in columns and (mixture := _mixture(origins, option)):
            yield f"different {plural}: {mixture}"
    if mixture := _mixture(origins, "commit"):
        yield f"different commits: {mixture}"
    if dirty := sum(count for origin, count in origins.items() if origin.dirty):
        yield f"uncommitted changes in the code of {dirty} of {number_of(origins.total(), 'trial')}"
    if mixture := _mixture(origins, "torch_version"):
        yield f"different torch versions: {mixture}"
    if mixture := _mixture(origins, "trainer_version"):
        yield f"different trainer versions: {mixture}"


def speed_mixture(origins: Counter[Origin]) -> str | None:
    """Count trials by what their speed depends on; None where it is the same for all."""
    return _mixture(origins, "speed")


def _hardware_notes(columns: Sequence[str], origins: Counter[Origin]) -> Iterable[str]:
    mixture, speeds = _mixture(origins, "hardware"), speed_mixture(origins)
    bound = [
        METRICS[column].label for column in columns if column in METRICS and not METRICS[column].portable
    ]
    if speeds and bound:
        why = "trained on different hardware" if mixture else "some compiled"
        yield f"* {', '.join(bound)}: not comparable between rows, {why}: {speeds}"
    elif mixture:
        yield f"trained on different hardware: {mixture}"
    elif bound and origins:
        yield f"{', '.join(bound)}: on {next(iter(origins)).speed}"


def _mixture(origins: Counter[Origin], field: str) -> str | None:
    """Count trials by one field of their origin, the most frequent first; None if all are the same."""
    values = Counter[str]()
    for origin, count in origins.items():
        values[getattr(origin, field)] += count
    if len(values) < 2:
        return None
    return ", ".join(f"{value} ({number_of(count, 'trial')})" for value, count in values.most_common())


# --- how trials ended ----------------------------------------------------------------------------


def _ending_notes(
    label: Callable[[Line], str], lines: Sequence[Line], records: Mapping[str, Record]
) -> Iterable[str]:
    """Name the trials that diverged or failed, with the reason, and count those that have not run."""
    for status in ("diverged", "failed"):
        for line in lines:
            by_reason: dict[str, list[int]] = {}
            for seed in getattr(line, status):
                by_reason.setdefault(_reason(records[line.trials[seed]]), []).append(seed)
            for reason, seeds in by_reason.items():
                yield f"{status}: {label(line)} ({_seeds(seeds)}){reason}"
    missing = sum(len(line.missing) for line in lines)
    wanted = sum(len(line.trials) for line in lines)
    if missing:
        yield "not run yet" + (f": {missing} of {number_of(wanted, 'trial')}" if missing < wanted else "")


def _reason(record: Record) -> str:
    """Return why a trial failed or diverged, or nothing if its record does not say."""
    error = record.error or ""
    return f": {error if len(error) <= MAX_REASON else error[: MAX_REASON - 3] + '...'}" if error else ""


def _trial_notes(
    label: Callable[[Line], str], lines: Sequence[Line], records: Mapping[str, Record]
) -> Iterable[str]:
    """Repeat what trials note themselves, such as a move to another machine; similar notes once."""
    similar: dict[str, dict[str, list[tuple[str, int]]]] = {}
    for line in lines:
        for seed in (*line.done, *line.diverged):
            notes = records[line.trials[seed]].notes
            for note in filter(None, notes.split("; ")) if notes else ():
                by_note = similar.setdefault(_STEP.sub("", note), {})
                by_note.setdefault(note, []).append((label(line), seed))
    for short, by_note in similar.items():
        trials = [trial for of_note in by_note.values() for trial in of_note]
        named = _named(trials) if len(trials) <= MAX_NAMED else number_of(len(trials), "trial")
        yield f"note from {named}: {short if len(by_note) > 1 else next(iter(by_note))}"


_STEP = re.compile(r" at step \d+$")
"""The part of a note in which similar ones differ."""


def _named(trials: Iterable[tuple[str, int]]) -> str:
    seeds: dict[str, list[int]] = {}
    for label, seed in trials:
        seeds.setdefault(label, []).append(seed)
    return "; ".join(f"{label} ({_seeds(of_label)})" for label, of_label in seeds.items())


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


# --- what others report --------------------------------------------------------------------------


def published_notes(spec: TableSpec, lines: Sequence[Line], verdict_notes: Sequence[str]) -> Iterator[str]:
    """Yield a table's notes on what others report, and on what the differences to that rest on."""
    yield from _value_notes(spec, line_labels(spec.columns, lines), lines)
    yield from verdict_notes
    yield from _reported_notes(len(spec.reported), len(lines))


def _value_notes(spec: TableSpec, label: Callable[[Line], str], lines: Sequence[Line]) -> Iterable[str]:
    published = [line for line in lines if any(cell.published_text for cell in line.cells.values())]
    bound = [
        METRICS[column].label
        for column in spec.columns
        if column in METRICS
        and not METRICS[column].portable
        and any(line.cells[column].published_text for line in published)
    ]
    if spec.source and (published or any(row.published for row in spec.reported)):
        yield f"published values: {spec.source}"
    if bound:
        yield f"published {', '.join(bound)}: on the authors' own hardware, so no difference is shown"
    by_note: dict[str, list[Line]] = {}
    for line in published:
        if note := spec.published[line.config_id].note:
            by_note.setdefault(note, []).append(line)
    for note, noted in by_note.items():
        which = "" if len(noted) == len(published) else f", {'; '.join(map(label, noted))}"
        yield f"published{which}: {note}"


def _reported_notes(count: int, trained: int) -> Iterable[str]:
    if count:
        which = f"the last {number_of(count, 'row')}" if trained else "every row"
        yield f"{which}: as published, not trained here"
