"""Searches as the page shows them: who goes on from whom, and under which policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gridrun.text import one_line

if TYPE_CHECKING:
    from gridrun.store.lineage import LineageRow


def page_search(title: str, rows: Sequence[LineageRow]) -> dict[str, Any]:
    """Return one search as JSON: its lineage by column, and the path of its best member."""
    measured = [row for row in rows if row.val_error is not None]
    last = max((row.round for row in measured), default=0)
    best = min(
        (row for row in measured if row.round == last), key=lambda row: row.val_error or 0.0, default=None
    )
    return {
        "title": one_line(title),
        "rows": [
            {
                "round": row.round,
                "member": row.member,
                "from": row.member if row.donor is None else row.donor,
                "error": None if row.val_error is None else round(100 * row.val_error, 2),
                "epochs": f"{row.first_epoch} to {row.last_epoch}",
                "policy": one_line(row.policy),
                "trial": row.trial_id,
            }
            for row in rows
        ],
        "best": [] if best is None else [[row.round, row.member] for row in ancestry(best, rows)],
    }


def ancestry(row: LineageRow, rows: Sequence[LineageRow]) -> list[LineageRow]:
    """Return the segments that a row's weights have gone through, the first one first."""
    by_trial = {one.trial_id: one for one in rows}
    found = [row]
    while (parent := by_trial.get(found[-1].parent_id or "")) and parent.round < found[-1].round:
        found.append(parent)
    return found[::-1]
