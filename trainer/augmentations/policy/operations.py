"""Operations of augmentation policies, each image its own, in uint8 and pixel for pixel as PIL computes them.

An *action* is an operation with its value, such as `("Rotate", -15)`. A policy lists its actions once; then
the batch is told which image gets which of them. However many actions there are, a slot takes five kernels:
the operations on single values are tables of 256 entries, those of geometry a 2 x 3 matrix.

| operation | value |
| --- | --- |
| Identity, Invert, Equalize, AutoContrast | none |
| Brightness, Color, Contrast, Sharpness | the factor of `PIL.ImageEnhance`; 1 changes nothing |
| Posterize | bits to keep |
| Solarize | the least pixel value to invert |
| Rotate | degrees, counter-clockwise |
| ShearX, ShearY | the coefficient of the shear |
| TranslateX, TranslateY | whole pixels, to the left or up |
| Cutout | side of the square, pixels |

On a CPU only the images that a kernel concerns go through it. Elsewhere all do, and a mask keeps the others
as they were: to count them would be to wait for the device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from trainer.augmentations import _boxes

Action = tuple[str, float]
GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
OF_IMAGE = ("Contrast", "AutoContrast", "Equalize")
"""Operations whose table depends on the image."""
OPAQUE = ("AutoContrast", "Equalize", "Invert", "Posterize", "Solarize")
"""Operations that take no notice of the mask: what was filled is a pixel of the image afterwards."""
CUTOUT_FILL = (125, 122, 113)
GREY = (19595, 38470, 7471)
"""Weights of red, green and blue in a grey value, in 1 / 65536."""


class Tables(NamedTuple):
    """What the kernels need of K actions on images of one size."""

    kernel: torch.Tensor  # (K,) index in KERNELS; -1: the action changes nothing
    values: torch.Tensor  # (K, 256) uint8: what becomes of each pixel value
    of_image: torch.Tensor  # (K,) index in OF_IMAGE; -1: `values` says all
    opaque: torch.Tensor  # (K,) bool
    factor: torch.Tensor  # (K,) float32
    side: torch.Tensor  # (K,) int64
    map: torch.Tensor  # (K,) row of the next two
    source: torch.Tensor  # (M, H W) int32: which pixel comes to each place
    inside: torch.Tensor  # (M, H W) uint8: 1, or 0 where there is none
    fill: torch.Tensor  # (C + 1,) uint8: the colour of a Cutout, and 0

    def to(self, device: torch.device) -> Tables:
        """Return the tables on a device."""
        return Tables(*(tensor.to(device) for tensor in self))


@functools.lru_cache(maxsize=16)
def tables(actions: tuple[Action, ...], channels: int, height: int, width: int) -> Tables:
    """Return the tables of some actions for images of this size, on the CPU."""
    count, kept = len(actions), np.arange(256, dtype=np.uint8)
    kernel, of_image, maps = np.full(count, -1), np.full(count, -1), np.zeros(count, np.int64)
    values, opaque = np.tile(kept, (count, 1)), np.zeros(count, bool)
    factor, side = np.ones(count, np.float32), np.zeros(count, np.int64)
    sources = [_source((1, 0, 0, 0, 1, 0), height, width)]
    for k, (name, value) in enumerate(actions):
        changes = True
        if name in GEOMETRIC:
            changes = value != 0
            maps[k] = len(sources) if changes else 0
            sources += [_source(_matrix(name, value, height, width), height, width)] if changes else []
        elif name == "Cutout":
            side[k], changes = value, value > 0
        elif name in ("Color", "Sharpness"):
            factor[k], changes = value, value != 1
        elif name in OF_IMAGE:
            factor[k], of_image[k], changes = value, OF_IMAGE.index(name), name != "Contrast" or value != 1
        else:
            values[k] = _values(name, value)
            changes = name in OPAQUE or bool((values[k] != kept).any())
        opaque[k] = name in OPAQUE
        kernel[k] = KERNEL_OF[name] if changes else -1
    source, inside = (np.stack(arrays) for arrays in zip(*sources, strict=True))
    fill = np.array([*(CUTOUT_FILL if channels == 3 else [_grey_of(CUTOUT_FILL)]), 0], np.uint8)
    arrays = (kernel, values, of_image, opaque, factor, side, maps, source, inside, fill)
    return Tables(*map(torch.from_numpy, arrays))


def may_look(device: torch.device) -> bool:
    """Return whether the program may look at the values of tensors, as it need not wait for them."""
    return device.type == "cpu"


def _values(name: str, value: float) -> Any:
    """Return what becomes of the pixel values 0..255, where the image does not matter."""
    pixel = np.arange(256)
    if name == "Identity":
        return pixel
    if name == "Invert":
        return 255 - pixel
    if name == "Posterize":
        return pixel & ~(2 ** (8 - int(value)) - 1)
    if name == "Solarize":
        return np.where(pixel < value, pixel, 255 - pixel)
    if name == "Brightness":
        return np.clip(pixel.astype(np.float32) * np.float32(value), 0, 255).astype(np.uint8)
    raise ValueError(f"there is no operation {name!r}")


def _matrix(name: str, value: float, height: int, width: int) -> tuple[float, ...]:
    """Return a..f: the place (x, y) is filled from (a x + b y + c, d x + e y + f)."""
    if name == "ShearX":
        return 1, value, 0, 0, 1, 0
    if name == "ShearY":
        return 1, 0, 0, value, 1, 0
    if name == "TranslateX":
        return 1, 0, int(value), 0, 1, 0
    if name == "TranslateY":
        return 1, 0, 0, 0, 1, int(value)
    angle = -math.radians(value % 360)  # about the centre, and rounded as PIL does
    a, b, x, y = round(math.cos(angle), 15), round(math.sin(angle), 15), width / 2, height / 2
    return a, b, a * -x + b * -y + x, -b, a, -b * -x + a * -y + y


def _source(matrix: tuple[float, ...], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest pixel for each place, (H W,), and whether there is one; as PIL, in 1 / 65536."""
    a, b, c, d, e, f = matrix
    at_centres = (a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5)
    a, b, c, d, e, f = (math.floor(number * 65536 + 0.5) for number in at_centres)
    row, column = np.arange(height)[:, None], np.arange(width)
    x, y = (a * column + b * row + c) >> 16, (d * column + e * row + f) >> 16
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    source = np.where(inside, y * width + x, 0)
    return source.astype(np.int32).ravel(), inside.astype(np.uint8).ravel()


def apply(
    images: torch.Tensor, actions: torch.Tensor, centres: torch.Tensor, known: Tables, *, masked: bool
) -> torch.Tensor:
    """Apply each image's own actions, one after the other.

    Args:
        images: (N, C, H, W) uint8, of one channel or three.
        actions: (N, S) int64, indices of actions; slot 0 comes first.
        centres: (N, S, 2) int64, row and column of the centre of a Cutout, in pixels.
        known: the tables of the actions.
        masked: return a channel more, 1 where a pixel is the image's and 0 where it was filled.

    Returns:
        (N, C, H, W) uint8, or (N, C + 1, H, W). Pixels from beyond the border are black.
    """
    n, channels, height, width = images.shape
    if masked:
        images = torch.cat([images, images.new_ones(n, 1, height, width)], 1)
    slots = range(actions.shape[1])
    if not may_look(images.device):
        for slot in slots:
            kernel = known.kernel[actions[:, slot]].view(-1, 1, 1, 1)
            for number, function in enumerate(KERNELS):
                changed = function(images, channels, known, actions[:, slot], centres[:, slot])
                images = torch.where(kernel == number, changed, images)
        return images
    places = torch.arange(n)
    for slot in slots:  # sort the images by kernel, so that each kernel gets a part that lies together
        order = known.kernel[actions[:, slot]].argsort()
        images, places = images.index_select(0, order), places[order]
        actions, centres = actions[order], centres[order]
        unchanged, *sizes = (known.kernel[actions[:, slot]] + 1).bincount(minlength=len(KERNELS) + 1).tolist()
        start = unchanged
        for function, size in zip(KERNELS, sizes, strict=True):
            part = slice(start, start := start + size)
            if size:
                changed = function(images[part], channels, known, actions[part, slot], centres[part, slot])
                images[part] = changed
    return images.index_select(0, places.argsort())


# --- kernels: pixels (n, C, H, W) or (n, C + 1, H, W); C; tables; (n,) actions; (n, 2) centres ------


def _tabled(
    images: torch.Tensor, channels: int, known: Tables, action: torch.Tensor, centre: torch.Tensor
) -> torch.Tensor:
    """Look each pixel up in its image's and channel's table."""
    colours = images[:, :channels].flatten(2)  # (n, C, H W)
    lookup = known.values[action][:, None].repeat(1, channels, 1)  # (n, C, 256)
    of_image = known.of_image[action]
    for number, make in enumerate((_contrast, _autocontrast, _equalize)):  # as OF_IMAGE has them
        chosen = of_image == number
        if not may_look(images.device):
            made = make(lookup, colours, known.factor[action])
            lookup = torch.where(chosen.view(-1, 1, 1), made, lookup)
        elif len(rows := chosen.nonzero()[:, 0]):
            lookup[rows] = make(lookup[rows], colours[rows], known.factor[action[rows]])
    changed = lookup.gather(2, colours.long()).view(-1, channels, *images.shape[2:])
    mask = images[:, channels:] | known.opaque[action].view(-1, 1, 1, 1)
    return torch.cat([changed, mask], 1)


def _contrast(lookup: torch.Tensor, colours: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    total, pixels = _grey(colours).sum(-1), colours.shape[2]  # (n, 1)
    mean = (2 * total + pixels).div(2 * pixels, rounding_mode="floor")
    every = torch.arange(256, dtype=torch.float32, device=lookup.device)
    return _blend(mean[..., None].float(), every, factor.view(-1, 1, 1)).expand_as(lookup)


def _autocontrast(lookup: torch.Tensor, colours: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    low, high = colours.amin(2, keepdim=True).double(), colours.amax(2, keepdim=True).double()
    scale = torch.full_like(low, 255) / (high - low)  # 255 / tensor would multiply by its reciprocal
    every = torch.arange(256, dtype=torch.float64, device=lookup.device)
    stretched = (every * scale + -low * scale).clamp(0, 255).to(torch.uint8)  # rounded towards 0
    return torch.where(high > low, stretched, lookup)


def _equalize(lookup: torch.Tensor, colours: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    counts = torch.zeros(lookup.shape, dtype=torch.int32, device=lookup.device)
    counts.scatter_add_(2, colours.long(), counts.new_ones(()).expand(colours.shape))
    highest = counts.gather(2, colours.amax(2, keepdim=True).long())
    step = (colours.shape[2] - highest).div(255, rounding_mode="floor")  # (n, C, 1)
    below = counts.cumsum(2, dtype=torch.int32) - counts
    spread = step.div(2, rounding_mode="floor") + below
    spread = spread.div(step.clamp(min=1), rounding_mode="floor").clamp(max=255).to(torch.uint8)
    return torch.where(step > 0, spread, lookup)


def _mapped(
    images: torch.Tensor, channels: int, known: Tables, action: torch.Tensor, centre: torch.Tensor
) -> torch.Tensor:
    """Take each pixel from its nearest place in the image; black, and no pixel of the image, beyond it."""
    rows = known.map[action]
    source = known.source.index_select(0, rows)[:, None].long()  # (n, 1, H W)
    inside = known.inside.index_select(0, rows)[:, None]
    pixels = images.flatten(2)
    return (pixels.gather(2, source.expand_as(pixels)) * inside).view_as(images)


def _coloured(
    images: torch.Tensor, channels: int, known: Tables, action: torch.Tensor, centre: torch.Tensor
) -> torch.Tensor:
    """Blend with a grey copy."""
    colours = images[:, :channels]
    changed = _blend(_grey(colours).float(), colours.float(), known.factor[action].view(-1, 1, 1, 1))
    return torch.cat([changed, images[:, channels:]], 1)


def _sharpened(
    images: torch.Tensor, channels: int, known: Tables, action: torch.Tensor, centre: torch.Tensor
) -> torch.Tensor:
    """Blend with a smooth copy: 3 x 3 weights of 1 / 13, the middle one 5 / 13; the frame stays."""
    colours = images[:, :channels].float()
    smooth = colours.clone()
    middle = smooth[:, :, 1:-1, 1:-1]
    columns = colours[:, :, :-2] + colours[:, :, 1:-1] + colours[:, :, 2:]
    sums = columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:] + 4 * middle
    middle.copy_((sums / 13 + 0.5).int())
    changed = _blend(smooth, colours, known.factor[action].view(-1, 1, 1, 1))
    return torch.cat([changed, images[:, channels:]], 1)


def _cut(
    images: torch.Tensor, channels: int, known: Tables, action: torch.Tensor, centre: torch.Tensor
) -> torch.Tensor:
    """Fill a square around the centre, clipped at the border."""
    half = known.side[action][:, None] // 2
    box = _boxes.mask(torch.cat([centre - half, centre + half], 1), *images.shape[2:])
    return torch.where(box[:, None], known.fill[: images.shape[1]].view(1, -1, 1, 1), images)


KERNELS: tuple[Callable[..., torch.Tensor], ...] = (_tabled, _mapped, _coloured, _sharpened, _cut)
KERNEL_OF = (
    dict.fromkeys((*OF_IMAGE, *OPAQUE, "Brightness", "Identity"), 0)
    | dict.fromkeys(GEOMETRIC, 1)
    | {"Color": 2, "Sharpness": 3, "Cutout": 4}
)


def _blend(one: torch.Tensor, other: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return one + factor (other - one) as uint8, rounded towards 0; float32 as in PIL."""
    return (one + factor * (other - one)).clamp(0, 255).to(torch.uint8)


def _grey(colours: torch.Tensor) -> torch.Tensor:
    """Return the grey values of pixels whose channel is dimension 1, which becomes 1 long; int32."""
    if colours.shape[1] == 1:
        return colours.int()
    red, green, blue = (colours[:, i : i + 1].int() * GREY[i] for i in range(3))
    return (red + green + blue + 32768) >> 16


def _grey_of(colour: tuple[int, int, int]) -> int:
    return (sum(weight * value for weight, value in zip(GREY, colour, strict=True)) + 32768) >> 16
