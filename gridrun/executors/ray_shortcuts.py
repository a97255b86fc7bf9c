"""What Tune does for each trial at a cost that grows with their number, or asks Ray for again and again."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.experiment import trial as trial_module
from ray.tune.schedulers import FIFOScheduler


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
