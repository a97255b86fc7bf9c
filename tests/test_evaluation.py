"""Kept checkpoints: which weights they hold, their test errors, and which files are refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from test_trainer_checkpoint import Trap, assert_same
from torch import nn

import cli
from gridrun.store import Store
from gridrun.store.records import Provenance
from gridrun.sweep.worker import Setup, run_trial
from gridrun.trial import Trial
from trainer import Runtime, TrainConfig, checkpoint, train
from trainer.checkpoint import CheckpointError
from trainer.datasets import DatasetOptions, DataSpec, Images, datasets
from trainer.evaluation import Evaluation, evaluate
from trainer.kept import load_weights
from trainer.loop import Interrupted

if TYPE_CHECKING:
    from trainer.metrics import Epoch
    from trainer.metrics import Result as TrialResult

MODEL = {"name": "resnet_preact", "depth": 8, "initial_channels": 4}


def config(**options: Any) -> TrainConfig:
    return TrainConfig.from_dict({"model": MODEL, "epochs": 2, **options})


def restless() -> TrainConfig:
    """Return a trial whose best epoch is not its last: in the last two its learning rate is far too high."""
    knots = [[0, 0.01], [4, 0.01], [4.1, 1], [6, 1]]
    return config(epochs=6, lr=10, schedule={"name": "piecewise_linear", "knots": knots})


@pytest.fixture
def runtime(tmp_path: Path, cache_dir: Path) -> Runtime:
    return Runtime(
        data_dir=tmp_path, cache_dir=cache_dir, weights_path=tmp_path / "kept.pt", keep_checkpoint="last"
    )


def train_and_keep(
    one: TrainConfig, which: str, directory: Path, cache_dir: Path
) -> tuple[TrialResult, Path]:
    """Train seed 0 and return its result and its checkpoint."""
    path = directory / "kept.pt"
    runtime = Runtime(cache_dir=cache_dir, weights_path=path, keep_checkpoint=which)  # type: ignore[arg-type]
    return train(one, seed=0, runtime=runtime), path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """Return the checkpoint of a trial of two epochs, which no test may change."""
    return train_and_keep(config(), "last", tmp_path_factory.mktemp("trained"), cache_dir)[1]


@pytest.fixture
def kept(trained: Path, tmp_path: Path) -> Path:
    """Return a checkpoint of a trial of two epochs."""
    return Path(shutil.copy(trained, tmp_path))


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[TrialResult, Path]:
    """Return the result of the restless trial and the checkpoint of its best epoch."""
    result, path = train_and_keep(restless(), "best", tmp_path_factory.mktemp("best"), cache_dir)
    assert result.best
    assert result.best.epoch < 6, "tests need a trial whose best epoch is not its last"
    return result, path


# --- which weights are kept --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"epochs": 1.5},  # ends in its second epoch
        {"ema_decay": 0.9},
        {"val_ratio": 0.2, "split_seed": 3},
        {"val_size": 400, "normalisation": "per_channel_computed"},
        {"precision": "mixed_bf16"},
        {"precision": "pure_fp16", "lr": 0.01},
        {"precision": "pure_fp16", "lr": 0.01, "ema_decay": 0.9},
        {"tta": "flip"},
        {"tta": "six_views", "val_ratio": 0.2, "precision": "mixed_bf16"},
        {"tta": "six_views", "tta_least_confident": 0.25, "ema_decay": 0.9},
    ],
    ids=str,
)
def test_the_last_weights_give_the_trial_s_own_test_error_and_loss(
    options: dict[str, Any], runtime: Runtime
) -> None:
    one = config(train_size=500, **options)
    result = train(one, seed=1, runtime=runtime)
    assert runtime.weights_path
    found = load_weights(runtime.weights_path)
    assert (found.config, found.seed, found.epoch, found.which) == (one, 1, 2, "last")
    state = checkpoint.load(runtime.weights_path)
    assert state
    assert state["ema"] == ("ema_decay" in options)
    own = evaluate(found, runtime=runtime)
    assert own.error == pytest.approx(result.epochs[-1].test_error, abs=1e-12)
    assert own.loss == pytest.approx(result.epochs[-1].test_loss, rel=1e-6)


def test_the_best_weights_are_those_of_the_lowest_test_error(
    best: tuple[TrialResult, Path], runtime: Runtime
) -> None:
    result, path = best
    assert result.best
    assert result.best.test_error == min(epoch.test_error for epoch in result.epochs if epoch.test_error)
    found = load_weights(path)
    assert (found.which, found.epoch) == ("best", result.best.epoch)
    assert evaluate(found, runtime=runtime).error == pytest.approx(result.best.test_error, abs=1e-12)


def test_weights_of_any_epoch_of_the_trial_are_read(kept: Path) -> None:
    state = checkpoint.load(kept)
    assert state
    for epoch in (1, 2):
        checkpoint.save(kept, {**state, "epoch": epoch, "kept": "best"})
        assert load_weights(kept).epoch == epoch


def crash_after(epoch: int) -> Callable[[Epoch], None]:
    def report(done: Epoch) -> None:
        if done.epoch == epoch:
            raise KeyboardInterrupt

    return report


def test_the_best_weights_outlive_a_crash(
    best: tuple[TrialResult, Path], runtime: Runtime, tmp_path: Path
) -> None:
    result, path = best
    crashing = replace(runtime, keep_checkpoint="best", checkpoint=tmp_path / "work.pt", checkpoint_seconds=0)
    assert result.best
    for epoch in (result.best.epoch, 6):  # the last one after all is trained, and nothing written
        with pytest.raises(KeyboardInterrupt):
            train(restless(), seed=0, report=crash_after(epoch), runtime=crashing)
    again = train(restless(), seed=0, runtime=crashing)
    assert again.resumes == 2
    assert crashing.weights_path
    assert_same(checkpoint.load(crashing.weights_path), checkpoint.load(path))


def test_best_weights_that_were_not_kept_are_reported_as_lost(runtime: Runtime, tmp_path: Path) -> None:
    runtime = replace(runtime, checkpoint=tmp_path / "work.pt", checkpoint_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        train(restless(), seed=0, report=crash_after(6), runtime=replace(runtime, keep_checkpoint="none"))
    result = train(restless(), seed=0, runtime=replace(runtime, keep_checkpoint="best"))
    assert result.notes == ("the best epoch's weights are lost: they were not kept when it was trained",)
    assert runtime.weights_path
    assert not runtime.weights_path.exists()


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_trial_that_diverges_or_stops_keeps_nothing(keep: Any, runtime: Runtime) -> None:
    runtime = replace(runtime, keep_checkpoint=keep)
    assert train(config(lr=1e30), seed=0, runtime=runtime).status == "diverged"
    with pytest.raises(Interrupted):
        train(config(), seed=0, runtime=replace(runtime, should_stop=lambda: True))
    assert runtime.weights_path
    assert not runtime.weights_path.exists()


def test_keeping_weights_changes_no_result(best: tuple[TrialResult, Path], runtime: Runtime) -> None:
    for keep in ("none", "last"):
        result = train(restless(), seed=0, runtime=replace(runtime, keep_checkpoint=keep))
        assert tiny.figures(result) == tiny.figures(best[0])


# --- records -----------------------------------------------------------------------------------------


@pytest.fixture
def setup(tmp_path: Path, runtime: Runtime) -> Setup:
    Store(tmp_path / "results").create()
    return Setup(
        results=tmp_path / "results", runtime=runtime, code=Provenance(), stop_file=tmp_path / "stop"
    )


def test_a_kill_between_the_weights_and_the_record_loses_neither(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, store = Trial(config(), 0), Store(setup.results)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            run_trial(trial, setup, lambda epoch: None)
    assert store.weights_path(trial.trial_id).exists()
    assert run_trial(trial, setup, lambda epoch: None) == "done"
    assert load_weights(store.weights_path(trial.trial_id)).trial_id == trial.trial_id
    (row,) = store.rows().values()
    assert row["checkpoint"] == "last"


def test_a_record_has_the_macs_and_parameters_of_its_network(setup: Setup) -> None:
    setup = replace(setup, runtime=replace(setup.runtime, keep_checkpoint="none"))
    trial = Trial(tiny.config(), 0)
    assert run_trial(trial, setup, lambda epoch: None) == "done"
    row = Store(setup.results).rows()[trial.trial_id]
    assert row["macs"] == 36 * 8 * (2 * 9) + 8 * 36 * 3
    assert row["num_params"] == 8 * 2 * 9 + 2 * 8 + 8 * 36 * 3 + 3
    assert row["checkpoint"] is None
    assert not Store(setup.results).weights_path(trial.trial_id).exists()


class NeedsNumbers(nn.Module):
    """Needs real numbers in its forward pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum().item() < 0 else x * 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoosyNet(tiny.TinyNet):
    name: ClassVar[str] = "choosy_net"

    def build(self, data: DataSpec) -> nn.Module:
        return nn.Sequential(NeedsNumbers(), tiny.TinyNet.build(self, data))


def test_a_network_whose_macs_cannot_be_counted_is_still_trained(setup: Setup) -> None:
    setup = replace(setup, runtime=replace(setup.runtime, keep_checkpoint="none"))
    trial = Trial(tiny.config(model=ChoosyNet()), 0)
    assert run_trial(trial, setup, lambda epoch: None) == "done"
    assert Store(setup.results).rows()[trial.trial_id]["macs"] is None


# --- results -----------------------------------------------------------------------------------------


def test_errors_and_confusion_are_counted() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.9, 0.1, 0.0]])
    found = Evaluation(labels=np.array([0, 0, 1, 1]), probabilities=probabilities, loss=None)
    assert found.predictions.tolist() == [0, 1, 1, 0]
    assert found.error == 0.5
    assert found.confusion.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert found.class_errors == [0.5, 0.5, None]
    assert (found.tta, found.tta_least_confident) == ("none", 1)


def test_the_views_of_a_trial_may_be_replaced(runtime: Runtime) -> None:
    options = {"tta": "six_views", "tta_least_confident": 0.25}
    train(config(**options), seed=0, runtime=runtime)
    assert runtime.weights_path
    own = load_weights(runtime.weights_path)
    plain = replace(own, config=config())
    whole = replace(own, config=config(tta="six_views"))
    for tta, same in (("none", plain), ("six_views", whole)):
        found, expected = evaluate(own, tta=tta, runtime=runtime), evaluate(same, runtime=runtime)
        assert np.array_equal(found.probabilities, expected.probabilities)
        assert (found.loss, found.tta, found.tta_least_confident) == (expected.loss, tta, 1)
    found = evaluate(own, runtime=runtime)
    assert (found.tta, found.tta_least_confident) == ("six_views", 0.25)
    some, all_images, none = (
        evaluate(own, tta=tta, runtime=runtime).probabilities for tta in (None, "six_views", "none")
    )
    augmented = (some != none).any(1)
    assert augmented.sum() == 89  # a quarter of 355, rounded up
    np.testing.assert_allclose(some[augmented], all_images[augmented], atol=1e-6)


def test_least_confident_images_of_a_streamed_set_are_refused(kept: Path, runtime: Runtime) -> None:
    own = load_weights(kept)
    own = replace(own, config=replace(own.config, tta="flip", tta_least_confident=0.5))

    class Streamed(Reversed):
        spec = replace(Reversed().spec, streamed=True)

    with pytest.raises(ValueError, match=r"^data set 'reversed' is streamed, which tta_least_confident does"):
        evaluate(own, dataset=Streamed(), runtime=runtime)
    asked = evaluate(own, dataset=Streamed(), tta="flip", runtime=runtime)
    assert (asked.tta, asked.tta_least_confident) == ("flip", 1)


def test_ten_crops_of_images_that_are_no_files_are_refused(kept: Path, runtime: Runtime) -> None:
    with pytest.raises(ValueError, match=r"^data set 'digits' is not streamed, but tta 'ten_crop' needs"):
        evaluate(load_weights(kept), tta="ten_crop", runtime=runtime)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reversed(DatasetOptions):
    """Digits with another normalisation, the test images in reverse. Not registered."""

    name: ClassVar[str] = "reversed"
    kind: ClassVar[str] = "dataset"
    num_classes: int = 10

    @property
    def spec(self) -> DataSpec:
        digits = datasets.get("digits")().spec
        return replace(digits, mean=(0.9,), std=(0.1,), num_classes=self.num_classes)

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        images = datasets.get("digits")().decode(data_dir, work_dir)
        return images._replace(test_x=images.test_x[::-1].copy(), test_y=images.test_y[::-1].copy())


def test_another_data_set_is_normalised_like_the_training_data(kept: Path, runtime: Runtime) -> None:
    found = load_weights(kept)
    own, other = (
        evaluate(found, dataset=dataset, runtime=runtime) for dataset in (found.config.dataset, Reversed())
    )
    np.testing.assert_allclose(other.probabilities[::-1], own.probabilities, atol=1e-5)


def test_a_data_set_of_another_kind_is_refused(kept: Path, runtime: Runtime) -> None:
    with pytest.raises(ValueError, match=r"data set 'reversed' has num_classes 7, .* 'digits' with 10"):
        evaluate(load_weights(kept), dataset=Reversed(num_classes=7), runtime=runtime)


# --- the command -------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def refused(path: Path, *arguments: object) -> str:
    result = run("evaluate", path, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    monkeypatch.delenv("GRIDRUN_DATA", raising=False)
    monkeypatch.delenv("GRIDRUN_RESULTS", raising=False)


def test_text_json_and_saved_predictions_agree(kept: Path, tmp_path: Path) -> None:
    shown = run("evaluate", kept, "--save", "predictions.parquet")
    assert shown.exit_code == 0, shown.output
    found = json.loads(run("evaluate", kept, "--json").stdout)
    error, top5_error = (f"{100 * found[name]:.2f} %" for name in ("test_error", "top5_error"))
    assert f"test error {error}, top-5 error {top5_error}, loss {found['test_loss']:.4f}" in shown.stdout
    assert (found["on"], found["images"], found["epoch"]) == ("test set of digits", 355, 2)
    row = f"    3 {sum(found['confusion'][3]):8} {100 * found['class_errors'][3]:6.2f} %"
    assert row + "".join(["  ", *(f"{count:5}" for count in found["confusion"][3])]) in shown.stdout

    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert list(table.columns) == ["index", "label", "prediction", *(f"probability_{i}" for i in range(10))]
    assert table["index"].tolist() == list(range(355))
    assert (table["label"] != table["prediction"]).mean() == pytest.approx(found["test_error"])
    probabilities = table.filter(like="probability_").to_numpy()
    assert (probabilities.argmax(1) == table["prediction"]).all()
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-5)


def test_a_trial_is_evaluated_as_it_was_tested(runtime: Runtime) -> None:
    result = train(config(tta="six_views", tta_least_confident=0.25), seed=0, runtime=runtime)
    found = json.loads(run("evaluate", runtime.weights_path, "--json").stdout)
    assert (found["tta"], found["tta_least_confident"]) == ("six_views", 0.25)
    assert found["test_error"] == pytest.approx(result.epochs[-1].test_error, abs=1e-12)
    words = "with test-time augmentation (six_views) of the 25 % least confident images (transductive)"
    assert f"355 images, {words}\n" in run("evaluate", runtime.weights_path).stdout
    shown = run("evaluate", runtime.weights_path, "--tta", "flip").stdout
    assert "355 images, with test-time augmentation (flip)\n" in shown
    assert "355 images\n" in run("evaluate", runtime.weights_path, "--tta", "none").stdout


def test_classes_are_shown_by_name(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("zero", "one", "two", "th\x1bree", "four", "five", "six", "seven", "eight", "nine")
    monkeypatch.setattr(datasets.get("digits"), "classes", names)
    found = json.loads(run("evaluate", kept, "--json").stdout)
    assert found["classes"] == list(names)
    shown = run("evaluate", kept, "--save", "predictions.parquet").stdout
    assert f"    3 three {sum(found['confusion'][3]):8} " in shown
    assert "class         images    error  " in shown
    assert "\x1b" not in shown
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    for what in ("label", "prediction"):
        assert table[f"{what}_name"].tolist() == [names[number] for number in table[what]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "digit"], "--dataset: unknown dataset 'digit'. Did you mean 'digits'?"),
        (["--dataset", "cifar10"], "data set 'cifar10' has channels 3"),
        (["--dataset", "{name: digits, extra: true}"], "--dataset: extra: unknown option."),
        (["--tta", "rotate"], "'rotate' is not one of"),
        (["--save", "nowhere/predictions.parquet"], "nowhere/predictions.parquet: cannot be written"),
        (["--save", "plot.png"], "--save plot.png: is a figure only with --by-age"),
    ],
)
def test_errors_name_the_option_and_the_problem(arguments: list[str], message: str, kept: Path) -> None:
    assert message in refused(kept, *arguments)


def test_an_unknown_file_or_trial_id_is_named(tmp_path: Path) -> None:
    assert "kept.pt: no such file" in refused(Path("kept.pt"))
    assert "no ended trial has an id that begins with 'abc'" in refused(Path("abc"))
    (tmp_path / "work").mkdir()
    assert "no ended trial" in refused(Path("work"))


def changed(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {**state, **fields}


def changed_weights(
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {**state, "state_dict": change(dict(state["state_dict"]))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(version=0), "is from trainer version 0, this is"),
        (changed(config={"model": "unheard_of", "epochs": 1}), "unknown model 'unheard_of'"),
        (changed(config={"model": MODEL}), "epochs: is required"),
        (changed(config={"model": {**MODEL, "depth": torch.ones(2)}, "epochs": 1}), "model.depth"),
        (changed(config={"model": {**MODEL, "initial_channels": 2**40}, "epochs": 1}), "has "),
        (changed(config={"model": {**MODEL, "initial_channels": 8}, "epochs": 6}), "are not those of"),
        (changed(epoch=7), "of an epoch or a seed that its trial cannot have"),
        (changed(epoch=0), "of an epoch or a seed that its trial cannot have"),
        (changed(seed=-1), "of an epoch or a seed that its trial cannot have"),
        (changed(kept="lost"), "of an epoch or a seed that its trial cannot have"),
        (changed(config=[1]), "holds no kept weights"),
        (lambda state: {"model": state["state_dict"]}, "holds no kept weights"),
        (lambda state: state["state_dict"], "holds no kept weights"),
        (changed_weights(lambda weights: {}), "are not those of"),
        (changed_weights(lambda weights: {**weights, "more": torch.ones(1)}), "are not those of"),
        (changed_weights(lambda weights: {**weights, 7: torch.ones(1)}), "are not those of"),
        (changed_weights(lambda weights: dict.fromkeys(weights, 1.0)), "are not those of"),
        (
            changed_weights(lambda weights: {name: value.long() for name, value in weights.items()}),
            "are not those of",
        ),
        (
            changed_weights(lambda weights: {name: value.to_sparse() for name, value in weights.items()}),
            "kept.pt: ",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]], message: str, kept: Path
) -> None:
    state = checkpoint.load(kept)
    assert state
    checkpoint.save(kept, change(state))
    problem = refused(kept)
    assert message in problem
    assert str(kept) in problem


@pytest.mark.parametrize(
    "spoil", [lambda value: torch.zeros(1).expand(value.shape), lambda value: value.to("meta")]
)
def test_weights_that_are_not_all_there_are_refused(spoil: Any, kept: Path) -> None:
    """A few bytes could otherwise stand for gigabytes."""
    state = checkpoint.load(kept)
    assert state
    name = next(name for name, value in state["state_dict"].items() if value.dim() > 1)
    state["state_dict"][name] = spoil(state["state_dict"][name])
    checkpoint.save(kept, state)
    with pytest.raises(CheckpointError, match=rf"has weights that are not those of .*: {re.escape(name)}"):
        load_weights(kept)


def test_a_damaged_or_foreign_file_is_refused(kept: Path) -> None:
    content = kept.read_bytes()
    for foreign in (b"", b"PK\x03\x04", b"not a checkpoint", content[:-1], content[:1000], content + b"\0"):
        kept.write_bytes(foreign)
        assert "is damaged; it is not, or no longer, a file of kept weights" in refused(kept)
    torch.save({"state_dict": {}}, kept)
    assert "is damaged; it is not, or no longer, a file of kept weights" in refused(kept)


def test_a_checkpoint_is_never_unpickled(kept: Path, tmp_path: Path) -> None:
    state = checkpoint.load(kept)
    assert state
    checkpoint.save(kept, {**state, "trial_id": Trap(tmp_path / "sprung")})
    assert "cannot be loaded safely" in refused(kept)
    assert not (tmp_path / "sprung").exists()


def test_nan_weights_have_no_loss(kept: Path) -> None:
    state = checkpoint.load(kept)
    assert state
    state["state_dict"] = {
        name: value * torch.nan if value.is_floating_point() else value
        for name, value in state["state_dict"].items()
    }
    checkpoint.save(kept, state)
    assert "loss not finite" in run("evaluate", kept).stdout
    assert json.loads(run("evaluate", kept, "--json").stdout)["test_loss"] is None
