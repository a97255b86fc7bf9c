"""Grids: a YAML file becomes rows, trials, tables and figures. Nothing is trained or stored here.

    base -> axes (product, zip, cases) -> derive -> exclude, extra -> rows [-> variant -> other rows]
    rows x seeds -> trials

A file is read (`sources`, `yaml`, `node`) into a recipe for rows (`layers`, `derive`, `pick`, `profiles`),
which `rows` and `reduce` carry out; `table_specs` and `plot_specs` then say what to show of the rows, and
`variants` what the command line makes of it all.

This room knows the options of the trainer and the ids of trials. It must not know torch, ray, the store of
results or the terminal: a grid has to load at once, anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gridrun.errors import GridError
from gridrun.grid.derive import read_derivation
from gridrun.grid.layers import MAX_TRIALS, read_axes, read_case, read_overrides, read_seeds, read_settings
from gridrun.grid.node import Node, locate, read_or
from gridrun.grid.pick import read_pick
from gridrun.grid.plot_specs import PlotSpec, read_plots, undeclared_plot
from gridrun.grid.profiles import choose, read_profiles, read_scale
from gridrun.grid.published import Published
from gridrun.grid.rows import Choices, Recipe, Row, make_rows
from gridrun.grid.search import Search, read_search
from gridrun.grid.sources import GridFiles, parse_overrides
from gridrun.grid.table_specs import TableSpec, default_table, read_tables
from gridrun.grid.variants import NoRowsError, RowOptions, vary
from gridrun.resources import GpusPerTrial, is_share
from gridrun.trial import Trial
from trainer.runtime import Compile, KeepCheckpoint

if TYPE_CHECKING:
    import os

    from trainer import TrainConfig

__all__ = [
    "Grid",
    "PlotSpec",
    "Published",
    "Row",
    "TableSpec",
    "grid_of",
    "load_grid",
    "load_grids",
    "lone_trial",
]

INCLUDABLE_KEYS = ("base", "derive", "include", "profiles", "seeds")
"""Top-level keys that an included file may have."""
GRID_KEYS = {
    "name": "Letters, digits and `_ - .`; default: the file's name.",
    "title": "Text that heads the table.",
    "description": "Text for whoever reads the file.",
    "source": "Where the published values come from, printed below the tables. A table may have its own.",
    "include": "A file or a list of files with `base`, `derive`, `include`, `profiles`, `seeds`; this file's "
    "own come later and win. They lie under the nearest directory called `grids`, else beside the grid.",
    "base": "Options of the trainer for every row.",
    "axes": "What varies. Rows are all combinations, the first axis slowest.",
    "exclude": "A list of mappings; a row that matches all of one is left out.",
    "extra": "A list of extra rows, each on top of `base` alone.",
    "derive": "Options that are computed from others: `lr: 0.1 * batch_size / 128`.",
    "seeds": "A count (`3` means 0, 1, 2) or a list. Every row runs once with each seed, unless it has its "
    "own `seeds`. `auto`, or `{min: 3, max: 12, looks: [3, 5, 8, 12]}`: until the verdicts on the row are "
    "decided. Default: 1.",
    "tables": "What to render; default: one table of all rows.",
    "compare": "Compares rows with others, in all tables: `{by: augmentation.cutout, to: false}`.",
    "mark_best": "true: tables have the best row, and all that cannot be told from it, in bold.",
    "plots": "What `gridrun plot` draws; default: one figure for each table.",
    "profiles": "Smaller versions of the study, by name, for `--profile`.",
    "search": "Makes the file a search by Population Based Augmentation (arXiv:1905.05393).",
    "keep_checkpoint": "Which epoch's weights to keep: `last`, `best` or `none` (the default).",
    "compile": "Whether to train compiled networks: `on`, `off` (the default), or `auto`: where that saves "
    "more time than it takes. They round differently, and the column `compiled` says so.",
    "gpus_per_trial": "Part of a GPU (`0.25`: four trials share one), a whole number, or `auto`: the launch "
    "measures how many fit and gain by sharing.",
    "skip_hopeless": "true: later seeds of a row that is far off after its first one are left for last.",
    "retries": "How often a failed trial is retried, from its checkpoint. Default: twice after a killed "
    "worker, too little main memory, a lost machine or unreadable copies of checkpoints; never after an "
    "error.",
    "stop_after_failures": "Start no more trials once this many have failed since the last that was done.",
}
"""Top-level keys of a grid file, and what each means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A grid file, read and checked."""

    path: Path
    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    """Seeds of the rows that have none of their own."""
    tables: tuple[TableSpec, ...]
    plots: tuple[PlotSpec, ...] = ()
    """The figures that the file declares."""
    keep_checkpoint: KeepCheckpoint = "none"
    """Which epoch's weights trials keep. This and the next four fields do not affect trial ids."""
    compile: Compile = "off"
    gpus_per_trial: GpusPerTrial | None = None
    skip_hopeless: bool = False
    """Whether later seeds of rows that are far off after their first are left for last."""
    retries: int | None = None
    stop_after_failures: int | None = None
    profiles: tuple[str, ...] = ()
    """Names of the file's profiles."""
    variant: str = ""
    """What the command line changes: settings, scale, seeds and rows. Empty: nothing."""
    suffix: str = ""
    """What ids of tables and figures say of these changes."""
    parents: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of each trial that goes on from another's state, the id of that one, by trial id."""
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    """All files that it was read from, this one first, by their path within the directory `grids`."""
    search: Search | None = None
    """The search that the file describes. Then it has no rows: what to train shows only as it goes on."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial, row by row; the seeds of a row together."""
        return tuple(trial for row in self.rows for trial in row.trials)

    def plot_of(self, table: TableSpec) -> PlotSpec:
        """Return the figure of a table. Raises GridError: no figure can show so many rows."""
        return undeclared_plot(table.id, table.title, table.rows, self.tables)

    def plot_as(self, options: Mapping[str, Any], rows: Sequence[Row]) -> PlotSpec:
        """Return a figure of some of the grid's rows, with `kind`, `x` and the like as under `plots`.

        Raises:
            GridError: an option is not valid, or such a figure cannot show so many rows.
        """
        plot_id = f"{self.name}_{options.get('kind', 'own')}{self.suffix}"
        return undeclared_plot(plot_id, self.title, rows, self.tables, options)


def load_grid(
    path: str | os.PathLike[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    profile: str | None = None,
    scale: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Grid:
    """Read a grid file.

    Args:
        path: the file.
        overrides: settings by dotted key that win over all others, in every row.
        profile: name of one of the file's profiles; None: the full study.
        scale: `epochs` and `train`, applied after the profile, or to the full study.
        seeds: seeds of every row, a count or a list; None: the file's.
        where: the value, or a list of values, that rows must have, by option. Other rows are left out.

    Raises:
        GridError: the file is not valid, or not with these changes; names file, line and key.
        NoRowsError: `where` leaves no row.
    """
    options = RowOptions(
        profile=profile, scale=scale, settings=overrides or {}, seeds=seeds, where=where or {}
    )
    files = GridFiles(Path(path))
    roots = files.read(GRID_KEYS, INCLUDABLE_KEYS)
    root = roots[-1]
    given = root.mapping()
    recipe, made = _read_study(_read_recipe(roots), options)
    rows = tuple(row for row, _ in made)
    _check_num_trials(given.get("seeds", root), rows)
    name = read_or(given, "name", Node.name, None) or Node(files.path, "name", locate(files.path.stem)).name()
    title = read_or(given, "title", Node.text, name)
    table = default_table(name, title, rows, given)
    tables = read_tables(given["tables"], table, files.find) if "tables" in given else (table,)
    profiles = read_profiles(roots)
    grid = Grid(
        path=files.path,
        name=name,
        title=title,
        description=read_or(given, "description", Node.text, ""),
        rows=rows,
        seeds=recipe.seeds,
        tables=tables,
        plots=read_plots(given["plots"], name, title, rows, tables) if "plots" in given else (),
        keep_checkpoint=read_or(
            given, "keep_checkpoint", lambda node: node.choice(get_args(KeepCheckpoint)), "none"
        ),
        compile=read_or(given, "compile", _read_compile, "off"),
        gpus_per_trial=read_or(given, "gpus_per_trial", _read_gpus, None),
        skip_hopeless=read_or(given, "skip_hopeless", Node.flag, False),
        retries=read_or(given, "retries", lambda node: node.count(least=0), None),
        stop_after_failures=read_or(given, "stop_after_failures", lambda node: node.count(least=1), None),
        profiles=tuple(profiles),
        files=files.names,
    )
    chosen = choose(profiles, profile, read_scale(scale) if scale else None, files.path)
    if chosen or options != RowOptions():
        varied = vary(recipe, made, chosen, options)
        _check_num_trials(Node("--seeds", "", locate(seeds)) if seeds else root, varied.rows)
        grid = dataclasses.replace(
            grid,
            name=f"{name}_{chosen.name}" if chosen else name,
            title=varied.title(title, varied.rows),
            rows=varied.rows,
            seeds=varied.seeds or grid.seeds,
            tables=varied.specs(tables),
            plots=varied.specs(grid.plots),
            variant=options.variant,
            suffix=options.suffix,
        )
    if "search" not in given:
        return grid
    if seeds is not None or where:
        problem = "is a search: --seeds and --where pick rows, and its members have seeds of their own"
        raise NoRowsError(files.path, 0, "", problem)
    return _as_search(grid, given)


def load_grids(
    paths: Sequence[str | os.PathLike[str]], overrides: Mapping[str, Any] | None = None, **options: Any
) -> list[Grid]:
    """Read grid files as `load_grid` does, without those in which `seeds` and `where` leave no row.

    Raises:
        GridError: a file is not valid, or `seeds` and `where` leave no row of any.
    """
    grids: list[Grid] = []
    empty: list[NoRowsError] = []
    for path in paths:
        try:
            grids.append(load_grid(path, overrides, **options))
        except NoRowsError as error:
            empty.append(error)
    if len(empty) > 1 and not grids:
        raise NoRowsError("--where", 0, "", f"no row of these {len(empty)} grids has all of that")
    if empty and not grids:
        raise empty[0]
    return grids


def _read_study(recipe: Recipe, options: RowOptions) -> tuple[Recipe, Sequence[tuple[Row, Choices]]]:
    """Make the rows of the study; with the settings of the command line if it cannot be without them."""
    try:
        return recipe, make_rows(recipe)
    except GridError:
        if not options.settings:
            raise
    completed = dataclasses.replace(recipe, overrides=read_overrides(options.settings))
    return completed, make_rows(completed)


def _as_search(grid: Grid, given: Mapping[str, Node]) -> Grid:
    """Return the grid of a file with `search`, whose only row is what all members train."""
    search = read_search(given["search"], given, grid.rows[0])
    return dataclasses.replace(grid, rows=(), tables=(), plots=(), search=search)


def lone_trial(texts: Sequence[str]) -> Grid:
    """Return a grid of one trial, without a file and without tables.

    Its settings are `KEY=VALUE` texts, `seed=0` among them unless given. Raises GridError: one is not valid.
    """
    try:
        settings = parse_overrides(texts)
        seeds = (Node("", "seed", locate(settings.pop("seed", 0))).count(least=0),)
        # One layer each, because `model` and `model.depth` may not stand in one layer.
        layers = [read_overrides({key: value}, also=["seed"]) for key, value in settings.items()]
        made = make_rows(Recipe(node=Node("", "", locate({})), base=layers, seeds=seeds))
    except GridError as error:
        raise GridError("train", 0, error.key, error.problem) from None
    rows = tuple(row for row, _ in made)
    return Grid(path=Path(), name="train", title="", description="", rows=rows, seeds=seeds, tables=())


def grid_of(trials: Sequence[Trial], parents: Mapping[str, str] | None = None) -> Grid:
    """Return a grid of exactly these trials, without a file and without tables. `parents` as in `Grid`."""
    seeds: dict[TrainConfig, list[int]] = {}
    for trial in trials:
        seeds.setdefault(trial.config, []).append(trial.seed)
    rows = tuple(Row(config, seeds=tuple(found)) for config, found in seeds.items())
    return Grid(
        path=Path(),
        name="trials",
        title="",
        description="",
        rows=rows,
        seeds=(),
        tables=(),
        parents=parents or {},
    )


def _read_recipe(roots: Sequence[Node]) -> Recipe:
    root = roots[-1]
    given = root.mapping()
    derive: dict[str, Node] = {}
    for node in roots:
        for key, expression in node.child("derive").mapping().items() if "derive" in node.value else ():
            derive.pop(key, None)  # its place in the order is that of the last file that gives it
            derive[key] = expression
    seeds = [node.child("seeds") for node in roots if "seeds" in node.value]
    return Recipe(
        node=root,
        seeds=read_seeds(seeds[-1]) if seeds else (0,),
        base=[read_settings(node.child("base")) for node in roots if "base" in node.value],
        axes=read_or(given, "axes", read_axes, ()),
        exclude=[(node, read_pick(node)) for node in read_or(given, "exclude", Node.mappings, [])],
        extra=[read_case(node) for node in read_or(given, "extra", Node.mappings, [])],
        derive=[read_derivation(key, node) for key, node in derive.items()],
    )


def _read_compile(node: Node) -> Compile:
    if isinstance(node.value, bool):  # what YAML makes of on and off
        return "on" if node.value else "off"
    return node.choice(get_args(Compile))


def _read_gpus(node: Node) -> GpusPerTrial:
    if node.value == "auto":
        return "auto"
    if type(node.value) in (int, float) and is_share(float(node.value)):
        return float(node.value)
    raise node.must_be("auto, a part of a GPU or a whole number")


def _check_num_trials(node: Node, rows: Sequence[Row]) -> None:
    count = sum(len(row.seeds) for row in rows)
    if count > MAX_TRIALS:
        raise node.error(f"asks for {count:,} trials of {len(rows):,} rows; the most is {MAX_TRIALS:,}")
