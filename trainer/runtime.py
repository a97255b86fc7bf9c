"""Where and how a trial runs. Nothing in here changes its result."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainer.origins import Origin

KeepCheckpoint = Literal["none", "last", "best"]
"""Which weights to keep when a trial is done: none, those of its last epoch, or those of its best one (the
first with the lowest test error)."""
Compile = Literal["auto", "on", "off"]
"""Whether to compile the network of the training step. auto: if that saves more time than it takes."""


def local_data_dir() -> Path:
    """Return `data` in the working directory."""
    return Path("data").absolute()


def user_cache_dir() -> Path:
    """Return the user's cache directory, `~/.cache/gridrun` unless XDG_CACHE_HOME is set."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gridrun"
    except RuntimeError:  # a user without a home directory, as in many containers
        return Path(".cache").absolute() / "gridrun"


def never() -> bool:
    """Return False: do not stop."""
    return False


def nothing() -> None:
    """Do nothing."""


def no_step(step: int) -> None:
    """Do nothing after a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """Where and how one trial runs."""

    device: str = "cpu"
    """A torch device, such as `cpu` or `cuda:0`."""
    gpu_share: float = 1.0
    """The trial's part of a GPU. Below 1, the trial may use only that part of its memory."""
    threads: int = 1
    """CPU threads. For many trials, one thread each gives the highest throughput."""
    compile: Compile = "off"
    """Whether to train a compiled network. The result says so, since that rounds differently."""
    workers: int | None = None
    """Processes that decode the images of a streamed data set. None: as many as `threads`; 0: decode in the
    trial's own process."""
    data_dir: Path = field(default_factory=local_data_dir)
    """The user's data-set archives; never written to."""
    cache_dir: Path = field(default_factory=user_cache_dir)
    """Decoded and downloaded data sets."""
    checkpoint: Path | None = None
    """File to resume from and to save to; None saves nothing."""
    checkpoint_seconds: float = 30.0
    """Save at the first step after this many seconds."""
    keep_state: bool = False
    """Leave the whole state in `checkpoint` when the trial is done, for a trial that goes on from there."""
    start_from: Path | None = None
    """The state that another trial has left. It is used if there is no `checkpoint` and if the trial begins
    with all that the other has done (`TrainConfig.goes_on_from`); otherwise a note says why not."""
    on_saved: Callable[[], None] = nothing
    """Called after each save of `checkpoint`. If it raises OSError, the result gets a note, as if the save
    itself had failed."""
    on_step: Callable[[int], None] = no_step
    """Called between steps with the number of steps that are done, those before an interruption included."""
    should_stop: Callable[[], bool] = never
    """Asked between steps. When it returns True, the trial saves its checkpoint and raises Interrupted."""
    keep_checkpoint: KeepCheckpoint = "none"
    """Which weights to write to `weights_path` when the trial is done. A trial that diverges writes none."""
    weights_path: Path | None = None
    origin: Origin = field(default_factory=Origin)
    """The code and the machine. Checkpoints have it; a run that resumes under another one notes that."""
    trial_id: str | None = None
    """Written into `weights_path`, for whoever finds the file."""

    @property
    def num_workers(self) -> int:
        """Processes that decode."""
        return self.threads if self.workers is None else self.workers
