"""A plain, well-written training loop: what a careful user of PyTorch writes without gridrun.

Images are PIL images, augmented by torchvision's transforms in a DataLoader with two workers that are kept
between epochs; the network is channels_last, and bf16 by autocast. `train_step.py` measures it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

PAIR = tuple[torch.Tensor, torch.Tensor]


class Pictures(Dataset[PAIR]):
    """Grey images (N, H, W) uint8 and labels (N,), cropped, mirrored and normalised one by one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean: float, std: float) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((mean,), (std,)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> PAIR:
        return self.transform(Image.fromarray(self.images[index])), torch.tensor(int(self.labels[index]))


class PlainLoop:
    """Trains a network step by step.

    Args:
        model: the network.
        pictures: what to train on.
        batch_size: images a step.
        device: where to train.
        dtype: of autocast; None: float32 throughout.
    """

    def __init__(
        self,
        model: nn.Module,
        pictures: Pictures,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> None:
        self.device, self.dtype = device, dtype
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self.loader = DataLoader(
            pictures,
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=2,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        self._batches = self._endless()

    def _endless(self) -> Iterator[PAIR]:
        while True:
            yield from self.loader

    def step(self) -> None:
        """Take one optimiser step."""
        images, labels = next(self._batches)
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        labels = labels.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            loss = F.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
