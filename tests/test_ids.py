"""Trial ids: pinned, and nothing but what changes a result changes them."""

from __future__ import annotations

import dataclasses

import pytest
from any_config import configs
from hypothesis import given
from hypothesis import strategies as st

import trainer
from gridrun.trial import Trial, config_id, digest
from trainer import TrainConfig


def trial(seed: int = 0, **options: object) -> Trial:
    base = {"model": {"name": "resnet_preact", "depth": 20}, "epochs": 200, "dataset": "cifar10"}
    return Trial(TrainConfig.from_dict(base | options), seed)


def test_ids_are_pinned() -> None:
    """These are the ids of stored results: a change here orphans them all, and needs a new VERSION."""
    assert trainer.VERSION == 1
    assert {name: (one.config_id, one.trial_id) for name, one in TRIALS.items()} == IDS


TRIALS = {
    "plain": trial(),
    "seed": trial(seed=1),
    "numbers": trial(lr=0.4, batch_size=512, weight_decay=5e-4, precision="mixed_bf16"),
    "options": trial(
        model={
            "name": "resnet_preact",
            "depth": 56,
            "preact_stage": [True, False, False],
            "add_last_bn": True,
        },
        schedule={"name": "multistep", "milestones": [100, 150]},
        warmup={"name": "linear", "epochs": 5},
        augmentation={"random_crop": True, "horizontal_flip": True},
    ),
}
IDS = {
    "plain": ("5bea623cf67fe8b5", "ceebe6b81cdbe65d"),
    "seed": ("5bea623cf67fe8b5", "34ff464721881933"),
    "numbers": ("b3fade9bdbe1099a", "2a8681e15414905e"),
    "options": ("8f6518206f1fe9d4", "e9bd751a56490e31"),
}


def test_ids_are_16_hex_digits() -> None:
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in (trial().trial_id, trial().config_id))


def test_equal_data_has_one_digest_and_what_equals_nothing_has_none() -> None:
    assert digest({"a": 1, "b": [2.0, {"d": 3, "c": 0.5}]}) == digest(
        {"b": [2, {"c": 0.5, "d": 3}], "a": 1.0}
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"lr": float("nan")})


def test_seeds_share_the_config_id_alone() -> None:
    assert trial(0).config_id == trial(1).config_id
    assert trial(0).trial_id != trial(1).trial_id


@pytest.mark.parametrize(
    "written",
    [
        {"lr": 1e-1},
        {"batch_size": 128},
        {"schedule": "cosine"},
        {"schedule": {"name": "cosine", "min_factor": 1e-3}},
        {"augmentation": {}},
        {"augmentation": {"random_crop": False}},
        {"model": {"depth": 20, "block_type": "basic", "name": "resnet_preact"}},
        {"epochs": 200.0},
    ],
)
def test_defaults_and_spelling_do_not_change_an_id(written: dict[str, object]) -> None:
    assert trial(**written).trial_id == trial().trial_id


OPTIONS = configs()


@given(OPTIONS, OPTIONS, st.integers(0, 5), st.integers(0, 5))
def test_equal_trials_have_equal_ids_and_different_trials_different_ones(
    one: dict[str, object], other: dict[str, object], seed: int, other_seed: int
) -> None:
    left, right = trial(seed, **one), trial(other_seed, **other)
    assert (left.trial_id == right.trial_id) == (left == right)
    assert (left.config_id == right.config_id) == (left.config == right.config)


@given(OPTIONS)
def test_the_order_of_keys_is_of_no_account(options: dict[str, object]) -> None:
    backwards = dict(reversed(options.items()))
    assert trial(**backwards).trial_id == trial(**options).trial_id


@given(OPTIONS)
def test_an_id_survives_the_way_through_the_store(options: dict[str, object]) -> None:
    one = trial(**options)
    assert Trial(TrainConfig.from_dict(one.config.canonical()), 0).trial_id == one.trial_id


def test_placement_is_no_part_of_a_config() -> None:
    config = {field.name for field in dataclasses.fields(TrainConfig)}
    runtime = {field.name for field in dataclasses.fields(trainer.Runtime)}
    assert not config & runtime


def test_a_new_version_is_a_new_id(monkeypatch: pytest.MonkeyPatch) -> None:
    old = digest({"config": trial().config.canonical(), "version": 1})
    assert old == trial().config_id
    assert digest({"config": trial().config.canonical(), "version": 2}) != old


def test_a_part_with_a_version_has_new_ids_also_where_it_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = TRIALS["plain"].config
    plain = config_id(one)
    monkeypatch.setattr(type(one.model), "version", 2)
    model = config_id(one)
    assert model == digest({"config": one.canonical(), "parts": {"model": 2}, "version": 1})
    monkeypatch.setattr(type(one.model), "version", 1)
    monkeypatch.setattr(type(one.schedule), "version", 3)  # cosine, the default, which the config leaves out
    assert config_id(one) == digest({"config": one.canonical(), "parts": {"schedule": 3}, "version": 1})
    monkeypatch.setattr(type(one.schedule), "version", 1)
    assert config_id(one) == plain
