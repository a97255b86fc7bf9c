"""`search` in a grid file: a population of trials that searches a schedule of augmentation policies."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trainer
from gridrun.grid.layers import MAX_TRIALS
from gridrun.grid.node import Node, read_or
from gridrun.trial import digest
from trainer import TrainConfig
from trainer.augmentations.policy import Policy
from trainer.augmentations.policy.schedules import RANDOM, Schedule
from trainer.schema import ConfigError

if TYPE_CHECKING:
    from gridrun.grid.rows import Row

NOT_IN_A_SEARCH = ("axes", "exclude", "extra", "seeds", "tables", "plots")
"""Top-level keys that a grid file with `search` cannot have."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Population Based Augmentation (Ho et al., arXiv:1905.05393). The defaults are the authors'."""

    base: TrainConfig
    """What each member trains, under the one policy that all of them begin with."""
    population: int = 16
    """Number of members."""
    interval: int = 3
    """Epochs between two decisions about who goes on from whom."""
    quantile: float = 0.25
    """Share of the members that are replaced: the worst ones, by copies of as many of the best."""
    resample: float = 0.2
    """Probability that exploring draws a number of a policy anew, instead of changing it a little."""
    seed: int = 0
    """Decides the seeds of the members and all that is drawn."""
    asynchronous: bool = False
    """No member waits for the others; so the result depends on which of them are faster."""

    @functools.cached_property
    def search_id(self) -> str:
        """A hash of all that decides the result."""
        options = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "base" and not (field.name == "asynchronous" and not self.asynchronous)
        }
        return digest({**options, "base": self.base.canonical(), "version": trainer.VERSION})

    @property
    def epochs(self) -> int:
        """Epochs that each member is trained."""
        return self.base.num_epochs

    @property
    def num_rounds(self) -> int:
        """Number of rounds: all members train for `interval` epochs, the last round for what is left."""
        return math.ceil(self.epochs / self.interval)

    def last_epoch(self, number: int) -> int:
        """Return the last epoch of a round, both counted from 1."""
        return min(number * self.interval, self.epochs)


def policy_of(config: TrainConfig) -> Policy:
    """Return a config's policy."""
    return next(options for options in config.augmentation if isinstance(options, Policy))


def under(config: TrainConfig, schedule: Schedule) -> TrainConfig:
    """Return a config with another schedule of policies."""
    found = [options for options in config.augmentation if isinstance(options, Policy)]
    policy = dataclasses.replace(found[0], schedule=schedule) if found else Policy(schedule=schedule)
    others = (options for options in config.augmentation if options not in found)
    chosen = sorted((*others, policy), key=lambda options: options.name)
    return dataclasses.replace(config, augmentation=tuple(chosen))


def read_search(node: Node, given: Mapping[str, Node], row: Row) -> Search:
    """Read `search`, given the file's top-level keys and the one row of its base.

    Raises:
        GridError: a value is not valid, the file has keys that no search can have, or the base cannot be
            searched with.
    """
    for key in NOT_IN_A_SEARCH:
        if key in given:
            raise given[key].error("is not for a search, which trains `base` alone")
    entries = node.options([field.name for field in dataclasses.fields(Search) if field.name != "base"])
    base, place = row.config, given.get("base", node)
    if base.epochs != base.num_epochs or base.stop_after is not None:
        raise place.error("a search needs a whole number of epochs, and no stop_after")
    if not base.num_held_out:
        problem = "a search needs images to choose the members by: hold some out with val_size or val_ratio"
        raise place.error(problem)
    found = [options for options in base.augmentation if isinstance(options, Policy)]
    starts = found[0].schedule if found else ((1, ""),)
    if len(starts) != 1 or starts[0][1] == RANDOM or (found and found[0].flattened):
        raise place.error("augmentation.policy: all members begin with one policy; give one or leave it out")
    try:
        base = under(base, ((base.num_epochs, starts[0][1]),))
    except ConfigError as error:
        raise place.error(str(error)) from None
    search = Search(
        base=base,
        population=read_or(entries, "population", lambda entry: entry.count(least=2), 16),
        interval=read_or(entries, "interval", lambda entry: entry.count(least=1), 3),
        quantile=read_or(entries, "quantile", _share, 0.25),
        resample=read_or(entries, "resample", _share, 0.2),
        seed=read_or(entries, "seed", lambda entry: entry.count(least=0), 0),
        asynchronous=read_or(entries, "asynchronous", lambda entry: entry.flag(), False),
    )
    if search.interval >= search.epochs:
        problem = f"must be below epochs ({search.epochs}), got {search.interval}"
        raise entries.get("interval", node).error(problem)
    if (count := search.population * search.num_rounds) > MAX_TRIALS:
        problem = f"asks for {count:,} trials in {search.num_rounds:,} rounds; the most is {MAX_TRIALS:,}"
        raise entries.get("population", node).error(problem)
    if "quantile" in entries and not 0 < search.quantile <= 0.5:
        raise entries["quantile"].must_be("above 0 and at most 0.5")
    return search


def _share(node: Node) -> float:
    if type(node.value) not in (int, float) or not 0 <= node.value <= 1:
        raise node.must_be("a share in 0..1")
    return float(node.value)
