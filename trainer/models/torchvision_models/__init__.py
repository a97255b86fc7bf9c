"""Torchvision's own ImageNet-size classification models, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.datasets import DataSpec
from trainer.models import ModelOptions, models
from trainer.models._residual import check_image_size
from trainer.registry import did_you_mean
from trainer.schema import ConfigError, check

if TYPE_CHECKING:
    from torch import nn

_VGG = {11: 7609, 13: 11308, 16: 15470, 19: 19632}
LABELS = {
    **{f"resnet{depth}": f"ResNet-{depth}" for depth in (18, 34, 50, 101, 152)},
    **{f"vgg{depth}": f"VGG-{depth}" for depth in (11, 13, 16, 19)},
    **{f"vgg{depth}_bn": f"VGG-{depth} w/ BN" for depth in (11, 13, 16, 19)},
    **{f"densenet{depth}": f"DenseNet-{depth}" for depth in (121, 161, 169, 201)},
    "resnext50_32x4d": "ResNeXt-50 32x4d",
    "resnext101_32x8d": "ResNeXt-101 32x8d",
    "wide_resnet50_2": "WRN-50-2",
    "wide_resnet101_2": "WRN-101-2",
}
"""By torchvision's name of the architecture. Labels add "ImageNet", because some networks for small images
have the same name and depth."""
MEGA_MACS = {
    "resnet18": 1814,
    "resnet34": 3664,
    "resnet50": 4089,
    "resnet101": 7801,
    "resnet152": 11514,
    **{f"vgg{depth}{norm}": macs for depth, macs in _VGG.items() for norm in ("", "_bn")},
    "densenet121": 2834,
    "densenet161": 7728,
    "densenet169": 3360,
    "densenet201": 4291,
    "resnext50_32x4d": 4230,
    "resnext101_32x8d": 16414,
    "wide_resnet50_2": 11398,
    "wide_resnet101_2": 22753,
}
"""Millions of multiply-accumulates for one image of 224x224 pixels, by architecture."""


@models.register("torchvision")
@dataclass(frozen=True, kw_only=True, slots=True)
class TorchvisionOptions(ModelOptions):
    """One of torchvision's networks, unchanged and untrained."""

    arch: str
    """Torchvision's name, such as `resnet50`."""

    def __post_init__(self) -> None:
        if self.arch not in LABELS:
            hint = did_you_mean(self.arch, LABELS)
            raise ConfigError("arch", f"unknown architecture {self.arch!r}.{hint}")

    @property
    def label(self) -> str:
        return f"{LABELS[self.arch]}, ImageNet"

    def check(self, data: DataSpec) -> None:
        check_image_size(data, 64, self.label)
        problem = f"{self.label} takes images of 3 channels, the data set's have {data.channels}"
        check(data.channels == 3, "", problem)

    def macs(self, data: DataSpec) -> int | None:
        # an estimate unless images have 224 px
        return round(1e6 * MEGA_MACS[self.arch] * (data.image_size / 224) ** 2)

    def build(self, data: DataSpec) -> nn.Module:
        import torchvision

        network: nn.Module = torchvision.models.get_model(self.arch, num_classes=data.num_classes)
        return network
