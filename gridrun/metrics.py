"""The columns of tables: their headers, and how values are written and published ones read."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gridrun.text import (
    format_amount,
    format_count,
    format_loss,
    format_option,
    format_percent,
    format_time,
    format_whole,
    number_of,
)
from gridrun.trial import digest
from trainer.datasets._own import DIGEST_SHOWN

if TYPE_CHECKING:
    from trainer import TrainConfig

MAX_WRITTEN = 60
"""Characters of the longest list that is written out."""
CONFIG_HEADERS = {
    "name": "Setting",
    "paper": "Test Error (%), in paper",
    "model": "Model",
    "dataset": "Data Set",
    "lr": "Initial LR",
    "schedule": "LR Schedule",
    "warmup": "Warm-Up",
    "epochs": "# of Epochs",
    "num_gpus": "# of GPUs",
}
"""Headers as papers write them; any other option has its words: `Batch Size`, `Cutout Size`."""
_SPELLED = {"bn": "BN", "lr": "LR", "tta": "TTA", "ema": "EMA", "gpus": "GPUs"}
_SMALL_WORDS = ("a", "by", "in", "of", "on", "per", "the", "to")

PRECISIONS = {
    "fp32": "FP32",
    "tf32": "TF32",
    "mixed_fp16": "mixed",
    "mixed_bf16": "mixed (bf16)",
    "pure_fp16": "FP16",
}
"""Precisions as papers write them."""


def _ghost_batch_size(config: TrainConfig) -> int | str:
    return config.batch_size // config.subdivision if config.subdivision > 1 else "N/A"


COMPUTED: dict[str, Callable[[TrainConfig], Any]] = {
    "model": lambda config: config.model.label,
    "dataset": lambda config: config.dataset.label,
    "ghost_batch_size": _ghost_batch_size,
    "weight_decay_on_bn": lambda config: config.decayed is None or "bn" in config.decayed,
}
"""Columns that are computed from a config because papers report them so."""

LABELS = ("name", "paper", *COMPUTED)
"""Columns that are neither a metric nor an option."""

_NUMBER = r"\d+(?:\.\d+)?"
_QUALIFIER = re.compile(
    rf"\s*(?:\*|(?:\+/-|±)\s*{_NUMBER}|\(best {_NUMBER}\)|\((?:(?:median|mean|average) of )?\d+ runs?\))\s*$"
)
_TIME = re.compile(
    rf"(?:(?P<h>{_NUMBER})\s*h)?\s*(?:(?P<m>{_NUMBER})\s*m(?:in)?)?\s*(?:(?P<s>{_NUMBER})\s*s(?:ec)?)?"
)


def parse_runs(text: str) -> int | None:
    """Read the number of runs in a published text: 5 in `6.37 (median of 5 runs)`."""
    found = re.search(r"(\d+) runs?\b", text)
    return int(found.group(1)) if found else None


def _unqualified(text: str) -> str:
    """Drop what follows a published value without changing it: `*`, `+/- 0.16`, `(1 run)`, `(best 0.67)`."""
    text = text.strip()
    while shorter := _QUALIFIER.search(text):
        text = text[: shorter.start()]
    return text


def parse_number(text: str) -> float | None:
    """Read a published number such as `1,234`; None for what is not exactly one, such as `~3.75`."""
    text = _unqualified(text).removesuffix("%").replace(",", "").strip()
    return float(text) if re.fullmatch(_NUMBER, text, re.ASCII) else None


def parse_percent(text: str) -> float | None:
    """Read a published percentage as a fraction."""
    percent = parse_number(text)
    return None if percent is None else percent / 100


def parse_time(text: str) -> float | None:
    """Read a published time, in seconds: `22m`, `1h26m`, `95 min`, `24h12m*`."""
    found = _TIME.fullmatch(_unqualified(text))
    if not found or not any(found.groups()):
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.group("h", "m", "s"))
    return 3600 * hours + 60 * minutes + seconds


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured column. Values are in the store's unit: errors are fractions, times seconds."""

    label: str
    """Its name in words, without its unit."""
    record: str
    """Column of the store, and field of `Record`."""
    format: Callable[[float], str]
    parse_text: Callable[[str], float | None] = parse_number
    scale: float = 1.0
    """Factor from the store's unit to that of CSV and published numbers: 100 for percent."""
    unit: str = ""
    """Of the numbers in its cells; empty where they have none, or each cell names its own: `1h26m`."""
    suffix: str = ""
    """Of its names in CSV, such as `_s`."""
    is_of_test: bool = False
    """Whether it is measured on test images, and so with test-time augmentation."""
    is_error: bool = False
    """Whether tables show the difference to a published value."""
    guesses: int = 1
    """Of an error, how many classes may be named for each image."""
    varies: bool = True
    """Whether it differs from seed to seed."""
    portable: bool = True
    """Whether values from different machines compare."""
    reads: tuple[str, ...] = ()
    """Columns of the store that it is computed from; none: it is a column itself."""
    error: str = ""
    """Of an accuracy, the metric that it is 1 minus; the store has only that one."""

    @property
    def header(self) -> str:
        """Header of its column: label and unit."""
        return self.with_unit(self.label)

    def with_unit(self, words: str) -> str:
        """Return words that stand above its numbers, with their unit: `Published (%)`."""
        return f"{words} ({self.unit})" if self.unit else words

    def value_of(self, record: object) -> float | None:
        """Return its value in a record; None where it was not measured, or there is no record."""
        value: float | None = getattr(record, self.record, None)
        return 1 - value if self.error and value is not None else value

    def parse(self, published: float | str) -> float | None:
        """Return a published value in the store's unit, or None if the text is not one number.

        Args:
            published: percent for errors, seconds for times, or text as printed: `4.91`, `1h26m`.
        """
        if isinstance(published, str):
            return self.parse_text(published)
        return published / self.scale if math.isfinite(published) else None


def _error(label: str, name: str, *, is_of_test: bool = True) -> Metric:
    return Metric(
        label,
        name,
        format_percent,
        parse_percent,
        scale=100.0,
        unit="%",
        suffix="_pct",
        is_of_test=is_of_test,
        is_error=True,
    )


def _accuracy(label: str, error: str) -> Metric:
    return dataclasses.replace(_ERRORS[error], label=label, error=error)


_ERRORS = {
    "test_error": _error("Test Error", "test_error"),
    "best_test_error": _error("Best Test Error", "best_test_error"),
    "top5_error": dataclasses.replace(_error("Top-5 Error", "top5_error"), guesses=5),
    "train_error": _error("Training Error", "train_error", is_of_test=False),
}
METRICS: dict[str, Metric] = {
    **_ERRORS,
    "test_accuracy": _accuracy("Test Accuracy", "test_error"),
    "best_test_accuracy": _accuracy("Best Test Accuracy", "best_test_error"),
    "top5_accuracy": _accuracy("Top-5 Accuracy", "top5_error"),
    "train_accuracy": _accuracy("Training Accuracy", "train_error"),
    "test_loss": Metric("Test Loss", "test_loss", format_loss, is_of_test=True),
    "train_loss": Metric("Training Loss", "train_loss", format_loss),
    "train_time": Metric(
        "Training Time", "train_seconds", format_time, parse_time, suffix="_s", portable=False
    ),
    "time_to_train": Metric(
        "Time to Train", "time_to_train_seconds", format_time, parse_time, suffix="_s", portable=False
    ),
    "images_per_second": Metric("Images/s", "images_per_second", format_count, portable=False),
    "peak_memory_mib": Metric("Peak Memory", "peak_memory_mib", format_count, unit="MiB", portable=False),
    "gpu_hours": Metric(
        "GPU-Hours",
        "gpu_hours",
        format_amount,
        portable=False,
        reads=("train_seconds", "gpu", "gpu_share", "num_gpus"),
    ),
    "energy_kwh": Metric("Energy", "energy_kwh", format_amount, unit="kWh", portable=False),
    "num_params": Metric("# of Params", "num_params", format_count, varies=False),
    "macs": Metric("# of MACs", "macs", format_count, varies=False),
    "epochs_trained": Metric("Epochs Trained", "epochs_trained", format_whole, varies=False),
}
"""Metrics that a table can show, by their name in a grid file."""


def metric_of(name: str, *, held_out: bool = False) -> Metric:
    """Return a metric by its name; `held_out`: with a label for images held out of the training set."""
    metric = METRICS[name]
    if not (held_out and metric.is_of_test):
        return metric
    label = metric.label.replace("Test ", "Validation ")
    return dataclasses.replace(metric, label=label if label != metric.label else f"Validation {label}")


ACCURACIES = {metric.error: name for name, metric in METRICS.items() if metric.error}
"""The accuracy of each error: 1 minus it."""


def complement(published: float | str) -> float | str:
    """Turn a published error into an accuracy, or back: `0.82 (best 0.67)` into `99.18 (best 99.33)`.

    A text that does not begin with a percentage stays as it is.
    """
    text = str(published)
    found = re.match(_NUMBER, text)
    if not found or float(found[0]) > 100:
        return published
    other = re.sub(rf"(^|\(best )({_NUMBER})", lambda each: f"{each[1]}{100 - Decimal(each[2])}", text)
    return other if isinstance(published, str) else float(other)


def header_of(column: str, *, whole: bool = False) -> str:
    """Return the header of a config column: `Initial LR`, `Depth`, `Cutout Size`, `LR Schedule Milestones`.

    Args:
        column: an option by its dotted name, a label, or what a reported row calls its column.
        whole: name the field of a dotted option too: `Model Depth`.
    """
    if column in CONFIG_HEADERS:
        return CONFIG_HEADERS[column]
    field, *inside = column.split(".") if re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", column) else [column]
    if not inside:
        return _title_case(field)
    owner = [header_of(field)] if whole or field in ("schedule", "warmup") else []
    return " ".join([*owner, *map(_title_case, inside)])


def _title_case(name: str) -> str:
    """Write a name's words with capitals; words that have capitals of their own stay as they are."""
    words = name.replace("_", " ").split()
    kept = [i > 0 and word in _SMALL_WORDS for i, word in enumerate(words)]
    return " ".join(
        word if keep or not word.islower() else _SPELLED.get(word) or word.capitalize()
        for word, keep in zip(words, kept, strict=True)
    )


def format_column(column: str, value: Any) -> str:
    """Write the value of a config column as papers do: `LARS`, `FP16`, `0.1`.

    Of a long list it gives the digest, of a digest the beginning.
    """
    spelled = _spellings(column).get(value) if isinstance(value, str) else None
    text = spelled or format_option(value)
    if isinstance(value, (list, tuple)) and len(text) > MAX_WRITTEN:
        return f"{number_of(len(value), 'part')}, {digest(value)[:6]}"
    return text[:DIGEST_SHOWN] if column.endswith("sha256") else text


@functools.cache
def _spellings(column: str) -> Mapping[str, str]:
    if column == "optimizer":
        from trainer.optimizers import optimizers

        return {name: optimizers.get(name).label for name in optimizers.names()}
    return PRECISIONS if column == "precision" else {}
