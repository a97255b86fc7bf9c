"""Curves as compressed columns: 16 bits a value, one scale for each curve.

A column holds the curves of all trials, one after the other; `num_epochs` says how long each is. A value is
a whole number from 0 to 65,534, from the curve's lowest to its highest value; 65,535 stands for none. If the
highest is much larger than the lowest, the logarithm is quantised instead, so that a loss that ends at 1e-4
or at 1e30 keeps its digits. Differences from epoch to epoch, low bytes before high bytes, compress best.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gridrun.store.columns import texts
from gridrun.store.records import MAX_MEASUREMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 65_534
MISSING = 65_535
LOG_RATIO = 100.0
"""From this ratio of highest to lowest on, the logarithm is quantised."""
LOG_SPAN = 1e-30
"""What is smaller than this part of the highest value is drawn as that."""
MAX_GAPS = 10
"""An epoch later than so many times its trial's rows was not measured; the page would grow with it."""
AXIS_SCALES = {
    "test_error": 100.0,
    "train_error": 100.0,
    "test_loss": 1.0,
    "train_loss": 1.0,
    "top5_error": 100.0,
    "lr": 1.0,
}
"""Columns of epochs that the page can draw, and the factor from the store's unit to the axis's."""


def curves_of(
    epochs: pa.Table, trial_ids: Sequence[str], scales: Mapping[str, float] = AXIS_SCALES
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what the page must know to read curves, and a blob for each metric that was measured.

    Args:
        epochs: rows of epochs (`Store.epochs_table`); those of other trials are ignored.
        trial_ids: the page's trials, in order.
        scales: the metrics to take, with the factor of each.
    """
    places = pc.index_in(epochs["trial_id"], value_set=texts(trial_ids))
    trial = pc.fill_null(places, -1).to_numpy().astype(np.int64)
    epoch = pc.fill_null(epochs["epoch"].cast(pa.float64(), safe=False), -1).to_numpy()
    rows = np.bincount(trial[trial >= 0], minlength=1)[trial]  # of trial -1, that of the last one
    is_epoch = (epoch >= 1) & (epoch <= MAX_GAPS * rows) & (epoch == np.floor(epoch))
    kept = np.flatnonzero((trial >= 0) & is_epoch)
    trial, at = trial[kept], epoch[kept].astype(np.int64) - 1
    num_epochs = np.zeros(len(trial_ids), np.int64)
    np.maximum.at(num_epochs, trial, at + 1)
    starts = np.concatenate([[0], np.cumsum(num_epochs)])
    metrics: dict[str, Any] = {}
    blobs = {}
    for name, scale in scales.items():
        if name not in epochs.column_names or not pa.types.is_floating(epochs[name].type):
            continue
        values = np.full(starts[-1], np.nan)
        values[starts[trial] + at] = pc.fill_null(epochs[name], np.nan).to_numpy()[kept]
        values[~((values >= 0) & (values <= MAX_MEASUREMENT))] = np.nan
        if np.isnan(values).all():
            continue
        lows, highs, is_log, steps = quantised(values * scale, starts)
        metrics[name] = {"low": _short(lows), "high": _short(highs), "log": is_log.astype(int).tolist()}
        blobs[f"curves-{name}"] = gzip.compress(packed(steps), 6, mtime=0)
    return {"num_epochs": num_epochs.tolist(), "metrics": metrics}, blobs


def quantised(
    values: NDArray[np.float64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.uint16]]:
    """Return the lowest and highest value of each curve, whether its logarithm is taken, and its steps."""
    lengths = np.diff(starts)
    has_some = lengths > 0
    lows, highs = np.zeros(len(lengths)), np.zeros(len(lengths))
    firsts = starts[:-1][has_some]
    if len(firsts):
        known = np.isfinite(values)
        lowest = np.minimum.reduceat(np.where(known, values, np.inf), firsts)
        highest = np.maximum.reduceat(np.where(known, values, -np.inf), firsts)
        lows[has_some] = np.where(np.isfinite(lowest), lowest, 0.0)
        highs[has_some] = np.where(np.isfinite(highest), highest, 0.0)
    is_log = (lows > 0) & (highs > LOG_RATIO * lows)
    lows = np.where(is_log, np.maximum(lows, LOG_SPAN * highs), lows)
    logs = np.repeat(is_log, lengths)
    safe = np.where(logs & np.isfinite(values), values, 1.0)
    placed = np.where(logs, np.log(safe), values)
    floors = np.where(is_log, np.log(np.where(is_log, lows, 1.0)), lows)
    tops = np.where(is_log, np.log(np.where(is_log, highs, 1.0)), highs)
    width = np.where(tops > floors, tops - floors, 1.0)
    share = (placed - np.repeat(floors, lengths)) / np.repeat(width, lengths)
    steps = np.where(np.isfinite(values), np.rint(share.clip(0, 1) * STEPS), MISSING)
    return lows, highs, is_log, steps.astype(np.uint16)


def packed(steps: NDArray[np.uint16]) -> bytes:
    """Return differences modulo 65,536, all low bytes before all high bytes."""
    differences = np.diff(steps, prepend=np.uint16(0)).astype("<u2")
    return (differences & 255).astype(np.uint8).tobytes() + (differences >> 8).astype(np.uint8).tobytes()


def _short(numbers: NDArray[np.float64]) -> list[float]:
    """Return numbers with 7 digits, for the page's JSON."""
    return [float(f"{number:.7g}") for number in numbers]
