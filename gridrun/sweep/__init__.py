"""One sweep, from its plan to its last record."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridrun import resources
from gridrun.errors import LaunchError
from gridrun.plan import Forecast, Plan, forecast_from, make_plan, requested_name
from gridrun.store import Store, unwritable
from gridrun.store.checkpoint_copies import CheckpointCopies
from gridrun.store.launch_state import LaunchState
from gridrun.sweep import provenance
from gridrun.sweep.events import Ended, Event, Lost, PackingChosen, Progress, Warned
from gridrun.sweep.executor import Executor
from gridrun.sweep.progress import Tracker
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.retries import Failed, RetryPolicy, RetryState
from gridrun.sweep.worker import Setup, failed_record
from gridrun.text import number_of, utc_now
from gridrun.trial import Trial
from trainer import Runtime

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.resources import Capacity


from typing import TYPE_CHECKING

from gridrun.errors import StoreError

if TYPE_CHECKING:
    from gridrun.resources import Capacity
    from gridrun.store import Store
    from gridrun.sweep.progress import Tracker
    from gridrun.sweep.queue import TrialQueue

_BUSY_SECONDS = 1.0
_HEARTBEAT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """All that is left is held by other processes: of other launches, or our own that were just killed."""

    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class Preparing:
    """A data set is being decoded, perhaps downloaded."""

    dataset: str


@dataclass(frozen=True, slots=True)
class Planned:
    """These trials are about to be run, in this order."""

    trials: tuple[Trial, ...]
    forecast: Forecast | None = None


LaunchEvent = Event | Planned | Waiting | Preparing | Failed


@dataclass(frozen=True, slots=True)
class Summary:
    """How a sweep ended."""

    plan: Plan
    """As it stood at the end."""
    started: int
    """Trials that this launch trained, at least in part."""
    interrupted: bool
    gave_up: bool = False
    """It started no further trials, because as many had failed as its policy says."""


def launch(
    grids: Sequence[Grid],
    store: Store,
    executor: Executor,
    *,
    runtime: Runtime,
    only: Sequence[str] = (),
    retry: bool = False,
    policy: RetryPolicy | None = None,
    checkpoints: str | None = None,
    capacity: Capacity | None = None,
    budget_hours: float | None = None,
    close: bool = False,
    on_event: Callable[[LaunchEvent], None],
    on_state: Callable[[LaunchState], None] = lambda state: None,
) -> Summary:
    """Train what `grids` ask for and `store` does not have.

    Args:
        grids: what is wanted.
        store: where results are and go.
        executor: what runs the trials; touched only if something is missing.
        runtime: data and cache directories, checkpoint interval; the executor sets the device.
        only: ids, or beginnings of ids, of the trials to run; empty for all.
        retry: also run again what has failed or diverged.
        policy: which trials that fail are tried again unasked, and when to give up.
        checkpoints: a directory or URI that every machine reaches, to copy checkpoints to (`CheckpointCopies`).
        capacity: what the executor runs trials on, for their order and the estimate; None: this machine.
        budget_hours: GPU-hours, or core-hours without a GPU, that the estimate may not exceed.
        close: whether to close the executor; a stop that comes while that lasts interrupts nothing.
        on_event: told of everything as it happens, in this thread.
        on_state: told after each event how far the launch is.

    Raises:
        StoreError: the store cannot be used.
        LaunchError: data or resources are missing, `only` names no trial, or the budget is too small.
    """
    plan = make_plan(grids, store.statuses())
    policy = policy or RetryPolicy()
    retry_state = RetryState(store, policy)
    if retry:
        retry_state.ask(plan.ended("failed", "diverged"))
    again = filter(retry_state.is_left, plan.ended("failed", "diverged"))
    whole, plan = plan, replace(plan, to_retry=frozenset(trial.trial_id for trial in again))
    wanted = chosen(plan.to_start, plan, only)
    if not wanted:
        _note_asked(store, grids)
        store.compact_leftovers()
        return Summary(whole, started=0, interrupted=False)
    expected = forecast_from(store, plan, wanted, capacity or resources.capacity())
    _check_budget(expected, budget_hours)
    wanted = expected.trials
    on_event(Planned(wanted, expected))
    store.create()
    if checkpoints:
        CheckpointCopies(checkpoints).check()
    _note_asked(store, grids)
    _prepare_data(wanted, runtime, on_event)
    trial_queue = TrialQueue(
        (QueuedTrial(trial, retry_state.retries.get(trial.trial_id)) for trial in wanted),
        is_free=functools.partial(_is_free, store),
    )
    with _stop_file(store) as stop_file:
        drain_file = stop_file.with_suffix(".drain")
        with _Sweep(store, plan, expected, retry_state, trial_queue, drain_file, on_event, on_state) as sweep:
            setup = Setup(
                results=store.root,
                runtime=runtime,
                code=provenance.of_code(),
                stop_file=stop_file,
                drain_file=drain_file,
                checkpoints=checkpoints,
            )
            _run(trial_queue, executor, setup, sweep)
            interrupted = stop_file.exists() and any(
                retry_state.is_left(turn.trial) for turn in trial_queue.left
            )
        store.compact(now=True)
        if close:
            executor.close()
        store.clear_locks()  # also those of workers that were killed just now
        store.tidy(until=stop_file.exists)
    return Summary(
        make_plan(grids, store.statuses()),
        started=len(sweep.started),
        interrupted=interrupted,
        gave_up=sweep.gave_up,
    )


def _run(trial_queue: TrialQueue, executor: Executor, setup: Setup, sweep: _Sweep) -> None:
    """Have the executor take all turns, and come back for trials that other launches have."""
    waiting_for: set[Trial] = set()
    while (left := trial_queue.left) and not setup.is_closed:
        if not trial_queue.is_held_up():
            executor.run(trial_queue, setup, sweep.handle)
            continue
        held = {turn.trial for turn in left}
        if held != waiting_for:
            sweep.handle(Waiting(tuple(held)))
            waiting_for = held
        time.sleep(_BUSY_SECONDS)
        for trial in held:
            if not sweep.retry_state.is_left(trial):
                trial_queue.drop(trial)


def _is_free(store: Store, trial: Trial) -> bool:
    """Return whether no other launch has a trial, as far as can be told; a worker is told for sure."""
    with contextlib.suppress(OSError):
        return not store.is_locked(trial.trial_id)
    return True


def _note_asked(store: Store, grids: Sequence[Grid]) -> None:
    for grid in grids:
        if grid.tables:  # a lone trial is no grid that anybody edits
            store.note_asked(requested_name(grid, store), [trial.trial_id for trial in grid.trials])


def _check_budget(expected: Forecast, budget_hours: float | None) -> None:
    """Refuse trials that are likely to take more than the budget, or that nothing is known of."""
    if budget_hours is None:
        return
    trials = number_of(len(expected.trials), "trial")
    if expected.hours is None:
        raise LaunchError(
            f"--budget-hours {budget_hours:g}: this store has no past trials that would tell how long "
            f"these {trials} take; run some first, such as `--only {expected.trials[-1].trial_id}`"
        )
    if expected.hours > budget_hours:
        hours = f"{expected.hours:.3g} {expected.capacity.unit}-hours"
        raise LaunchError(
            f"--budget-hours {budget_hours:g}: {trials} to run, estimated at {hours} ({expected.trust})"
        )


def chosen(wanted: Sequence[Trial], plan: Plan, only: Sequence[str]) -> tuple[Trial, ...]:
    """Return the wanted trials whose ids begin as one of `only` says; all where it is empty."""
    whole = {trial.trial_id for trial in plan.trials}.intersection(only)  # `retry` names thousands
    starts = tuple(start for start in only if start not in whole)
    for start in starts:
        if not start or not any(trial.trial_id.startswith(start) for trial in plan.trials):
            raise LaunchError(
                f"no trial of these grids has an id that begins with {start!r}; `gridrun plan` lists them"
            )
    return tuple(t for t in wanted if not only or t.trial_id in whole or t.trial_id.startswith(starts))


class _Sweep:
    """Keeps the store in step with events, and tells others what this launch is doing."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        expected: Forecast,
        retry_state: RetryState,
        trial_queue: TrialQueue,
        drain_file: Path,
        on_event: Callable[[LaunchEvent], None],
        on_state: Callable[[LaunchState], None],
    ) -> None:
        self.store, self.on_event, self.on_state = store, on_event, on_state
        self.retry_state, self.trial_queue, self.drain_file = retry_state, trial_queue, drain_file
        self.gave_up = False
        self.failing: set[str] = set()  # trials that have failed since the last that did not
        self.launch_id = secrets.token_hex(8)
        self.tracker = Tracker(
            expected.trials, utc_now(), lambda trial: expected.costs[trial.trial_id].amount or 1.0
        )
        self.tracker.expect(expected.makespan_seconds)
        self.rescheduler = Rescheduler(store, plan, expected.capacity, trial_queue, self.tracker)
        self.started: set[str] = set()
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> _Sweep:
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._heart.join()
        self.store.end_launch(self.launch_id)
        self.drain_file.unlink(missing_ok=True)

    def handle(self, event: LaunchEvent) -> None:
        """Take note of an event and pass it on, a failure with what becomes of it."""
        match event:
            case Lost(trial, failure, reason):
                about = {"attempts": self.retry_state.attempts(trial), "provenance": provenance.of_code()}
                self.store.add(failed_record(trial, failure, reason, **about))
                event = self._fail(trial)
            case Ended(trial, "failed"):
                event = self._fail(trial)
            case Ended(trial, "busy"):
                self.trial_queue.put_off(trial)
            case Ended(trial, outcome):
                self.started.add(trial.trial_id)
                if outcome == "interrupted":
                    self.trial_queue.put_back(trial, self.retry_state.retries.get(trial.trial_id))
                elif outcome == "done":
                    self.failing.clear()
            case _:
                pass
        self.store.compact()
        self.on_event(event)
        if not isinstance(event, (Planned, Preparing, Waiting, Warned, PackingChosen)):
            self.tracker.handle(event)
        if isinstance(event, (Progress, Ended, Failed)):
            self.rescheduler.look()
        self.on_state(self.tracker.snapshot())

    def _fail(self, trial: Trial) -> Ended | Failed:
        """Decide what becomes of a trial whose record says that it failed."""
        self.started.add(trial.trial_id)
        row = self.store.rows([trial.trial_id])[trial.trial_id]
        if row["status"] == "done":  # its worker died after that
            return Ended(trial, "done")
        self.failing.add(trial.trial_id)
        most = self.retry_state.policy.stop_after_failures
        if most and len(self.failing) >= most:
            self.gave_up = True
            try:
                self.drain_file.touch()
            except OSError as error:  # a full disk: no worker would hear of it
                raise unwritable(self.store.root, error) from error
        again = self.retry_state.is_left(trial) and not self.gave_up
        if again:
            self.trial_queue.put_back(trial, self.retry_state.retries.get(trial.trial_id))
        return Failed(trial, row.get("failure"), row["error"] or "", again)

    def _beat(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # a full disk must not end the sweep
                self.store.write_launch(self.launch_id, self.tracker.snapshot())
            with contextlib.suppress(OSError):  # none as a rule; other launches clear away what is old
                os.utime(self.drain_file)
            if self._closed.wait(_HEARTBEAT_SECONDS):
                return


def _prepare_data(trials: Sequence[Trial], runtime: Runtime, on_event: Callable[[LaunchEvent], None]) -> None:
    """Decode every data set that is not in this machine's cache, before any trial starts."""
    from trainer import data
    from trainer.datasets import DataError

    for dataset in dict.fromkeys(trial.config.dataset for trial in trials):
        if not data.is_cached(dataset, runtime.cache_dir):
            on_event(Preparing(dataset.label))
            try:
                data.load(dataset, runtime.data_dir, runtime.cache_dir)
            except DataError as error:
                raise LaunchError(f"{error} (--data and GRIDRUN_CACHE choose the directories)") from None


@contextlib.contextmanager
def _stop_file(store: Store) -> Iterator[Path]:
    """Yield a path that comes to exist with the first SIGINT, SIGTERM or SIGHUP; the second stops at once."""
    path = store.stop_path(secrets.token_hex(8))

    def stop(signum: int, frame: object) -> None:
        if path.exists():
            raise KeyboardInterrupt
        try:
            path.touch()
        except OSError:  # a full disk, or no directory any more: no trial would hear of it
            raise KeyboardInterrupt from None

    in_main = threading.current_thread() is threading.main_thread()
    heard = [signal.SIGINT, signal.SIGTERM] if in_main else []
    if in_main and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        heard.append(signal.SIGHUP)
    old = {number: signal.signal(number, stop) for number in heard}
    try:
        yield path
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        path.unlink(missing_ok=True)


_EVERY_SECONDS = 5.0
_SHARE = 0.02
"""Part of a launch's time that this may take, so that ten times the trials cost no more each."""


class Rescheduler:
    """Puts what waits in a line-up in order, by the trials that have ended and the epochs of those that run.

    Args:
        store: has the trials that have ended.
        plan: what those of the line-up are part of.
        capacity: what they are run on.
        trial_queue: what is put in order.
        tracker: knows what runs, and is told how long all of it is going to take.
    """

    def __init__(
        self, store: Store, plan: Plan, capacity: Capacity, trial_queue: TrialQueue, tracker: Tracker
    ) -> None:
        self._store, self._plan, self._capacity = store, plan, capacity
        self._lineup, self._tracker = trial_queue, tracker
        self._next = 0.0

    def look(self) -> None:
        """Do so, unless that was done a moment ago."""
        started = time.monotonic()
        if started < self._next:
            return
        turns = self._lineup.waiting
        again = frozenset(turn.trial.trial_id for turn in turns if turn.retry)
        with contextlib.suppress(StoreError):  # whoever needs what cannot be read will say so
            expected = forecast_from(
                self._store,
                replace(self._plan, to_retry=again, shared={}),
                [turn.trial for turn in turns],
                self._capacity,
                self._tracker.running,
            )
            self._lineup.order(expected.trials)
            self._tracker.expect(expected.makespan_seconds)
        ended = time.monotonic()
        self._next = ended + max(_EVERY_SECONDS, (ended - started) / _SHARE)
