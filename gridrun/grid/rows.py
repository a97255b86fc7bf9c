"""Rows: the distinct configs that a grid file asks for, and how each one is made."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gridrun.errors import GridError
from gridrun.grid.derive import Derivation, names_in
from gridrun.grid.describe import column_value, describe_options
from gridrun.grid.layers import Layer
from gridrun.grid.looks import AdaptiveSeeds
from gridrun.grid.node import Node
from gridrun.grid.pick import Pick
from gridrun.grid.profiles import Profile
from gridrun.grid.published import Published
from gridrun.grid.settings import LET, ConfigReader, Settings, config_option, option
from gridrun.trial import Trial, config_id, trial_id
from gridrun.verdicts import CONFIDENCE
from trainer import ConfigError, TrainConfig
from trainer.registry import did_you_mean

MAX_ROWS = 1_000_000

Choices = tuple[Layer, ...]
"""What makes one row: one value of each axis, or one `extra`."""


@dataclass(frozen=True)
class Row:
    """One config of a grid and the seeds to run it with: a row of its tables."""

    config: TrainConfig
    name: str | None = None
    """Name of the case that made the row."""
    published: Published | None = None
    line: int = 0
    seeds: tuple[int, ...] = (0,)
    """The config is run once with each seed."""

    @functools.cached_property
    def config_id(self) -> str:
        """Id shared by all trials of the row."""
        return config_id(self.config)

    @functools.cached_property
    def trials(self) -> tuple[Trial, ...]:
        """One trial for each seed."""
        pairs = zip(self.seeds, self.trial_ids, strict=True)
        return tuple([Trial(self.config, seed, self.config_id, trial_id) for seed, trial_id in pairs])

    @functools.cached_property
    def trial_ids(self) -> tuple[str, ...]:
        """One id for each seed. Quicker than `trials` where the ids are all you need."""
        return tuple([trial_id(self.config_id, seed) for seed in self.seeds])

    @property
    def confidence(self) -> float:
        """Confidence of intervals of the row: higher than usual where its verdicts decide on its seeds."""
        return self.seeds.confidence if isinstance(self.seeds, AdaptiveSeeds) else CONFIDENCE

    def option(self, key: str) -> Any:
        """Return an option of the config (or Missing), `name`, or for `seeds` the number of them."""
        if key == "seeds":
            return len(self.seeds)
        return self.name if key == "name" else config_option(self.config, key)

    def column(self, column: str) -> Any:
        """Return what a table or a figure shows of the row, such as the label of its `model`."""
        return column_value(self.config, self.name, column)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything a grid file says about its rows.

    Later settings win, in this order: base, axes, profile, overrides.
    """

    node: Node
    """The file as a whole."""
    base: Sequence[Layer] = ()
    """Those of included files come first."""
    axes: Sequence[Sequence[Layer]] = ()
    exclude: Sequence[tuple[Node, Pick]] = ()
    extra: Sequence[Layer] = ()
    overrides: Layer | None = None
    seeds: tuple[int, ...] = (0,)
    """Seeds of the rows whose choices give none."""
    derive: Sequence[Derivation] = ()
    """Applied in order, each only to rows whose own layers do not set its option."""
    profile: Profile | None = None
    """Shrinks every row."""

    def layers_over_base(self, choices: Choices) -> Choices:
        """Return a row's own layers: its choices, then those of the profile, then the overrides."""
        layers = (*choices, *self.profile.layers) if self.profile else choices
        return (*layers, self.overrides) if self.overrides else layers

    @property
    def overridden(self) -> str:
        """Text for error messages that names the overrides."""
        return f", with --set {', '.join(self.overrides.entries)}" if self.overrides else ""


class RowMaker:
    """Makes the rows of a recipe one at a time. They share the base and the option values already read."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._base: Settings = {}
        for layer in recipe.base:
            layer.apply(self._base)
        self._reader = ConfigReader()

    def settings(self, choices: Choices) -> Settings:
        """Return a row's settings: the base, the row's layers over it, scaled epochs, derived options.

        Raises:
            GridError: a layer changes an option that is not there, or an option cannot be computed.
        """
        recipe, settings = self.recipe, dict(self._base)
        layers = recipe.layers_over_base(choices)
        for layer in layers:
            layer.apply(settings)
        derive = [
            derivation
            for derivation in recipe.derive
            if derivation.applies_to(settings) and not any(layer.sets(derivation.key) for layer in layers)
        ]
        if recipe.profile:
            recipe.profile.scale_epochs(settings, but_not={derivation.key for derivation in derive})
        for derivation in derive:
            derivation.apply(settings)
        return settings

    def row(self, choices: Choices, settings: Settings) -> Row:
        """Return the row that has these settings. Raises GridError: it cannot be trained."""
        try:
            config = self._reader.read({key: value for key, value in settings.items() if key != LET})
            if self.recipe.profile:
                config = self.recipe.profile.scale_images(config)
            config.check_precision()
        except ConfigError as error:
            raise self._located(choices, error) from None
        published = next((layer.published for layer in choices if layer.published), None)
        seeds = next((layer.seeds for layer in reversed(choices) if layer.seeds), self.recipe.seeds)
        return Row(config, name_of(choices), published, node_of(self.recipe, choices).line, seeds)

    def _located(self, choices: Choices, error: ConfigError) -> GridError:
        """Return the error, placed at the setting that caused it."""
        layers = self.recipe.layers_over_base(choices)
        for derivation in self.recipe.derive:
            if derivation.key == error.key and not any(layer.sets(error.key) for layer in layers):
                return derivation.node.error(error.problem)
        for layer in reversed((*self.recipe.base, *layers)):
            if node := layer.find(error.key):
                return node.error(error.problem)
        node = node_of(self.recipe, choices)
        return GridError(self.recipe.node.file, node.line, error.key, error.problem)


def make_rows(recipe: Recipe) -> tuple[tuple[Row, Choices], ...]:
    """Make every row, with its choices: the product of the axes, first axis slowest, then the extras.

    Raises:
        GridError: a row cannot be trained or is made twice; an entry of `base`, `exclude` or `derive`
            has no effect; there are no rows, or more than MAX_ROWS.
    """
    count = math.prod(len(layers) for layers in recipe.axes) + len(recipe.extra)
    if count > MAX_ROWS:
        raise recipe.node.error(f"asks for {count:,} rows; the most is {MAX_ROWS:,}")
    _check_base(recipe)
    check_let(recipe)
    maker = RowMaker(recipe)
    made: dict[str, tuple[Row, Choices]] = {}
    unmatched = {id(pick): node for node, pick in recipe.exclude}
    unused = {derivation.key: derivation for derivation in recipe.derive}
    product = ((choices, recipe.exclude) for choices in itertools.product(*recipe.axes))
    extras = (((layer,), ()) for layer in recipe.extra)
    for choices, exclude in itertools.chain(product, extras):
        settings = maker.settings(choices)
        for key in [key for key, derivation in unused.items() if derivation.applies_to(settings)]:
            del unused[key]
        picks = [pick for _, pick in exclude if _matches(pick, choices, settings)]
        for pick in picks:
            unmatched.pop(id(pick), None)
        if picks:
            continue
        row = maker.row(choices, settings)
        if row.config_id in made:
            twin, twin_choices = made[row.config_id]
            problem = f"the row ({choices_text(choices)}) is made twice: line {twin.line}"
            same = f"({choices_text(twin_choices)}) gives the same config{recipe.overridden}"
            raise node_of(recipe, choices).error(f"{problem} {same}")
        made[row.config_id] = row, choices

    for node in unmatched.values():
        raise node.error(f"matches no row{recipe.overridden}")
    for derivation in unused.values():
        raise derivation.node.error("no row has this option")
    if not made:
        raise recipe.node.error("every row is excluded")
    _check_published(made.values())
    return tuple(made.values())


def _matches(pick: Pick, choices: Choices, settings: Settings) -> bool:
    return pick.matches(lambda key: name_of(choices) if key == "name" else option(settings, key))


def name_of(choices: Choices) -> str | None:
    """Return a row's name: the names of its cases, joined."""
    return ", ".join(layer.name for layer in choices if layer.name) or None


def node_of(recipe: Recipe, choices: Choices) -> Node:
    """Return the place that an error about a row names."""
    return choices[-1].node if choices else recipe.node


def choices_text(choices: Choices) -> str:
    """Describe a row by what its choices set: `lr 0.1, 200 epochs`."""
    return ", ".join(describe_options(layer.values) for layer in choices if layer.values) or "base"


def _check_base(recipe: Recipe) -> None:
    """Refuse an option in the grid's own base that every row overwrites: it would be lost in silence."""
    replaced = {
        key for axis in recipe.axes for key in axis[0].values if all(key in one.values for one in axis)
    }
    for layer in recipe.base:
        for key, node in layer.entries.items():
            whole = key.split(".")[0]
            if node.file == recipe.node.file and whole != key and whole in replaced and not recipe.extra:
                raise node.error(f"has no effect: an axis replaces the whole of `{whole}`; set it there")


def check_let(recipe: Recipe) -> None:
    """Refuse a number under `let` that no derived option uses: it would change nothing, in silence."""
    texts = [item.value for derivation in recipe.derive for item in derivation.items]
    used = {name for text in texts if isinstance(text, str) for name in names_in(text)}
    for layer in itertools.chain(recipe.base, *recipe.axes, recipe.extra, filter(None, [recipe.overrides])):
        for key, node in layer.entries.items():
            names = [f"{LET}.{name}" for name in node.value] if key == LET else [key]
            for name in names:
                if name.startswith(f"{LET}.") and name not in used:
                    raise node.error(f"no `derive` uses {name!r}.{did_you_mean(name, used)}")


def _check_published(made: Iterable[tuple[Row, Choices]]) -> None:
    """Refuse a published value that would stand in several rows."""
    claimed: set[int] = set()
    for row, choices in made:
        for layer in (layer for layer in choices if layer.published):
            if id(layer) in claimed:
                raise layer.node.error(
                    "published values belong to one row, but an axis makes several rows of it "
                    f"(line {row.line}); put them under `published` of a table"
                )
            claimed.add(id(layer))
