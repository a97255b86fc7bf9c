"""One search, from its first round to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gridrun.search.progress import Progress
from gridrun.search.segments import Segment
from gridrun.store import Store, checkpoint_copies
from gridrun.store.launches import LaunchState
from gridrun.sweep import LaunchEvent, Summary, launch
from gridrun.sweep.executor import Executor
from gridrun.sweep.options import LaunchOptions


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """All segments of a round have ended, and it is decided who goes on from whom."""

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
    """Train all that a search lacks, round by round, and keep its lineage.

    A segment leaves its state until nobody can go on from it any more. Weights are kept of the last round.

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
    summary = None
    _tidy(progress, store, options.checkpoints)
    while not progress.is_over:
        is_last = len(progress.rounds) == progress.search.num_rounds
        keep = options.runtime.keep_checkpoint if is_last else "none"
        runtime = replace(options.runtime, keep_state=not is_last, keep_checkpoint=keep)
        here = replace(options, runtime=runtime, close_executor=options.close_executor and is_last)
        summary = launch([progress.grid], store, executor, here, on_event, on_state)
        if not progress.update(store) and not progress.is_over:
            return summary
        _tidy(progress, store, options.checkpoints)
        on_event(RoundEnded(progress))
        if summary.told_to_stop:  # just when the last segment of the round ended
            return summary
    return summary


def _tidy(progress: Progress, store: Store, checkpoints: str | None) -> None:
    """Write the lineage, and drop the states that nobody can go on from."""
    if not progress.ended:
        return
    store.write_lineage(progress.search.search_id, progress.lineage())
    needed = set() if progress.is_over else {segment.parent for segment in progress.current}
    past = progress.rounds if progress.is_over else progress.rounds[:-1]
    left = [segment for one in past for segment in one if segment.trial.trial_id not in needed]
    for segment in left:
        if store.checkpoint(segment.trial.trial_id).exists():
            store.drop_checkpoint(segment.trial.trial_id)
    if checkpoints:
        for segment in _of_last_rounds(left):  # earlier ones have gone before
            checkpoint_copies.copies_at(checkpoints).drop(segment.trial.trial_id)


def _of_last_rounds(segments: list[Segment]) -> list[Segment]:
    last = max((segment.round for segment in segments), default=0)
    return [segment for segment in segments if segment.round >= last - 1]
