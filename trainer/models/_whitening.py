"""Filters that whiten the patches of images, for a first layer that is not trained."""

from __future__ import annotations

import torch
from torch import Tensor

IMAGES_AT_A_TIME = 500
"""So many images' patches are in memory together."""


@torch.no_grad()
def whitening_filters(images: Tensor, size: int, eps: float) -> Tensor:
    """Return filters whose outputs over all patches are uncorrelated, with variances of nearly 1.

    They are the eigenvectors of the patches' covariance, each divided by sqrt(eigenvalue + eps), so the
    variances are eigenvalue / (eigenvalue + eps). The mean is not subtracted, and the divisor is the number
    of patches less 1, as in github.com/davidcpage/cifar10-fast. The sign of an eigenvector is free: here its
    largest component is positive.

    Args:
        images: (N, C, H, W), normalised.
        size: side of a patch, pixels.
        eps: see above.

    Returns:
        (C size^2, C, size, size) float32 on the device of the images, the largest eigenvalue first.
    """
    channels = images.shape[1]
    length = channels * size**2
    total = torch.zeros(length, length, dtype=torch.float64, device=images.device)
    count = 0
    for part in images.split(IMAGES_AT_A_TIME):
        patches = part.unfold(2, size, 1).unfold(3, size, 1)  # (n, C, H - size + 1, W - size + 1, size, size)
        columns = patches.permute(1, 4, 5, 0, 2, 3).reshape(length, -1).double()
        total += columns @ columns.T
        count += columns.shape[1]
    # a matrix this small is faster on a CPU, and then its eigenvectors do not differ between devices
    values, vectors = torch.linalg.eigh(total.cpu() / (count - 1))  # ascending; vectors in columns
    filters = (vectors / (values.clamp(min=0) + eps).sqrt()).T.flip(0)
    filters = filters * filters.gather(1, filters.abs().argmax(1, keepdim=True)).sign()
    found: Tensor = filters.to(images.device, torch.float32)
    return found.view(length, channels, size, size)
