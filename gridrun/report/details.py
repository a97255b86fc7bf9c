"""What the page says of one row when you open it: its runs, where they ran, and how to train them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridrun.metrics import METRICS, metric_of
from gridrun.tables.notes import line_labels
from gridrun.tables.render import difference, published_text, verdict_text
from gridrun.tables.why import computation, explain_line
from gridrun.text import number_of, one_line

if TYPE_CHECKING:
    from gridrun.grid import Grid, TableSpec
    from gridrun.store.records import Record
    from gridrun.tables.model import Cell, Table
    from gridrun.tables.why import Run, Why


def details_of(
    grid: Grid,
    spec: TableSpec,
    table: Table,
    records: Mapping[str, Record],
    *,
    results: Path,
    grid_options: Sequence[str],
) -> list[dict[str, Any]]:
    """Return what the page says of each line of a table, which is built of `spec`."""
    label = line_labels(spec.columns, table.lines[: len(spec.rows)] or table.lines)
    return [
        _details(
            explain_line(
                grid, spec, table, index, label, records, results=results, grid_options=grid_options
            ),
            records,
        )
        for index in range(len(table.lines))
    ]


def _details(why: Why, records: Mapping[str, Record]) -> dict[str, Any]:
    facts = {
        "source": why.source,
        "note": why.published_note,
        "written at": why.published_at,
        "in the paper": why.paper,
    }
    commands = {
        "Train the trials that are not done": why.rest,
        "Train the done trials again, in another store": why.again,
        "Train the first trial without its grid": why.runs[0].train if why.runs else None,
    }
    ended = [(run, records[run.trial_id]) for run in why.runs if run.trial_id in records]
    return {
        "about": one_line(why.about),
        "place": f"row {why.row} of {why.rows} of {why.table}, {why.grid}",
        "config": why.config_id,
        "numbers": [
            [metric_of(name, held_out=why.held_out).header, _number(name, cell, why)]
            for name, cell in why.cells.items()
        ],
        "runs": [_run(run, why.held_out) for run in why.runs],
        "facts": [[name, one_line(text)] for name, text in facts.items() if text],
        "commands": [[name, text] for name, text in commands.items() if text],
        "tracebacks": [
            [f"seed {run.seed}, {run.trial_id}: {one_line(record.error or '')}", record.traceback]
            for run, record in ended
            if record.traceback
        ],
    }


def _number(name: str, cell: Cell, why: Why) -> str:
    metric = METRICS[name]
    parts = []
    if why.runs:
        ours = f"{metric.format(cell.median)}, " if cell.median is not None else ""
        parts.append(f"{ours}{computation(metric, cell)}")
    if cell.published_text:
        parts.append(f"published {published_text(cell)}")
        if cell.difference is not None:
            parts.append(f"difference {difference(cell)}")
        if cell.verdict:
            parts.append(verdict_text(cell))
    return "; ".join(parts)


def _run(run: Run, held_out: bool) -> list[str]:
    results = [
        f"{metric.header} {metric.format(value)}"
        for name, value in run.values.items()
        for metric in [metric_of(name, held_out=held_out)]
        if value is not None and run.status == "done" and metric.varies
    ]
    commit = f"{run.commit or 'unknown'}"[:10] + (" + changes" if run.dirty else "")
    ran = run.status != "not run"
    return [
        str(run.seed),
        run.trial_id,
        run.status,
        ", ".join(results),
        commit if ran else "",
        one_line(f"{run.machine} ({run.host})" if run.host else f"{run.machine}") if ran else "",
        (run.ended_at or "")[:19].replace("T", " "),
        one_line("; ".join(filter(None, (number_of(run.epochs, "epoch"), run.error, run.notes)))),
    ]
