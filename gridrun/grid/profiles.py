"""Profiles: named ways to run a smaller version of a study, and `--scale`, a profile without a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gridrun.errors import GridError
from gridrun.grid.layers import Layer, read_layer, read_seeds, read_settings
from gridrun.grid.node import Node, locate, read_or
from gridrun.grid.pick import Pick, read_pick
from gridrun.grid.settings import Missing, Settings, epoch_keys, option, set_option
from trainer import TrainConfig
from trainer.registry import did_you_mean

PROFILE_KEYS = {
    "set": "Options of the trainer for every row; they win over the axes.",
    "scale": "Fewer epochs and fewer training images.",
    "exclude": "Rows that make no sense here, picked by their values in the full study.",
    "seeds": "Seeds for every row.",
}
"""Keys of a profile, and what each means."""
SCALE_KEYS = {
    "epochs": "A share below 1 of each row's epochs, or a whole number of epochs.",
    "train": "A share below 1 of each row's training images, or a number of them.",
}
"""Keys of `scale`, in a profile and of `--scale`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """How each row of the study becomes a reduced row."""

    name: str
    under: str
    """Text for error messages: under which profile a row failed."""
    layers: tuple[Layer, ...] = ()
    """Settings for every row, over those of the axes."""
    epochs: int | float | None = None
    """A whole number of epochs, or a share below 1 of each row's own."""
    train_share: float | None = None
    """A share below 1 of each row's training images. A number of them is a setting of `layers`."""
    exclude: tuple[tuple[Node, Pick], ...] = ()
    """Rows to leave out, picked by their values in the study."""
    seeds: tuple[int, ...] | None = None
    """Seeds for every row; None: each row keeps its own."""

    def over(self, other: Profile) -> Profile:
        """Return the other profile, with this one's values over it."""
        return Profile(
            name=other.name,
            under=other.under,
            layers=(*other.layers, *self.layers),
            epochs=self.epochs or other.epochs,
            train_share=self.train_share or other.train_share,
            exclude=(*other.exclude, *self.exclude),
            seeds=self.seeds or other.seeds,
        )

    def scale_images(self, config: TrainConfig) -> TrainConfig:
        """Return a row's config with fewer training images. Raises ConfigError: it cannot be trained."""
        if self.train_share is None:
            return config
        return dataclasses.replace(config, train_size=max(1, round(config.num_train * self.train_share)))

    def scale_epochs(self, settings: Settings, but_not: Collection[str] = ()) -> None:
        """Scale `epochs`, and every option counted in epochs, except the keys in `but_not`."""
        before: Any = option(settings, "epochs")
        if self.epochs is None or type(before) not in (int, float) or before <= 0:
            return  # an error when the config is read
        share = isinstance(self.epochs, float)
        settings["epochs"] = max(1, round(before * self.epochs)) if share else self.epochs
        factor = settings["epochs"] / before
        for key in epoch_keys(settings):
            value = option(settings, key)
            if key not in but_not and not isinstance(value, Missing):
                set_option(settings, key, _scaled(value, factor))


def _scaled(value: Any, factor: float) -> Any:
    """Scale a number of epochs, a list of numbers, or the first number of each pair in a list."""
    if isinstance(value, (list, tuple)):
        return [_scaled_item(item, factor) for item in value]
    return float(f"{value * factor:.12g}") if type(value) in (int, float) else value


def _scaled_item(item: Any, factor: float) -> Any:
    pair = isinstance(item, (list, tuple))
    return [*_scaled(item[:1], factor), *item[1:]] if pair else _scaled(item, factor)


def read_profiles(roots: Sequence[Node]) -> dict[str, Profile]:
    """Read `profiles` of several files. Where two files have the same profile, the later one adds to it."""
    found: dict[str, Profile] = {}
    for given in [root.child("profiles") for root in roots if "profiles" in root.value]:
        for key, node in given.mapping("a mapping of names to profiles").items():
            name = Node(node.file, node.key, locate(key)).name()
            profile = _read_profile(name, node)
            found[name] = profile.over(found[name]) if name in found else profile
    return found


def _read_profile(name: str, node: Node) -> Profile:
    given = node.options(PROFILE_KEYS)
    if not given:
        raise node.error(f"is empty; give it one of {', '.join(PROFILE_KEYS)}")
    scaled = _read_scaled(name, f"under the profile {name!r}", given.get("scale"))
    settings = (read_settings(given["set"]),) if "set" in given else ()
    excluded = read_or(given, "exclude", Node.mappings, [])
    return dataclasses.replace(
        scaled,
        layers=(*settings, *scaled.layers),
        exclude=tuple((item, read_pick(item, also=["seeds"])) for item in excluded),
        seeds=read_or(given, "seeds", read_seeds, None),
    )


def read_scale(scale: Mapping[str, Any]) -> Profile:
    """Read the values of `--scale`. Raises GridError."""
    return _read_scaled("reduced", "under --scale", Node("--scale", "", locate(dict(scale))))


def _read_scaled(name: str, under: str, node: Node | None) -> Profile:
    given = node.options(SCALE_KEYS) if node else {}
    train = given.get("train")
    images = _read_share(train, "training images") if train else None
    return Profile(
        name=name,
        under=under,
        layers=(read_layer(train, {"train_size": train}),) if train and type(images) is int else (),
        epochs=read_or(given, "epochs", lambda node: _read_share(node, "epochs"), None),
        train_share=images if isinstance(images, float) else None,
    )


def _read_share(node: Node, what: str) -> int | float:
    value: int | float = node.value
    if (type(value) is int and value >= 1) or (type(value) is float and 0 < value < 1):
        return value
    raise node.must_be(f"a factor below 1, such as 0.05, or a number of {what}")


def choose(
    profiles: Mapping[str, Profile], name: str | None, scale: Profile | None, file: Any
) -> Profile | None:
    """Return the profile `name`, scaled further by `scale`; None without both. Raises GridError: unknown."""
    if name is None:
        return scale
    if name not in profiles:
        raise GridError(file, 0, "", f"has no profile {name!r}.{did_you_mean(name, profiles)}")
    return scale.over(profiles[name]) if scale else profiles[name]
