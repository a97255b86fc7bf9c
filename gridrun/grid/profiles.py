"""Profiles: named ways to run a reduced form of a study, and `--scale`, one without a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gridrun.errors import GridError
from gridrun.grid.layers import Layer, LayerReader, read_layer, read_seeds
from gridrun.grid.pick import Pick, read_pick
from gridrun.grid.settings import Missing, Settings, epoch_keys, option, set_option
from gridrun.grid.yaml import Node, locate, read_name, shown
from trainer.registry import did_you_mean

PROFILE_KEYS = ("set", "scale", "exclude", "seeds")
SCALE_KEYS = ("epochs", "train")
UNNAMED = "reduced"
"""What a form is called that only `--scale` makes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """What makes a reduced row of a row of the study."""

    name: str
    under: str
    """Says in error messages what the rows are changed by."""
    layers: tuple[Layer, ...] = ()
    """Settings of every row, over those of the axes."""
    epochs: int | float | None = None
    """A count, or as a float below 1 the share of each row's own."""
    exclude: tuple[tuple[Node, Pick], ...] = ()
    """Rows that are left out, picked by what they are in the study."""
    seeds: tuple[int, ...] | None = None
    """Of every row; None leaves them as they are."""

    def over(self, other: Profile) -> Profile:
        """Return the other one with this one's word last."""
        return Profile(
            name=other.name,
            under=other.under,
            layers=(*other.layers, *self.layers),
            epochs=self.epochs or other.epochs,
            exclude=(*other.exclude, *self.exclude),
            seeds=self.seeds or other.seeds,
        )

    def scale_epochs(self, settings: Settings, but_not: Collection[str] = ()) -> None:
        """Scale the number of epochs, and with it all that is counted in epochs but the keys `but_not`."""
        before: Any = option(settings, "epochs")
        if self.epochs is None or type(before) is not int or before < 1:
            return  # reading the config will say what is wrong
        share = isinstance(self.epochs, float)
        settings["epochs"] = max(1, round(before * self.epochs)) if share else self.epochs
        factor = settings["epochs"] / before
        for key in epoch_keys(settings):
            value = option(settings, key)
            if key not in but_not and not isinstance(value, Missing):
                set_option(settings, key, _scaled(value, factor))


def _scaled(value: Any, factor: float) -> Any:
    """Scale a number of epochs, a list of them, or the first of each pair; leave what is none of these."""
    if isinstance(value, (list, tuple)):
        return [_scaled_item(item, factor) for item in value]
    return float(f"{value * factor:.12g}") if type(value) in (int, float) else value


def _scaled_item(item: Any, factor: float) -> Any:
    pair = isinstance(item, (list, tuple))
    return [*_scaled(item[:1], factor), *item[1:]] if pair else _scaled(item, factor)


@dataclass(frozen=True, slots=True)
class ProfileReader:
    """Reads what `profiles` and `--scale` hold."""

    read: LayerReader
    known: Collection[str]
    """Every option there is."""

    def profiles(self, roots: Sequence[Node]) -> dict[str, Profile]:
        """Return the profiles of some files by name; in a later file, a profile is said further.

        Raises:
            GridError: one is not understood.
        """
        found: dict[str, Profile] = {}
        for root in roots:
            if "profiles" not in root.value:
                continue
            for name, node in root.child("profiles").mapping("a mapping of names to profiles").items():
                profile = self._profile(read_name(Node(node.file, node.key, locate(name))), node)
                found[name] = profile.over(found[name]) if name in found else profile
        return found

    def _profile(self, name: str, node: Node) -> Profile:
        given = node.options(PROFILE_KEYS)
        if not given:
            raise node.error(f"says nothing; give it one of {', '.join(PROFILE_KEYS)}")
        scale = given["scale"].options(SCALE_KEYS) if "scale" in given else {}
        scaled = self._scaled(name, f"under the profile {name!r}", scale)
        settings = (self.read.settings(given["set"]),) if "set" in given else ()
        excluded = given["exclude"].items("a list of mappings") if "exclude" in given else []
        return dataclasses.replace(
            scaled,
            layers=(*settings, *scaled.layers),
            exclude=tuple((item, read_pick(item, {*self.known, "seeds"})) for item in excluded),
            seeds=read_seeds(given["seeds"]) if "seeds" in given else None,
        )

    def scale(self, scale: Mapping[str, Any]) -> Profile:
        """Read what the command line gives to `--scale`. Raises GridError."""
        given = Node("--scale", "", locate(dict(scale))).options(SCALE_KEYS)
        return self._scaled(UNNAMED, "under --scale", given)

    def _scaled(self, name: str, under: str, given: Mapping[str, Node]) -> Profile:
        layers: tuple[Layer, ...] = ()
        if "train" in given:
            node = given["train"]
            if type(node.value) is not int or node.value < 1:
                raise node.error(f"must be a number of training images, got {shown(node.located)}")
            layers = (read_layer(node, {"train_size": node}, self.read.known),)
        epochs = _epochs(given["epochs"]) if "epochs" in given else None
        return Profile(name=name, under=under, layers=layers, epochs=epochs)


def _epochs(node: Node) -> int | float:
    value: Any = node.value
    if (type(value) is int and value >= 1) or (type(value) is float and 0 < value < 1):
        number: int | float = value
        return number
    wanted = "a factor below 1, such as 0.05, or a number of epochs"
    raise node.error(f"must be {wanted}, got {shown(node.located)}")


def choose(
    profiles: Mapping[str, Profile], name: str | None, scale: Profile | None, file: Any
) -> Profile | None:
    """Return the profile called `name`, scaled further by `scale`; None where neither is asked for.

    Raises:
        GridError: the grid has no such profile.
    """
    if name is None:
        return scale
    if name not in profiles:
        raise GridError(file, 0, "", f"has no profile {name!r}.{did_you_mean(name, profiles)}")
    return scale.over(profiles[name]) if scale else profiles[name]
