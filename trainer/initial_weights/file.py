"""Weights in a file of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.datasets._own import check_hex, find
from trainer.datasets.npz import sha256_of
from trainer.initial_weights import InitialWeightsOptions, initial_weights

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.models import ModelOptions

FOLDER = "weights"
"""Below the data directory."""
SUFFIXES = (".pt", ".pth")


@initial_weights.register("file")
@dataclass(frozen=True, kw_only=True, slots=True)
class File(InitialWeightsOptions):
    """A file `weights/*.pt` or `*.pth` of the data directory: kept weights, or a network's `state_dict()`."""

    sha256: str
    """SHA-256 of the file, as `sha256sum` prints it. The file is found by it, not by its name."""

    def __post_init__(self) -> None:
        check_hex("sha256", self.sha256, 64)

    def available(self, model: ModelOptions, data_dir: Path, cache_dir: Path) -> Path:
        folder = data_dir / FOLDER
        candidates = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
        what = f"init_from: no file *.pt or *.pth in {folder} has sha256"
        return find(candidates, self.sha256, sha256_of, what)
