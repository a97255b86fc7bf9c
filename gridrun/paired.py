"""Two rows compared image by image, where trials of the same seeds have kept their predictions."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gridrun.errors import StoreError
from gridrun.verdicts import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np

MAX_IMAGES = 10_000_000
METADATA = b"gridrun"
"""Key of a file's metadata: JSON with `trial_id`, `on`, `tta` and `tta_least_confident`."""


class Predictions(NamedTuple):
    """Which images of a test set a trial has got wrong."""

    on: str
    """Which images, and with which views of them."""
    labels: np.ndarray
    wrong: np.ndarray
    """(N,) booleans."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """The mean difference of two rows over seeds and test images, as fractions."""

    difference: float
    """Mean error of the first - that of the second."""
    half_width: float
    """Of the 95 % interval, if other seeds and other test images were drawn."""
    half_width_seeds: float | None
    """If other seeds were drawn, on these test images; None for one seed."""
    seeds: int
    images: int
    only_first: int
    """Wrong in the first row and right in the second, over all seeds."""
    only_second: int


def read_predictions(directory: Path) -> dict[str, Predictions]:
    """Read the files that `gridrun evaluate --save` wrote, by trial id; other Parquet files are left out.

    Raises:
        StoreError: a file cannot be read, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = {}
    for path in sorted(directory.glob("*.parquet")):
        try:
            with pq.ParquetFile(path) as file:
                about = _about(file.schema_arrow.metadata or {})
                if about is None:
                    continue
                if file.metadata.num_rows > MAX_IMAGES:
                    raise StoreError(f"{path}: has more than {MAX_IMAGES:,} images")
                table = file.read(columns=["index", "label", "prediction"], use_threads=False)
            columns = [table.column(name) for name in ("index", "label", "prediction")]
            if any(not pa.types.is_integer(column.type) or column.null_count for column in columns):
                raise StoreError(f"{path}: its columns must be whole numbers, without gaps")
            index, labels, predictions = (column.to_numpy() for column in columns)
        except (pa.ArrowException, KeyError, OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read ({str(error)[:200]})") from None
        order = index.argsort(kind="stable")
        found[about[0]] = Predictions(about[1], labels[order], (labels != predictions)[order])
    return found


def _about(metadata: Mapping[bytes, bytes]) -> tuple[str, str] | None:
    """Return the trial id and the description of the images; None if the file is not one of predictions."""
    try:
        told = json.loads(metadata[METADATA])
        parts = told["on"], told["tta"], told["tta_least_confident"]
        return str(told["trial_id"]), ", ".join(map(str, parts))
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def paired_of(
    first: Mapping[int, str], second: Mapping[int, str], predictions: Mapping[str, Predictions]
) -> Paired | None:
    """Compare two rows over the seeds whose trials have both kept predictions of the same images.

    `first` and `second` are the trial ids by seed. None: there is no such seed.
    """
    pairs: list[tuple[Predictions, Predictions]] = []
    for seed in sorted(first.keys() & second.keys()):
        one, two = predictions.get(first[seed]), predictions.get(second[seed])
        if one and two and _are_alike([one, two, *itertools.chain(*pairs)]):
            pairs.append((one, two))
    wrong = [[predictions.wrong for predictions in side] for side in zip(*pairs, strict=True)]
    return paired(*wrong) if pairs else None


def _are_alike(found: Sequence[Predictions]) -> bool:
    """Return whether all are of the same images, at least two."""
    first = found[0]
    return len(first.labels) > 1 and all(
        one.on == first.on
        and one.labels.shape == first.labels.shape
        and bool((one.labels == first.labels).all())
        for one in found
    )


def paired(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Paired:
    """Compare two rows image by image.

    An image's difference is how often the first row is wrong on it, less how often the second is, over the
    seeds. Images and seeds are both drawn at random, so the mean difference varies with both:
    var(images) / N + var(seeds) / S, less the residual variance / (N S), which both contain (two-way analysis
    of variance without repetition; degrees of freedom by Satterthwaite).

    Args:
        first: for each seed, whether each image is wrong: (N,) booleans.
        second: the same of the other row, seeds in the same order.

    Raises:
        ValueError: the numbers of seeds or images differ, or there are fewer than two images.
    """
    import numpy as np
    from scipy.special import stdtrit

    lengths = {len(one) for one in (*first, *second)}
    if len(first) != len(second) or len(lengths) != 1 or min(lengths) < 2:
        raise ValueError("needs the same seeds and the same images of both rows")
    gaps = np.asarray(first, np.int8) - np.asarray(second, np.int8)  # (seeds, N)
    num_seeds, num_images = gaps.shape
    difference = float(gaps.mean())
    of_image = gaps.mean(axis=0)
    of_images = float(of_image.var(ddof=1)) / num_images
    variance, degrees, half_width_seeds = of_images, num_images - 1.0, None
    quantile = (1 + CONFIDENCE) / 2
    if num_seeds > 1:
        of_seed = gaps.mean(axis=1)
        of_seeds = float(of_seed.var(ddof=1)) / num_seeds
        half_width_seeds = float(stdtrit(num_seeds - 1, quantile)) * math.sqrt(of_seeds)
        left = gaps - of_image - of_seed[:, None] + difference
        of_both = float((left**2).sum()) / ((num_seeds - 1) * (num_images - 1)) / (num_seeds * num_images)
        variance = max(of_images + of_seeds - of_both, of_images, of_seeds)
        if variance:
            squares = of_images**2 / degrees + of_seeds**2 / (num_seeds - 1)
            degrees = (of_images + of_seeds) ** 2 / squares
    return Paired(
        difference=difference,
        half_width=float(stdtrit(max(degrees, 1.0), quantile)) * math.sqrt(variance),
        half_width_seeds=half_width_seeds,
        seeds=num_seeds,
        images=num_images,
        only_first=int((gaps > 0).sum()),
        only_second=int((gaps < 0).sum()),
    )
