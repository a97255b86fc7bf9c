"""Images/s through an augmentation policy, against what one would use otherwise.

    python benchmarks/policy.py [--device cuda] [--threads 2] [--rounds 3]

The policy is the last one of the published schedule for CIFAR-10: up to two of 15 operations, each image its
own, on 32 x 32 pixels. `ours` takes whole batches. The others: a DataLoader whose two workers apply the same
policy with PIL, to RGBA images, so that filled pixels are known; a loop over images with calls of torchvision
on tensors, which knows no filled pixels; and kornia's RandAugment with two operations, which draws them once
for a batch, if kornia is installed. All but the DataLoader use so many threads. Rounds alternate; medians are
compared.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image, ImageEnhance, ImageOps
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as F

from gridrun.grid.policy_schedules import read_schedule
from gridrun.text import number_of
from trainer.augmentations.policy import Policy, level_value
from trainer.augmentations.policy.schedules import read_policy
from trainer.datasets import datasets

SCHEDULE = Path(__file__).parent.parent / "grids" / "pba" / "schedules" / "rcifar10.yaml"
POLICY = read_schedule(SCHEDULE)[-1][1]
ENTRIES = read_policy(POLICY)
SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
SIZE = 32
IMAGES = 4096
FEW = 256
"""Images for those that are slow."""


def drawn() -> list[tuple[str, float]]:
    """Return the operations of one image, with their values."""
    found: list[tuple[str, float]] = []
    budget = random.choices((0, 1, 2), (0.2, 0.3, 0.5))[0]
    for name, tenths, level in random.sample(ENTRIES, len(ENTRIES)) if budget else ():
        if random.random() < tenths / 10:
            sign = random.choice((1, -1)) if name in SIGNED else 1
            found.append((name, sign * level_value(name, level)))
            if len(found) == budget:
                break
    return found


def by_pil(pixels: np.ndarray) -> np.ndarray:
    """Return an image (32, 32, 3) under the policy as (32, 32, 4)."""
    image = Image.fromarray(pixels).convert("RGBA")
    for name, value in drawn():
        if name == "Rotate":
            image = image.rotate(value)
        elif name == "Cutout":
            row, column, half = random.randrange(SIZE), random.randrange(SIZE), int(value) // 2
            box = (max(column - half, 0), max(row - half, 0), min(column + half, SIZE), min(row + half, SIZE))
            image.paste((125, 122, 113, 0), box)
        elif name in SIGNED:
            x, y = (value, 0) if name.endswith("X") else (0, value)
            moved = (1, 0, x, 0, 1, y) if name.startswith("Translate") else (1, x, 0, y, 1, 0)
            image = image.transform(image.size, Image.Transform.AFFINE, moved)
        elif name in ("Brightness", "Color", "Contrast", "Sharpness"):
            image = getattr(ImageEnhance, name)(image).enhance(value)
        else:
            values = (int(value),) if name in ("Posterize", "Solarize") else ()
            image = getattr(ImageOps, name.lower())(image.convert("RGB"), *values).convert("RGBA")
    return np.asarray(image)


def by_torchvision(image: torch.Tensor) -> torch.Tensor:
    """Return an image (3, 32, 32) under the policy."""
    for name, value in drawn():
        if name == "Rotate":
            image = F.rotate(image, value)
        elif name == "Cutout":
            row, column, half = random.randrange(SIZE), random.randrange(SIZE), int(value) // 2
            image = F.erase(
                image, max(row - half, 0), max(column - half, 0), 2 * half, 2 * half, torch.zeros(())
            )
        elif name in SIGNED:
            along = [value, 0.0] if name.endswith("X") else [0.0, value]
            moved, sheared = (along, [0.0, 0.0]) if name.startswith("Translate") else ([0, 0], along)
            angles = [float(np.degrees(np.arctan(part))) for part in sheared]
            image = F.affine(image, 0.0, [int(part) for part in moved], 1.0, angles)
        elif name in ("Posterize", "Solarize"):
            image = getattr(F, name.lower())(image, int(value) if name == "Posterize" else min(value, 255))
        elif name in ("AutoContrast", "Equalize", "Invert"):
            image = getattr(F, name.lower())(image)
        else:
            adjust = {"Color": "saturation"}.get(name, name.lower())
            image = getattr(F, f"adjust_{adjust}")(image, value)
    return image


class ByPIL(Dataset[torch.Tensor]):
    """Images under the policy."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels.permute(0, 2, 3, 1).contiguous().numpy()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(by_pil(self.pixels[index]).transpose(2, 0, 1).copy())


def ours(pixels: torch.Tensor, batch: int) -> Callable[[], object]:
    spec = datasets.get("cifar10")().spec
    prepared = Policy(schedule=((1, POLICY),)).prepared(spec, pixels.device, 0, 1, 0)
    generator = torch.Generator(pixels.device).manual_seed(0)

    def run() -> None:
        for part in pixels.split(batch):
            n, channels, height, width = part.shape
            prepared.apply(part, prepared.draw((n, channels, height, width), generator))

    return run


def kornia(pixels: torch.Tensor, batch: int) -> Callable[[], object] | None:
    try:
        from kornia.augmentation.auto import RandAugment
    except ImportError:
        return None
    augment = RandAugment(n=2, m=9)
    return lambda: [augment(part.float() / 255) for part in pixels.split(batch)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pixels = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), dtype=torch.uint8)
    loader = DataLoader(ByPIL(pixels), batch_size=128, num_workers=2, persistent_workers=True)
    few, device = pixels[:FEW], torch.device(arguments.device)
    on_device = pixels.to(device)
    contenders: dict[str, tuple[int, Callable[[], object] | None]] = {
        "DataLoader, two workers, PIL": (len(pixels), lambda: [None for _ in loader]),
        "torchvision in a loop": (len(few), lambda: [by_torchvision(image) for image in few]),
        "kornia RandAugment, batches of 128": (len(few), kornia(on_device[:FEW], 128)),
        "ours, batches of 128": (len(pixels), ours(on_device, 128)),
        "ours, batches of 512": (len(pixels), ours(on_device, 512)),
        "ours, batches of 4096": (len(pixels), ours(on_device, 4096)),
    }
    found: dict[str, list[float]] = {name: [] for name, (_, run) in contenders.items() if run}
    for round_number in range(arguments.rounds + 1):  # the first warms up
        for name in found:
            count, run = contenders[name]
            seconds = _seconds(run, device)
            found[name] += [count / seconds] if round_number else []
    baseline = statistics.median(next(iter(found.values())))
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}, {_name(device)}"
    threads = number_of(arguments.threads, "thread")
    print(f"{versions}, {threads}, n = {arguments.rounds}, images/s (ratio):")
    for name, values in found.items():
        median, spread = statistics.median(values), f"{min(values):.0f}..{max(values):.0f}"
        print(f"  {name:36} {median:9.0f}  {median / baseline:5.2f}x  ({spread})")


def _seconds(run: Any, device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


if __name__ == "__main__":
    main()
