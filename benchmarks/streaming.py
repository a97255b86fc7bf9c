"""How long training waits for the first batch of an epoch whose images are streamed.

Tiny images, so that decoding them takes no time: what is left is what an epoch costs beside them.

    python benchmarks/streaming.py --images 1281167 --workers 8
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainer.data.stream import StreamedSplit
from trainer.datasets import Source

BATCH_SIZE = 4
NUM_BATCHES = 16


def waits(num_images: int, workers: int, epochs: int) -> Iterator[float]:
    """Yield the seconds from the beginning of each epoch to its first batch."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path("train/n01440764/n01440764_00000.JPEG")  # as long as ImageNet's
        (folder / path).parent.mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(folder / path)
        source = Source(root=Path(folder), channels=3, resize=36, image_size=32)
        paths, labels = np.full(num_images, str(path).encode()), np.zeros(num_images, np.int64)
        split = StreamedSplit(source, paths, labels, torch.device("cpu"), workers=workers)
        starts = range(0, NUM_BATCHES * BATCH_SIZE, BATCH_SIZE)
        for epoch in range(epochs):
            order = torch.randperm(num_images)
            started = time.perf_counter()
            for number, _ in enumerate(split.taken(order, starts, BATCH_SIZE, epoch)):
                if number == 0:
                    yield time.perf_counter() - started
        split.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=9)
    options = parser.parse_args()
    first, *later = (1e3 * seconds for seconds in waits(options.images, options.workers, options.epochs))
    print(
        f"{options.images:,} images, {options.workers} workers: {first:.0f} ms to the first batch of the "
        f"first epoch, {statistics.median(later):.0f} ms of a later one (median of {len(later)})"
    )


if __name__ == "__main__":
    main()
