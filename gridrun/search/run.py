"""One search, from its first round to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gridrun.errors import LaunchError
from gridrun.search.asynchronous import Asynchronous
from gridrun.search.progress import Progress
from gridrun.search.rounds import Rounds
from gridrun.search.segments import Segment
from gridrun.store import Store, checkpoint_copies
from gridrun.store.launches import LaunchState
from gridrun.sweep import Summary, launch
from gridrun.sweep.bookkeeper import LaunchEvent
from gridrun.sweep.events import Warned
from gridrun.sweep.executor import Executor
from gridrun.sweep.options import LaunchOptions
from gridrun.sweep.queue import QueuedTrial
from gridrun.trial import Trial


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """Segments have ended, and it is decided who goes on from whom: after a round, or for some members."""

    progress: Progress


SearchEvent = LaunchEvent | RoundEnded


def search(
    progress: Progress,
    store: Store,
    executor: Executor,
    options: LaunchOptions,
    on_event: Callable[[SearchEvent], None],
    on_state: Callable[[LaunchState], None] = lambda state: None,
) -> Summary | None:
    """Train all that a search lacks, round by round or member by member, and keep its lineage.

    A segment leaves its state until nobody can go on from it any more. Weights are kept of the members that
    are at the end.

    Args:
        progress: how far the search is; it is brought up to date.
        on_event: called with every event as it happens, in this thread.
        on_state: called after each event of a round with the state of the round.

    Returns:
        How the last round that was launched has ended; None if all had ended before. If the search is not
        over then, it was interrupted, or a segment has failed.

    Raises:
        StoreError: the store cannot be used.
        LaunchError: a launch cannot start, or every member has diverged.
    """
    if isinstance(progress, Asynchronous):
        summary = _asynchronously(progress, store, executor, options, on_event, on_state)
    else:
        assert isinstance(progress, Rounds)
        summary = _in_rounds(progress, store, executor, options, on_event, on_state)
    if summary is None:  # else the launch has done it
        store.compact_leftovers()
    return summary


def _in_rounds(
    progress: Rounds,
    store: Store,
    executor: Executor,
    options: LaunchOptions,
    on_event: Callable[[SearchEvent], None],
    on_state: Callable[[LaunchState], None],
) -> Summary | None:
    """Train what a search in rounds lacks, a launch for each round."""
    summary = None
    _tidy(progress, store, options.checkpoints)
    while not progress.is_over:
        is_last = len(progress.rounds) == progress.search.num_rounds
        keep = options.runtime.keep_checkpoint if is_last else "none"
        runtime = replace(options.runtime, keep_state=not is_last, keep_checkpoint=keep)
        here = replace(options, runtime=runtime, close_executor=options.close_executor and is_last)
        summary = launch([progress.grid], store, executor, here, on_event, on_state)
        if not _update(progress, store, on_event) and not progress.is_over:
            return summary
        _tidy(progress, store, options.checkpoints)
        on_event(RoundEnded(progress))
        if summary.told_to_stop:  # just when the last segment of the round ended
            return summary
    return summary


def _asynchronously(
    progress: Asynchronous,
    store: Store,
    executor: Executor,
    options: LaunchOptions,
    on_event: Callable[[SearchEvent], None],
    on_state: Callable[[LaunchState], None],
) -> Summary | None:
    """Train what an asynchronous search lacks, in one launch that is given more trials as others end."""
    runtime = replace(options.runtime, keep_state=True)
    summary = None

    def more(trial: Trial) -> list[QueuedTrial]:
        known = {segment.trial.trial_id for segment in progress.segments}
        decided = _update(progress, store, on_event)
        _tidy(progress, store, options.checkpoints)
        if decided:
            on_event(RoundEnded(progress))
        added = {s.trial.trial_id: s for s in reversed(decided) if s.trial.trial_id not in known}
        return [QueuedTrial(segment.trial, parent=segment.parent) for segment in added.values()]

    store.create()
    with store.lock(progress.search.search_id) as claim:
        if not claim:
            raise LaunchError("another process runs this search; an asynchronous one has one process")
        progress.read(store)  # one that has just ended may have gone further since
        _tidy(progress, store, options.checkpoints)
        while not progress.is_over:
            launched = replace(options, runtime=runtime)
            summary = launch([progress.grid], store, executor, launched, on_event, on_state, more)
            if not _update(progress, store, on_event):
                break
        _tidy(progress, store, options.checkpoints)
    return summary


def _update(progress: Progress, store: Store, on_event: Callable[[SearchEvent], None]) -> list[Segment]:
    """Take in what has ended, and tell what happened to it; return the segments that are decided by that."""
    known = set(progress.errors)
    decided = progress.update(store)
    ended = {segment.trial.trial_id: segment for segment in progress.segments}
    for trial_id in progress.errors.keys() - known:
        if notes := progress.notes_on(ended[trial_id]):
            on_event(Warned(f"{trial_id}: {notes}"))
    return decided


def _tidy(progress: Progress, store: Store, checkpoints: str | None) -> None:
    """Write the lineage, and drop states and weights that nobody needs."""
    if not progress.ended:
        return
    store.write_lineage(progress.search.search_id, progress.lineage())
    needed = progress.needed
    left = [
        segment
        for segment in progress.segments
        if segment.trial.trial_id in progress.errors and segment.trial.trial_id not in needed
    ]
    for segment in left:
        if segment.round < progress.search.num_rounds:
            store.drop_weights(segment.trial.trial_id)
        if store.checkpoint(segment.trial.trial_id).exists():
            store.drop_checkpoint(segment.trial.trial_id)
    if checkpoints:
        for segment in _of_last_rounds(left):  # earlier ones have gone before
            checkpoint_copies.copies_at(checkpoints).drop(segment.trial.trial_id)


def _of_last_rounds(segments: list[Segment]) -> list[Segment]:
    last = max((segment.round for segment in segments), default=0)
    return [segment for segment in segments if segment.round >= last - 1]
