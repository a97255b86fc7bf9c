"""Where and how a trial runs: nothing in here may change its result."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

KeepCheckpoint = Literal["none", "last", "best"]
"""Whose weights outlive a trial: nobody's, the last epoch's, or the first with the lowest test error's."""


def default_data_dir() -> Path:
    """Where the user keeps data-set archives: `GRIDRUN_DATA`, else `data`."""
    return Path(os.environ.get("GRIDRUN_DATA") or "data").absolute()


def default_cache_dir() -> Path:
    """Where decoded data sets are kept: `GRIDRUN_CACHE`, else the user's cache directory."""
    if chosen := os.environ.get("GRIDRUN_CACHE"):
        return Path(chosen).absolute()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gridrun"
    except RuntimeError:  # a user without a home, as in many containers
        return Path(".cache").absolute() / "gridrun"


def never() -> bool:
    """Answer that nobody has asked the trial to stop."""
    return False


def nothing() -> None:
    """Do nothing after a save."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """Placement of one trial."""

    device: str = "cpu"
    """A torch device, such as `cpu` or `cuda:0`."""
    gpu_share: float = 1.0
    """Of a GPU, that is the trial's; below 1 it is kept to so much of the memory."""
    threads: int = 1
    """CPU threads. One a trial gives the best throughput over many trials."""
    workers: int | None = None
    """Processes that decode the images of a data set that is streamed; None: as many as `threads`; 0: this
    process itself."""
    data_dir: Path = field(default_factory=default_data_dir)
    cache_dir: Path = field(default_factory=default_cache_dir)
    checkpoint: Path | None = None
    """File to resume from and to save to; None keeps nothing."""
    checkpoint_seconds: float = 30.0
    """Save at the first step after so many seconds."""
    on_saved: Callable[[], None] = nothing
    """Called after each save of `checkpoint`. An OSError of its own is noted, as one of the save is."""
    should_stop: Callable[[], bool] = never
    """Asked between steps; True makes the trial save its checkpoint and raise Interrupted."""
    keep_checkpoint: KeepCheckpoint = "none"
    """Whose weights to write to `weights_path` when the trial is done; one that diverges keeps none."""
    weights_path: Path | None = None
    trial_id: str | None = None
    """Written into `weights_path`, for whoever finds the file."""

    @property
    def num_workers(self) -> int:
        """Processes that decode."""
        return self.threads if self.workers is None else self.workers
