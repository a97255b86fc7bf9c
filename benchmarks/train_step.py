"""Training throughput against a plain PyTorch loop, on one CPU thread or a GPU.

    python benchmarks/train_step.py [--device cuda] [--runs 5]

Both train ResNet-preact-20 on random 28x28 images, batch 128. The plain loop holds normalised
float images in torch's default memory format (and once more in channels_last, the one that
ours uses) and augments nothing; ours crops, flips, normalises
and evaluates as always (evaluation is not timed). Rounds alternate; medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

import trainer
from trainer import Runtime, TrainConfig
from trainer.datasets import DatasetOptions, DataSpec, Images
from trainer.models._layers import initialise

BATCH = 128
STEPS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise(DatasetOptions):
    """Random images. Not registered."""

    name: ClassVar[str] = "noise"
    kind: ClassVar[str] = "dataset"
    steps: int = STEPS

    @property
    def spec(self) -> DataSpec:
        return DataSpec(
            num_classes=10,
            channels=1,
            image_size=28,
            num_train=BATCH * self.steps,
            num_test=BATCH,
            mean=(0.5,),
            std=(0.3,),
        )

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        rng, n = np.random.default_rng(0), BATCH * self.steps
        x = rng.integers(0, 256, (n + BATCH, 1, 28, 28), dtype=np.uint8)
        y = rng.integers(0, 10, n + BATCH)
        return Images(x[:n], y[:n], x[n:], y[n:])


def config(precision: str, steps: int) -> TrainConfig:
    options = {
        "model": {"name": "resnet_preact", "depth": 20},
        "epochs": 2,
        "precision": precision,
        "augmentation": {"random_crop": True, "horizontal_flip": True},
    }
    return TrainConfig(**{**_fields(TrainConfig.from_dict(options)), "dataset": Noise(steps=steps)})


def _fields(config: TrainConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in TrainConfig.__dataclass_fields__}


def plain_loop(steps: int, device: torch.device, memory_format: torch.memory_format) -> float:
    """Return images/s of the loop that everybody would write first."""
    model_config = config("fp32", steps)
    model = model_config.model.build(model_config.dataset.spec)
    initialise(model, "fan_out")
    model = model.to(device).to(memory_format=memory_format)
    x = torch.randn(BATCH * steps, 1, 28, 28, device=device).to(memory_format=memory_format)
    y = torch.randint(0, 10, (BATCH * steps,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    for epoch in range(2):
        if epoch == 1:  # the first warms up, as in ours
            _synchronise(device)
            started = time.perf_counter()
        for batch in torch.randperm(len(x), device=device).split(BATCH):
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    _synchronise(device)
    return BATCH * steps / (time.perf_counter() - started)


def ours(precision: str, steps: int, device: torch.device, cache: Path) -> float:
    """Return images/s of the trainer's second epoch."""
    result = trainer.train(
        config(precision, steps), seed=0, runtime=Runtime(device=str(device), cache_dir=cache)
    )
    return BATCH * steps / result.epochs[-1].train_seconds


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {
        "plain fp32": [],
        "plain fp32, channels_last": [],
        "ours fp32": [],
        "ours mixed_bf16": [],
    }
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(arguments.runs):
            plain, last = torch.contiguous_format, torch.channels_last
            found["plain fp32"].append(plain_loop(arguments.steps, device, plain))
            found["plain fp32, channels_last"].append(plain_loop(arguments.steps, device, last))
            for precision in ("fp32", "mixed_bf16"):
                found[f"ours {precision}"].append(ours(precision, arguments.steps, device, Path(cache)))
    baseline = statistics.median(found["plain fp32"])
    print(f"torch {torch.__version__}, {device}, 1 thread, n = {arguments.runs}, images/s (ratio to plain):")
    for name, values in found.items():
        median = statistics.median(values)
        print(f"  {name:26} {median:8.0f}  {median / baseline:.2f}x  ({min(values):.0f}..{max(values):.0f})")


if __name__ == "__main__":
    main()
