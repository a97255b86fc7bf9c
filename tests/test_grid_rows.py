"""Rows of a grid: each is the config that its own settings give, with that config's id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from any_config import configs
from hypothesis import given, settings
from hypothesis import strategies as st

import trainer
from gridrun.errors import GridError
from gridrun.grid import load_grid
from gridrun.trial import Trial, digest
from trainer import TrainConfig

BASE = {"dataset": "digits", "model": {"name": "resnet", "depth": 20}, "epochs": 10}


@settings(max_examples=50)
@given(st.lists(configs(), min_size=1, max_size=5, unique_by=TrainConfig.from_dict))
def test_every_row_is_the_config_of_its_settings_with_that_config_s_id(
    tmp_path_factory: pytest.TempPathFactory, cases: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "grid.yaml"
    path.write_text(yaml.safe_dump({"axes": [{"cases": cases}], "seeds": 2}))
    rows = load_grid(path).rows
    assert [row.config for row in rows] == [TrainConfig.from_dict(case) for case in cases]
    for row in rows:
        assert row.config_id == digest({"config": row.config.canonical(), "version": trainer.VERSION})
        assert list(row.trials) == [Trial(row.config, seed) for seed in (0, 1)]
        assert row.trial_ids == tuple(Trial(row.config, seed).trial_id for seed in (0, 1))
        assert row.trial_ids == tuple(trial.trial_id for trial in row.trials)


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        ({"lr": [0.1, 70000], "precision": ["fp32", "pure_fp16"]}, "lr: must be at most 65504"),
        (
            {"optimizer": ["sgd", {"name": "amsgrad", "eps": 2.9e-8}], "precision": ["fp32", "pure_fp16"]},
            "precision: AMSGrad diverges in pure_fp16, where its eps (2.9e-08) is 0; nearest: mixed_fp16",
        ),
        ({"lr": [0.1, 1e300]}, "lr: must be at most 3.403e+38, the largest float32, got 1e+300"),
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


@pytest.mark.parametrize(
    ("axis", "pick"),
    [
        ({"batch_size": [1, 2]}, {"batch_size": True}),
        ({"model.add_last_bn": [True, False]}, {"model.add_last_bn": 1}),
        ({"model.add_last_bn": [True, False]}, {"model.add_last_bn": 0}),
    ],
)
def test_true_is_not_1_where_rows_are_picked(tmp_path: Path, axis: Any, pick: Any) -> None:
    (tmp_path / "grid.yaml").write_text(
        yaml.safe_dump({"base": {**BASE, "model": {"name": "resnet_preact", "depth": 8}}, "axes": [axis]})
    )
    assert len(load_grid(tmp_path / "grid.yaml").rows) == 2
    with pytest.raises(GridError, match="no row"):
        load_grid(tmp_path / "grid.yaml", where=pick)
    text = (tmp_path / "grid.yaml").read_text()
    (tmp_path / "grid.yaml").write_text(text + yaml.safe_dump({"exclude": [pick]}))
    with pytest.raises(GridError, match=r"exclude\[0\]: matches no row"):
        load_grid(tmp_path / "grid.yaml")


def test_a_derived_option_that_cannot_be_names_its_formula_s_line_and_its_value(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({"base": BASE}) + "derive:\n  lr: 0.1 - batch_size\n")
    with pytest.raises(GridError) as caught:
        load_grid(path)
    line = path.read_text().splitlines().index("  lr: 0.1 - batch_size") + 1
    assert str(caught.value) == f"{path}:{line}: derive.lr: must be > 0, got -127.9"
