"""Grids: which trials the tables of one YAML file need.

base -> axes (product, zip, cases) -> derive -> exclude, extra -> rows [-> profile -> reduced rows] -> x seeds
-> trials
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gridrun.errors import GridError
from gridrun.grid.derive import read_derivation
from gridrun.grid.layers import MAX_TRIALS, LayerReader, read_seed, read_seeds
from gridrun.grid.pick import read_pick
from gridrun.grid.plot_specs import PlotReader, PlotSpec
from gridrun.grid.profiles import ProfileReader, choose
from gridrun.grid.published import Published
from gridrun.grid.reduce import reduce, reduced_plots, reduced_tables, reduced_title
from gridrun.grid.rows import Recipe, Row, expand
from gridrun.grid.running import Running, read_running
from gridrun.grid.settings import known_keys, settable_keys
from gridrun.grid.sources import GridFiles, parse_overrides
from gridrun.grid.table_specs import TableReader, TableSpec
from gridrun.grid.yaml import Located, Node, locate, read_name
from gridrun.trial import Trial
from trainer.registry import did_you_mean
from trainer.runtime import KeepCheckpoint

if TYPE_CHECKING:
    import os

    from trainer import TrainConfig

__all__ = ["Grid", "PlotSpec", "Published", "Row", "TableSpec", "grid_of", "load_grid", "lone_trial"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A grid file, read and checked."""

    path: Path
    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    """Of the rows that do not say their own."""
    tables: tuple[TableSpec, ...]
    plots: tuple[PlotSpec, ...] = ()
    """The figures that the file declares."""
    keep_checkpoint: KeepCheckpoint = "none"
    """Whose weights the trials keep; no part of their ids."""
    running: Running = field(default_factory=Running)
    """How they are run; no part of their ids either."""
    profiles: tuple[str, ...] = ()
    """Names of the reduced forms that the file has of itself."""
    form: str = ""
    """What the command line has made of the file: its settings, scale and seeds. Empty: the file as it is."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial, row by row, the seeds of a row together."""
        return tuple(trial for row in self.rows for trial in row.trials)

    def with_seeds(self, seeds: int | Sequence[int]) -> Grid:
        """Return the grid with other seeds for every row: a count or a list, as in the file.

        Raises:
            GridError: they are no such thing.
        """
        node = Node("--seeds", "", locate(seeds))
        given = read_seeds(node)

        def reseeded(rows: Iterable[Row]) -> tuple[Row, ...]:
            return tuple(dataclasses.replace(row, seeds=given) for row in rows)

        rows = reseeded(self.rows)
        _check_count(node, rows)
        tables = tuple(dataclasses.replace(table, rows=reseeded(table.rows)) for table in self.tables)
        plots = tuple(dataclasses.replace(plot, rows=reseeded(plot.rows)) for plot in self.plots)
        form = f"{self.form}, seeds {seeds}"
        return dataclasses.replace(self, rows=rows, seeds=given, tables=tables, plots=plots, form=form)

    def plot_of(self, table: TableSpec) -> PlotSpec:
        """Return the figure of a table. Raises GridError: none can show so many rows."""
        return self._plots().undeclared(table.id, table.title, table.rows)

    def plot_as(self, options: Mapping[str, Any], rows: Sequence[Row]) -> PlotSpec:
        """Return a figure of some of the grid's rows.

        Args:
            options: `kind`, `x`, `y`, `by` and the like, as under `plots`; what is left out is chosen.

        Raises:
            GridError: an option is not right, or so many rows cannot be shown so.
        """
        plot_id = f"{self.name}_{options.get('kind', 'own')}"
        return self._plots().undeclared(plot_id, self.title, rows, options)

    def _plots(self) -> PlotReader:
        return PlotReader(self.name, self.title, self.rows, self.tables, known_keys())


def load_grid(
    path: str | os.PathLike[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    profile: str | None = None,
    scale: Mapping[str, Any] | None = None,
) -> Grid:
    """Read a grid file.

    Args:
        path: the file.
        overrides: settings by dotted key that win over everything, in every row.
        profile: the one of the file's profiles that is wanted, in place of the full study.
        scale: `epochs` and `train`, over what the profile scales; without a profile, the study by them alone.

    Raises:
        GridError: the file does not say what to train; names file, line and key.
    """
    files = GridFiles(Path(path))
    roots = files.read()
    root = roots[-1]
    known = known_keys()
    seeds = [node.child("seeds") for node in roots if "seeds" in node.value]
    recipe = _recipe(roots, overrides or {}, known, read_seeds(seeds[-1]) if seeds else (0,))
    made = expand(recipe)
    rows = tuple(row for row, _ in made)
    _check_count(seeds[-1] if seeds else root, rows)
    name = read_name(
        root.child("name") if "name" in root.value else Node(files.path, "name", Located(files.path.stem))
    )
    title = root.child("title").text() if "title" in root.value else name
    source = root.child("source").text() if "source" in root.value else None
    reader = TableReader(name, title, rows, known, files.find, source)
    tables = reader.read(root.child("tables")) if "tables" in root.value else (reader.default(),)
    plots = PlotReader(name, title, rows, tables, known)
    profiles = ProfileReader(LayerReader(settable_keys()), known)
    named = profiles.profiles(roots)
    grid = Grid(
        path=files.path,
        name=name,
        title=title,
        description=root.child("description").text() if "description" in root.value else "",
        rows=rows,
        seeds=recipe.seeds,
        tables=tables,
        plots=plots.read(root.child("plots")) if "plots" in root.value else (),
        keep_checkpoint=_read_keep(root.child("keep_checkpoint"))
        if "keep_checkpoint" in root.value
        else "none",
        running=read_running(root),
        profiles=tuple(named),
        form=json.dumps([overrides, scale], sort_keys=True, default=str) if overrides or scale else "",
    )
    scaled = profiles.scale(scale) if scale else None
    if (wanted := choose(named, profile, scaled, files.path)) is None:
        return grid
    reduction = reduce(recipe, wanted, made)
    reduced = tuple(reduction.values())
    return dataclasses.replace(
        grid,
        name=f"{grid.name}_{wanted.name}",
        title=reduced_title(grid.title, wanted, reduced),
        rows=reduced,
        seeds=wanted.seeds or grid.seeds,
        tables=tuple(reduced_tables(grid.tables, wanted, reduction)),
        plots=tuple(reduced_plots(grid.plots, wanted, reduction)),
    )


def lone_trial(texts: Sequence[str]) -> Grid:
    """Return a grid of one trial, without a file and without tables.

    Args:
        texts: its settings as `KEY=VALUE`; the key `seed` is one of them, 0 if left out.

    Raises:
        GridError: they do not say what to train.
    """
    try:
        settings = parse_overrides(texts)
        seeds = (read_seed(Node("", "seed", locate(settings.pop("seed", 0)))),)
        read = LayerReader({*settable_keys(), "seed"})  # taken out above, but `sed` may mean it
        layers = [read.overrides({key: value}) for key, value in settings.items()]  # model, then model.depth
        made = expand(Recipe(node=Node("", "", locate({})), base=layers, seeds=seeds))
    except GridError as error:
        raise GridError("train", 0, error.key, error.problem) from None
    rows = tuple(row for row, _ in made)
    return Grid(path=Path(), name="train", title="", description="", rows=rows, seeds=seeds, tables=())


def grid_of(trials: Sequence[Trial]) -> Grid:
    """Return a grid of exactly these trials, without a file and without tables."""
    seeds: dict[TrainConfig, list[int]] = {}
    for trial in trials:
        seeds.setdefault(trial.config, []).append(trial.seed)
    rows = tuple(Row(config, seeds=tuple(found)) for config, found in seeds.items())
    return Grid(path=Path(), name="trials", title="", description="", rows=rows, seeds=(), tables=())


def _recipe(
    roots: Sequence[Node], overrides: Mapping[str, Any], known: Collection[str], seeds: tuple[int, ...]
) -> Recipe:
    read = LayerReader(settable_keys())
    root = roots[-1]
    given = root.mapping()
    derive: dict[str, Node] = {}
    for node in roots:
        for key, expression in node.child("derive").mapping().items() if "derive" in node.value else ():
            derive.pop(key, None)  # to stand where it is given last
            derive[key] = expression
    return Recipe(
        node=root,
        base=[read.settings(node.child("base")) for node in roots if "base" in node.value],
        axes=read.axes(given["axes"]) if "axes" in given else (),
        exclude=[(node, read_pick(node, known)) for node in _items(given.get("exclude"))],
        extra=[read.case(node) for node in _items(given.get("extra"))],
        overrides=read.overrides(overrides) if overrides else None,
        seeds=seeds,
        derive=[read_derivation(key, node, known) for key, node in derive.items()],
    )


def _items(node: Node | None) -> list[Node]:
    return node.items("a list of mappings") if node else []


def _check_count(node: Node, rows: Sequence[Row]) -> None:
    count = sum(len(row.seeds) for row in rows)
    if count > MAX_TRIALS:
        raise node.error(f"asks for {count:,} trials of {len(rows):,} rows; the most is {MAX_TRIALS:,}")


def _read_keep(node: Node) -> KeepCheckpoint:
    choices: tuple[KeepCheckpoint, ...] = get_args(KeepCheckpoint)
    value = node.text()
    for choice in choices:
        if value == choice:
            return choice
    raise node.error(f"unknown choice {value!r}.{did_you_mean(value, choices)}")
