"""What Tune asks of us: the next trial when there is room, so that the order may change until then."""

from __future__ import annotations

import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.experiment import trial as trial_module
from ray.tune.schedulers import FIFOScheduler

from gridrun.sweep.queue import QueuedTrial, TrialQueue

_WAIT_SECONDS = 60.0


def make_search(trial_queue: TrialQueue, fits: Callable[[QueuedTrial], bool], slots: int, ahead: int) -> Any:
    """Return the search algorithm that takes what fits from a line-up.

    Args:
        trial_queue: what is to be run.
        fits: whether a turn takes what all of this search take.
        slots: how many run side by side.
        ahead: how many more may wait for room, so that a cluster which grows by itself sees that it should.
    """
    from ray.tune.experiment import Trial as TuneTrial
    from ray.tune.search import SearchAlgorithm

    class Ask(SearchAlgorithm):
        def __init__(self, trial_queue: TrialQueue, fits: Callable[[QueuedTrial], bool]) -> None:
            self.trial_queue, self.fits = trial_queue, fits
            self.spec: dict[str, Any] = {}
            self.live: dict[str, Any] = {}
            self.prefix, self.number = secrets.token_hex(4), 0

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles it to restore it one day; we never do

        def add_configurations(self, experiments: Any) -> None:
            (experiment,) = experiments
            names = ("storage", "trial_dirname_creator", "checkpoint_config", "log_to_file")
            self.spec = {name: experiment.spec[name] for name in names}
            self.spec["trainable_name"] = experiment.spec["run"]
            self.spec["placement_group_factory"] = experiment.spec["resources_per_trial"]

        def next_trial(self) -> Any:
            if len(self.live) >= slots and self._num_pending() >= ahead:
                return None
            while (turn := self.trial_queue.take(self.fits)) is None:
                if self.live or self.is_finished():
                    return None
                self.trial_queue.wait(
                    _WAIT_SECONDS
                )  # for what becomes of the last ones; Tune itself would poll
            self.number += 1
            config = {"trial_id": turn.trial.trial_id, "retry": turn.retry and asdict(turn.retry)}
            name = f"{self.prefix}_{self.number:05d}"  # of a directory, too: one for each turn
            trial = TuneTrial(config=config, trial_id=name, experiment_tag=name, **self.spec)
            self.live[name] = trial
            return trial

        def _num_pending(self) -> int:
            return sum(trial.status == TuneTrial.PENDING for trial in self.live.values())

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            self.live.pop(trial_id, None)

        def is_finished(self) -> bool:
            return self._finished or self.trial_queue.is_over(self.fits)

    return Ask(trial_queue, fits)


class InOrder(FIFOScheduler):
    """First come, first served. Tune's own looks through all trials at every step."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._added: deque[Trial] = deque()

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._added.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        while self._added and self._added[0].status != Trial.PENDING:
            self._added.popleft()
        return self._added[0] if self._added else None


@contextlib.contextmanager
def at_hand(worker: type) -> Iterator[None]:
    """Have Tune take the class of all trials as it is for a while.

    It would ask Ray's control store for it three times a trial, and unpickle it.
    """
    module: Any = trial_module
    before = module.get_trainable_cls, module.validate_trainable
    module.get_trainable_cls, module.validate_trainable = (lambda name: worker), (lambda name: None)
    try:
        yield
    finally:
        module.get_trainable_cls, module.validate_trainable = before
