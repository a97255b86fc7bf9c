"""Trace a row of a table back to its trials: their results, where they ran, and how to run them again."""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gridrun.errors import GridrunError
from gridrun.grid.looks import AdaptiveSeeds
from gridrun.grid.settings import dotted_settings
from gridrun.metrics import METRICS, Metric
from gridrun.tables.build import build_table
from gridrun.tables.judge import Pools, no_pools
from gridrun.tables.model import Cell, Line, Table
from gridrun.tables.notes import hardware_name, line_labels
from gridrun.trial import SHORTEST_ID
from trainer.registry import did_you_mean

if TYPE_CHECKING:
    from gridrun.grid import Grid, TableSpec
    from gridrun.store.records import Record
    from trainer import TrainConfig

ELSEWHERE = Path("results/again")
"""Store that the printed commands use to repeat done trials: a store never trains a done trial again."""
MAX_CHOICES = 30
"""Up to this many row names, a message suggests the closest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One trial of a row."""

    seed: int
    trial_id: str
    status: str
    """done, diverged, failed or not run."""
    values: Mapping[str, float | None]
    """By metric column, in the store's unit."""
    commit: str | None
    dirty: bool | None
    machine: str | None
    host: str | None
    ended_at: str | None
    """UTC, ISO 8601."""
    precision: str
    epochs: float
    notes: str | None
    error: str | None
    train: str
    """Command that trains it alone, in another store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Why:
    """A row of a table and everything its numbers are based on."""

    table: str
    title: str
    grid: str
    row: int
    """From 1, in the order of the table."""
    rows: int
    config_id: str
    """Empty where the row is only reported elsewhere."""
    about: str
    """The row in words."""
    runs: tuple[Run, ...]
    cells: Mapping[str, Cell]
    """By metric column, in the store's unit."""
    published_at: str | None
    """File and line that give the row's published values."""
    published_note: str | None
    source: str | None
    """Where the table's published values are from."""
    paper: str | None
    """What the paper behind the row reports."""
    again: str | None
    """Command that trains the done trials once more, in another store; None if there are none."""
    rest: str | None
    """Command that trains the missing, failed and diverged trials; None if there are none."""
    held_out: bool
    """Whether test metrics of the table are those of held-out training images (`Table.held_out`)."""


def explain(
    grids: Sequence[Grid],
    table: str,
    row: str,
    records: Mapping[str, Record],
    pools: Pools = no_pools,
    *,
    results: Path,
    grid_options: Sequence[str] = (),
) -> Why:
    """Trace a row of a table to its trials.

    Args:
        grids: where to look for the table.
        table: its id or title, or the beginning of one.
        row: its number from 1, the beginning of its config id, or its model or setting.
        records: by trial id.
        pools: the spread of runs in the whole store.
        results: the store, as the user named it.
        grid_options: command-line options with which the grids were read; launch commands repeat them.

    Raises:
        GridrunError: no table or row matches, or several do. Names them, or the nearest.
    """
    grid, spec = find_table(grids, table)
    built = build_table(spec, records, pools)
    index = find_line(built, row)
    label = line_labels(spec.columns, built.lines[: len(spec.rows)])
    return explain_line(grid, spec, built, index, label, records, results=results, grid_options=grid_options)


def explain_line(
    grid: Grid,
    spec: TableSpec,
    table: Table,
    index: int,
    label: Callable[[Line], str],
    records: Mapping[str, Record],
    *,
    results: Path,
    grid_options: Sequence[str] = (),
) -> Why:
    """Trace one line of a table that is built already; `label` names it, the rest is as for `explain`."""
    line = table.lines[index]
    if index < len(spec.rows):
        published = spec.published.get(line.config_id)
        runs = tuple(_runs(line, spec.rows[index].config, records))
        about = label(line)
    else:
        published = spec.reported[index - len(spec.rows)].published
        runs = ()
        about = ", ".join(str(value) for value in line.options.values() if value)
    launch = ["gridrun", "launch", str(grid.path), *grid_options]
    is_adaptive = index < len(spec.rows) and isinstance(spec.rows[index].seeds, AdaptiveSeeds)
    seeds = ["--seeds", str(len(runs))] if is_adaptive else []  # an empty store asks for the first look's
    return Why(
        table=spec.id,
        title=spec.title,
        grid=str(grid.path),
        row=index + 1,
        rows=len(table.lines),
        config_id=line.config_id,
        about=about,
        runs=runs,
        cells=line.cells,
        published_at=published.place if published else None,
        published_note=published.note if published else None,
        source=spec.source if published else None,
        paper=published.paper if published else None,
        again=_again([*launch, *seeds], runs),
        rest=_rest(launch, runs, results),
        held_out=table.held_out,
    )


def _runs(line: Line, config: TrainConfig, records: Mapping[str, Record]) -> Iterator[Run]:
    for seed, trial_id in line.trials.items():
        record = records.get(trial_id)
        provenance = record.provenance if record else None
        yield Run(
            seed=seed,
            trial_id=trial_id,
            status=record.status if record else "not run",
            values={column: METRICS[column].value_of(record) for column in line.cells},
            commit=provenance.commit if provenance else None,
            dirty=provenance.dirty if provenance else None,
            machine=hardware_name(provenance) if provenance else None,
            host=provenance.host if provenance else None,
            ended_at=record.ended_at if record else None,
            precision=config.precision,
            epochs=config.epochs,
            notes=record.notes if record else None,
            error=record.error if record else None,
            train=train_command(config, seed),
        )


# --- finding a table and a row -------------------------------------------------------------------


def find_table(grids: Sequence[Grid], text: str) -> tuple[Grid, TableSpec]:
    """Return the table with this id or title, or the only one that begins so. Raises GridrunError."""
    tables = [(grid, spec) for grid in grids for spec in grid.tables]
    found = _matches(text, [[spec.id, spec.title] for _, spec in tables])
    if not found:
        near = did_you_mean(text, [spec.id for _, spec in tables])
        raise GridrunError(f"there is no table {text!r}.{near}")
    if len(found) > 1:
        which = ", ".join(f"{spec.id} in {grid.path}" for grid, spec in (tables[i] for i in found))
        raise GridrunError(f"{text!r} matches several tables: {which}; give one id, and its grid file")
    return tables[found[0]]


def find_line(table: Table, text: str) -> int:
    """Return the index of a row, by its number from 1, its config id or its name. Raises GridrunError."""
    count = len(table.lines)
    if text.isdecimal() and (len(text) < SHORTEST_ID or (text[0] != "0" and int(text) <= count)):
        if not 1 <= int(text) <= count:
            raise GridrunError(f"table {table.id!r} has no row {text}; its rows are 1 to {count}")
        return int(text) - 1
    names = [_names(line) for line in table.lines]
    found = []
    if len(text) >= SHORTEST_ID:
        ids = [line.config_id for line in table.lines]
        found = [i for i, config_id in enumerate(ids) if config_id.startswith(text.casefold())]
    found = found or _matches(text, names)
    if not found:
        choices = dict.fromkeys(name for of_line in names for name in of_line)
        near = did_you_mean(text, choices) if len(choices) <= MAX_CHOICES else ""
        raise GridrunError(
            f"table {table.id!r} has no row {text!r}.{near} Or give a number from 1 to {count}."
        )
    if len(found) > 1:
        which = ", ".join(str(i + 1) for i in found)
        raise GridrunError(f"{text!r} matches rows {which} of {table.id!r}; give one number")
    return found[0]


def _matches(text: str, names: Sequence[Iterable[str]]) -> list[int]:
    """Return the indexes of the exact matches or, if there are none, of the prefix matches. Ignores case."""
    wanted = text.casefold()
    folded = [[name.casefold() for name in of_one] for of_one in names]
    exact = [i for i, of_one in enumerate(folded) if wanted in of_one]
    return exact or [i for i, of_one in enumerate(folded) if any(n.startswith(wanted) for n in of_one)]


def _names(line: Line) -> list[str]:
    """Return the names of a row: its setting and its model, if the table shows them."""
    names = (line.name, line.options.get("name"), line.options.get("model"))
    return [name for name in names if isinstance(name, str) and name]


# --- words and commands --------------------------------------------------------------------------


def computation(metric: Metric, cell: Cell) -> str:
    """Say how a cell's number is computed: `median of 4.85, 4.91, 5.02`."""
    texts = [metric.format(value) for value in sorted(cell.values.values())]
    if len(set(texts)) == 1 and not metric.varies:
        return "of every run"
    if len(texts) < 2:
        return "the only run" if texts else "no run is done"
    median = f"median of {', '.join(texts)}"
    middle = len(texts) // 2
    return median if len(texts) % 2 else f"{median}: the mean of {texts[middle - 1]} and {texts[middle]}"


def train_command(config: TrainConfig, seed: int) -> str:
    """Return the command that trains one trial without its grid file, in a store of its own."""
    settings = [f"{key}={_yaml(value)}" for key, value in {**dotted_settings(config), "seed": seed}.items()]
    return shlex.join(["gridrun", "train", *settings, "--results", str(ELSEWHERE)])


def _yaml(value: Any) -> str:
    """Write a value as YAML on one line."""
    return _scalar_yaml(value) if isinstance(value, (str, int, float, bool)) else _written(value)


@functools.lru_cache(maxsize=2**14, typed=True)  # a large grid has many trials, but few values
def _scalar_yaml(value: Any) -> str:
    return _written(value)


def _written(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _only(runs: Iterable[Run]) -> list[str]:
    return [word for run in runs for word in ("--only", run.trial_id)]


def _again(launch: Sequence[str], runs: Sequence[Run]) -> str | None:
    done = [run for run in runs if run.status == "done"]
    return shlex.join([*launch, *_only(done), "--results", str(ELSEWHERE)]) if done else None


def _rest(launch: Sequence[str], runs: Sequence[Run], results: Path) -> str | None:
    left = [run for run in runs if run.status != "done"]
    if not left:
        return None
    retry = ["--retry"] if any(run.status != "not run" for run in left) else []
    where = ["--results", str(results)] if results != Path("results") else []
    return shlex.join([*launch, *_only(left), *retry, *where])
