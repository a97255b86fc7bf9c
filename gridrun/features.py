"""Features of image files, from the kept weights of a trial, as Parquet."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from gridrun.errors import GridrunError, StoreError
from trainer import Runtime, files


def image_files(places: Sequence[Path]) -> list[Path]:
    """Return the files among some files and folders: of a folder, all images in it and below, sorted.

    Raises:
        GridrunError: a folder has no image.
    """
    from trainer.datasets._folders import image_names

    found = []
    for place in places:
        images = [place / name for name in image_names(place)] if place.is_dir() else [place]
        if not images:
            raise GridrunError(f"{place}: has no images")
        found += images
    return found


def save_features(weights: Path, images: Sequence[Path], path: Path, runtime: Runtime) -> int:
    """Write one Parquet row for each image: `path`, as it was given, and `features`, a list of float32.

    Images are decoded, and rows are written, a batch at a time. Imports torch.

    Returns:
        The number of features of an image.

    Raises:
        StoreError: the weights cannot be used, or the file cannot be written. Then there is no file.
        GridrunError: an image cannot be decoded.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from trainer.checkpoint import CheckpointError
    from trainer.datasets import DataError
    from trainer.features import features
    from trainer.kept import load_weights

    try:
        kept = load_weights(weights)
    except CheckpointError as error:
        raise StoreError(f"{weights}: {error}") from None
    done = width = 0
    try:
        with (
            files.replacing(path) as partial,
            contextlib.ExitStack() as stack,
            contextlib.closing(features(kept, images, runtime)) as batches,
        ):
            for batch in batches:
                width = batch.shape[1]
                paths = images[done : done + len(batch)]
                names = [os.fsencode(image).decode(errors="replace") for image in paths]  # any bytes on Linux
                values = pa.FixedSizeListArray.from_arrays(pa.array(batch.ravel()), width)
                table = pa.table({"path": names, "features": values})
                if not done:
                    writer = stack.enter_context(pq.ParquetWriter(partial, table.schema, compression="zstd"))
                writer.write_table(table)
                done += len(batch)
            stack.close()  # the footer, before the file takes its place
    except DataError as error:
        raise GridrunError(str(error)) from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None
    return width
