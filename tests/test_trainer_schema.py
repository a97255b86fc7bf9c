"""Plain data to dataclasses and back: types, YAML's traps, shortest form, columns."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from any_config import accepted, configs
from hypothesis import given
from hypothesis import strategies as st

from trainer import TrainConfig
from trainer.augmentations import AugmentationOptions, augmentations
from trainer.datasets import datasets
from trainer.models import models
from trainer.optimizers import optimizers
from trainer.registry import Options, did_you_mean
from trainer.schedules import ScheduleOptions, schedules
from trainer.schema import MAX_FLOAT, ConfigError, canonical, flatten, read, read_options
from trainer.selections import selections
from trainer.warmups import warmups


@dataclass(frozen=True, kw_only=True, slots=True)
class Every:
    """One option of each type that a config may use."""

    whole: int
    number: float = 0.5
    flag: bool = False
    text: str = "a"
    choice: Literal["small", "large"] = "small"
    maybe: float | None = None
    pair: tuple[int, float] = (1, 2.0)
    several: tuple[float, ...] = ()
    schedule: ScheduleOptions = field(default_factory=lambda: schedules.get("cosine")())
    augmentation: tuple[AugmentationOptions, ...] = ()


def refused(**values: Any) -> ConfigError:
    """Return the error that reading `values` ends in."""
    with pytest.raises(ConfigError) as caught:
        read(Every, {"whole": 1} | values)
    return caught.value


# --- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given_value", "value"),
    [
        ("whole", -3, -3),
        ("whole", 200.0, 200),
        ("number", 2, 2.0),
        ("number", -0.0, 0.0),
        ("flag", True, True),
        ("text", "1", "1"),
        ("choice", "large", "large"),
        ("maybe", None, None),
        ("maybe", 3, 3.0),
        ("pair", [2, 3], (2, 3.0)),
        ("several", [], ()),
        ("several", [1, 2.5], (1.0, 2.5)),
        ("schedule", "constant", schedules.get("constant")()),
        ("schedule", {"name": "constant"}, schedules.get("constant")()),
        ("augmentation", None, ()),
        ("augmentation", {"random_crop": True}, (augmentations.get("random_crop")(),)),
        ("augmentation", {"random_crop": {}}, (augmentations.get("random_crop")(),)),
        ("augmentation", {"random_crop": False}, ()),
        ("augmentation", {"random_crop": None}, ()),
        (
            "augmentation",
            {"random_crop": {"padding": 2}},
            (read(augmentations.get("random_crop"), {"padding": 2}),),
        ),
    ],
)
def test_each_type_is_brought_to_its_one_form(name, given_value, value):
    found = getattr(read(Every, {"whole": 1} | {name: given_value}), name)
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value)  # tells 0.0 from -0.0 and (1,) from (1.0,)


@pytest.mark.parametrize(
    ("values", "key", "problem"),
    [
        ({"numbr": 1}, "numbr", "unknown option. Did you mean 'number'?"),
        ({"whole": 2.5}, "whole", "must be a whole number, got 2.5"),
        ({"whole": True}, "whole", "must be a whole number, got true"),
        ({"whole": float("nan")}, "whole", "must be a whole number, got nan"),
        ({"whole": 2**63}, "whole", "is too large"),
        ({"whole": 1e300}, "whole", "is too large"),
        ({"number": 10**400}, "number", "is too large"),
        ({"number": float("nan")}, "number", "must be finite, got nan"),
        ({"number": 3.5e38}, "number", "must be at most 3.403e+38, the largest float32, got 3.5e+38"),
        ({"number": float("-inf")}, "number", "must be finite, got -inf"),
        ({"number": False}, "number", "must be a number, got false"),
        ({"number": None}, "number", "must be a number, got null"),
        ({"number": [1]}, "number", "must be a number, got [1]"),
        ({"number": "much"}, "number", "must be a number, got the text 'much'"),
        ({"maybe": "much"}, "maybe", "must be a number, got the text 'much'"),
        ({"flag": 1}, "flag", "must be true or false, got 1"),
        ({"flag": "true"}, "flag", "must be true or false, got the text 'true'"),
        (
            {"text": False},
            "text",
            "must be text, got false (YAML reads no and off so; quote it to mean text)",
        ),
        ({"text": 1}, "text", "must be text, got 1"),
        ({"choice": "smal"}, "choice", "unknown choice 'smal'. Did you mean 'small'?"),
        ({"choice": "tiny house"}, "choice", "unknown choice 'tiny house'. Choose from: large, small."),
        ({"choice": True}, "choice", "must be one of small, large, got true"),
        ({"pair": [1]}, "pair", "must have 2 items, got 1"),
        ({"pair": [1, 2, 3]}, "pair", "must have 2 items, got 3"),
        ({"pair": 1}, "pair", "must be a list, got 1"),
        ({"several": "12"}, "several", "must be a list, got the text '12'"),
        ({"several": [1, "2"]}, "several", "must be a number, got the text '2'"),
        ({"schedule": "cosin"}, "schedule", "unknown schedule 'cosin'. Did you mean 'cosine'?"),
        ({"schedule": {"name": "cosin", "min_factor": 0}}, "schedule.name", "Did you mean 'cosine'?"),
        (
            {"schedule": {"min_factor": 0}},
            "schedule",
            "must be the name of a schedule, or a mapping with a `name`",
        ),
        ({"schedule": None}, "schedule", "must be the name of a schedule"),
        (
            {"schedule": {"name": "cosine", "min_facto": 0}},
            "schedule.min_facto",
            "Did you mean 'min_factor'?",
        ),
        ({"schedule": {"name": "cosine", "min_factor": 2}}, "schedule.min_factor", "must be in 0..1, got 2"),
        ({"schedule": "multistep"}, "schedule.milestones", "is required"),
        (
            {"augmentation": ["random_crop"]},
            "augmentation",
            "must be a mapping from augmentation to its options",
        ),
        ({"augmentation": {"random_crp": True}}, "augmentation.random_crp", "Did you mean 'random_crop'?"),
        ({"augmentation": {"random_crp": False}}, "augmentation.random_crp", "Did you mean 'random_crop'?"),
        (
            {"augmentation": {"random_crop": 4}},
            "augmentation.random_crop",
            "must be true, false or a mapping",
        ),
        (
            {"augmentation": {"random_crop": {"pading": 4}}},
            "augmentation.random_crop.pading",
            "Did you mean 'padding'?",
        ),
        (
            {"augmentation": {"random_crop": {"padding": -1}}},
            "augmentation.random_crop.padding",
            "must be >= 0, got -1",
        ),
    ],
)
def test_what_is_wrong_is_named(values, key, problem):
    error = refused(**values)
    assert error.key == key
    assert problem in error.problem
    assert str(error) == f"{key}: {error.problem}"


def test_a_missing_option_is_named():
    with pytest.raises(ConfigError, match=r"^whole: is required$"):
        read(Every, {})


def test_errors_are_named_from_where_the_options_stand():
    with pytest.raises(ConfigError, match=r"^base\.model\.depth: is required$"):
        read_options(models, "resnet", "base.model")


@pytest.mark.parametrize("text", ["1e-3", "1e-5", "2.5e-7", "1e3", "5E-4"])
def test_a_number_that_yaml_reads_as_text_is_shown_as_yaml_wants_it(text):
    value = yaml.safe_load(text)
    if not isinstance(value, str):
        value = str(value)  # written in quotes
    advice = refused(number=value).problem.split("write ")[1].rstrip(")")
    assert yaml.safe_load(advice) == float(text)


@given(number=st.floats(-MAX_FLOAT, MAX_FLOAT))
def test_the_advice_can_be_taken(number):
    advice = refused(number=repr(number)).problem.split("write ")[1].rstrip(")")
    assert read(Every, {"whole": 1, "number": yaml.safe_load(advice)}).number == number


@given(number=st.integers(-(10**15), 10**15))
def test_the_advice_for_a_whole_number_is_one(number):
    advice = refused(whole=str(number)).problem.split("write ")[1].rstrip(")")
    assert yaml.safe_load(advice) == number
    assert "." not in advice


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "1e300", ""])
def test_no_advice_towards_what_is_no_number(text):
    assert "write" not in refused(number=text).problem


def test_configs_are_frozen():
    config = read(Every, {"whole": 1})
    for target, name in ((config, "whole"), (config.schedule, "min_factor")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(target, name, 2)


# --- writing -----------------------------------------------------------------------------------


def test_canonical_leaves_defaults_out():
    assert canonical(read(Every, {"whole": 1})) == {"whole": 1}
    given_values = {
        "whole": 2,
        "number": 0.5,
        "choice": "small",
        "schedule": {"name": "cosine", "min_factor": 0.001},
        "augmentation": {"random_crop": {"padding": 4}, "horizontal_flip": False},
    }
    assert canonical(read(Every, given_values)) == {"whole": 2, "augmentation": {"random_crop": {}}}


def test_canonical_writes_plain_values():
    config = read(
        Every,
        {
            "whole": 2,
            "pair": (3, 4),
            "schedule": {"name": "multistep", "milestones": [1]},
            "augmentation": {"random_crop": {"padding": 1}, "horizontal_flip": True},
        },
    )
    assert canonical(config) == {
        "whole": 2,
        "pair": [3, 4.0],
        "schedule": {"name": "multistep", "milestones": [1.0]},
        "augmentation": {"horizontal_flip": {}, "random_crop": {"padding": 1}},
    }


def test_the_order_of_augmentations_is_of_no_account():
    one, other = {"random_crop": True, "horizontal_flip": True}, {"horizontal_flip": {}, "random_crop": {}}
    assert read(Every, {"whole": 1, "augmentation": one}) == read(Every, {"whole": 1, "augmentation": other})


def test_flatten_gives_every_value_a_dotted_name():
    config = read(
        Every,
        {
            "whole": 1,
            "several": [1],
            "schedule": {"name": "multistep", "milestones": [1]},
            "augmentation": {"random_crop": True},
        },
    )
    assert flatten(config) == {
        "whole": 1,
        "number": 0.5,
        "flag": False,
        "text": "a",
        "choice": "small",
        "maybe": None,
        "pair": [1, 2.0],
        "several": [1.0],
        "schedule": "multistep",
        "schedule.milestones": [1.0],
        "schedule.gamma": 0.1,
        "augmentation.random_crop": True,
        "augmentation.random_crop.padding": 4,
        "augmentation.random_crop.padding_mode": "zero",
    }


@given(values=configs())
def test_the_shortest_form_reads_back_as_the_same_config(values):
    config = TrainConfig.from_dict(values)
    short = config.canonical()
    again = TrainConfig.from_dict(yaml.safe_load(yaml.safe_dump(short)))
    assert again == config
    assert again.canonical() == short
    assert again.flat() == config.flat()
    for name in set(short) - {"model", "epochs"}:  # nothing that could be left out
        rest = {key: short[key] for key in short if key != name}
        assert not accepted(rest) or TrainConfig.from_dict(rest) != config


# --- registries --------------------------------------------------------------------------------


def test_a_name_is_registered_once():
    class Second(ScheduleOptions):
        def factor(self, epoch: float, start: float, end: float) -> float:
            return 1.0

    before = schedules.get("cosine")
    with pytest.raises(ValueError, match="schedule 'cosine' is registered twice"):
        schedules.register("cosine")(Second)
    assert schedules.get("cosine") is before


@pytest.mark.parametrize(
    "registry",
    [models, datasets, augmentations, optimizers, schedules, selections, warmups],
    ids=lambda registry: registry.kind,
)
def test_every_registered_class_is_frozen_options(registry):
    assert registry.names() == sorted(registry.names())
    for name in registry.names():
        cls = registry.get(name)
        assert issubclass(cls, Options)
        assert (cls.name, cls.kind, cls.registry) == (name, registry.kind, registry)
        assert cls.__dataclass_params__.frozen
        assert cls.__doc__


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'resnt'\. Did you mean 'resnet'"):
        models.get("resnt")
    assert did_you_mean("x", ["b", "a"]) == " Choose from: a, b."
    assert did_you_mean("x", []) == ""


def test_reading_a_config_imports_nothing_heavy():
    code = """
import sys
from trainer import TrainConfig
TrainConfig.from_dict({"model": {"name": "resnet", "depth": 20}, "epochs": 1, "dataset": "cifar10",
                       "augmentation": {"random_crop": True}}).flat()
heavy = {"torch", "numpy", "torchvision", "sklearn", "ray", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
