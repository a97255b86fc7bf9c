"""Trials and rows in words, for a line in a terminal, a note below a table or the legend of a figure."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from gridrun.grid.settings import Missing, config_option
from gridrun.metrics import COMPUTED, format_column
from gridrun.text import format_option
from gridrun.trial import Trial
from trainer import ConfigError, TrainConfig
from trainer.datasets import DatasetOptions
from trainer.models import ModelOptions
from trainer.schema import canonical, defaults, field_types, read


def describe(trial: Trial) -> str:
    """Describe a trial: its config (`describe_config`) and the seed."""
    return f"{describe_config(trial.config)}, seed {trial.seed}"


def tell_apart(trials: Iterable[Trial], names: Mapping[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """Return in words what trials share, and by id what is left of each: `with warm-up: lr 0.2, seed 0`.

    `names` has the names of the cases that trials belong to, by trial id.
    """
    trials = tuple(trials)
    configs = {trial.config_id: describe_config(trial.config) for trial in trials}
    seeds = {trial.seed: f"seed {trial.seed}" for trial in trials}
    alike, own = what_differs(list(configs.values()))
    if len(trials) > 1 and len(configs) == 1:
        alike, own = own[0], [""]
    if len(trials) > 1 and len(seeds) == 1:
        alike = ", ".join(filter(None, (alike, *seeds.values())))
        seeds = dict.fromkeys(seeds, "")
    texts = dict(zip(configs, own, strict=True))
    found = {}
    for trial in trials:
        text = ", ".join(filter(None, (texts[trial.config_id], seeds[trial.seed])))
        name = (names or {}).get(trial.trial_id)
        found[trial.trial_id] = ": ".join(filter(None, (name, text)))
    return alike, found


def what_differs(texts: Sequence[str]) -> tuple[str, list[str]]:
    """Return what descriptions share, and what is left of each: `batch size 32, cosine`.

    They are lists with commas; those in parentheses separate nothing.
    """
    if len(texts) < 2:
        return "", list(texts)
    parts = [re.split(r", (?![^(]*\))", text) for text in texts]
    sets = [set(own) for own in parts]
    shared = [part for part in parts[0] if all(part in own for own in sets)]
    return ", ".join(shared), [", ".join(p for p in own if p not in shared) for own in parts]


def describe_config(config: TrainConfig, fields: Collection[str] | None = None) -> str:
    """Describe a config: what every one has, and every option that is not at its default.

    `fields` are those to describe; None: all.
    """
    settings = config.canonical()  # without options at their defaults
    always = {
        "batch_size": config.batch_size,
        "lr": config.lr,
        "schedule": {"name": config.schedule.name},
        "epochs": config.epochs,
    }
    given = always | settings
    rest = [key for key in settings if key not in (*_ORDER, "dataset", "model", "augmentation")]
    options = {key: given[key] for key in _ORDER if key in given}
    options |= {f"augmentation.{name}": inside for name, inside in settings.get("augmentation", {}).items()}
    options |= {key: settings[key] for key in rest}
    labels = {"dataset": config.dataset, "model": config.model}
    wanted = labels.keys() | {key.split(".")[0] for key in options} if fields is None else set(fields)
    subject = " ".join(_label_and_options(labels[field]) for field in labels if field in wanted)
    others = describe_options({key: value for key, value in options.items() if key.split(".")[0] in wanted})
    return ", ".join(filter(None, (subject, others)))


def describe_shared(configs: Sequence[TrainConfig]) -> str:
    """Describe what configs have in common: `CIFAR-10 ResNet-preact-20, cosine, 200 epochs`."""
    shared = []
    for field in field_types(TrainConfig):
        # Rows mostly share the objects of equal options: only one of each is compared.
        values = {id(value): value for value in map(operator.attrgetter(field), configs)}
        first, *others = values.values()
        if all(other == first for other in others):
            shared.append(field)
    return describe_config(configs[0], shared)


_ORDER = ("optimizer", "batch_size", "num_gpus", "lr", "schedule", "warmup", "epochs", "precision")


def describe_options(options: Mapping[str, Any]) -> str:
    """Describe options by dotted key: `batch size 128, lr 0.1, cosine, 200 epochs`."""
    return ", ".join(describe_option(key, value) for key, value in options.items())


def describe_option(key: str, value: Any) -> str:
    """Describe one option: `batch size 128`, `cosine`, `200 epochs`, `no nesterov`, `cutout (size 16)`.

    The key may also be `name` or a computed column. A mapping is an option with options of its own, which
    follow in parentheses.
    """
    if isinstance(value, Mapping):
        inside = {name: item for name, item in value.items() if name != "name"}
        whole = describe_option(key, value["name"]) if "name" in value else _words(key)
        return f"{whole} ({describe_options(inside)})" if inside else whole
    words = _words(key)
    if value is True:
        return words
    if value is None and "." in key:  # no such option, which is not the same as an option that is off
        return f"{words} none"
    if value is False or value is None:
        return words.removeprefix("no ") if words.startswith("no ") else f"no {words}"
    text = format_column(key, value)
    if key == "warmup":
        return f"{text} warm-up"
    if key in _COUNTED:
        return f"{text} {_COUNTED[key]}{'' if value == 1 else 's'}"
    return text if key in _CLEAR_WITHOUT_KEY and isinstance(value, str) else f"{words} {text}"


_COUNTED = {"epochs": "epoch", "num_gpus": "GPU"}
"""Keys whose value counts something, and what it counts."""
_CLEAR_WITHOUT_KEY = ("name", "model", "dataset", "optimizer", "schedule", "precision")
"""Keys that are left out where their value is text: `cosine`, not `schedule cosine`."""


def _words(key: str) -> str:
    """Return a key in words: `model.depth` is the `depth`, `augmentation.cutout.size` the `cutout size`."""
    _, *inside = key.split(".")
    text = " ".join(inside) or key
    return " ".join(_ABBREVIATIONS.get(word, word) for word in text.replace("_", " ").split(" "))


_ABBREVIATIONS = {"bn": "BN", "tta": "TTA"}


def describe_tta(tta: str, least_confident: float) -> str:
    """Describe how test images were augmented; empty if they were not."""
    if tta == "none":
        return ""
    whose = f" of the {100 * least_confident:g} % least confident images (transductive)"
    return f"with test-time augmentation ({tta})" + (whose if least_confident < 1 else "")


def column_value(config: TrainConfig, name: str | None, column: str) -> Any:
    """Return the value of a row in a column of a table, or along an axis of a figure.

    None where the config has no such option. For `augmentation`, the names that are switched on; for `name`
    the model's label where the row has no name.
    """
    if column == "name":
        return name or config.model.label
    if column in COMPUTED:
        return COMPUTED[column](config)
    value = config_option(config, column)
    if value is not Missing.ABSENT:
        return value
    entries = getattr(config, column, None)
    return [options.name for options in entries] if isinstance(entries, tuple) and entries else None


def varying_columns(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return those of the columns in which the rows, each a mapping from column to value, differ."""
    return [column for column in columns if any(row[column] != rows[0][column] for row in rows)]


@functools.lru_cache(maxsize=2**12)
def _label_and_options(options: ModelOptions | DatasetOptions) -> str:
    """Return the label of a model or data set, then the options that the label does not show."""
    hidden = {name: value for name, value in canonical(options).items() if not _shows_in_label(options, name)}
    return f"{options.label} ({describe_options(hidden)})" if hidden else options.label


def _shows_in_label(options: ModelOptions | DatasetOptions, option: str) -> bool:
    """Return whether the label would change if the option were at its default."""
    if option not in defaults(type(options)):
        return True
    try:
        others = {name: value for name, value in canonical(options).items() if name != option}
        return read(type(options), others).label != options.label
    except ConfigError:  # this option cannot be left out alone
        return format_option(getattr(options, option)) in options.label
