"""A sheet of one image under a schedule of policies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from gridrun.trial import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from trainer.augmentations.policy.preview import Preview


class SheetRow(NamedTuple):
    """One epoch of a sheet."""

    label: str
    images: tuple[tuple[str, np.ndarray], ...]
    """What was done, and what became of the image: (H, W, C) uint8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetFigure:
    """An image as it is, and what a schedule makes of it at some epochs."""

    id: str
    title: str
    original: np.ndarray
    """(H, W, C) uint8."""
    rows: tuple[SheetRow, ...]
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Hash of all that is shown."""
        shown: list[Any] = [self.id, self.title, _hash(self.original), *self.notes]
        shown += [[row.label, *([what, _hash(image)] for what, image in row.images)] for row in self.rows]
        return digest(shown)


def sheet_figure(
    id: str, title: str, original: np.ndarray, rows: Mapping[int, Sequence[Preview]], notes: Sequence[str]
) -> SheetFigure:
    """Return the sheet of an image, given what became of it at each epoch, counted from 1."""
    return SheetFigure(
        id=id,
        title=title,
        original=original,
        rows=tuple(
            SheetRow(f"epoch {epoch}", tuple((_caption(one), one.image) for one in made))
            for epoch, made in rows.items()
        ),
        notes=tuple(notes),
    )


def _caption(preview: Preview) -> str:
    return (
        "\n".join(f"{name} {round(value, 2):g}" if value else name for name, value in preview.operations)
        or "none"
    )


def _hash(image: np.ndarray) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
