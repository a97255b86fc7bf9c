"""What axes, legends and panels are labelled with: options and metrics in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gridrun.grid.describe import describe_options
from gridrun.metrics import format_column

if TYPE_CHECKING:
    from gridrun.grid import Row

HEADERS = {
    "name": "setting",
    "dataset": "data set",
    "weight_decay_on_bn": "weight decay on BN",
    "tta": "TTA",
    "model": "model",
    "lr": "initial learning rate",
    "schedule": "learning rate schedule",
    "epochs": "epochs",
    "num_gpus": "GPUs",
    "no_weight_decay_on_bn": "no weight decay on BN",
    "weight_decay_on": "weight decay on",
}
"""Names of options on axes and in legends. Any other option is named by its key."""
METRIC_AXES = {
    "test_error": "Test error (%)",
    "best_test_error": "Best test error (%)",
    "top5_error": "Top-5 test error (%)",
    "train_error": "Training error (%)",
    "test_accuracy": "Test accuracy (%)",
    "best_test_accuracy": "Best test accuracy (%)",
    "top5_accuracy": "Top-5 test accuracy (%)",
    "train_accuracy": "Training accuracy (%)",
    "test_loss": "Test loss (nats)",
    "train_loss": "Training loss (nats)",
    "train_time": "Training time",
    "time_to_train": "Time to train",
    "images_per_second": "Throughput (images/s)",
    "peak_memory_mib": "Peak memory (MiB)",
    "gpu_hours": "GPU-hours",
    "energy_kwh": "Energy (kWh)",
    "num_params": "Parameters",
    "macs": "Multiply-accumulates an image",
    "epochs_trained": "Epochs trained",
    "error": "Error (%)",
    "loss": "Loss (nats)",
}
"""Labels of metric axes; `error` and `loss` where curves show two metrics."""
METRIC_LABELS = {
    "test_error": "test",
    "top5_error": "test, top 5",
    "train_error": "training",
    "test_loss": "test",
    "train_loss": "training",
}
UNITS = {"batch_size": "images"}


def option_header(key: str) -> str:
    """Return the name of an option on an axis or a legend, such as `depth` for `model.depth`."""
    if key in HEADERS:
        return HEADERS[key]
    *_, owner, name = ("", *key.split("."))
    return f"{owner if key.count('.') > 1 else ''} {name}".strip().replace("_", " ")


def options_label(row: Row, keys: Sequence[str]) -> str:
    """Return a row's options in words: `batch size 128, cosine, 200 epochs`."""
    return describe_options({key: row.column(key) for key in keys})


def short_label(row: Row, keys: Sequence[str]) -> str:
    """Return a row's options in words, but a lone option, which axis or legend names, as its bare value."""
    return format_column(keys[0], row.column(keys[0])) if len(keys) == 1 else options_label(row, keys)


def capitalized(text: str) -> str:
    """Return a text with its first letter as a capital, the others unchanged."""
    return text[:1].upper() + text[1:]
