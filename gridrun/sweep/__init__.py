"""One launch, from its plan to its last record: plan, order, prepare the data, run, tidy up."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gridrun.errors import LaunchError
from gridrun.grid import Grid
from gridrun.looks import hopeless, possible_ids, settle
from gridrun.plan import Forecast, Plan, forecast_from, make_plan, requested_name
from gridrun.plan.again import chosen
from gridrun.plan.trials import select_trials
from gridrun.store import Store, unwritable
from gridrun.store.checkpoint_copies import CheckpointCopies
from gridrun.store.launches import LaunchState
from gridrun.sweep import provenance
from gridrun.sweep.events import Ended, Event, Lost, Progress, Started, Waiting
from gridrun.sweep.executor import Executor
from gridrun.sweep.later_seeds import More, with_later_seeds
from gridrun.sweep.options import LaunchOptions
from gridrun.sweep.progress import Tracker
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.reschedule import Rescheduler
from gridrun.sweep.retries import Failed, RetryState
from gridrun.sweep.worker import Setup, failed_record
from gridrun.text import format_amount, number_of, utc_now
from gridrun.trial import Trial
from trainer import Runtime, files

_HELD_POLL_SECONDS = 1.0
_HEARTBEAT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Preparing:
    """A data set is being decoded, perhaps downloaded."""

    dataset: str


@dataclass(frozen=True, slots=True)
class Planned:
    """These trials are about to run, in this order."""

    trials: tuple[Trial, ...]
    forecast: Forecast | None = None


LaunchEvent = Event | Planned | Preparing | Failed
OnEvent = Callable[[LaunchEvent], None]
OnState = Callable[[LaunchState], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """How a launch ended."""

    plan: Plan
    """As it stands at the end."""
    started: int
    """Trials that this launch trained, at least in part."""
    interrupted: bool
    """Whether it was told to stop and has trials left."""
    told_to_stop: bool = False
    failed_in_a_row: int = 0
    """Trials that failed in a row, if the launch stopped because of them; else 0."""
    elsewhere: int = 0
    """Trials of this launch that other launches trained meanwhile."""


def launch(
    grids: Sequence[Grid],
    store: Store,
    executor: Executor,
    options: LaunchOptions,
    on_event: OnEvent,
    on_state: OnState = lambda state: None,
    more: More = lambda trial: (),
) -> Summary:
    """Train what `grids` ask for and `store` does not have. If nothing is missing, no executor is started.

    Args:
        on_event: called with every event as it happens, in this thread.
        on_state: called after each event with the state of the launch.
        more: called after each trial that is done or has diverged.

    Raises:
        StoreError: the store cannot be used.
        LaunchError: data or resources are missing, `options.only` names no trial, or the budget is too small.
    """
    asked, grids = grids, settle(grids, store)
    retry_state = RetryState(store, options.retry_policy)
    plan = plan_launch(grids, store, options, retry_state)
    trials = select_trials(plan, options.only)
    if not trials:
        _note_asked(store, grids)
        store.compact_leftovers()
        return Summary(replace(plan, to_retry=frozenset()), started=0, interrupted=False)
    forecast = forecast_from(store, plan, trials, options.capacity)
    if problem := over_budget(forecast, options.budget_hours):
        raise LaunchError(problem)
    on_event(Planned(forecast.trials, forecast))
    store.create()
    copies = CheckpointCopies(options.checkpoints) if options.checkpoints else None
    if copies:
        copies.check()
    _note_asked(store, grids)
    _prepare_data(forecast.trials, options.runtime, on_event)
    if options.again:
        store.forget([t.trial_id for t in trials if t.trial_id not in plan.status and store.end(t.trial_id)])
    if copies:
        _drop_old_copies(store, copies, trials)
    with _stop_file(store) as stop_file:
        setup = Setup(
            results=store.root,
            runtime=options.runtime,
            code=replace(provenance.of_code(), tag=options.tag),
            stop_file=stop_file,
            checkpoints=options.checkpoints,
        )
        more = more if options.only else with_later_seeds(asked, store, plan, more)
        bookkeeper = _Bookkeeper(
            store, setup.drain_file, plan, forecast, retry_state, on_event, on_state, more
        )
        bookkeeper.rescheduler.last = functools.partial(hopeless, grids, store)
        with _heartbeat(store, setup.drain_file, bookkeeper.tracker):
            _run(executor, setup, bookkeeper)
            told_to_stop = stop_file.exists()
            interrupted = told_to_stop and bookkeeper.has_trials_left()
        store.compact(now=True)
        if options.close_executor:
            executor.close()
        store.clear_locks()  # also those of workers that closing the executor killed
        store.tidy(until=stop_file.exists)
    return Summary(
        make_plan(settle(asked, store), store.statuses()),
        started=len(bookkeeper.started),
        interrupted=interrupted,
        told_to_stop=told_to_stop,
        failed_in_a_row=len(bookkeeper.failed_in_a_row) if bookkeeper.gave_up else 0,
        elsewhere=len(bookkeeper.elsewhere),
    )


def _drop_old_copies(store: Store, copies: CheckpointCopies, trials: Iterable[Trial]) -> None:
    """Remove the copies of checkpoints of trials that were forgotten. Raises LaunchError."""
    try:
        store.drop_old_copies([trial.trial_id for trial in trials], copies.remove)
    except OSError as error:
        problem = f"the copies of forgotten trials cannot be removed ({error})"
        raise LaunchError(f"--checkpoints {copies.uri}: {problem}") from None


def plan_launch(
    grids: Sequence[Grid], store: Store, options: LaunchOptions, retry_state: RetryState | None = None
) -> Plan:
    """Return the plan of a launch, with the failed trials that it would retry."""
    plan = replace(make_plan(grids, store.statuses()), last=hopeless(grids, store))
    if options.again:
        anew = chosen(plan, options.again, store)
        plan = replace(plan, status={i: status for i, status in plan.status.items() if i not in anew})
    retry_state = retry_state or RetryState(store, options.retry_policy)
    unsuccessful = plan.ended("failed", "diverged")
    if options.retry:
        retry_state.force(unsuccessful)
    return replace(plan, to_retry=frozenset(t.trial_id for t in unsuccessful if retry_state.should_run(t)))


def over_budget(forecast: Forecast, budget_hours: float | None) -> str | None:
    """Return why trials may take more than the budget; None if the estimate is within it.

    A guess is within it only if its upper end is: otherwise the user is told to measure first.
    """
    if budget_hours is None or not forecast.trials:
        return None
    trials = number_of(len(forecast.trials), "trial")
    if forecast.hours is None:
        return (
            f"--budget-hours {budget_hours:g}: this store has no past trials to estimate {trials} from; "
            f"run some first, such as `--only {forecast.trials[-1].trial_id}`"
        )
    guess = forecast.hours_range
    unit = f"{forecast.capacity.unit}-hours"
    spread = f"{format_amount(guess[0])} to {format_amount(guess[1])} {unit}" if guess else ""
    if guess and guess[0] <= budget_hours < guess[1]:
        shortest = next(trial for trial in reversed(forecast.trials) if forecast.range_of(trial))
        return (
            f"--budget-hours {budget_hours:g}: {trials} to run; {spread} is only a guess "
            f"({forecast.trust}); measure first, such as with "
            f"`--only {shortest.trial_id}`"
        )
    if forecast.hours > budget_hours:
        hours = f"{spread}, a guess" if guess else f"{format_amount(forecast.hours)} {unit}"
        return f"--budget-hours {budget_hours:g}: {trials} to run, estimated at {hours} ({forecast.trust})"
    return None


def _note_asked(store: Store, grids: Sequence[Grid]) -> None:
    """Remember what the grids ask for, so that the next plan can show what an edit changed."""
    for grid in grids:
        if grid.tables:  # a single trial from the command line is no grid that anyone edits
            store.requested.add(
                requested_name(grid, store), [i for row in grid.rows for i in possible_ids(row)]
            )


def _prepare_data(trials: Sequence[Trial], runtime: Runtime, on_event: OnEvent) -> None:
    """Decode data sets that are not in this machine's cache, and find initial weights, before any trial."""
    from trainer import data
    from trainer.datasets import DataError

    for dataset in dict.fromkeys(trial.config.dataset for trial in trials):
        if not data.is_cached(dataset, runtime.cache_dir):
            on_event(Preparing(dataset.label))
            try:
                data.load(dataset, runtime.data_dir, runtime.cache_dir)
            except DataError as error:
                raise LaunchError(f"{error} (--data and GRIDRUN_CACHE choose the directories)") from None
    for weights, model in dict.fromkeys((trial.config.init_from, trial.config.model) for trial in trials):
        try:
            if weights:
                weights.available(model, runtime.data_dir, runtime.cache_dir)
        except DataError as error:
            raise LaunchError(f"{error} (--data chooses the directory)") from None


def _is_free(store: Store, trial: Trial) -> bool:
    """Return whether no other launch seems to hold a trial's lock. The worker finds out for sure."""
    with contextlib.suppress(OSError):
        return not store.is_locked(trial.trial_id)
    return True


def _run(executor: Executor, setup: Setup, bookkeeper: _Bookkeeper) -> None:
    """Run the queued trials, then wait for those that other launches hold in case they let go."""
    trial_queue, waiting_for = bookkeeper.trial_queue, set[Trial]()
    while (left := trial_queue.left) and not setup.is_closed:
        if not trial_queue.is_held_up():
            executor.run(trial_queue, setup, bookkeeper.handle)
            continue
        held = {entry.trial for entry in left}
        if held != waiting_for:
            bookkeeper.handle(Waiting(tuple(held)))
            waiting_for = held
        time.sleep(_HELD_POLL_SECONDS)
        for trial in held:
            if not bookkeeper.retry_state.should_run(trial):
                trial_queue.drop(trial)
                bookkeeper.elsewhere.add(trial.trial_id)


class _Bookkeeper:
    """Keeps the store, the queue and the state of the launch in step with the executor's events."""

    def __init__(
        self,
        store: Store,
        drain_file: Path,
        plan: Plan,
        forecast: Forecast,
        retry_state: RetryState,
        on_event: OnEvent,
        on_state: OnState,
        more: More,
    ) -> None:
        self.store, self.drain_file, self.retry_state = store, drain_file, retry_state
        self.on_event, self.on_state, self.more = on_event, on_state, more
        retries, parents = retry_state.retries, plan.parents
        self.trial_queue = TrialQueue(
            (
                QueuedTrial(trial, retries.get(trial.trial_id), parents.get(trial.trial_id))
                for trial in forecast.trials
            ),
            is_free=functools.partial(_is_free, store),
        )
        whole = {trial_id: cost.amount or 1.0 for trial_id, cost in forecast.costs.items()}
        left = {trial_id: amount or whole[trial_id] for trial_id, amount in forecast.left.items()}
        self.tracker = Tracker(
            forecast.trials,
            utc_now(),
            lambda trial: left[trial.trial_id],
            begun=lambda trial: max(1 - left[trial.trial_id] / whole[trial.trial_id], 0.0),
            names=plan.names,
        )
        self.tracker.expect(forecast.makespan_seconds)
        self.rescheduler = Rescheduler(store, plan, forecast.capacity, self.trial_queue, self.tracker)
        self.started: set[str] = set()
        self.elsewhere: set[str] = set()  # trained by other launches meanwhile
        self.failed_in_a_row: set[str] = set()  # failed since the last trial that was done
        self.gave_up = False

    def has_trials_left(self) -> bool:
        """Return whether trials of the queue have still to run; another launch may have trained some."""
        return any(self.retry_state.should_run(entry.trial) for entry in self.trial_queue.left)

    def handle(self, event: LaunchEvent) -> None:
        """Record an event and pass it on. A failure is passed on as `Failed`, which says what comes next.

        What another launch has trained is not passed on: that launch tells its own user.
        """
        is_ours = True
        match event:
            case Started(trial) if (end := self.store.end(trial.trial_id)) and end.status == "done":
                is_ours = False
            case Ended(trial, "done", None):  # without an epoch: the worker found the record
                is_ours = False
                self.elsewhere.add(trial.trial_id)
            case Lost(trial, failure, reason):
                attempts = self.retry_state.attempts(trial)
                code = provenance.of_code()
                self.store.add(failed_record(trial, failure, reason, attempts=attempts, provenance=code))
                event = self._handle_failure(trial)
            case Ended(trial, "failed"):
                event = self._handle_failure(trial)
            case Ended(trial, "busy"):
                self.trial_queue.put_off(trial)
            case Ended(trial, outcome):
                self.started.add(trial.trial_id)
                if outcome == "interrupted":
                    self.trial_queue.put_back(trial, self.retry_state.retries.get(trial.trial_id))
                elif outcome == "done":
                    self.failed_in_a_row.clear()
        self.store.compact()
        if is_ours:
            self.on_event(event)
        self.tracker.handle(event)
        if isinstance(event, Ended) and event.outcome in ("done", "diverged"):
            for queued in self.more(event.trial):
                self.tracker.add(queued.trial)
                self.trial_queue.add(queued)
        if isinstance(event, (Progress, Ended, Failed)):
            self.rescheduler.update()
        self.on_state(self.tracker.snapshot())

    def _handle_failure(self, trial: Trial) -> Ended | Failed:
        """Decide what to do about a trial whose record says that it failed."""
        self.started.add(trial.trial_id)
        row = self.store.rows([trial.trial_id])[trial.trial_id]
        if row["status"] == "done":  # its worker died after it had written the record
            return Ended(trial, "done")
        self.failed_in_a_row.add(trial.trial_id)
        limit = self.retry_state.policy.stop_after_failures
        if limit and len(self.failed_in_a_row) >= limit:
            self.gave_up = True
            try:
                files.touch(self.drain_file)
            except OSError as error:  # on a full disk no worker would notice, so the launch has to end here
                raise unwritable(self.store.root, error) from error
        will_retry = not self.gave_up and self.retry_state.should_run(trial)
        if will_retry:
            self.trial_queue.put_back(trial, self.retry_state.retries[trial.trial_id])
        return Failed(trial, row.get("failure"), row["error"] or "", will_retry)


@contextlib.contextmanager
def _heartbeat(store: Store, drain_file: Path, tracker: Tracker) -> Iterator[None]:
    """Write the launch's state to the store every two seconds, for `gridrun status` on any machine."""
    launch_id = secrets.token_hex(8)
    is_over = threading.Event()

    def beat() -> None:
        while True:
            with contextlib.suppress(OSError):  # a full disk must not end the launch
                store.launches.write(launch_id, tracker.snapshot())
            with contextlib.suppress(OSError):  # it rarely exists; if it looks old, other launches delete it
                os.utime(drain_file)
            if is_over.wait(_HEARTBEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        store.launches.end(launch_id)
        drain_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _stop_file(store: Store) -> Iterator[Path]:
    """Yield a path that the first SIGINT, SIGTERM or SIGHUP creates; the second one stops at once.

    It does what SIGINT did before, by default a KeyboardInterrupt.
    """
    path = store.launches.stop_path(secrets.token_hex(8))
    old: dict[int, Any] = {}

    def stop(signum: int, frame: object) -> None:
        with contextlib.suppress(OSError):  # a full disk, or the directory is gone: no trial would notice
            if not path.exists():
                files.touch(path)
                return
        if callable(before := old.get(signal.SIGINT)):
            before(signum, frame)
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    numbers = [signal.SIGINT, signal.SIGTERM] if in_main else []
    if in_main and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
        numbers.append(signal.SIGHUP)
    for each in numbers:
        old[each] = signal.getsignal(each)
        signal.signal(each, stop)
    try:
        yield path
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        path.unlink(missing_ok=True)
