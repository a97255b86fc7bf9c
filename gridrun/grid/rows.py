"""Rows: the distinct configs that a grid file asks for, and how one is made."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gridrun.errors import GridError
from gridrun.grid.derive import Derivation
from gridrun.grid.layers import Layer
from gridrun.grid.node import Node
from gridrun.grid.pick import Pick
from gridrun.grid.profiles import Profile
from gridrun.grid.published import Published
from gridrun.grid.settings import ConfigReader, Settings, option
from gridrun.trial import Trial, config_id, trial_id_of
from trainer import ConfigError, TrainConfig

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
    def trial_ids(self) -> tuple[str, ...]:
        """One a seed."""
        return tuple([trial_id_of(self.config_id, seed) for seed in self.seeds])

    @functools.cached_property
    def trials(self) -> tuple[Trial, ...]:
        """One a seed."""
        trials = tuple([Trial(self.config, seed) for seed in self.seeds])
        for trial, trial_id in zip(trials, self.trial_ids, strict=True):
            # Cached properties there too: hashing is what large grids wait for.
            vars(trial).update(config_id=self.config_id, trial_id=trial_id)
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

    @property
    def overridden(self) -> str:
        """What an error message says of the overrides."""
        return f", with --set {', '.join(self.overrides.entries)}" if self.overrides else ""


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


def make_row(recipe: Recipe, reader: ConfigReader, settings: Settings, choices: Choices) -> Row:
    """Read the settings of a row. Raises GridError: it cannot be trained."""
    line = choices[-1].node.line if choices else recipe.node.line
    try:
        config = reader.read(settings)
    except ConfigError as error:
        raise _located(recipe, choices, line, error) from None
    published = next((layer.published for layer in choices if layer.published), None)
    seeds = next((layer.seeds for layer in reversed(choices) if layer.seeds), recipe.seeds)
    return Row(config, name_of(choices), published, line, seeds)


class RowMaker:
    """Makes the rows of a recipe one by one, and notes which of its parts have had an effect."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._base = base_settings(recipe)
        self._reader = ConfigReader()
        self._idle = {derivation.key: derivation for derivation in recipe.derive}
        self._unmatched = {id(pick): node for node, pick in recipe.exclude}

    def settle(self, choices: Choices) -> Settings:
        """Do what `settle` does."""
        settings = settle(self.recipe, self._base, choices)
        for key in [key for key, derivation in self._idle.items() if derivation.applies_to(settings)]:
            self._idle.pop(key)
        return settings

    def excludes(self, picks: Iterable[Pick], settings: Settings, choices: Choices) -> bool:
        """Tell whether some of the recipe's exclusions are of a row with these settings."""
        hits = [pick for pick in picks if _matches(pick, settings, choices)]
        for pick in hits:
            self._unmatched.pop(id(pick), None)
        return bool(hits)

    def row(self, settings: Settings, choices: Choices) -> Row:
        """Do what `make_row` does."""
        return make_row(self.recipe, self._reader, settings, choices)

    def check_effects(self) -> None:
        """Raise GridError if an exclusion or a derivation has had no effect on any row."""
        for node in self._unmatched.values():
            raise node.error(f"matches no row{self.recipe.overridden}")
        for derivation in self._idle.values():
            raise derivation.node.error("no row has this option")


def _matches(pick: Pick, settings: Settings, choices: Choices) -> bool:
    return pick.matches(lambda key: name_of(choices) if key == "name" else option(settings, key))


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


def name_of(choices: Choices) -> str | None:
    """Return the names of the cases that make a row."""
    return ", ".join(layer.name for layer in choices if layer.name) or None


def described(choices: Choices) -> str:
    """Return what makes a row, in words."""
    said = [
        f"{key}: {value if isinstance(value, str) else json.dumps(value, default=str)}"
        for layer in choices
        for key, value in layer.values.items()
    ]
    return ", ".join(said) or "base"
