"""One launch, from its plan to its last record: plan, order, prepare the data, run, tidy up."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gridrun import resources
from gridrun.errors import LaunchError
from gridrun.grid import Grid
from gridrun.looks import hopeless, possible_ids, settle
from gridrun.plan import Forecast, Plan, forecast_from, make_plan, requested_name
from gridrun.plan.again import with_again
from gridrun.plan.trials import select_trials, selected_ids
from gridrun.store import Store
from gridrun.store.checkpoint_copies import CheckpointCopies
from gridrun.sweep import provenance
from gridrun.sweep.bookkeeper import Bookkeeper, OnEvent, OnState, Planned, Preparing
from gridrun.sweep.events import Waiting, Warned
from gridrun.sweep.executor import Executor
from gridrun.sweep.later_seeds import More, with_later_seeds
from gridrun.sweep.options import LaunchOptions
from gridrun.sweep.presence import heartbeat, stop_file_of
from gridrun.sweep.retries import RetryState
from gridrun.sweep.worker import Setup
from gridrun.text import format_amount, number_of
from gridrun.trial import Trial
from trainer import Runtime

_HELD_POLL_SECONDS = 1.0


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
    only: frozenset[str] | None = None
    """Ids of the trials that the launch was restricted to; None: all."""

    @property
    def failed(self) -> int:
        """Number of trials of this launch that have failed. Those that it was not asked for do not count."""
        failed = self.plan.ended("failed")
        return sum(self.only is None or trial.trial_id in self.only for trial in failed)


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
    only = selected_ids(plan, options.only) if options.only else None
    if not trials:
        _note_asked(store, grids)
        store.compact_leftovers()
        return Summary(replace(plan, to_retry=frozenset()), started=0, interrupted=False, only=only)
    forecast = forecast_from(store, plan, trials, options.capacity)
    if problem := over_budget(forecast, options.budget_hours):
        raise LaunchError(problem)
    if plan.trained_anew:
        on_event(Warned(describe_resumed(plan)))
    on_event(Planned(forecast.trials, forecast))
    if warning := _slow_precision(trials, options):
        on_event(Warned(warning))
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
    with stop_file_of(store) as stop_file:
        setup = Setup(
            results=store.root,
            runtime=options.runtime,
            code=replace(provenance.of_code(), tag=options.tag),
            stop_file=stop_file,
            checkpoints=options.checkpoints,
        )
        more = more if options.only else with_later_seeds(asked, store, plan, more)
        bookkeeper = Bookkeeper(
            store, setup.drain_file, plan, forecast, retry_state, on_event, on_state, more
        )
        bookkeeper.rescheduler.last = functools.partial(hopeless, grids, store)
        with heartbeat(store, setup.drain_file, bookkeeper.tracker):
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
        only=only,
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
        code = provenance.of_code()
        plan = with_again(plan, options.again, store, code.commit if code.dirty is False else None)
    retry_state = retry_state or RetryState(store, options.retry_policy)
    unsuccessful = plan.ended("failed", "diverged")
    if options.retry:
        retry_state.force(unsuccessful)
    return replace(plan, to_retry=frozenset(t.trial_id for t in unsuccessful if retry_state.should_run(t)))


def describe_resumed(plan: Plan) -> str:
    """Say which trials --again leaves out."""
    trials = number_of(len(plan.trained_anew), "trial")
    return f"--again: resumes a launch that was stopped after it had trained {trials} anew; these stay"


def _slow_precision(trials: Sequence[Trial], options: LaunchOptions) -> str | None:
    """Say which trials train in a precision that this machine's CPU is slow in."""
    if options.on_cluster:
        return None
    configs = [trial.config for trial in trials if not options.capacity.share(trial.config.num_gpus)[1]]
    slow = [config.precision for config in configs if config.precision in resources.slow_precisions()]
    if not slow:
        return None
    train = f"{number_of(len(slow), 'trial')} {'trains' if len(slow) == 1 else 'train'}"
    return f"{train} in {', '.join(sorted(set(slow)))}: this CPU is many times faster in fp32"


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


def _run(executor: Executor, setup: Setup, bookkeeper: Bookkeeper) -> None:
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
