"""The executor that runs one trial after another in this process, for tests and for debugging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gridrun import resources
from gridrun.errors import LaunchError
from gridrun.store import Store
from gridrun.sweep.events import Ended, Event, Progress, Started, Stepped
from gridrun.sweep.executor import Executor
from gridrun.sweep.queue import TrialQueue
from gridrun.sweep.worker import Setup, run_trial
from gridrun.trial import Trial
from trainer.metrics import Epoch


class SerialExecutor(Executor):
    """Runs trials in this process, on a GPU if there is one and `gpus` is not 0."""

    def __init__(self, gpus: int | None = None) -> None:
        self.gpus = gpus

    def run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        import torch

        from trainer import health

        if self.gpus:
            resources.check_gpus(self.gpus)
        device = "cuda" if self.gpus != 0 and torch.cuda.is_available() else "cpu"
        setup = replace(setup, runtime=replace(setup.runtime, device=device))
        store = Store(setup.results)
        while not setup.is_closed and (queued := trial_queue.take()):
            trial = queued.trial
            on_event(Started(trial))
            last: list[Epoch] = []

            def report(epoch: Epoch, trial: Trial = trial, last: list[Epoch] = last) -> None:
                last[:] = [epoch]
                on_event(Progress(trial, epoch))

            def step(epoch: int, part: float, trial: Trial = trial) -> None:
                on_event(Stepped(trial, epoch, part))

            outcome = run_trial(trial, setup, report, store, queued.retry, queued.parent, step)
            on_event(Ended(trial, outcome, *last))
            trial_queue.task_done(trial)
            if outcome == "failed" and not health.can_go_on(device):
                raise LaunchError(
                    f"the error of trial {trial.trial_id} has left CUDA unusable in this process; nothing is "
                    "lost, run the same command again to resume with the other trials"
                )
