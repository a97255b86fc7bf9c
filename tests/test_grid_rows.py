"""Rows of random grids: each is the config that its own settings give, with that config's id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import trainer
from gridrun.errors import GridError
from gridrun.grid import load_grid
from gridrun.trial import Trial, digest
from trainer import TrainConfig

GOOD: dict[str, list[Any]] = {
    "lr": [0.1, 0.2, 3],
    "weight_decay": [0, 1e-4, 5e-4],
    "batch_size": [32, 64, 128],
    "subdivision": [1, 2, 4],
    "precision": ["fp32", "pure_fp16"],
    "num_gpus": [2, 3],
    "epochs": [8, 10],
    "warmup": [None, {"name": "linear", "epochs": 3}],
    "schedule": ["cosine", {"name": "multistep", "milestones": [2, 3]}],
    "dataset": ["digits", "cifar10", {"name": "fashion_mnist"}],
    "train_size": [None, 500],
    "val_ratio": [0, 0.1],
    "model": [{"name": "resnet", "depth": 20}, {"name": "wrn", "depth": 16, "widening_factor": 2}],
    "model.depth": [8, 20, 32],
    "model.block_type": ["basic", "bottleneck"],
    "augmentation.random_crop": [True, False],
    "augmentation.cutout.size": [8, 16],
    "label_smoothing": [0, 0.1],
    "eval_every": [1, 7],
}
BAD: dict[str, list[Any]] = {  # on its own, or beside some of the above
    "lr": [70000, 0],
    "batch_size": [2000, 96],
    "subdivision": [3],
    "epochs": [2, "10"],
    "warmup": [{"name": "linear", "epochs": 9}],
    "warmup.epochs": [1],
    "schedule": [{"name": "multistep", "milestones": [8]}, "multistep"],
    "schedule.milestones": [[1]],
    "train_size": [1400, 20000],
    "split_seed": [1],
    "sync_bn": [True],
    "model": ["resnet"],
    "model.depth": [9, 29],
    "augmentation.mixup": [True],
    "augmentation.cutmix": [True],
}
DERIVED: dict[str, Any] = {
    "lr": "0.1 * batch_size / 128",
    "weight_decay": "lr / 1000",
    "schedule.milestones": ["0.5 * epochs", "0.75 * epochs"],
    "warmup.epochs": "epochs / 5",
    "batch_size": "64 * subdivision",
    "subdivision": "model.depth - 18",
}
BASE = {"dataset": "digits", "model": {"name": "resnet", "depth": 20}, "epochs": 10}


@st.composite
def cases(draw: st.DrawFn, keys: list[str]) -> dict[str, Any]:
    about = {
        "name": draw(st.none() | st.sampled_from("ab")),
        "seeds": draw(st.none() | st.integers(1, 3)),
        "published": draw(st.none() | st.just({"test_error": 5.0})),
    }
    values = {key: draw(st.sampled_from(GOOD[key])) for key in keys}
    return {**values, **{key: value for key, value in about.items() if value is not None}}


@st.composite
def axes(draw: st.DrawFn, keys: list[str]) -> dict[str, Any]:
    if len(keys) > 1 and draw(st.booleans()):
        return {"cases": draw(st.lists(cases(keys), min_size=1, max_size=3))}
    count = draw(st.integers(2, 3 if all(len(GOOD[key]) > 2 for key in keys) else 2))
    lists = {key: draw(st.permutations(GOOD[key]))[:count] for key in keys}
    if draw(st.integers(0, 7)) == 7 and (faulty := BAD.keys() & lists.keys()):
        key = draw(st.sampled_from(sorted(faulty)))
        lists[key][draw(st.integers(0, count - 1))] = draw(st.sampled_from(BAD[key]))
    return {"zip": lists} if len(keys) > 1 else lists


@st.composite
def grids(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(st.lists(st.sampled_from(sorted(GOOD)), min_size=3, max_size=6, unique=True))
    joined = [keys[:2], *([key] for key in keys[2:])] if draw(st.booleans()) else [[key] for key in keys]
    excludable = [key for key in keys if not isinstance(GOOD[key][-1], dict)] or ["lr"]
    pick = st.lists(st.sampled_from(excludable), min_size=1, max_size=2, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({key: st.sampled_from(GOOD[key]) for key in chosen})
    )
    derived = draw(st.lists(st.sampled_from(sorted(DERIVED.keys() - keys)), max_size=2, unique=True))
    content = {
        "base": BASE,
        "axes": draw(st.permutations([draw(axes(of_axis)) for of_axis in joined])),
        "exclude": draw(st.lists(pick | st.just({"name": "a"}), max_size=1)),
        "extra": draw(st.lists(cases(["lr", "eval_every"]), max_size=1)),
        "derive": {key: DERIVED[key] for key in derived},
    }
    return {key: value for key, value in content.items() if value}


OVERRIDES = st.just({}) | st.sampled_from(sorted(BAD)).flatmap(
    lambda key: st.fixed_dictionaries({key: st.sampled_from([*BAD[key], *GOOD.get(key, [])])})
)


@settings(max_examples=100)
@given(grids(), OVERRIDES)
def test_every_row_is_a_config_that_reads_back_the_same_with_the_same_id(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any], overrides: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "grid.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    try:
        grid = load_grid(path, overrides)
    except GridError:
        return
    for row in grid.rows:
        assert row.config == TrainConfig.from_dict(row.config.canonical())
        assert row.config_id == digest({"config": row.config.canonical(), "version": trainer.VERSION})
        assert [trial.trial_id for trial in row.trials] == [
            Trial(row.config, seed).trial_id for seed in row.seeds
        ]


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        ({"lr": [0.1, 70000], "precision": ["fp32", "pure_fp16"]}, "lr: must be at most 65504"),
        ({"subdivision": [1, 3], "batch_size": [96, 128]}, "subdivision: must divide batch_size (128)"),
        ({"warmup": [None, {"name": "linear", "epochs": 5}], "epochs": [10, 4]}, "must be below epochs (4)"),
        (
            {"schedule": ["cosine", {"name": "multistep", "milestones": [8]}], "epochs": [10, 4]},
            "must be below epochs (4)",
        ),
        ({"train_size": [None, 1500], "dataset": ["cifar10", "digits"]}, "must be below the 1442"),
        ({"split_seed": [0, 1], "val_ratio": [0.1, 0.0]}, "split_seed: has no effect"),
        ({"sync_bn": [False, True], "num_gpus": [2, 1]}, "sync_bn: has no effect"),
        ({"batch_size": [128, 1000], "num_gpus": [1, 2]}, "1000 on each of 2 GPUs is larger"),
        ({"batch_size": [128, 2000], "dataset": ["cifar10", "digits"]}, "2000 is larger"),
        (
            {"model": [{"name": "resnet", "depth": 20}, {"name": "pyramidnet_imagenet", "depth": 18}]}
            | {"dataset": ["imagenet", "digits"]},
            "model",
        ),
        (
            {"augmentation": [{}, {"random_resized_crop": True}], "dataset": ["imagenet", "digits"]},
            "augmentation.random_resized_crop: is for images that are streamed",
        ),
    ],
)
def test_two_options_that_only_fail_together_are_refused(
    tmp_path: Path, axes: dict[str, Any], problem: str
) -> None:
    """Every value is fine beside the first value of the other axis: only one row of four is wrong."""
    path = tmp_path / "grid.yaml"
    content = {"base": {**BASE, "batch_size": 64}, "axes": [axes, {"weight_decay": [0, 1e-4, 1e-3]}]}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(GridError, match=re.escape(problem)):
        load_grid(path)
