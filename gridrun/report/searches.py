"""Searches as the page shows them: who goes on from whom, and under which policies."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gridrun.figures.policies import best_path, best_schedule
from gridrun.text import one_line
from trainer.augmentations.policy.schedules import OPERATIONS

if TYPE_CHECKING:
    from gridrun.store.lineage import LineageRow


def page_search(title: str, rows: Sequence[LineageRow]) -> dict[str, Any]:
    """Return one search as JSON: its lineage by column, and the path and the schedule of its best member."""
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
        "best": [[row.round, row.member] for row in best_path(rows)],
        "schedule": _schedule(title, rows),
    }


def _schedule(title: str, rows: Sequence[LineageRow]) -> dict[str, Any] | None:
    """Return the schedule of the best member, None if there is none that can be drawn."""
    figure = None
    with contextlib.suppress(ValueError):  # a forged policy costs its figure, not the page
        figure = best_schedule("schedule", title, rows)
    if not figure:
        return None
    return {
        "title": one_line(figure.title),
        "notes": "; ".join(figure.notes),
        "starts": figure.starts,
        "epochs": figure.epochs,
        "operations": OPERATIONS,
        "stacks": [{"label": stack.label, "layers": stack.layers} for stack in figure.stacks],
    }
