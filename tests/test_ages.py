"""`gridrun evaluate --by-age`: how long ago each training image was seen, and what losses they have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result

import cli
from gridrun.ages import AgeReport
from gridrun.figures.ages import figure_of
from trainer import Runtime, TrainConfig, data, parallel, train
from trainer.ages import Ages, by_age, steps_ago
from trainer.evaluation import evaluate
from trainer.kept import KeptWeights, load_weights
from trainer.loop import Run
from trainer.selections.proxy import ProxyOptions

CONFIG = {
    "model": {"name": "resnet_preact", "depth": 8, "initial_channels": 4},
    "epochs": 2,
    "batch_size": 100,
    "augmentation": {"random_crop": {"padding": 2}},
    "label_smoothing": 0.1,
    "tta": "flip",
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["evaluate", *map(str, arguments), "--by-age"])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    path = tmp_path_factory.mktemp("kept") / "kept.pt"
    runtime = Runtime(cache_dir=cache_dir, weights_path=path, keep_checkpoint="last")
    train(TrainConfig.from_dict(CONFIG), seed=1, runtime=runtime)
    return path


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))


# --- how long ago ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"sampling": "replacement"}, {"epochs": 2.5}, {"train_size": 20}], ids=str
)
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_ages_are_those_of_the_batches_that_the_loop_took(options, epoch, cache_dir, monkeypatch):
    """Of 26 images in batches of 8, two are left out of each epoch; one of the last epoch may be half."""
    config, batches = tiny.config(**options), []
    loop = Run(config, 4, Runtime(cache_dir=cache_dir), parallel.Group())
    step = loop.learner.train_step
    monkeypatch.setattr(
        loop.learner,
        "train_step",
        lambda x, y, places, epoch: (batches.append(places.tolist()), step(x, y, places, epoch)),
    )
    for _ in range(epoch):
        loop.epoch()
    expected = np.zeros(config.num_train, np.int64)
    for ago, places in reversed(list(enumerate(reversed(batches[-config.steps_per_epoch :]), 1))):
        expected[places] = ago
    found = steps_ago(config, 4, epoch)
    assert found.tolist() == expected.tolist()
    assert set(found[found > 0]) == set(range(1, config.steps_per_epoch + 1))


def test_a_trial_that_left_images_out_is_refused(cache_dir):
    config = tiny.config(select_examples=ProxyOptions(model=tiny.TinyNet()))
    with pytest.raises(ValueError, match="select_examples left images out of each batch"):
        by_age(KeptWeights(config, 0, None, "last", 1, {}), Runtime(cache_dir=cache_dir))


def test_a_batch_of_several_gpus_is_seen_at_once():
    one, two = tiny.config(batch_size=8), tiny.config(batch_size=4, num_gpus=2)
    assert steps_ago(one, 0, 2).tolist() == steps_ago(two, 0, 2).tolist()


# --- the report --------------------------------------------------------------------------------


def test_losses_are_those_of_plain_images(kept, cache_dir):
    found = json.loads(run(kept, "--json").stdout)
    weights = load_weights(kept)
    config = weights.config
    images = data.load(config.dataset, Path(), cache_dir)
    spec = config.dataset.spec
    x = (torch.tensor(images.train_x).float() / 255 - spec.mean[0]) / spec.std[0]
    with torch.no_grad():
        losses = F.cross_entropy(weights.network()(x), torch.tensor(images.train_y), reduction="none").numpy()
    ago = steps_ago(config, 1, 2)
    assert config.steps_per_epoch == 14
    assert [row["steps_ago"] for row in found["by_age"]] == [[i, i] for i in range(1, 15)]
    for i, row in enumerate(found["by_age"], 1):
        assert row["images"] == 100
        assert row["loss"] == pytest.approx(losses[ago == i].mean(), rel=1e-4)
    plain = evaluate(weights, tta="none", runtime=Runtime(cache_dir=cache_dir))
    assert found["test_loss"] == pytest.approx(plain.loss, rel=1e-6)
    assert found["test_images"] == 355


def test_table_and_saved_rows_agree(kept, tmp_path):
    shown = run(kept, "--save", tmp_path / "ages.parquet")
    assert shown.exit_code == 0, shown.output
    table = pd.read_parquet(tmp_path / "ages.parquet")
    assert table["index"].tolist() == list(range(1442))
    means = table[table["steps_ago"] > 0].groupby("steps_ago")["loss"].mean()
    lines = shown.stdout.splitlines()
    assert lines[:2] == [
        "ResNet-preact-8, widening factor 0.25, last epoch (2), seed 1",
        "training images of digits, without augmentation",
    ]
    rows = [line.split() for line in lines[4:-1]]
    assert [(row[0], row[1]) for row in rows] == [(str(i), "100") for i in range(1, 15)]
    assert [float(row[2]) for row in rows] == pytest.approx(means.tolist(), abs=1e-4)
    assert lines[-1].split()[:2] == ["test", "355"]


def report(steps: int, **changed: object) -> AgeReport:
    """Return the report of 10 images a step, whose loss is the number of steps since."""
    config = TrainConfig.from_dict({**CONFIG, "batch_size": 1, "train_size": steps})
    ago = np.repeat(np.arange(steps + 1), 10)
    ages = Ages(
        **{"steps_ago": ago, "losses": ago.astype("float32"), "test_loss": 2.5, "num_test": 7, **changed}
    )

    class Kept:
        epoch, which, seed, trial_id = 2, "last", 0, None

    Kept.config = config
    return AgeReport(path=Path("kept.pt"), checkpoint=Kept(), ages=ages)


def test_many_steps_are_shown_in_twenty_ranges():
    bins = list(report(50).bins)
    assert len(bins) == 20
    assert [tuple(one) for one in bins[:3]] == [(1, 2, 20, 1.5), (3, 5, 30, 4.0), (6, 7, 20, 6.5)]
    assert sum(one.images for one in bins) == 500


def test_a_figure_has_the_ages_and_the_level_of_the_test_images(kept, tmp_path):
    figure = figure_of(report(3))
    train_curve, test_line = figure.panels[0].series
    assert [(point.x, point.median) for point in train_curve.points] == [(1, 1), (2, 2), (3, 3)]
    assert [(point.x, point.median) for point in test_line.points] == [(1, 2.5), (3, 2.5)]
    assert figure.labels == ("training images", "test images")
    for suffix in ("svg", "png"):
        assert run(kept, "--save", tmp_path / f"ages.{suffix}").exit_code == 0
        assert (tmp_path / f"ages.{suffix}").stat().st_size > 1000
    assert "Steps ago" in (tmp_path / "ages.svg").read_text()


def test_losses_that_are_not_finite_are_gaps():
    bad = report(3, losses=np.full(40, np.nan, np.float32), test_loss=float("inf"))
    assert [one["loss"] for one in bad.to_dict()["by_age"]] == [None] * 3
    assert bad.to_dict()["test_loss"] is None
    assert {point.n for series in figure_of(bad).panels[0].series for point in series.points} == {0}


@pytest.mark.parametrize("option", [("--tta", "flip"), ("--dataset", "digits")])
def test_other_images_or_views_have_no_age(option, kept):
    found = run(kept, *option)
    assert found.exit_code == 2
    assert "--by-age goes with neither --dataset nor --tta" in found.stderr
