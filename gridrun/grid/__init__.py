"""Grids: which trials the tables of one YAML file need.

base -> axes (product, zip, cases) -> derive -> exclude, extra -> rows -> x seeds -> trials
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gridrun.errors import GridError
from gridrun.grid.derive import read_derivation
from gridrun.grid.layer_reader import LayerReader
from gridrun.grid.located_yaml import Located, locate
from gridrun.grid.node import Node, shown
from gridrun.grid.overrides import parse_overrides
from gridrun.grid.pick import read_pick
from gridrun.grid.published import Published
from gridrun.grid.rows import Recipe, Row, expand
from gridrun.grid.settings import known_keys, settable_keys
from gridrun.grid.sources import GridFiles
from gridrun.grid.table_specs import TableReader, TableSpec, read_name
from gridrun.trial import Trial
from trainer.registry import did_you_mean
from trainer.runtime import KeepCheckpoint

if TYPE_CHECKING:
    import os

__all__ = ["Grid", "Published", "Row", "TableSpec", "load_grid", "lone_trial"]

MAX_TRIALS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A grid file, read and checked."""

    path: Path
    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    tables: tuple[TableSpec, ...]
    keep_checkpoint: KeepCheckpoint = "none"
    """Whose weights the trials keep; no part of their ids."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial, row by row, the seeds of a row together."""
        return tuple(Trial(row.config, seed) for row in self.rows for seed in self.seeds)

    def with_seeds(self, seeds: int | Sequence[int]) -> Grid:
        """Return the grid with other seeds: a count or a list, as in the file.

        Raises:
            GridError: they are no such thing.
        """
        node = Node("--seeds", "", locate(seeds))
        return dataclasses.replace(self, seeds=_read_seeds(node, len(self.rows)))


def load_grid(path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Grid:
    """Read a grid file.

    Args:
        path: the file.
        overrides: settings by dotted key that win over everything, in every row.

    Raises:
        GridError: the file does not say what to train; names file, line and key.
    """
    files = GridFiles(Path(path))
    roots = files.read()
    root = roots[-1]
    known = known_keys()
    rows = expand(_recipe(roots, overrides or {}, known))
    seeds = [node.child("seeds") for node in roots if "seeds" in node.value]
    name = read_name(
        root.child("name") if "name" in root.value else Node(files.path, "name", Located(files.path.stem))
    )
    title = root.child("title").text() if "title" in root.value else name
    tables = TableReader(name, title, rows, known, files.find)
    return Grid(
        path=files.path,
        name=name,
        title=title,
        description=root.child("description").text() if "description" in root.value else "",
        rows=rows,
        seeds=_read_seeds(seeds[-1], len(rows)) if seeds else (0,),
        tables=tables.read(root.child("tables")) if "tables" in root.value else (tables.default(),),
        keep_checkpoint=_read_keep(root.child("keep_checkpoint"))
        if "keep_checkpoint" in root.value
        else "none",
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
        seed = _read_seed(Node("", "seed", locate(settings.pop("seed", 0))))
        read = LayerReader(settable_keys())
        layers = [read.overrides({key: value}) for key, value in settings.items()]  # model, then model.depth
        rows = expand(Recipe(node=Node("", "", locate({})), base=layers))
    except GridError as error:
        raise GridError("train", 0, error.key, error.problem) from None
    return Grid(path=Path(), name="train", title="", description="", rows=rows, seeds=(seed,), tables=())


def _recipe(roots: Sequence[Node], overrides: Mapping[str, Any], known: Collection[str]) -> Recipe:
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
        derive=[read_derivation(key, node, known) for key, node in derive.items()],
    )


def _items(node: Node | None) -> list[Node]:
    return node.items("a list of mappings") if node else []


def _read_seeds(node: Node, num_rows: int) -> tuple[int, ...]:
    """Read a count, which stands for 0, 1, ..., or a list."""
    value = node.plain()
    count = len(value) if isinstance(value, list) else value
    if type(count) is not int or count < 1:
        raise node.error(f"must be a count >= 1 or a list of whole numbers, got {shown(node.located)}")
    if count * num_rows > MAX_TRIALS:
        raise node.error(f"{count:,} seeds of {num_rows:,} rows are more than {MAX_TRIALS:,} trials")
    if not isinstance(value, list):
        return tuple(range(count))
    for index, seed in enumerate(value):
        _read_seed(node.child(index))
        if seed in value[:index]:
            raise node.child(index).error(f"the seed {seed} stands here twice")
    return tuple(value)


def _read_seed(node: Node) -> int:
    if type(node.value) is not int or not 0 <= node.value < 2**63:
        raise node.error(f"must be a whole number >= 0, got {shown(node.located)}")
    return node.value


def _read_keep(node: Node) -> KeepCheckpoint:
    choices: tuple[KeepCheckpoint, ...] = get_args(KeepCheckpoint)
    value = node.text()
    for choice in choices:
        if value == choice:
            return choice
    raise node.error(f"unknown choice {value!r}.{did_you_mean(value, choices)}")
