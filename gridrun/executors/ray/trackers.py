"""Log trials to MLflow and Weights & Biases, through Ray's own callbacks for them.

They get every epoch. If a tracker fails (its server is down), it gets no more; the trials go on.
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
"""Name of the MLflow experiment, and of the Weights & Biases project unless WANDB_PROJECT names one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trackers:
    """Which trackers a launch logs to.

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
        """Return the Tune callbacks that log `trials`; `warn` gets a line when a tracker fails."""
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


class _TrackedTrial:
    """A trial as trackers see it: named by its id, with the options by dotted name as its config."""

    def __init__(self, trial: Trial, directory: Path) -> None:
        self.trial_id = trial.trial_id
        self.config = {"trial_id": trial.trial_id, "seed": trial.seed, **trial.config.flat()}
        self.experiment_dir_name = NAME
        self.local_path = str(directory)

    def __str__(self) -> str:
        return self.trial_id


def _callback(**about: Any) -> Any:
    """Return the Tune callback that passes reports on to one tracker."""
    from ray import tune

    class TrackerCallback(tune.Callback):
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
            self.tracked: dict[str, _TrackedTrial] = {}
            self.logged: dict[str, int] = {}
            self.failed = False

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles it for a restore, which we never do

        def setup(self, *args: Any, **info: Any) -> None:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._call(self.logger.setup)

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            key, epoch = trial.config["trial_id"], result["epoch"]
            if epoch is None:
                return  # no epoch yet, or another launch has the trial
            if key not in self.tracked:
                self.tracked[key] = _TrackedTrial(self.by_id[key], self.directory)
                self._call(self.logger.log_trial_start, self.tracked[key])
            if epoch["epoch"] > self.logged.get(key, 0):
                self.logged[key] = epoch["epoch"]
                figures = {name: value for name, value in epoch.items() if value is not None}
                figures["training_iteration"] = epoch["epoch"]
                self._call(self.logger.log_trial_result, iteration, self.tracked[key], figures)
            if "outcome" in result:
                self._end(key, failed=result["outcome"] == "failed")

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._end(trial.config["trial_id"], failed=True)

        def on_experiment_end(self, trials: Any, **info: Any) -> None:
            self._call(self.logger.on_experiment_end, [])

        def _end(self, key: str, *, failed: bool) -> None:
            if one := self.tracked.pop(key, None):
                self._call(self.logger.log_trial_end, one, failed=failed)

        def _call(self, act: Callable[..., object], *args: Any, **more: Any) -> None:
            """Call a tracker, and keep its errors away from the sweep."""
            if self.failed:
                return
            try:
                act(*args, **more)
            except Exception as error:
                self.failed = True
                self.warn(f"{self.name} is told no more: {type(error).__name__}: {error}")

    return TrackerCallback(**about)
