"""Log trials to Weights & Biases, through Ray's own callback for it.

It gets every epoch. A group is named after the grid, a run after what tells it from the grid's others.
If it fails, it gets no more; the trials go on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gridrun.errors import LaunchError, StoreError
from gridrun.sweep.events import Ended, Event, Lost, Progress
from gridrun.sweep.names import TrialName
from gridrun.trial import Trial
from trainer.metrics import Epoch

NAME = "gridrun"
"""Weights & Biases project unless WANDB_PROJECT names one, and group of trials that no grid names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trackers:
    """Which trackers a launch logs to.

    Raises:
        LaunchError: the package of one is not installed.
    """

    wandb: bool = False
    names: Mapping[str, TrialName] = field(default_factory=dict)
    """Of the trials, by id."""

    def __post_init__(self) -> None:
        if self.wandb and importlib.util.find_spec("wandb") is None:
            raise LaunchError("--wandb needs the package wandb: pip install wandb")

    def __bool__(self) -> bool:
        return self.wandb

    @contextlib.contextmanager
    def start(self, directory: Path, warn: Callable[[str], None]) -> Iterator[list[Tracker]]:
        """Yield the trackers, which keep files in `directory`; `warn` gets a line when one fails."""
        trackers = []
        if self.wandb:
            from ray.air.integrations.wandb import WandbLoggerCallback

            project = os.environ.get("WANDB_PROJECT", NAME)
            place = os.environ.get("WANDB_DIR", str(Path.cwd()))
            logger = WandbLoggerCallback(project=project, resume="allow", dir=place)
            trackers.append(Tracker("Weights & Biases", logger, directory, warn, names=self.names))
        try:
            yield trackers
        finally:
            for tracker in trackers:
                tracker.close()


class _TrackedTrial:
    """A trial as trackers see it: named by what differs, with the options by dotted name as its config."""

    def __init__(self, trial: Trial, directory: Path, name: TrialName) -> None:
        self.trial_id, self._name = trial.trial_id, name.run
        self.config = {"trial_id": trial.trial_id, "seed": trial.seed, **trial.config.flat()}
        self.experiment_dir_name = name.experiment  # the group in Weights & Biases
        self.local_path = str(directory)

    def __str__(self) -> str:
        return self._name


class Tracker:
    """Passes events on to one of Ray's logger callbacks.

    Args:
        name: of the tracker.
        logger: the callback.
        directory: for its files.
        warn: gets a line when it fails.
        names: of trials, by id; others are called by their ids.
    """

    def __init__(
        self,
        name: str,
        logger: Any,
        directory: Path,
        warn: Callable[[str], None],
        *,
        names: Mapping[str, TrialName] | None = None,
    ) -> None:
        self._name, self._logger, self._directory, self._warn = name, logger, directory, warn
        self._names = names or {}
        self._tracked: dict[str, _TrackedTrial] = {}  # by trial id
        self._logged: dict[str, int] = {}  # last epoch, by trial id
        self._failed = False
        directory.mkdir(parents=True, exist_ok=True)
        self._call(logger.setup)

    def handle(self, event: Event | StoreError) -> None:
        """Log what is new in an event."""
        match event:
            case Progress(trial, epoch):
                self._log(trial, epoch)
            case Ended(trial, outcome, last):
                if last:
                    self._log(trial, last)
                self._end(trial, failed=outcome == "failed")
            case Lost(trial):
                self._end(trial, failed=True)

    def close(self) -> None:
        """Wait until the tracker has sent all it got."""
        self._call(self._logger.on_experiment_end, [])

    def _log(self, trial: Trial, epoch: Epoch) -> None:
        key = trial.trial_id
        if key not in self._tracked:
            name = self._names.get(key) or TrialName(NAME, key)
            self._tracked[key] = _TrackedTrial(trial, self._directory, name)
            self._call(self._logger.log_trial_start, self._tracked[key])
        if epoch.epoch > self._logged.get(key, 0):
            self._logged[key] = epoch.epoch
            numbers = {name: value for name, value in asdict(epoch).items() if value is not None}
            numbers["training_iteration"] = epoch.epoch
            self._call(self._logger.log_trial_result, epoch.epoch, self._tracked[key], numbers)

    def _end(self, trial: Trial, *, failed: bool) -> None:
        if tracked := self._tracked.pop(trial.trial_id, None):
            self._call(self._logger.log_trial_end, tracked, failed=failed)

    def _call(self, method: Callable[..., object], *args: Any, **more: Any) -> None:
        """Call the tracker, and keep its errors away from the sweep."""
        if self._failed:
            return
        try:
            method(*args, **more)
        except Exception as error:
            self._failed = True
            self._warn(f"{self._name} is told no more: {type(error).__name__}: {error}")
