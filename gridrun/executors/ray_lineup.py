"""Tune asks for the next trial when a worker has room for it, so that the order may change until then."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from gridrun.lineup import Lineup, Turn

_WAIT_SECONDS = 60.0


def make_search(lineup: Lineup, fits: Callable[[Turn], bool], slots: int, ahead: int) -> Any:
    """Return the search algorithm that takes what fits from a line-up.

    Args:
        lineup: what is to be run.
        fits: whether a turn takes what all of this search take.
        slots: how many run side by side.
        ahead: how many more may wait for room, so that a cluster which grows by itself sees that it should.
    """
    from ray.tune.experiment import Trial as TuneTrial
    from ray.tune.search import SearchAlgorithm

    class Ask(SearchAlgorithm):
        def __init__(self, lineup: Lineup, fits: Callable[[Turn], bool]) -> None:
            self.lineup, self.fits = lineup, fits
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
            while (turn := self.lineup.take(self.fits)) is None:
                if self.live or self.is_finished():
                    return None
                self.lineup.wait(_WAIT_SECONDS)  # for what becomes of the last ones; Tune itself would poll
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
            return self._finished or self.lineup.is_over(self.fits)

    return Ask(lineup, fits)
