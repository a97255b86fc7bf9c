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
STEM_MEGA_MACS = 118.0
"""Those of a ResNet's first convolution."""


@models.register("torchvision")
@dataclass(frozen=True, kw_only=True, slots=True)
class TorchvisionOptions(ModelOptions):
    """One of torchvision's networks, untrained."""

    arch: str
    """Torchvision's name, such as `resnet50`."""
    small_images: bool = False
    """For ResNets: start with a 3x3 convolution of stride 1 and no max-pool, instead of a 7x7 convolution of
    stride 2 and a max-pool, as is usual for CIFAR-10."""

    def __post_init__(self) -> None:
        if self.arch not in LABELS:
            hint = did_you_mean(self.arch, LABELS)
            raise ConfigError("arch", f"unknown architecture {self.arch!r}.{hint}")
        resnet = "res" in self.arch
        check(resnet or not self.small_images, "small_images", "is for ResNets only, not {}", self.arch)

    @property
    def batch_norm(self) -> bool:
        """Whether the network has batch normalisation."""
        return not self.arch.startswith("vgg") or self.arch.endswith("_bn")

    @property
    def label(self) -> str:
        return f"{LABELS[self.arch]}, {'small images' if self.small_images else 'ImageNet'}"

    def check(self, data: DataSpec) -> None:
        check_image_size(data, 8 if self.small_images else 64, self.label)
        problem = f"{self.label} takes images of 3 channels, the data set's have {data.channels}"
        check(data.channels == 3, "", problem)

    def macs(self, data: DataSpec) -> int | None:
        # an estimate unless images have 224 px
        if self.small_images:  # the rest sees maps as large as the image, not a quarter as wide
            rest = (MEGA_MACS[self.arch] - STEM_MEGA_MACS) * (4 / 224) ** 2
            return round((1e6 * rest + 3**2 * 3 * 64) * data.image_size**2)
        return round(1e6 * MEGA_MACS[self.arch] * (data.image_size / 224) ** 2)

    def build(self, data: DataSpec) -> nn.Module:
        import torchvision
        from torch import nn

        network: nn.Module = torchvision.models.get_model(self.arch, num_classes=data.num_classes)
        if self.small_images:
            network.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
            network.maxpool = nn.Identity()
        return network
