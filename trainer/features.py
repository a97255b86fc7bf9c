"""Features: what a network hands to its last linear layer, for image files of any number."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data.stream import StreamedSplit
from trainer.datasets import Source
from trainer.evaluation import EVAL_BATCH_SIZE, begin
from trainer.kept import KeptWeights
from trainer.models._layers import last_linear
from trainer.precision import autocast, like_weights
from trainer.runtime import Runtime


@torch.no_grad()
def features(kept: KeptWeights, paths: Sequence[Path], runtime: Runtime) -> Generator[np.ndarray, None, None]:
    """Yield the features of image files, in order, a batch at a time: (N, width) float32.

    Each image is resized, cut and normalised as the trial's own test images are, and converted to grey if
    those are. Decoding is spread over worker processes.

    Args:
        kept: the weights.
        paths: the image files.
        runtime: device and threads; data directories for a trial with `normalisation: per_pixel`.

    Raises:
        DataError: files cannot be decoded; it names them.
    """
    config, device = kept.config, torch.device(runtime.device)
    model, pipeline = begin(kept, runtime)
    spec = config.dataset.spec
    resize = getattr(config.dataset, "resize", None) or spec.image_size
    source = Source(Path("/"), spec.channels, resize, spec.image_size)
    names = np.array([os.fsencode(path.absolute()) for path in paths], np.bytes_)
    split = StreamedSplit(source, names, np.zeros(len(names), np.int64), device, workers=runtime.num_workers)
    seen: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = inputs

    last_linear(model)[1].register_forward_pre_hook(note)
    with contextlib.closing(split):
        for pixels, _ in split.batches(EVAL_BATCH_SIZE):
            with autocast(config.precision, device):
                model(like_weights(pipeline.normalise(pixels), model))
            yield seen[0].float().cpu().numpy()
