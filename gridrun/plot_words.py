"""What figures call options, values and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gridrun.columns import CONFIG_HEADERS, format_column, number_of
from gridrun.grid.plot_layout import plot_value

if TYPE_CHECKING:
    from gridrun.grid import Row

HEADERS = CONFIG_HEADERS | {
    "name": "setting",
    "model": "model",
    "lr": "initial learning rate",
    "schedule": "learning rate schedule",
    "epochs": "epochs",
    "num_gpus": "GPUs",
    "no_weight_decay_on_bn": "no weight decay on BN",
}
"""Options as axes and legends call them; any other by its dotted name in words."""
PLAIN = ("name", "model", "dataset", "schedule", "optimizer", "precision")
"""Options whose values speak for themselves."""
AXES = {
    "test_error": "Test error (%)",
    "best_test_error": "Best test error (%)",
    "train_error": "Training error (%)",
    "test_loss": "Test loss (nats)",
    "train_loss": "Training loss (nats)",
    "train_time": "Training time",
    "images_per_second": "Throughput (images/s)",
    "peak_memory_mib": "Peak memory (MiB)",
    "num_params": "Parameters",
    "macs": "Multiply-accumulates an image",
    "epochs_trained": "Epochs trained",
    "error": "Error (%)",
    "loss": "Loss (nats)",
}
METRIC_WORDS = {
    "test_error": "test",
    "train_error": "training",
    "test_loss": "test",
    "train_loss": "training",
}
SHORT = {"lr": "lr", "schedule": "schedule"}
"""Headers where a value follows."""
UNITS = {"batch_size": "images"}


def header_of(key: str) -> str:
    """Return what an axis or a legend calls an option: `model.depth` is its depth."""
    if key in HEADERS:
        return HEADERS[key]
    *_, owner, name = ("", *key.split("."))
    return f"{owner if key.count('.') > 1 else ''} {name}".strip().replace("_", " ")


def words(row: Row, keys: Sequence[str]) -> str:
    """Say what a row's options are: `batch size 128, cosine, 200 epochs`."""
    return ", ".join(_words(key, plot_value(row, key)) for key in keys)


def _words(key: str, value: Any) -> str:
    text = format_column(key, value)
    if key == "epochs":
        return number_of(value, "epoch")
    return text if key in PLAIN and isinstance(value, str) else f"{SHORT.get(key) or header_of(key)} {text}"


def value_or_words(row: Row, keys: Sequence[str]) -> str:
    """Say what a row's options are, the bare value where a title says of what."""
    return format_column(keys[0], plot_value(row, keys[0])) if len(keys) == 1 else words(row, keys)


def titled(text: str) -> str:
    """Begin a text with a capital."""
    return text[:1].upper() + text[1:]
