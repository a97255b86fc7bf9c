"""`gridrun diff`."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridrun.commands._help import GroupedCommand, complete_id
from gridrun.commands._options import ROW_OPTIONS, GridOptions, json_option, options_as, results_option
from gridrun.commands._show import echo_json, format_counts, format_end
from gridrun.errors import GridrunError
from gridrun.text import format_option, number_of, one_line, printable

if TYPE_CHECKING:
    from gridrun.grid import Grid, Row
    from gridrun.grid.diff import GridDiff, Options
    from gridrun.store import Store
    from gridrun.store.records import Record

MAX_SHOWN = 10
"""Rows of a kind that are listed; --json has all."""
ORIGINS = ("commit", "sources", "trainer_version", "torch_version", "gpu", "cpu", "device", "threads")
"""Columns that may explain why equal options gave other numbers."""


@click.command(
    "diff", cls=GroupedCommand, example="gridrun diff grids/quickstart.yaml HEAD~10", needs="a git repository"
)
@click.argument("old", metavar="A", shell_complete=complete_id)
@click.argument("new", metavar="B", shell_complete=complete_id)
@options_as(GridOptions, "rows", ROW_OPTIONS)
@results_option
@json_option
def command(old: str, new: str, rows: GridOptions, results: Path, as_json: bool) -> None:
    """Show what differs between two trials, two grids, or a grid's past.

    A and B are ids of ended trials, or their beginnings; or grid files. REVISION:FILE is a grid file as it
    was at a git revision. For a grid and its past, B may be the revision alone. The past comes first then:
    you see what has changed since.

    You see only what differs, as dotted options, and what that does to ids: which trials stay, and which ones
    a launch would train. Today's gridrun reads old files, so ids are those of today. Options of rows, such as
    --profile, change both grids.
    """
    from gridrun.store import Store

    store = Store(results)
    if not (_is_grid(old) or _is_grid(new)):
        _show_trials(store, old, new, as_json)
        return
    if not _is_grid(old):
        raise GridrunError(f"{old!r} is no grid file, and {new!r} is one; give two grids or two trials")
    if not _is_grid(new):
        old, new = f"{new}:{old}", old
    _show_grids(store, _read(old, rows), _read(new, rows), as_json)


def _is_grid(text: str) -> bool:
    return text.endswith((".yaml", ".yml")) or Path(text).is_file()


def _read(text: str, rows: GridOptions) -> tuple[str, Grid]:
    """Return a grid, of today or of a revision, and what it is called."""
    from gridrun.grid import load_grid
    from gridrun.grid.past import grid_at

    options, (revision, colon, name) = rows.row_options(), text.rpartition(":")
    if colon and revision and not Path(text).exists():
        grid, commit = grid_at(revision, Path(name), options)
        return f"{name} at {revision} ({commit[:10]})", grid
    return text, load_grid(text, **options)


# --- grids ------------------------------------------------------------------------------------------


def _show_grids(store: Store, old: tuple[str, Grid], new: tuple[str, Grid], as_json: bool) -> None:
    from gridrun.grid.diff import diff_grids

    found = diff_grids(old[1], new[1])
    statuses = store.statuses()
    if as_json:
        echo_json(_grids_dict(found))
        return
    click.echo(printable(f"--- {old[0]}"))
    click.echo(printable(f"+++ {new[0]}"))
    if found.is_empty:
        click.echo("nothing differs")
        return
    for changed in found.changed:
        for line in _option_lines(changed.options):
            click.echo(line)
        click.echo(f"  in {number_of(len(changed.rows), 'row')}, with other ids")
    if found.search:
        for line in _option_lines(found.search):
            click.echo(line)
        click.echo("  so all trials of the search have other ids")
    seeds = collections.Counter(
        (row.seeds, then.seeds) for row, then in found.same if row.seeds != then.seeds
    )
    for pair, count in seeds.items():
        click.echo(_option_lines({"seeds": pair})[0])
        click.echo(f"  in {number_of(count, 'row')}; trials of seeds in both keep their ids")
    for mark, some in (("-", found.removed), ("+", found.added)):
        for row in some[:MAX_SHOWN]:
            click.echo(f"{mark} {_row_name(row)}: {number_of(len(row.seeds), 'trial')}")
        if len(some) > MAX_SHOWN:
            click.echo(f"{mark} ... and {number_of(len(some) - MAX_SHOWN, 'row')} more (--json shows all)")
    if found.others:
        click.echo("without effect on ids:")
        for line in _option_lines(found.others):
            click.echo(f"  {line}")
    for line in _id_lines(found, statuses):
        click.echo(line)


def _id_lines(found: GridDiff, statuses: Mapping[str, str]) -> Iterator[str]:
    def of(ids: Iterable[str], what: str, none: str) -> str:
        some = list(ids)
        ended = collections.Counter(statuses[each] for each in some if each in statuses)
        counts = {**ended, none: len(some) - ended.total()}
        return f"{number_of(len(some), 'trial')} {what}: {format_counts(counts)}"

    if found.kept_ids:
        yield of(found.kept_ids, "with the same id", "not trained")
    if found.new_ids:
        yield of(found.new_ids, "with a new id", "to train")
    if found.old_ids:
        yield of(found.old_ids, "no longer asked for", "not trained")


def _grids_dict(found: GridDiff) -> dict[str, Any]:
    return {
        "changed": [
            {
                "options": _plain(changed.options),
                "rows": [[row.config_id for row in pair] for pair in changed.rows],
            }
            for changed in found.changed
        ],
        "seeds": {
            row.config_id: [row.seeds, then.seeds] for row, then in found.same if row.seeds != then.seeds
        },
        "search": _plain(found.search),
        "removed": [row.config_id for row in found.removed],
        "added": [row.config_id for row in found.added],
        "others": _plain(found.others),
        "ids": {
            "same": sorted(found.kept_ids),
            "only_in_a": sorted(found.old_ids),
            "only_in_b": sorted(found.new_ids),
        },
    }


def _row_name(row: Row) -> str:
    from gridrun.grid.describe import describe_config

    return printable(row.name or describe_config(row.config))


# --- trials -----------------------------------------------------------------------------------------


def _show_trials(store: Store, old: str, new: str, as_json: bool) -> None:
    from gridrun.grid.diff import differing

    ids = [store.find(each) for each in (old, new)]
    records = store.records(ids)
    first, second = (records[each] for each in ids)
    options = dict(differing(_flat(first), _flat(second)))
    if first.seed != second.seed:
        options["seed"] = (first.seed, second.seed)
    origins = differing(*({n: getattr(r.provenance, n) for n in ORIGINS} for r in (first, second)))
    if as_json:
        echo_json({"trials": ids, "options": _plain(options), "origins": _plain(origins)})
        return
    for mark, record in (("---", first), ("+++", second)):
        click.echo(f"{mark} {record.trial_id}  {format_end(record.row())}")
    for line in _option_lines(options):
        click.echo(line)
    click.echo(_what_ids_say(first, second, options))
    if origins:
        click.echo("without effect on ids:")
        for line in _option_lines({name: pair for name, pair in origins.items() if name != "sources"}):
            click.echo(f"  {line}")
        for path in _other_sources(*origins.get("sources", ("", ""))):
            click.echo(printable(f"  source files: {path}"))


def _what_ids_say(first: Record, second: Record, options: Mapping[str, Any]) -> str:
    if first.trial_id == second.trial_id:
        return "the same trial"
    if first.config_id == second.config_id:
        return f"the same config {first.config_id}: two seeds of one row"
    ids = f"config {first.config_id} -> {second.config_id}"
    if not options.keys() - {"seed"}:
        return f"{ids}: the same options, but the trainer or a part of it has another version"
    return f"{ids}: rows of their own"


def _flat(record: Record) -> Mapping[str, Any]:
    """Return all options of a trial; of one that this version does not know, those that its record has."""
    from gridrun.trial import config_of
    from trainer import ConfigError

    try:
        return config_of(record.config_json).flat()
    except (ConfigError, ValueError, TypeError):
        return record.config


def _other_sources(first: str | None, second: str | None) -> list[str]:
    from gridrun.changed_code import recorded_sources

    ours, theirs = recorded_sources(first), recorded_sources(second)
    return sorted(path for path in ours.keys() & theirs.keys() if ours[path] != theirs[path])


# --- options ----------------------------------------------------------------------------------------


def _option_lines(options: Options) -> list[str]:
    return [
        f"{printable(name)}: {_shown(name, old)} -> {_shown(name, new)}"
        for name, (old, new) in options.items()
    ]


def _shown(name: str, value: Any) -> str:
    from gridrun.grid.settings import Missing, is_switch

    if is_switch(name) and value in (True, Missing.ABSENT):
        return "on" if value is True else "off"
    if value is Missing.ABSENT:
        return "(no such option)"
    if isinstance(value, Mapping):
        value = [f"{name} {format_option(item)}" for name, item in value.items()]
    text = one_line(format_option(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _plain(options: Options) -> dict[str, Sequence[Any]]:
    from gridrun.grid.settings import Missing

    return {
        name: [None if each is Missing.ABSENT else each for each in pair] for name, pair in options.items()
    }
