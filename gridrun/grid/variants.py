"""Variants: what `--profile`, `--scale`, `--set`, `--seeds` and `--where` make of a grid.

The grid file is always read in full first. So `where`, `exclude` and `published` refer to the rows of the
study, and a mistake in the file shows in every variant. A variant says in its titles what it is, and its
tables and figures have ids of their own, so that nothing can pass for the study or replace its files.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from gridrun.errors import GridError
from gridrun.grid.describe import describe_option, describe_options
from gridrun.grid.layers import read_overrides, read_seeds
from gridrun.grid.node import Node, locate
from gridrun.grid.pick import Pick, read_pick
from gridrun.grid.plot_specs import PlotSpec
from gridrun.grid.reduce import Reduction, reduce, reduced_rows
from gridrun.grid.settings import Missing
from gridrun.grid.table_specs import Reported, TableSpec, default_columns
from gridrun.text import format_option, number_of
from gridrun.trial import digest

if TYPE_CHECKING:
    from pathlib import Path

    from gridrun.grid.profiles import Profile
    from gridrun.grid.rows import Choices, Recipe, Row

SpecT = TypeVar("SpecT", TableSpec, PlotSpec)

MAX_SUFFIX = 60
"""Longest suffix of an id, in characters, that spells out what is changed."""
MAX_VALUES = 8
"""Values of an option that a message names."""


class NoRowsError(GridError):
    """`--where` leaves no row of a grid, or the grid is a search, which has none to choose from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowOptions:
    """Which rows of a grid to take, and what to change in them. Its defaults: the study as it stands."""

    profile: str | None = None
    """Name of one of the file's profiles."""
    scale: Mapping[str, Any] | None = None
    """`epochs` and `train`, applied after the profile."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """By dotted key; they win over all others, in every row."""
    seeds: int | Sequence[int] | None = None
    """Seeds of every row: a count or a list."""
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The value, or a list of values, that rows must have, by option; applied last."""

    @property
    def variant(self) -> str:
        """What tells requests for this variant from those for the study; a profile has its own name."""
        changed = [dict(self.settings), self.scale] if self.settings or self.scale else None
        text = json.dumps(changed, sort_keys=True, default=str) if changed else ""
        text += f", seeds {self.seeds}" if self.seeds is not None else ""
        return text + (f", where {json.dumps(dict(self.where), default=str)}" if self.where else "")

    @property
    def words(self) -> list[str]:
        """What a title says of it, but for profile and scale: `set: 1 epoch`, `3 seeds`, `only cosine`."""
        said = [f"set: {describe_options(self.settings)}"] if self.settings else []
        if isinstance(self.seeds, int):
            said += [number_of(self.seeds, "seed")]
        elif self.seeds:
            said += [f"seeds {', '.join(map(str, self.seeds))}"]
        if self.where:
            said += [f"only {', '.join(_either(key, value) for key, value in self.where.items())}"]
        return said

    @property
    def suffix(self) -> str:
        """What ids say of it, but for profile and scale, such as `_set_epochs-1_seeds-3`."""
        parts = ["set", *map(_slug, self.settings.items())] if self.settings else []
        parts += [_slug(("seeds", self.seeds))] if self.seeds is not None else []
        parts += ["where", *map(_slug, self.where.items())] if self.where else []
        text = "".join(f"_{part}" for part in parts)
        return text if len(text) <= MAX_SUFFIX else f"_{digest(text)[:8]}"


def _either(key: str, value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    return " or ".join(describe_option(key, one) for one in values)


def _slug(item: tuple[str, Any]) -> str:
    key, value = item
    text = f"{key.split('.')[-1]}-{json.dumps(value, default=str)}"
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-")


def vary(
    recipe: Recipe, made: Sequence[tuple[Row, Choices]], profile: Profile | None, options: RowOptions
) -> Variant:
    """Make the rows of a variant.

    Args:
        recipe: how the rows of the study are made.
        made: these rows, with the choices that made each.
        profile: the profile with `options.scale` over it, or either alone.
        options: what else to change.

    Raises:
        GridError: a row cannot be trained so, or becomes equal to another one.
        NoRowsError: `where` leaves no row.
    """
    overrides = read_overrides(options.settings) if options.settings else None
    rows: Reduction = {row.config_id: row for row, _ in made}
    if profile or overrides:
        rows = reduce(dataclasses.replace(recipe, profile=profile, overrides=overrides), made)
    seeds = profile.seeds if profile else None
    if options.seeds is not None:
        seeds = read_seeds(Node("--seeds", "", locate(options.seeds)))
        rows = {key: dataclasses.replace(row, seeds=seeds) for key, row in rows.items()}
    pick = _read_where(options.where)
    if pick:
        kept = {key: row for key, row in rows.items() if pick.matches(row.option)}
        if not kept:
            raise _no_rows(recipe.node.file, rows.values(), options.where)
        rows = kept
    return Variant(rows, seeds, profile, options, pick, is_whole=recipe.overrides is None)


def _read_where(where: Mapping[str, Any]) -> Pick | None:
    return read_pick(Node("--where", "", locate(dict(where))), also=["seeds"]) if where else None


def _no_rows(file: Path | str, rows: Iterable[Row], where: Mapping[str, Any]) -> NoRowsError:
    """Return the error, with the values that rows have of a lone option if they are few."""
    key = next(iter(where))
    values = dict.fromkeys(
        format_option(value) for value in (row.option(key) for row in rows) if not isinstance(value, Missing)
    )
    hint = f"; {key} is {', '.join(values)}" if len(where) == 1 and 0 < len(values) <= MAX_VALUES else ""
    wanted = ", ".join(f"{key}={format_option(value)}" for key, value in where.items())
    return NoRowsError("--where", 0, "", f"no row of {file} has {wanted}{hint}")


@dataclass(frozen=True, slots=True)
class Variant:
    """The rows of a variant; makes its titles, tables and figures of those of the study."""

    made: Reduction
    seeds: tuple[int, ...] | None
    """Seeds of all its rows; None: those of the study."""
    profile: Profile | None
    options: RowOptions
    pick: Pick | None
    is_whole: bool
    """Whether the file makes a study by itself; if `--set` completes it, nothing published compares."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """Its rows, in the order of the study's."""
        return tuple(self.made.values())

    def title(self, title: str, rows: Sequence[Row]) -> str:
        """Return a title of the study with what this variant makes of these rows of its own."""
        said = [reduced_rows(self.profile, rows)] if self.profile else []
        said += self.options.words
        return f"{title} ({'; '.join(said)})" if said else title

    def specs(self, specs: Iterable[SpecT]) -> tuple[SpecT, ...]:
        """Return the tables or figures that have rows left, with what is published of unchanged rows."""
        found = []
        for spec in specs:
            ids = [row.config_id for row in spec.rows if row.config_id in self.made]
            rows = {config_id: self.made[config_id] for config_id in ids}
            whole = not spec.rows  # every row is only reported elsewhere
            unchanged = {key for key, row in rows.items() if self.is_whole and row.config_id == key}
            if isinstance(spec, TableSpec):
                is_study = not self.profile and not self.options.settings
                reported = tuple(filter(self._is_wanted, spec.reported)) if is_study else ()
                columns = tuple(name for name in spec.columns if name != "paper" or unchanged or reported)
                whole = whole and bool(reported)
                if rows and not spec.columns_are_given:
                    columns = default_columns(tuple(rows.values()))
                compare = spec.compare and spec.compare.among(rows)
                spec = dataclasses.replace(spec, columns=columns, reported=reported, compare=compare)
            if rows or whole:
                profile = f"_{self.profile.name}" if self.profile else ""
                of_spec = tuple(rows.values())
                found.append(
                    dataclasses.replace(
                        spec,
                        id=f"{spec.id}{profile}{self.options.suffix}",
                        title=self.title(spec.title, of_spec),
                        rows=of_spec,
                        published={key: told for key, told in spec.published.items() if key in unchanged},
                    )
                )
        return tuple(found)

    def _is_wanted(self, reported: Reported) -> bool:
        return not self.pick or self.pick.matches(lambda key: reported.options.get(key, Missing.ABSENT))
