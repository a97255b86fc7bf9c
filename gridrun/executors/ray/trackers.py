"""Experiment trackers: Ray's own callbacks for MLflow and Weights & Biases, told of our trials.

They get every epoch under the options' own names, as Ray would tell them of a trial of its own. What
a tracker cannot do (its server is down) ends its own work, never a trial's.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridrun.errors import LaunchError
from gridrun.trial import Trial

NAME = "gridrun"
"""Of the experiment at MLflow, and of the project at Weights & Biases unless WANDB_PROJECT names one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trackers:
    """Which trackers are told of a launch.

    Raises:
        LaunchError: the package of one is not installed.
    """

    mlflow: str | None = None
    """URI of the tracking server."""
    wandb: bool = False

    def __post_init__(self) -> None:
        for wanted, package in ((self.mlflow, "mlflow"), (self.wandb, "wandb")):
            if wanted and importlib.util.find_spec(package) is None:
                raise LaunchError(f"--{package} needs the package {package}: pip install {package}")

    def __bool__(self) -> bool:
        return bool(self.mlflow or self.wandb)

    def start(self, trials: Mapping[str, Trial], directory: Path, warn: Callable[[str], None]) -> list[Any]:
        """Return the Tune callbacks that tell them of `trials`; `warn` is told what goes wrong."""
        loggers: dict[str, Any] = {}
        if self.mlflow:
            from ray.air.integrations.mlflow import MLflowLoggerCallback

            loggers["MLflow"] = MLflowLoggerCallback(self.mlflow, experiment_name=NAME)
        if self.wandb:
            from ray.air.integrations.wandb import WandbLoggerCallback

            project = os.environ.get("WANDB_PROJECT", NAME)
            loggers["Weights & Biases"] = WandbLoggerCallback(
                project=project, resume="allow", dir=os.environ.get("WANDB_DIR", str(Path.cwd()))
            )
        return [
            _callback(name=name, logger=logger, by_id=trials, directory=directory, warn=warn)
            for name, logger in loggers.items()
        ]


class _Shown:
    """A trial as a tracker sees it: named by our id, its config the options by dotted name."""

    def __init__(self, trial: Trial, directory: Path) -> None:
        self.trial_id = trial.trial_id
        self.config = {"trial_id": trial.trial_id, "seed": trial.seed, **trial.config.flat()}
        self.experiment_dir_name = NAME
        self.local_path = str(directory)

    def __str__(self) -> str:
        return self.trial_id


def _callback(**about: Any) -> Any:
    """Return the Tune callback that passes on to a tracker what Tune is told."""
    from ray import tune

    class Tell(tune.Callback):
        def __init__(
            self,
            name: str,
            logger: Any,
            by_id: Mapping[str, Trial],
            directory: Path,
            warn: Callable[[str], None],
        ) -> None:
            self.name, self.logger, self.by_id = name, logger, by_id
            self.directory, self.warn = directory, warn
            self.shown: dict[str, _Shown] = {}
            self.told: dict[str, int] = {}
            self.failed = False

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles its callbacks to restore them one day; we never do

        def setup(self, *args: Any, **info: Any) -> None:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._try(self.logger.setup)

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            key, epoch = trial.config["trial_id"], result["at"]
            if epoch is None:
                return  # a turn without an epoch: the trial is another launch's
            if key not in self.shown:
                self.shown[key] = _Shown(self.by_id[key], self.directory)
                self._try(self.logger.log_trial_start, self.shown[key])
            if epoch["epoch"] > self.told.get(key, 0):
                self.told[key] = epoch["epoch"]
                figures = {name: value for name, value in epoch.items() if value is not None}
                figures["training_iteration"] = epoch["epoch"]
                self._try(self.logger.log_trial_result, iteration, self.shown[key], figures)
            if "outcome" in result:
                self._end(key, failed=result["outcome"] == "failed")

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._end(trial.config["trial_id"], failed=True)

        def on_experiment_end(self, trials: Any, **info: Any) -> None:
            self._try(self.logger.on_experiment_end, [])

        def _end(self, key: str, *, failed: bool) -> None:
            if one := self.shown.pop(key, None):
                self._try(self.logger.log_trial_end, one, failed=failed)

        def _try(self, act: Callable[..., object], *args: Any, **more: Any) -> None:
            """Keep what a tracker cannot do away from the sweep."""
            if self.failed:
                return
            try:
                act(*args, **more)
            except Exception as error:
                self.failed = True
                self.warn(f"{self.name} is told no more: {type(error).__name__}: {error}")

    return Tell(**about)
