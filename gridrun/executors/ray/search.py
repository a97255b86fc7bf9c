"""Our side of Ray Tune's interface: which trial comes next, what has become of it, and when to stop.

Importing this module imports ray.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayTaskError
from ray.tune.search import Searcher

from gridrun.errors import StoreError
from gridrun.store.records import Failure
from gridrun.sweep.events import Ended, Event, Lost, Progress, Started, Stepped, Warned
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.trial import Trial
from trainer.metrics import Epoch

_WAIT_SECONDS = 60.0
Emit = Callable[[Event | StoreError], None]


class _Stateless:
    """An object without state for Tune, which pickles it for restores that we never make."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class QueueSearcher(_Stateless, Searcher):
    """Gives Tune the next trial of the queue once there is room, so that the rest can still be reordered.

    Args:
        fits: whether a queued trial takes the resources that all trials of this run of Tune take.
        slots: how many trials run side by side.
        ahead: how many more may wait for room, so that an autoscaling cluster sees that it should grow.
    """

    def __init__(
        self, trial_queue: TrialQueue, fits: Callable[[QueuedTrial], bool], slots: int, ahead: int
    ) -> None:
        super().__init__()
        self.trial_queue, self.fits, self.slots, self.ahead = trial_queue, fits, slots, ahead
        self.live: set[str] = set()  # Tune's ids of trials that have not ended
        self.pending: set[str] = set()  # and of those that no worker has started

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the results directory says what is left to do."""

    def suggest(self, trial_id: str) -> Any:  # a config, None for not now, or FINISHED
        if len(self.live) >= self.slots and len(self.pending) >= self.ahead:
            return None
        while (queued := self.trial_queue.take(self.fits)) is None:
            if self.trial_queue.is_over(self.fits):
                return Searcher.FINISHED
            if self.live:
                return None
            self.trial_queue.wait(_WAIT_SECONDS)  # the last trials may yet be queued again
        self.live.add(trial_id)
        self.pending.add(trial_id)
        return {"trial": queued.trial, "retry": queued.retry, "parent": queued.parent}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.live.discard(trial_id)
        self.pending.discard(trial_id)


class EventCallback(_Stateless, tune.Callback):
    """Turns what Tune reports into our events."""

    def __init__(self, searcher: QueueSearcher, emit: Emit) -> None:
        self.searcher, self.emit = searcher, emit
        self.in_flight: dict[str, Trial] = {}  # by Tune's ids, in the order of their start
        self.nodes: dict[str, str] = {}  # Ray's ids of the nodes where they run
        self.ended: set[str] = set()
        self.warned: set[str] = set()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.searcher.pending.discard(trial.trial_id)
        own = self.in_flight[trial.trial_id] = trial.config["trial"]
        self.emit(Started(own))

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        own = trial.config["trial"]
        epoch = Epoch(**result["epoch"]) if result["epoch"] else None
        self.nodes[trial.trial_id] = result["node"]
        if "problem" in result:
            self.emit(StoreError(result["problem"]))
        elif "outcome" in result:
            self.ended.add(trial.trial_id)
            self.in_flight.pop(trial.trial_id, None)
            if (problem := result.get("missing_data")) and problem not in self.warned:
                self.warned.add(problem)
                self.emit(
                    Warned(
                        f"{problem} Other machines take its trials; this machine is tried again every minute."
                    )
                )
            self.emit(Ended(own, result["outcome"], epoch))
        elif epoch:
            self.emit(Progress(own, epoch, result["place"]))
        elif within := result.get("within"):
            epochs, part = within
            self.emit(Stepped(own, epochs, part, result["place"]))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.in_flight.pop(trial.trial_id, None)
        if trial.trial_id in self.ended:
            return  # its worker stopped after that, because it could not use its GPU any more
        error, text = _error_of(trial)
        kind = kind_of_loss(error, self.nodes.get(trial.trial_id))
        self.emit(Lost(trial.config["trial"], kind, reason_of_loss(error, text)))

    def on_tune_failed(self, error: BaseException) -> bool:
        """Report the trials in flight when Tune gives up; return whether it should be started again.

        Tune (up to 2.60) gives up a whole run when Ray ends one worker for lack of memory. It does not say
        which, so the trial that started last is reported as lost: Ray ends the newest worker. The others
        lose their workers too, but not an attempt.
        """
        cause: BaseException | None = error
        while cause and not isinstance(cause, (OutOfMemoryError, NodeDiedError)):
            cause = cause.__cause__ or cause.__context__
        if cause is None or not self.in_flight:
            return False
        *others, last = self.in_flight.values()
        for trial in others:
            self.emit(Ended(trial, "interrupted"))
        self.emit(Lost(last, kind_of_loss(cause), reason_of_loss(cause, str(cause))))
        return True


class StopWhen(_Stateless, tune.Stopper):
    """Ends a run of Tune, whatever is still in flight, once `asked` returns true."""

    def __init__(self, asked: Callable[[], bool]) -> None:
        self.asked = asked

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.asked()


def kind_of_loss(error: BaseException | None, node: str | None = None) -> Failure:
    """Return the kind of failure that ended a worker: from Ray's error and node id, as far as known."""
    if isinstance(error, OutOfMemoryError):
        return "host_memory"
    if isinstance(error, RayTaskError) or (isinstance(error, RayActorError) and error.actor_init_failed):
        return "exception"
    if isinstance(error, NodeDiedError) or (isinstance(error, RayActorError) and error.preempted):
        return "node_lost"
    if node and not any(each["Alive"] for each in ray.nodes() if each["NodeID"] == node):
        return "node_lost"
    return "worker_killed"


def reason_of_loss(error: BaseException | None, text: str) -> str:
    """Return one line of Ray's report as the reason that a worker was lost.

    Reports of dead actors and of exceptions end with the reason; other ones begin with it.
    """
    lines = text.strip().splitlines() or [""]
    line = lines[-1] if isinstance(error, (RayActorError, RayTaskError)) else lines[0]
    return f"its worker died or could not start: {line.strip()[:300]}".removesuffix(": ")


def _error_of(trial: Any) -> tuple[BaseException | None, str]:
    """Return the error that ended a Tune trial, and its text.

    `trial.get_error()` reads the copies in Tune's storage, which are written later than this. Tune wrote the
    pickle a moment ago in this process, in a directory that is closed to other users.
    """
    error, text = None, ""
    with contextlib.suppress(OSError, TypeError):
        text = Path(trial.error_file).read_text(encoding="utf-8").partition("\n")[2]  # after "Failure # 1"
    with contextlib.suppress(Exception):  # Tune pickles only some kinds of errors
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
    return error, text
