"""Rows: the distinct configs that a grid file asks for."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gridrun.errors import GridError
from gridrun.grid.derive import Derivation
from gridrun.grid.layers import Layer
from gridrun.grid.node import Node
from gridrun.grid.pick import Pick
from gridrun.grid.profiles import Profile
from gridrun.grid.published import Published
from gridrun.grid.settings import ConfigReader, Settings, option
from gridrun.trial import Trial, config_id
from trainer import ConfigError, TrainConfig

MAX_ROWS = 1_000_000

Choices = tuple[Layer, ...]
"""What makes one row: a choice of each axis, or one `extra`."""


@dataclass(frozen=True)
class Row:
    """One config of a grid, and the seeds to run it with: a row of its tables."""

    config: TrainConfig
    name: str | None = None
    """Of the case that made it."""
    published: Published | None = None
    line: int = 0
    seeds: tuple[int, ...] = (0,)
    """It is run once with each."""

    @functools.cached_property
    def config_id(self) -> str:
        """Id shared by all trials of the row."""
        return config_id(self.config)

    @functools.cached_property
    def trials(self) -> tuple[Trial, ...]:
        """One a seed."""
        trials = tuple(Trial(self.config, seed) for seed in self.seeds)
        for trial in trials:  # a cached property there too: hashing is what large grids wait for
            vars(trial)["config_id"] = self.config_id
        return trials


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """All that is said of a grid's rows. Later settings win: base, axes, profile, overrides."""

    node: Node
    """The file as a whole."""
    base: Sequence[Layer] = ()
    """Of included files first."""
    axes: Sequence[Sequence[Layer]] = ()
    exclude: Sequence[tuple[Node, Pick]] = ()
    extra: Sequence[Layer] = ()
    overrides: Layer | None = None
    seeds: tuple[int, ...] = (0,)
    """Of rows whose choices say none."""
    derive: Sequence[Derivation] = ()
    """In order; each only where the row's own layers leave the option alone."""
    profile: Profile | None = None
    """What reduces every row."""

    def own(self, choices: Choices) -> Choices:
        """Return the layers of a row over the base: its choices, the profile's, the overrides."""
        layers = (*choices, *self.profile.layers) if self.profile else choices
        return (*layers, self.overrides) if self.overrides else layers


def expand(recipe: Recipe) -> tuple[tuple[Row, Choices], ...]:
    """Make every row, with what makes it: the product of the axes, first axis slowest, then the extras.

    Raises:
        GridError: a row cannot be trained or is made twice, a part of `base`, `exclude` or `derive`
            has no effect, or there are no rows or more than MAX_ROWS.
    """
    count = math.prod(len(layers) for layers in recipe.axes) + len(recipe.extra)
    if count > MAX_ROWS:
        raise recipe.node.error(f"asks for {count:,} rows; the most is {MAX_ROWS:,}")
    _check_base(recipe)
    reader = ConfigReader()
    made: dict[str, tuple[Row, Choices]] = {}
    for settings, choices in _drafts(recipe):
        row = make_row(recipe, reader, settings, choices)
        if row.config_id in made:
            raise _twice(recipe, row, choices, *made[row.config_id])
        made[row.config_id] = row, choices
    if not made:
        raise recipe.node.error("every row is excluded")
    _check_published(made.values())
    return tuple(made.values())


def _check_base(recipe: Recipe) -> None:
    """Refuse an option of the grid's own base that no row keeps: a lost one is a silent mistake."""
    replaced = {
        key for axis in recipe.axes for key in axis[0].values if all(key in one.values for one in axis)
    }
    for layer in recipe.base:
        for key, node in layer.entries.items():
            whole = key.split(".")[0]
            if node.file == recipe.node.file and whole != key and whole in replaced and not recipe.extra:
                raise node.error(f"has no effect: an axis replaces the whole of `{whole}`; set it there")


def _drafts(recipe: Recipe) -> Iterator[tuple[Settings, Choices]]:
    """Yield the settings of every row that is not excluded."""
    base = base_settings(recipe)
    idle = {derivation.key: derivation for derivation in recipe.derive}
    unmatched = dict(enumerate(recipe.exclude))
    product = ((choices, True) for choices in itertools.product(*recipe.axes))
    extras = (((layer,), False) for layer in recipe.extra)
    for choices, excludable in itertools.chain(product, extras):
        settings = settle(recipe, base, choices)
        for key in [key for key, derivation in idle.items() if derivation.applies_to(settings)]:
            idle.pop(key)
        hits = [
            i
            for i, (_, pick) in enumerate(recipe.exclude)
            if excludable and _matches(pick, settings, choices)
        ]
        for index in hits:
            unmatched.pop(index, None)
        if not hits:
            yield settings, choices
    for node, _ in unmatched.values():
        raise node.error(f"matches no row{_overridden(recipe)}")
    for derivation in idle.values():
        raise derivation.node.error("no row has this option")


def base_settings(recipe: Recipe) -> Settings:
    """Return what every row begins with. Raises GridError."""
    base: Settings = {}
    for layer in recipe.base:
        layer.apply(base)
    return base


def settle(recipe: Recipe, base: Settings, choices: Choices) -> Settings:
    """Return the settings of a row: its own layers over the base, scaled, and the rest derived.

    Raises:
        GridError: a layer changes what is not there, or an option cannot be computed.
    """
    settings, own = dict(base), recipe.own(choices)
    for layer in own:
        layer.apply(settings)
    derive = [
        derivation
        for derivation in recipe.derive
        if derivation.applies_to(settings) and not any(layer.sets(derivation.key) for layer in own)
    ]
    if recipe.profile:
        recipe.profile.scale_epochs(settings, but_not={derivation.key for derivation in derive})
    for derivation in derive:
        derivation.apply(settings)
    return settings


def _matches(pick: Pick, settings: Settings, choices: Choices) -> bool:
    return pick.matches(lambda key: _name(choices) if key == "name" else option(settings, key))


def _name(choices: Choices) -> str | None:
    return ", ".join(layer.name for layer in choices if layer.name) or None


def make_row(recipe: Recipe, reader: ConfigReader, settings: Settings, choices: Choices) -> Row:
    """Read the settings of a row. Raises GridError: it cannot be trained."""
    line = choices[-1].node.line if choices else recipe.node.line
    try:
        config = reader.read(settings)
    except ConfigError as error:
        raise _located(recipe, choices, line, error) from None
    published = next((layer.published for layer in choices if layer.published), None)
    seeds = next((layer.seeds for layer in reversed(choices) if layer.seeds), recipe.seeds)
    return Row(config, _name(choices), published, line, seeds)


def _located(recipe: Recipe, choices: Choices, line: int, error: ConfigError) -> GridError:
    """Return the error at the setting that is to blame for it."""
    own = recipe.own(choices)
    for derivation in recipe.derive:
        if derivation.key == error.key and not any(layer.sets(error.key) for layer in own):
            return derivation.node.error(error.problem)
    for layer in reversed((*recipe.base, *own)):
        if node := layer.find(error.key):
            return node.error(error.problem)
    return GridError(recipe.node.file, line, error.key, error.problem)


def _twice(recipe: Recipe, row: Row, choices: Choices, twin: Row, twin_choices: Choices) -> GridError:
    here, there = described(choices), described(twin_choices)
    problem = f"the row ({here}) is made twice: line {twin.line} ({there}) gives the same config"
    node = choices[-1].node if choices else recipe.node
    return node.error(problem + _overridden(recipe))


def described(choices: Choices) -> str:
    """Return what makes a row, in words."""
    said = [
        f"{key}: {value if isinstance(value, str) else json.dumps(value, default=str)}"
        for layer in choices
        for key, value in layer.values.items()
    ]
    return ", ".join(said) or "base"


def _overridden(recipe: Recipe) -> str:
    return f", with --set {', '.join(recipe.overrides.entries)}" if recipe.overrides else ""


def _check_published(made: Iterable[tuple[Row, Choices]]) -> None:
    """Refuse a published value that several rows would claim."""
    claimed: set[int] = set()
    for row, choices in made:
        for layer in choices:
            if layer.published is None:
                continue
            if id(layer) in claimed:
                raise layer.node.error(
                    f"published values are of one row, but an axis makes several of it (line {row.line});"
                    " put them under `published` of a table"
                )
            claimed.add(id(layer))
