"""From a row of a table to its trials: what each came to and where, and how to run them again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gridrun.errors import GridrunError
from gridrun.grid.settings import dotted_settings
from gridrun.metrics import METRICS, Metric
from gridrun.resources import hardware_of
from gridrun.tables.build import build_table
from gridrun.tables.model import Cell, Line, Table, TrialRow, number
from gridrun.tables.notes import Labels
from trainer.registry import did_you_mean

if TYPE_CHECKING:
    from gridrun.grid import Grid, TableSpec
    from trainer import TrainConfig

ELSEWHERE = Path("results/again")
"""A store for running again what is done: in its own store, a trial is never trained twice."""
SHORTEST_ID = 4
"""Of a beginning of a config id, so that it is hardly a number or a name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One trial of a row."""

    seed: int
    trial_id: str
    status: str
    """done, diverged, failed or not run."""
    values: Mapping[str, float | None]
    """By metric column, in the unit of the store."""
    commit: str | None
    dirty: bool | None
    machine: str | None
    host: str | None
    ended_at: str | None
    """UTC, ISO 8601."""
    precision: str
    epochs: int
    notes: str | None
    error: str | None
    train: str
    """The command that trains it alone, elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Why:
    """A row of a table, with all that it rests on."""

    table: str
    title: str
    grid: str
    row: int
    """Counted from 1, as the table shows them."""
    rows: int
    config_id: str
    """Empty where the row is only reported elsewhere."""
    about: str
    runs: tuple[Run, ...]
    cells: Mapping[str, Cell]
    """By metric column, in the unit of the store."""
    published_at: str | None
    """File and line of what is published for the row."""
    published_note: str | None
    source: str | None
    """Where the table's published values are from."""
    paper: str | None
    again: str | None
    """The command that trains what is done once more, elsewhere; None where nothing is."""
    rest: str | None
    """The command that trains what is missing or has failed; None where nothing is."""


def explain(
    grids: Sequence[Grid],
    table: str,
    row: str,
    records: Mapping[str, TrialRow],
    *,
    results: Path,
    form: Sequence[str] = (),
) -> Why:
    """Trace a row of a table to its trials.

    Args:
        grids: where to look for the table.
        table: its id or title, or how one of them begins.
        row: its number from 1, the beginning of its config id, or its model or setting.
        records: rows of the store by trial id.
        results: the store, as the user named it.
        form: the options that were given to read the grids so, for the commands to have them too.

    Raises:
        GridrunError: there is no such table or row, or several; names them, or the nearest.
    """
    grid, spec = find_table(grids, table)
    built = build_table(spec, records)
    index = find_line(built, row)
    line = built.lines[index]
    config = spec.rows[index].config if index < len(spec.rows) else None
    published = (
        spec.published.get(line.config_id) if config else spec.reported[index - len(spec.rows)].published
    )
    runs = tuple(_runs(line, config, records)) if config else ()
    launch = ["gridrun", "launch", str(grid.path), *form]
    return Why(
        table=spec.id,
        title=spec.title,
        grid=str(grid.path),
        row=index + 1,
        rows=len(built.lines),
        config_id=line.config_id,
        about=_about(spec, built, line),
        runs=runs,
        cells=line.cells,
        published_at=published.place if published else None,
        published_note=published.note if published else None,
        source=spec.source if published else None,
        paper=published.paper if published else None,
        again=_again(launch, runs),
        rest=_rest(launch, runs, results),
    )


def _about(spec: TableSpec, table: Table, line: Line) -> str:
    if not line.config_id:
        return ", ".join(str(value) for value in line.options.values() if value)
    return Labels(spec.columns, table.lines[: len(spec.rows)]).of(line)


def _runs(line: Line, config: TrainConfig, records: Mapping[str, TrialRow]) -> Iterable[Run]:
    for seed, trial_id in line.trials.items():
        record = records.get(trial_id, {})

        def text(key: str, record: TrialRow = record) -> str | None:
            value = record.get(key)
            return value if isinstance(value, str) and value else None

        yield Run(
            seed=seed,
            trial_id=trial_id,
            status=text("status") or "not run",
            values={column: number(record.get(METRICS[column].record)) for column in line.cells},
            commit=text("commit"),
            dirty=record.get("dirty") if isinstance(record.get("dirty"), bool) else None,
            machine=hardware_of(record).name if record else None,
            host=text("host"),
            ended_at=text("ended_at"),
            precision=config.precision,
            epochs=config.epochs,
            notes=text("notes"),
            error=text("error"),
            train=train_command(config, seed),
        )


# --- finding -----------------------------------------------------------------------------------


def find_table(grids: Sequence[Grid], text: str) -> tuple[Grid, TableSpec]:
    """Return the table with this id or title, or the only one that begins so. Raises GridrunError."""
    every = [(grid, spec) for grid in grids for spec in grid.tables]
    wanted = text.casefold()
    names = [(spec.id.casefold(), spec.title.casefold()) for _, spec in every]
    found = [one for one, of in zip(every, names, strict=True) if wanted in of]
    if not found:
        found = [one for one, of in zip(every, names, strict=True) if any(n.startswith(wanted) for n in of)]
    if not found:
        raise GridrunError(f"there is no table {text!r}.{did_you_mean(text, [spec.id for _, spec in every])}")
    if len(found) > 1:
        which = ", ".join(f"{spec.id} of {grid.path}" for grid, spec in found)
        raise GridrunError(f"several tables are called {text!r}: {which}; name one by its id, and its grid")
    return found[0]


def find_line(table: Table, text: str) -> int:
    """Return the place of a row, by its number from 1, its config id or its name. Raises GridrunError."""
    count = len(table.lines)
    if text.isdecimal() and (len(text) < SHORTEST_ID or int(text) <= count):
        if not 1 <= int(text) <= count:
            raise GridrunError(f"the table {table.id!r} has no row {text}; it has rows 1 to {count}")
        return int(text) - 1
    wanted = text.casefold()
    by_id = [i for i, line in enumerate(table.lines) if line.config_id and line.config_id.startswith(wanted)]
    names = [_names(line) for line in table.lines]
    exactly = [i for i, of in enumerate(names) if wanted in of]
    begins = [i for i, of in enumerate(names) if any(name.startswith(wanted) for name in of)]
    for found in (by_id if len(text) >= SHORTEST_ID else [], exactly, begins):
        if len(found) > 1:
            which = ", ".join(str(i + 1) for i in found)
            raise GridrunError(f"{text!r} is of the rows {which} of {table.id!r}; name one by its number")
        if found:
            return found[0]
    shown = dict.fromkeys(name for line in table.lines for name in _names(line, str))
    near = did_you_mean(text, shown) if len(shown) <= MAX_CHOICES else ""
    raise GridrunError(
        f"the table {table.id!r} has no row {text!r}.{near} Or give a number from 1 to {count}."
    )


MAX_CHOICES = 30


def _names(line: Line, form: Any = str.casefold) -> list[str]:
    """Return what a row may be called by: its setting and its model, as far as the table shows them."""
    said = (line.name, line.options.get("name"), line.options.get("model"))
    return [form(name) for name in said if isinstance(name, str) and name]


# --- words -------------------------------------------------------------------------------------


def computation(metric: Metric, cell: Cell) -> str:
    """Say how a cell's number comes about: `median of 4.85, 4.91, 5.02`."""
    texts = [metric.format(value) for value in sorted(cell.values.values())]
    if len(set(texts)) == 1 and not metric.varies:
        return "of every run"
    if len(texts) < 2:
        return "the only run" if texts else "no run is done"
    middle = len(texts) // 2
    told = f"median of {', '.join(texts)}"
    return told if len(texts) % 2 else f"{told}: the mean of {texts[middle - 1]} and {texts[middle]}"


# --- commands ----------------------------------------------------------------------------------


def train_command(config: TrainConfig, seed: int) -> str:
    """Return the command that trains one trial without its grid, in a store of its own."""
    settings = [f"{key}={_yaml(value)}" for key, value in {**dotted_settings(config), "seed": seed}.items()]
    return shlex.join(["gridrun", "train", *settings, "--results", str(ELSEWHERE)])


def _yaml(value: Any) -> str:
    """Write a value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=2**31, allow_unicode=True)
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


def to_dict(why: Why) -> dict[str, Any]:
    """Return all of it as plain data: errors are fractions, times seconds."""
    return dataclasses.asdict(why)
