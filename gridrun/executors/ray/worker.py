"""What runs in a worker of Ray's: one trial after another in a process that stays warm."""

from __future__ import annotations

import os
import platform
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import ray
from ray import tune

from gridrun import resources
from gridrun.errors import StoreError
from gridrun.executors.ray.remote_store import Address, hold_back, lacks, run_anywhere
from gridrun.store import Store
from gridrun.sweep.retries import Retry
from gridrun.sweep.worker import Setup, run_trial
from gridrun.trial import Trial
from trainer.datasets import DatasetOptions
from trainer.metrics import Epoch

_LACKING_SECONDS = 60.0
"""How long a machine that cannot get a trial's data takes no other."""


class TrialWorker(tune.Trainable):
    """Tells Tune of the present trial at each `step`: of an epoch now and then, at last of its outcome.

    A class, not a function: Tune then asks a used worker twice a trial, not three times, and what all
    trials have in common is unpacked once.
    """

    def setup(  # type: ignore[override]  # Tune's with_parameters adds the rest
        self,
        config: dict[str, Any],
        *,
        trials: Mapping[str, Trial],
        setup: Setup,
        progress_seconds: float,
        home: Address | None,
    ) -> None:
        self._trials, self._setup = trials, setup
        self._progress_seconds = progress_seconds
        self._home = home
        self._data_sets: set[DatasetOptions] = set()  # that this machine was seen to have
        gpus = [resources.gpu_label(str(name)) for name in sorted(ray.get_gpu_ids())]
        self._place = ", ".join([platform.node(), *gpus] if home else gpus)
        self._run = partial(run_anywhere, home) if home else partial(run_trial, store=Store(setup.results))
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports: queue.SimpleQueue[dict[str, Any] | BaseException] | None = None
        self._turn = new_config
        return True

    def step(self) -> dict[str, Any]:
        if self._reports is None:
            self._reports = queue.SimpleQueue()
            threading.Thread(
                target=self._take, args=(self._turn, self._reports), name="trial", daemon=True
            ).start()
        report = self._reports.get()
        if isinstance(report, _Useless):
            os._exit(1)  # no trial after this one could use the GPU from here; Tune starts another process
        if isinstance(report, BaseException):
            raise report
        return report

    def _take(
        self, turn: Mapping[str, Any], reports: queue.SimpleQueue[dict[str, Any] | BaseException]
    ) -> None:
        """Run the trial, leaving word of it until it is done."""
        from trainer import health

        told_at = time.monotonic()
        last: dict[str, Any] | None = None

        def report(epoch: Epoch) -> None:
            nonlocal told_at, last
            last = asdict(epoch)
            if time.monotonic() - told_at >= self._progress_seconds:
                told_at = time.monotonic()
                reports.put({"at": last, "place": self._place})

        trial, retry = self._trials[turn["trial_id"]], turn["retry"]
        dataset = trial.config.dataset
        if self._home and dataset not in self._data_sets and (lack := lacks(trial, self._setup)):
            # The launch's machine has it, so another may as well. Were this a failure of the trial, a
            # machine without data, which is always free, would have them all fail.
            reports.put({"at": None, "outcome": "busy", "lack": f"on {platform.node()}: {lack}"})
            hold_back(self._home, _LACKING_SECONDS)
            reports.put({"at": None, "done": True})  # Tune asks for it when it has the other
            return
        self._data_sets.add(dataset)
        try:
            outcome = self._run(trial, self._setup, report, retry=Retry(**retry) if retry else None)
        except StoreError as error:  # no fault of the trial, and no other's record could be kept either
            problem = getattr(error, "cause", error)  # of one that comes from `StoreActor`
            text = f"on {platform.node()}: {problem}" if self._home else str(problem)
            reports.put({"at": last, "problem": text, "done": True})
        except BaseException as error:  # Tune takes the trial for lost
            reports.put(error)
        else:
            if outcome == "failed":
                self._data_sets.clear()  # that may have been why: its directory may be gone since
            if outcome == "failed" and not health.can_go_on(self._setup.runtime.device):
                reports.put({"at": last, "outcome": outcome})  # Tune asks once more when it has that
                reports.put(_Useless())
            else:
                reports.put({"at": last, "outcome": outcome, "done": True})


class _Useless(Exception):
    """This process can run no further trial."""
