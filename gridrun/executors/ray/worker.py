"""What a Ray worker runs: one trial after another in a process that stays warm.

Importing this module imports ray.
"""

from __future__ import annotations

import os
import platform
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, TypeAlias

import ray
from ray import tune

from gridrun import resources
from gridrun.errors import StoreError
from gridrun.executors.ray.remote_store import StoreAddress, missing_data, run_anywhere, wait_unless_closed
from gridrun.store import Store
from gridrun.sweep.worker import Setup, run_trial
from gridrun.trial import Trial
from trainer.metrics import Epoch

_MISSING_DATA_SECONDS = 60.0
"""How long a machine that cannot get a trial's data takes no other trial."""
_EXIT: dict[str, Any] = {}
"""In place of a report: this process can run no further trial."""
Put: TypeAlias = Callable[[dict[str, Any] | BaseException], None]
"""Takes a report, or the error with which Tune is to report the trial as failed."""


class TrialWorker(tune.Trainable):
    """Runs one trial after another; a `step` returns a report about once a second, the last with the outcome.

    A class, because Tune then makes two calls for each trial, not three, and a reused worker unpickles the
    shared data only once. To stop, see `run_trial`: it polls the stop file.
    """

    def setup(  # type: ignore[override]  # Tune's with_parameters adds the rest
        self,
        config: dict[str, Any],
        *,
        setup: Setup,
        progress_seconds: float,
        store_address: StoreAddress | None,
    ) -> None:
        self._setup, self._progress_seconds = setup, progress_seconds
        self._store_address = store_address
        self._files: set[tuple[object, object]] = set()  # on this machine
        # One thread trains all trials: cuDNN measures its convolutions anew in each thread.
        self._jobs: queue.SimpleQueue[tuple[Mapping[str, Any], Put]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()
        self._node = ray.get_runtime_context().get_node_id()
        gpus = [resources.gpu_label(str(name)) for name in sorted(ray.get_gpu_ids())]
        self._place = ", ".join([platform.node(), *gpus] if store_address else gpus)
        if store_address:
            self._run = partial(run_anywhere, store_address)
        else:
            self._run = partial(run_trial, store=Store(setup.results))
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports: queue.SimpleQueue[dict[str, Any] | BaseException] | None = None
        self._queued = new_config
        return True

    def step(self) -> dict[str, Any]:
        if self._reports is None:
            self._reports = queue.SimpleQueue()
            self._jobs.put((self._queued, self._reports.put))
            if self._store_address:  # so that the driver knows the node, should it die
                return self._report()
        report = self._reports.get()
        if report is _EXIT:
            os._exit(1)  # Tune starts another process
        if isinstance(report, BaseException):
            raise report
        return report

    def _work(self) -> None:
        while True:
            queued, put = self._jobs.get()
            try:
                self._train(queued, put)
            except BaseException as error:  # else the thread would end, and `step` wait for ever
                put(error)

    def _report(self, epoch: dict[str, Any] | None = None, **about: Any) -> dict[str, Any]:
        return {"epoch": epoch, "node": self._node, "place": self._place, **about}

    def _train(self, queued: Mapping[str, Any], put: Put) -> None:
        """Run a trial and put reports of it."""
        from trainer import health

        reported_at = time.monotonic()
        last: dict[str, Any] | None = None

        def on_epoch(epoch: Epoch) -> None:
            nonlocal reported_at, last
            last = asdict(epoch)
            if time.monotonic() - reported_at >= self._progress_seconds:
                reported_at = time.monotonic()
                put(self._report(last))

        def on_step(epochs: int, part: float) -> None:
            put(self._report(within=(epochs, part)))

        trial: Trial = queued["trial"]
        config, retry = trial.config, queued["retry"]
        needed = config.dataset, config.init_from and (config.init_from, config.model)
        try:
            if (
                self._store_address
                and needed not in self._files
                and (problem := missing_data(trial, self._setup))
            ):
                # The launch's machine has the data, so others may have it too. This must not fail the trial:
                # a machine without data is always free, and would soon have failed all of them.
                text = f"on {platform.node()}: {problem}"
                put(self._report(outcome="busy", missing_data=text))
                wait_unless_closed(self._store_address, _MISSING_DATA_SECONDS)
                put(self._report(done=True))  # Tune asks for this once it has the other
                return
            self._files.add(needed)
            more = {"retry": retry, "parent": queued["parent"], "on_step": on_step}
            outcome = self._run(trial, self._setup, on_epoch, **more)
        except StoreError as error:  # no fault of the trial, and no other record could be kept either
            cause = getattr(error, "cause", error)  # of an error that comes from `StoreActor`
            text = f"on {platform.node()}: {cause}" if self._store_address else str(cause)
            put(self._report(last, problem=text, done=True))
            return
        if outcome == "failed":
            self._files.clear()  # missing data may have been the reason
        if outcome == "failed" and not health.can_go_on(self._setup.runtime.device):
            put(self._report(last, outcome=outcome))  # Tune asks once more when it has that
            put(_EXIT)
        else:
            put(self._report(last, outcome=outcome, done=True))
