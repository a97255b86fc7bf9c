"""`gridrun why`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import GridOptions, grid_options, json_option, results_option
from gridrun.commands._search import describe_round, lines_of
from gridrun.commands._show import echo_json, note_line
from gridrun.errors import GridrunError
from gridrun.text import number_of, printable

if TYPE_CHECKING:
    from gridrun.search import Progress
    from gridrun.store.notes import Note
    from gridrun.tables.why import Run, Why


@click.command("why", cls=GroupedCommand, example="gridrun why quickstart 3 grids/quickstart.yaml")
@click.argument("table", metavar="TABLE")
@click.argument("row", metavar="ROW")
@grid_options()
@results_option
@json_option
def command(table: str, row: str, grids: GridOptions, results: Path, as_json: bool) -> None:
    """Show which trials are behind a row, and how to train them again.

    TABLE is the id or title of a table in the named grids, or in any grid under grids/ if none is named. ROW
    is its number in the table, counted from 1, the beginning of its config id, or its model or setting.

    Of a search, TABLE is its name and ROW the number of a member, counted from 0, or `best`: you see whose
    weights and policies the member has, round by round.
    """
    from gridrun.search import read_progress
    from gridrun.store import Store
    from gridrun.tables import why
    from gridrun.tables.judge import pools_of

    loaded = grids.read(Store(results))
    for grid in loaded:
        if grid.search and table in (grid.name, grid.title):
            show_member(read_progress(grid, Store(results)), row, as_json)
            return
    _, spec = why.find_table(loaded, table)
    store = Store(results)
    records = store.records([trial.trial_id for row in spec.rows for trial in row.trials])
    pools = pools_of(store)
    found = why.explain(loaded, table, row, records, pools, results=results, grid_options=grids.arguments)
    notes = store.notes.read([found.config_id, *(run.trial_id for run in found.runs)])
    if as_json:
        echo_json({**dataclasses.asdict(found), "user_notes": [note.as_dict() for note in notes]})
    else:
        show(found, notes)


def show_member(progress: Progress, member: str, as_json: bool) -> None:
    """Print where the weights and the policies of a member of a search come from."""
    best, population = progress.best, progress.search.population
    if member == "best" and best:
        member = str(best.member)
    if not member.isdecimal() or int(member) >= population:
        known = f"the members 0 to {population - 1} and, once a round has ended, `best`"
        raise GridrunError(f"{progress.name} has {known}; got {member!r}")
    path = progress.ancestry(int(member))
    if as_json:
        rows = {(row.trial_id, row.member): row for row in progress.lineage()}
        echo_json([dataclasses.asdict(rows[segment.trial.trial_id, segment.member]) for segment in path])
        return
    click.echo(describe_round(progress))
    for line in lines_of(path, progress):
        click.echo(line)


def show(found: Why, notes: Sequence[Note] = ()) -> None:
    """Print where a row comes from, and the users' notes on it."""
    config = f", config {found.config_id}" if found.config_id else ""
    click.echo(f"{printable(found.title)}: row {found.row} of {found.rows} of {found.table}, {found.grid}")
    click.echo(f"{printable(found.about)}{config}\n")
    if not found.runs:
        click.echo("as published, not trained here")
    for run in found.runs:
        _show_run(run, found.held_out)
    seeds = {run.trial_id: f"seed {run.seed}" for run in found.runs}
    for note in notes:
        click.echo(note_line(note, seeds.get(note.about, "the row")))
    click.echo()
    _show_cells(found)
    facts = ("source", found.source), ("note", found.published_note), ("written at", found.published_at)
    for title, text in facts:
        if text:
            click.echo(f"{title}: {printable(text)}")
    if found.paper:
        click.echo(f"in the paper: {printable(found.paper)}")
    if found.rest:
        click.echo(f"\nto train the trials that are not done:\n  {found.rest}")
    if found.again:
        click.echo(f"\nto train the done trials again, in another store:\n  {found.again}")
        click.echo(f"or a single trial without its grid:\n  {found.runs[0].train}")


def _show_run(run: Run, held_out: bool) -> None:
    from gridrun.metrics import format_column, metric_of

    values = [
        f"{metric.label} {metric.format(value)} {metric.unit}".rstrip()
        for column, value in run.values.items()
        for metric in [metric_of(column, held_out=held_out)]
        if value is not None and run.status == "done"
    ]
    click.echo(f"seed {run.seed}  {run.trial_id}  {', '.join([run.status, *values])}")
    if run.status == "not run":
        return
    commit = f"commit {(run.commit or 'unknown')[:10]}{' with uncommitted changes' if run.dirty else ''}"
    machine = f"{run.machine} ({run.host})" if run.host else f"{run.machine}"
    facts = [commit, machine, (run.ended_at or "")[:19].replace("T", " ")]
    click.echo(f"  {printable(', '.join(filter(None, facts)))}")
    click.echo(f"  {format_column('precision', run.precision)}, {number_of(run.epochs, 'epoch')}")
    for text in filter(None, (run.error, run.notes)):
        click.echo(f"  {printable(text)}")


def _show_cells(found: Why) -> None:
    """Print how each number of the row is computed, and the published one beside it."""
    from gridrun.metrics import metric_of
    from gridrun.tables.render import difference, published_text, verdict_text
    from gridrun.tables.why import computation

    for column, cell in found.cells.items():
        metric = metric_of(column, held_out=found.held_out)
        ours = f"{metric.format(cell.median)}, " if cell.median is not None else ""
        if found.runs:
            click.echo(f"{metric.header}: {ours}{computation(metric, cell)}")
        if cell.published_text:
            facts = [f"published: {published_text(cell)}"]
            facts += [f"difference {difference(cell)}"] if cell.difference is not None else []
            facts += [verdict_text(cell)] if cell.verdict else []
            click.echo(f"  {'; '.join(facts)}")
