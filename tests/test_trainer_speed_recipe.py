"""airbench94's whole recipe against a loop that trains as its source does, with a summed loss."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gridrun.grid import load_grid
from trainer import Runtime
from trainer.datasets import DatasetOptions, DataSpec, Images
from trainer.loop import Run
from trainer.parallel import Group
from trainer.parameter_groups.bn_bias import BNBias
from trainer.parameter_groups.whitening_bias import WhiteningBias
from trainer.warmups.linear import Linear

GRID = Path(__file__).parent.parent / "grids/airbench.yaml"
BATCH, STEPS = 12, 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise(DatasetOptions):
    name: ClassVar[str] = "noise"
    kind: ClassVar[str] = "dataset"
    spec: ClassVar[DataSpec] = DataSpec(num_classes=10, channels=3, image_size=32, num_train=60, num_test=10,
                                        mean=(0.5, 0.4, 0.3), std=(0.3, 0.2, 0.1))  # fmt: skip

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 256, (70, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 70)
        return Images(x[:60], y[:60], x[60:], y[60:])


def factor(step: int) -> float:
    """From 0.2 to 1 in 2 steps, then to 0.07 at the end of 7."""
    return 0.2 + 0.8 * step / 2 if step < 2 else 1 - 0.93 * (step - 2) / (STEPS - 2)


def test_airbench94_trains_as_its_source_does(tmp_path):
    (config,) = (row.config for row in load_grid(GRID).rows if row.name == "airbench94")
    bn_bias, whitening_bias = config.parameter_groups
    assert isinstance(bn_bias, BNBias)
    assert isinstance(whitening_bias, WhiteningBias)
    config = dataclasses.replace(
        config,
        dataset=Noise(),
        model=dataclasses.replace(config.model, widths=(8, 8, 8), whitening_images=30),
        batch_size=BATCH,  # 5 steps an epoch
        epochs=1.4,
        warmup=Linear(epochs=0.4, start_factor=0.2),
        parameter_groups=(bn_bias, dataclasses.replace(whitening_bias, epochs=0.6)),
        augmentation=(),
        precision="fp32",
    )
    run = Run(config, 0, Runtime(cache_dir=tmp_path), Group())
    network = copy.deepcopy(run.learner.model)
    batches = []
    for epoch in range(2):
        starts = range(0, BATCH * (5 if epoch == 0 else 2), BATCH)
        for pixels, labels, _ in run.data.batches(epoch, starts):
            batches.append((run.data.pipeline.normalise(pixels), labels))
    while not run.ended:
        run.epoch()

    # the source's numbers: K = 1024 (1 + 1 / (1 - 0.85)) = 7850.67, for batches of 1,024 and a summed loss
    lr = 11.5 / 7850.6667 * 1024 / BATCH
    decay = 0.0153 * 1024 / 7850.6667 / (11.5 / 7850.6667) / 1024 * BATCH
    biases = [
        p for name, p in network.named_parameters() if name.endswith("bias") and name != "whitening.bias"
    ]
    others = [p for p in network.parameters() if p.requires_grad and all(p is not bias for bias in biases)]
    biases = [p for p in biases if p.requires_grad]
    assert len(biases) == 6
    optimizer = torch.optim.SGD(
        [{"params": others, "lr": lr, "weight_decay": decay},
         {"params": biases, "lr": 64 * lr, "weight_decay": decay / 64}], momentum=0.85, nesterov=True,
    )  # fmt: skip
    shadow = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    for step, (images, labels) in enumerate(batches):
        for group, peak in zip(optimizer.param_groups, (lr, 64 * lr), strict=True):
            group["lr"] = peak * factor(step)
        network.whitening.bias.requires_grad_(step < 3)
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels, label_smoothing=0.2, reduction="sum").backward()
        optimizer.step()
        taken = step + 1
        ends = taken == STEPS
        if taken % 5 == 0 or ends:
            share = 1.0 if ends else 0.95**5 * (taken / STEPS) ** 3
            for name, value in network.state_dict().items():
                if value.is_floating_point():
                    shadow[name].lerp_(value, 1 - share)
                    value.copy_(shadow[name])

    assert run.learner.step == STEPS == len(batches)
    found = run.learner.model.state_dict()
    moved = 0
    for name, expected in network.state_dict().items():
        if expected.is_floating_point():
            torch.testing.assert_close(found[name], expected, rtol=2e-4, atol=2e-5, msg=name)
            moved += not torch.equal(expected, torch.zeros_like(expected))
    assert moved > 15
    assert run.history[-1].lr == pytest.approx(1.5 * factor(6))
