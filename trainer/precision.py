"""Numeric precision of a training step: autocast, gradient scaling, TF32."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from trainer.config import Precision

_AUTOCAST: dict[str, torch.dtype] = {"mixed_bf16": torch.bfloat16, "mixed_fp16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context for a forward pass."""
    if precision not in _AUTOCAST:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST[precision])


def check_supported(precision: Precision, device: torch.device) -> None:
    """Refuse bfloat16 on a GPU that only emulates it. cuDNN has no convolutions for it; its error is obscure.

    Raises:
        RuntimeError: the GPU is older than Ampere.
    """
    if device.type == "cuda" and precision == "mixed_bf16" and not torch.cuda.is_bf16_supported(False):
        name = torch.cuda.get_device_name(device)
        raise RuntimeError(f"precision: mixed_bf16 needs a GPU that computes in bfloat16, {name} does not")


def weight_dtype(precision: Precision) -> torch.dtype:
    """Return the dtype of a network's weights and running statistics."""
    return torch.float16 if precision == "pure_fp16" else torch.float32


def like_weights(images: torch.Tensor, model: nn.Module) -> torch.Tensor:
    """Return images in the dtype of the network's weights."""
    return images.to(next(model.parameters()).dtype)


def grad_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Return the gradient scaler. It does nothing unless the precision is mixed fp16."""
    return torch.amp.GradScaler(device.type, enabled=precision == "mixed_fp16")


def set_matmul_precision(precision: Precision) -> None:
    """Let a GPU round float32 products to TF32 only if the config says so.

    By the older of torch's two ways: torch.compile reads it, and raises where the newer one was used.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
