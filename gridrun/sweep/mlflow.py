"""The epochs of trials as runs of an MLflow server, while they train.

An experiment is a grid, a run is named by what tells it from the grid's others. A trial that is resumed
goes on in its run, which the tag `gridrun.trial_id` finds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gridrun.errors import LaunchError
from gridrun.sweep.events import Ended, Progress
from gridrun.sweep.names import TrialName
from gridrun.sweep.retries import Failed
from gridrun.trial import Trial
from trainer.metrics import Epoch

if TYPE_CHECKING:
    from gridrun.plan import Plan
    from gridrun.store.launches import LaunchState

ID_TAG = "gridrun.trial_id"
NAMELESS = "gridrun"
"""Experiment of trials that no grid names."""
STATUS = {"done": "FINISHED", "diverged": "FINISHED"}
"""Of a run by how its trial ended; failures are FAILED, all others KILLED, and taken up when the trial is."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""MLflow's settings unless they are set: at its end a launch waits for a silent server, some 80 s."""


class MLflowRuns(contextlib.AbstractContextManager["MLflowRuns"]):
    """Logs to a server from a thread of its own, since a request takes as long as the network likes.

    Args:
        uri: of the server.
        names: of the trials, by id.
        warn: gets one line when the server fails; it is told no more, and the sweep goes on.
        connect: returns the server at the URI; `MLflowServer` if None.

    Raises:
        LaunchError: mlflow is not installed.
    """

    def __init__(
        self,
        uri: str,
        names: Mapping[str, TrialName],
        warn: Callable[[str], None],
        connect: Callable[[str], MLflowServer] | None = None,
    ) -> None:
        if connect is None and importlib.util.find_spec("mlflow") is None:
            raise LaunchError("--mlflow needs the package mlflow: pip install mlflow-skinny")
        self._uri, self._names, self._warn = uri, names, warn
        self._connect = connect or MLflowServer
        self._server: MLflowServer | None = None  # until the first epoch: it is slow to import
        self._runs: dict[str, str] = {}  # ids of the runs that are open, by trial id
        self._logged: dict[str, int] = {}  # their last epoch
        self._has_failed = False
        self._thread = ThreadPoolExecutor(1, "mlflow")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the server has all; runs of trials that were stopped at once are closed."""
        self._thread.submit(self._safely, self._close_all)
        self._thread.shutdown()

    def show(self, event: object) -> None:
        """Log what is new in an event."""
        match event:
            case Progress(trial, epoch):
                self._thread.submit(self._safely, self._log, trial, epoch)
            case Ended(trial, outcome, last):
                self._thread.submit(self._safely, self._end, trial, last, STATUS.get(outcome, "KILLED"))
            case Failed(trial):
                self._thread.submit(self._safely, self._end, trial, None, "FAILED")

    def update(self, state: LaunchState) -> None:
        """Log nothing: epochs come with events."""

    def end(self, outcome: str, plan: Plan | None) -> None:
        """Log nothing: runs end with their trials."""

    def _log(self, trial: Trial, epoch: Epoch) -> None:
        key = trial.trial_id
        self._server = self._server or self._connect(self._uri)
        if key not in self._runs:
            name = self._names.get(key) or TrialName(NAMELESS, key)
            self._runs[key], self._logged[key] = self._server.open(trial, name)
        if epoch.epoch > self._logged[key]:
            self._server.log(self._runs[key], epoch)
            self._logged[key] = epoch.epoch

    def _end(self, trial: Trial, last: Epoch | None, status: str) -> None:
        if last:
            self._log(trial, last)
        self._logged.pop(trial.trial_id, None)
        if (run := self._runs.pop(trial.trial_id, None)) and self._server:
            self._server.close(run, status)

    def _close_all(self) -> None:
        for run in self._runs.values():
            if self._server:
                self._server.close(run, "KILLED")

    def _safely(self, method: Callable[..., None], *args: Any) -> None:
        """Keep errors of the server away from the sweep."""
        if self._has_failed:
            return
        try:
            method(*args)
        except Exception as error:
            self._has_failed = True
            reason = " ".join(str(error).split())
            self._warn(f"--mlflow {self._uri}: is told no more: {type(error).__name__}: {reason[:300]}")


class MLflowServer:
    """What `MLflowRuns` asks of a server, by MLflow's own client. Any method may raise MLflow's errors."""

    def __init__(self, uri: str) -> None:
        for setting, value in PATIENCE.items():
            os.environ.setdefault(setting, value)
        from mlflow import MlflowClient  # type: ignore[import-not-found]

        self._client: Any = MlflowClient(tracking_uri=uri)

    def open(self, trial: Trial, name: TrialName) -> tuple[str, int]:
        """Return the trial's run, the one that it has or a new one, and the last epoch in it."""
        from mlflow.entities import Param  # type: ignore[import-not-found]

        found = self._client.get_experiment_by_name(name.experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(name.experiment)
        same = f"tags.`{ID_TAG}` = '{trial.trial_id}' and attributes.status != 'FINISHED'"
        for run in self._client.search_runs([experiment], filter_string=same, max_results=1):
            self._client.update_run(run.info.run_id, status="RUNNING")
            history = self._client.get_metric_history(run.info.run_id, "lr")
            return run.info.run_id, max((metric.step for metric in history), default=0)
        run = self._client.create_run(experiment, run_name=name.run, tags={ID_TAG: trial.trial_id})
        options = {"seed": trial.seed, **trial.config.flat()}
        params = [Param(option, str(value)) for option, value in options.items()]
        self._client.log_batch(run.info.run_id, params=params)
        return run.info.run_id, 0

    def log(self, run: str, epoch: Epoch) -> None:
        """Add the numbers of an epoch, which is their step."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        numbers = {name: value for name, value in asdict(epoch).items() if value is not None}
        metrics = [Metric(name, value, now_ms, numbers["epoch"]) for name, value in numbers.items()]
        self._client.log_batch(run, metrics=metrics)

    def close(self, run: str, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(run, status=status)
