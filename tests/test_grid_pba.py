"""The grids of Population Based Augmentation against numbers that its source prints."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from all_grids import SEARCHES
from test_trainer_models import meta

from gridrun.grid import Grid, Row, load_grid
from gridrun.tables.build import build_table
from gridrun.tables.model import Line
from gridrun.tables.render import to_markdown
from trainer import TrainConfig
from trainer.augmentations.policy import Policy
from trainer.models.count import count_params

ROOT = Path(__file__).parent.parent
PUBLISHED = json.loads((ROOT / "tests" / "published" / "pba.json").read_text())["rows"]
WRN, SHAKE_32, SHAKE_96, SHAKE_112 = "WRN-28-10", *(f"Shake-Shake 26 2x{width}d" for width in (32, 96, 112))
PYRAMID = "PyramidNet+ShakeDrop"
NETWORKS = {
    WRN: ("WRN-28-10", 36_220_634),
    SHAKE_32: ("shake-shake-26 2x32d", 2_923_162),
    SHAKE_96: ("shake-shake-26 2x96d", 26_192_922),
    SHAKE_112: ("shake-shake-26 2x112d", 35_640_442),
    PYRAMID: ("PyramidNet-272 bottleneck (alpha=200) w/ ShakeDrop", 26_210_842),
}
"""By the published name: how the label of ours begins, and parameters for 10 classes."""
RECIPES = {
    ("CIFAR-10", WRN): (0.1, 5e-4, 200),
    ("CIFAR-10", SHAKE_32): (0.01, 1e-3, 1800),
    ("CIFAR-10", SHAKE_96): (0.01, 1e-3, 1800),
    ("CIFAR-10", SHAKE_112): (0.01, 1e-3, 1800),
    ("CIFAR-10", PYRAMID): (0.05, 5e-5, 1800),
    ("Reduced CIFAR-10", WRN): (0.05, 5e-3, 200),
    ("Reduced CIFAR-10", SHAKE_96): (0.025, 2.5e-3, 1800),
    ("CIFAR-100", WRN): (0.1, 5e-4, 200),
    ("CIFAR-100", SHAKE_96): (0.01, 2.5e-3, 1800),
    ("CIFAR-100", PYRAMID): (0.025, 5e-4, 1800),
    ("SVHN", WRN): (0.005, 1e-3, 160),
    ("SVHN", SHAKE_96): (0.01, 1.5e-4, 160),
    ("Reduced SVHN", WRN): (0.05, 1e-2, 160),
    ("Reduced SVHN", SHAKE_96): (0.025, 5e-3, 160),
}
"""Learning rate, weight decay and epochs."""
BESIDE = {
    ("CIFAR-10", WRN): "3.9 3.1 2.6",
    ("CIFAR-10", SHAKE_32): "3.6 3.0 2.5",
    ("CIFAR-10", SHAKE_96): "2.9 2.6 2.0",
    ("CIFAR-10", SHAKE_112): "2.8 2.6 1.9",
    ("CIFAR-10", PYRAMID): "2.7 2.3 1.5",
    ("CIFAR-100", WRN): "18.8 18.4 17.1",
    ("CIFAR-100", SHAKE_96): "17.1 16.0 14.3",
    ("CIFAR-100", PYRAMID): "14.0 12.2 10.7",
}
"""Test errors of the baseline, of Cutout and of AutoAugment."""


@cache
def grid(name: str, profile: str | None = None) -> Grid:
    return load_grid(ROOT / f"grids/pba/{name}.yaml", profile=profile)


def lines(name: str) -> list[Line]:
    return build_table(grid(name).tables[0], {}).lines


def names(config: TrainConfig) -> set[str]:
    return {options.name for options in config.augmentation}


def option(config: TrainConfig, name: str) -> Any:
    return next(options for options in config.augmentation if options.name == name)


def segments(config: TrainConfig) -> list[int]:
    policy: Policy = option(config, "policy")
    return [epochs for epochs, _ in policy.schedule]


RCIFAR10 = [12, 22, 20, 20, 1, 6, 3, 27, 6, 21, 6, 9, 7, 17, 6, 12, 5]
RSVHN = [9, 15, 6, 8, 7, 24, 6, 25, 4, 4, 39, 6, 6, 1]
RESULTS = list(zip(PUBLISHED, grid("results").rows, strict=True))


def test_the_published_rows_are_rows_with_trials() -> None:
    shown = lines("results")
    assert len(shown) == len(PUBLISHED) == 14
    for line, (dataset, network, error) in zip(shown, PUBLISHED, strict=True):
        cell = line.cells["test_error"]
        assert (line.name, cell.published_text) == (dataset, error)
        assert line.trials
        assert str(line.options["model"]).startswith(NETWORKS[network][0])


def test_the_table_shows_what_is_published_before_anything_has_run() -> None:
    text = to_markdown(build_table(grid("results").tables[0], {}))
    assert "Published: baseline / Cutout / AutoAugment" in text
    for (dataset, network), errors in BESIDE.items():
        (line,) = [
            line
            for line, (name, model, _) in zip(lines("results"), PUBLISHED, strict=True)
            if (name, model) == (dataset, network)
        ]
        assert line.options["paper"] == " / ".join(errors.split())


@pytest.mark.parametrize(("published", "row"), RESULTS, ids=[f"{d}, {m}" for (d, m, _), _ in RESULTS])
def test_recipes(published: tuple[str, str, str], row: Row) -> None:
    dataset, network, _ = published
    config = row.config
    assert (config.lr, config.weight_decay, config.epochs) == RECIPES[dataset, network]
    assert config.batch_size == (64 if network == PYRAMID else 128)
    images = {"Reduced CIFAR-10": 4000, "Reduced SVHN": 1000, "SVHN": 604_388}.get(dataset, 50_000)
    assert (config.num_train, config.num_held_out) == (images, 0)
    assert (config.optimizer.name, config.optimizer.momentum, config.optimizer.nesterov) == ("sgd", 0.9, True)  # type: ignore[attr-defined]
    assert (config.gradient_clip, config.clip_weight_decay, config.no_weight_decay_on_bn) == (5, True, False)
    assert (config.normalisation, config.linear_init) == ("per_channel_computed", "uniform")
    assert (config.label_smoothing, config.precision, config.warmup) == (0, "fp32", None)
    is_svhn = "SVHN" in dataset
    assert segments(config) == (RSVHN if is_svhn else RCIFAR10)
    cutout = {"SVHN": {20}, "Reduced SVHN": set()}.get(dataset, {16})
    assert {options.size for options in config.augmentation if options.name == "cutout"} == cutout  # type: ignore[attr-defined]
    assert names(config) - {"policy", "cutout"} == (set() if is_svhn else {"random_crop", "horizontal_flip"})
    last, per_epoch = config.total_steps - 1, config.steps_per_epoch
    if is_svhn and network == WRN:
        epochs = (0, 79, 80, 119, 120, 159)
        rates = [config.lr_at(epoch * per_epoch) / config.lr for epoch in epochs]
        assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    else:
        middle = config.lr_at(config.total_steps // 2) / config.lr
        assert middle == pytest.approx(0.5, abs=1e-3)
        assert config.lr_at(last) < 1e-4 * config.lr


@pytest.mark.parametrize("network", NETWORKS)
def test_parameters(network: str) -> None:
    models = {row.config.model: row.config for (_, name, _), row in RESULTS if name == network}
    (config,) = models.values()
    spec = grid("results").rows[0].config.dataset.spec
    assert count_params(meta(config.model, spec)) == NETWORKS[network][1]


def test_baselines() -> None:
    shown, results = lines("baselines"), {row.config.model: row.config for _, row in RESULTS[:5]}
    assert len(shown) == 24
    rows = iter(zip(shown, grid("baselines").rows, strict=True))
    for (dataset, network), errors in BESIDE.items():
        for name, error in zip(("Baseline", "Cutout", "AutoAugment"), errors.split(), strict=True):
            line, row = next(rows)
            config = row.config
            assert (line.name, line.cells["test_error"].published_text) == (name, error)
            assert config.dataset.label == dataset
            assert (config.lr, config.weight_decay, config.epochs) == RECIPES[dataset, network]
            assert config.model in results
            extra = {"Baseline": set(), "Cutout": {"cutout"}, "AutoAugment": {"cutout", "auto_augment"}}[name]
            assert names(config) == {"random_crop", "horizontal_flip"} | extra


def test_a_baseline_differs_from_a_result_in_the_policy_alone() -> None:
    cutout = grid("baselines").rows[1].config.flat()
    learned = RESULTS[0][1].config.flat()
    differing = {key for key in cutout | learned if cutout.get(key) != learned.get(key)}
    assert differing == {key for key in learned if key.startswith("augmentation.policy")}


@pytest.mark.parametrize(("place", "dataset", "first"), [(5, "Reduced CIFAR-10", 0), (12, "Reduced SVHN", 8)])
def test_ablations(place: int, dataset: str, first: int) -> None:
    (published, result) = RESULTS[place]
    assert published[:2] == [dataset, WRN]
    rows = {row.name: row.config for row in grid("ablations").rows[first : first + 8]}
    learned = result.config
    assert rows["learned schedule"] == learned
    schedule = option(learned, "policy").schedule
    assert names(rows["none"]) == names(learned) - {"policy"}
    assert option(rows["fixed"], "policy").schedule == ((1, schedule[-1][1]),)
    assert option(rows["random"], "policy").schedule == ((1, "random"),)
    assert option(rows["flattened"], "policy") == Policy(schedule=schedule, flattened=True)
    others = {
        "AutoAugment": "auto_augment",
        "RandAugment": "randaugment",
        "TrivialAugment": "trivial_augment",
    }
    for name, augmentation in others.items():
        assert names(rows[name]) == names(rows["none"]) | {augmentation}
    assert option(rows["AutoAugment"], "auto_augment").policy == learned.dataset.name
    for config in rows.values():
        assert config.lr_at(0) == 0.05
        assert len(grid("ablations").rows) == 16


@pytest.mark.parametrize(
    ("name", "images", "decay", "epochs", "rounds", "augmentations"),
    [
        ("search_rcifar10", (4000, 46_000), 5e-4, 200, 67, {"random_crop", "horizontal_flip", "cutout"}),
        ("search_rsvhn", (1000, 7325), 5e-3, 160, 54, set()),
    ],
)
def test_searches(name, images, decay, epochs, rounds, augmentations) -> None:
    search = grid(name).search
    assert search
    assert (search.population, search.interval, search.quantile, search.resample) == (16, 3, 0.25, 0.2)
    assert search.num_rounds == rounds
    config = search.base
    assert (config.num_train, config.num_held_out) == images
    assert (config.lr, config.weight_decay, config.epochs, config.batch_size) == (0.1, decay, epochs, 128)
    assert names(config) == augmentations | {"policy"}
    assert option(config, "policy").schedule == ((epochs, ""),)
    # the network of the released code; the one that it names has depth 40
    assert count_params(meta(config.model, config.dataset.spec)) == 1_456_858
    factors = [config.lr_at(epoch * config.steps_per_epoch) / 0.1 for epoch in (0, 79, 80, 120)]
    if name == "search_rsvhn":
        assert factors == pytest.approx([1, 1, 0.1, 0.01])
    assert not grid(name).rows


@pytest.mark.parametrize("profile", ["cpu", "cpu_9977"])
@pytest.mark.parametrize("name", ["results", "baselines", "ablations"])
def test_the_profiles_for_cpus_are_cheap(name: str, profile: str) -> None:
    multiplications = 0
    for row in grid(name, profile).rows:
        run, spec = row.config, row.config.dataset.spec
        macs = run.model.macs(spec)
        assert macs
        multiplications += len(row.seeds) * (3 * run.num_images + spec.num_test) * macs
        assert run.precision == "fp32"
        assert run.total_steps >= 200
    assert multiplications < 1800 * 2 * 8e9 * 1.2, "half an hour on two cores that do 8 billion a second each"


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_searches_have_a_small_version(path: Path) -> None:
    is_small = path.stem.startswith("search_small")  # already, and without a profile
    search = load_grid(path, profile=None if is_small else "cpu").search
    assert search
    run, spec = search.base, search.base.dataset.spec
    macs = run.model.macs(spec)
    assert macs
    passes = search.population * (3 * run.num_images + search.num_rounds * run.num_held_out)
    assert passes * macs < 1800 * 2 * 8e9
    header = path.read_text().partition("\nname:")[0]
    for word in ("?", "Run:", "Expect:", "Cost:"):
        assert word in header
