"""Boxes of pixels: (..., 4) tensors of top, left, bottom, right. Bottom and right are exclusive."""

from __future__ import annotations

import torch


def mask(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return (..., H, W) booleans: which pixels of the image lie in the box."""
    top, left, bottom, right = boxes[..., None].unbind(-2)  # each (..., 1)
    rows = torch.arange(height, device=boxes.device)
    columns = torch.arange(width, device=boxes.device)
    in_rows = (rows >= top) & (rows < bottom)  # (..., H)
    in_columns = (columns >= left) & (columns < right)  # (..., W)
    return in_rows[..., :, None] & in_columns[..., None, :]
