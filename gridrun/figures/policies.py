"""Figures of policies (arXiv:1905.05393): a schedule, and the lineage of the search that found it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gridrun.store.lineage import LineageRow
from gridrun.text import format_percent, number_of
from gridrun.trial import digest
from trainer.augmentations.policy.schedules import (
    COPIES,
    OPERATIONS,
    RANDOM,
    TENTHS,
    WITHOUT_LEVEL,
    Schedule,
    length,
    read_policy,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """What each operation adds to a sum, piece by piece of a schedule."""

    label: str
    layers: tuple[tuple[float, ...], ...]
    """For each of OPERATIONS, a value for each piece."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Figure:
    """What both kinds have."""

    id: str
    title: str
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Hash of all that is shown."""
        return digest(dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleFigure(_Figure):
    """The operations of a schedule over its epochs."""

    starts: tuple[int, ...]
    """First epoch of each piece, counted from 1."""
    epochs: int
    stacks: tuple[Stack, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LineageFigure(_Figure):
    """The members of a search over its epochs: who went on from whom, and with which error."""

    rows: tuple[LineageRow, ...]
    best: tuple[str, ...]
    """Ids of the trials that the best member's weights have gone through, the first one first."""


def schedule_figure(id: str, title: str, schedule: Schedule) -> ScheduleFigure | None:
    """Return the figure of a schedule; None if a policy is drawn with each trial's seed.

    Probabilities and levels of an operation's two entries are averaged, as in the source's figures.
    """
    if any(policy == RANDOM for _, policy in schedule):
        return None
    ends = [length(schedule[: index + 1]) for index in range(len(schedule))]
    probability = [_layers(policy, tenths=True) for _, policy in schedule]
    level = [_layers(policy, tenths=False) for _, policy in schedule]
    shares = [[100 * value / (sum(values) or 1) for value in values] for values in probability]
    stacks = [("Probability", probability), ("Share of all operations (%)", shares), ("Level", level)]
    return ScheduleFigure(
        id=id,
        title=title,
        starts=(1, *(end + 1 for end in ends[:-1])),
        epochs=ends[-1],
        stacks=tuple(
            Stack(label=label, layers=tuple(zip(*values, strict=True)))  # by operation, not by piece
            for label, values in stacks
        ),
        notes=(
            "mean of each operation's two entries",
            f"{', '.join(name for name in OPERATIONS if name in WITHOUT_LEVEL)} have no level",
        ),
    )


def _layers(policy: str, *, tenths: bool) -> list[float]:
    """Return for each of OPERATIONS the mean probability, or the mean level, of its entries."""
    sums = dict.fromkeys(OPERATIONS, 0.0)
    for entry in read_policy(policy):
        if tenths:
            sums[entry.operation] += entry.tenths / TENTHS
        elif entry.operation not in WITHOUT_LEVEL:
            sums[entry.operation] += entry.level
    return [round(total / COPIES, 6) for total in sums.values()]


def search_figures(
    id: str, title: str, rows: Sequence[LineageRow]
) -> Iterator[ScheduleFigure | LineageFigure]:
    """Yield the best member's schedule, and the lineage, of a search whose first round has ended.

    Args:
        rows: its lineage, by round and member.
    """
    path = best_path(rows)
    if not path:
        return
    if found := best_schedule(f"{id}_schedule", title, rows):
        yield found
    by_id = {row.trial_id: row for row in rows}
    taken = sum(row.donor is not None and row.trial_id in by_id for row in rows)
    yield LineageFigure(
        id=f"{id}_lineage",
        title=f"{title}: lineage",
        rows=tuple(rows),
        best=tuple(row.trial_id for row in path),
        notes=(
            f"bold: where the weights of {_named(path[-1])}, come from",
            f"arrows: {number_of(taken, 'time')} a member went on from another's state, its policy changed",
        ),
    )


def best_schedule(id: str, title: str, rows: Sequence[LineageRow]) -> ScheduleFigure | None:
    """Return the schedule of a search's best member; None if no round has ended, or a policy is random.

    Raises ValueError: a policy cannot be read.
    """
    path = best_path(rows)
    if not path:
        return None
    schedule = _joined(tuple((row.last_epoch - row.first_epoch + 1, row.policy) for row in path))
    title = f"{title}: schedule of {_named(path[-1])}, after {path[-1].last_epoch} epochs"
    return schedule_figure(id, title, schedule)


def _named(row: LineageRow) -> str:
    return f"member {row.member}, validation error {format_percent(row.val_error or 0.0)} %"


def best_path(rows: Sequence[LineageRow]) -> list[LineageRow]:
    """Return the rows that lead to the best member after the last round that has ended, if any has."""
    by_id = {row.trial_id: row for row in rows}
    measured = [row for row in rows if row.val_error is not None]
    if not measured:
        return []
    ended = max(row.last_epoch for row in measured)
    now = min((row for row in measured if row.last_epoch == ended), key=lambda row: row.val_error or 0.0)
    path = [now]
    # In a forged file a row could go on from itself.
    while (parent := by_id.get(path[-1].parent_id or "")) and parent.last_epoch < path[-1].last_epoch:
        path.append(parent)
    return path[::-1]


def _joined(schedule: Schedule) -> Schedule:
    """Make one piece of neighbours with one policy."""
    joined: list[tuple[int, str]] = []
    for epochs, policy in schedule:
        if joined and joined[-1][1] == policy:
            joined[-1] = (joined[-1][0] + epochs, policy)
        else:
            joined.append((epochs, policy))
    return tuple(joined)
