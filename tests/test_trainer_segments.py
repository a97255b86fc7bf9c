"""Trials that end before their last epoch, and trials that go on from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from trainer import ConfigError, Runtime, TrainConfig, checkpoint, train
from trainer.augmentations.policy import Policy
from trainer.augmentations.random_crop import RandomCrop
from trainer.data.pipeline import Pipeline
from trainer.loop import Interrupted, Run

A, B = "Rotate 0.9 9, Invert 1 0", "Invert 1 0, Color 0.4 3"
EARLY = ((1, ""), (1, A), (4, B))


def config(**options: Any) -> TrainConfig:
    """Return 6 epochs of 3 steps each, under a schedule of policies."""
    usual: dict[str, Any] = {
        "model": {"name": "resnet_preact", "depth": 8, "initial_channels": 4},
        "dataset": "digits",
        "train_size": 24,
        "val_ratio": 0.05,
        "batch_size": 8,
        "epochs": 6,
    }
    augmentation = options.pop("augmentation", (Policy(schedule=EARLY), RandomCrop()))
    return replace(TrainConfig.from_dict(usual | options), augmentation=augmentation)


def under(*schedule: tuple[int, str], **options: Any) -> TrainConfig:
    return config(augmentation=(Policy(schedule=schedule), RandomCrop()), **options)


@pytest.fixture
def runtime(tmp_path: Path, cache_dir: Path) -> Runtime:
    return Runtime(cache_dir=cache_dir, checkpoint=tmp_path / "own.pt", weights_path=tmp_path / "weights.pt")


@pytest.fixture
def whole(runtime: Runtime) -> dict[str, Any]:
    return figures(train(config(), seed=1, runtime=replace(runtime, checkpoint=None)))


def figures(result: Any) -> dict[str, Any]:
    return tiny.figures(result)


def left_by(parent: TrainConfig, runtime: Runtime, seed: int = 1) -> Path:
    """Train a trial; return the state that it leaves."""
    assert runtime.checkpoint
    path = runtime.checkpoint.with_name("parent.pt")
    train(parent, seed=seed, runtime=replace(runtime, checkpoint=path, keep_state=True))
    assert path.exists()
    return path


# --- the config ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, -1, 7])
def test_a_trial_stops_after_one_of_its_epochs(stop: int) -> None:
    with pytest.raises(ConfigError, match=r"stop_after: must be in 1..6 \(epochs\), got"):
        config(stop_after=stop)


def test_to_stop_after_the_last_epoch_is_not_to_stop() -> None:
    assert config(stop_after=6) == config()
    assert "stop_after" not in config(stop_after=6).canonical()


def test_only_what_is_trained_counts() -> None:
    stopped = config(stop_after=2)
    assert stopped.num_images == 2 * 3 * 8
    assert stopped.last_epoch == 2
    assert (stopped.num_epochs, stopped.total_steps) == (6, 18)
    assert [stopped.lr_at(step) for step in range(6)] == [config().lr_at(step) for step in range(6)]


@pytest.mark.parametrize(
    ("child", "goes_on"),
    [
        (under(*EARLY), True),
        (under((1, ""), (5, A)), True),
        (under((1, ""), (3, A), (2, "")), True),
        (under((2, ""), (4, A)), False),
        (under((1, ""), (5, B)), False),
        (under((2, ""), (2, A), (8, B)), True),  # the same, stretched
        (config(lr=0.2), False),
        (config(stop_after=1), False),
        (config(stop_after=2), True),
        (config(stop_after=5), True),
        (config(epochs=7), False),
        (config(augmentation=()), False),
        (config(model={"name": "resnet_preact", "depth": 8, "initial_channels": 8}), False),
        (config(augmentation=(Policy(schedule=EARLY), RandomCrop(padding=1))), False),
        (config(augmentation=(Policy(schedule=EARLY, flattened=True), RandomCrop())), False),
    ],
)
def test_a_trial_goes_on_from_one_that_it_begins_with(child: TrainConfig, goes_on: bool) -> None:
    assert child.goes_on_from(config(stop_after=2), seed=0) == goes_on


# --- training ----------------------------------------------------------------------------------------


def test_a_trial_that_stops_is_the_beginning_of_the_whole_one(whole: Any, runtime: Runtime) -> None:
    stopped = figures(train(config(stop_after=2), seed=1, runtime=runtime))
    assert stopped["status"] == "done"
    assert stopped["epochs"] == whole["epochs"][:2]


def test_a_chain_of_trials_ends_as_the_whole_one(whole: Any, runtime: Runtime) -> None:
    keeping = replace(runtime, keep_state=True)
    paths = [runtime.checkpoint.with_name(f"{stop}.pt") for stop in (2, 3, 6)]  # type: ignore[union-attr]
    before = None
    for stop, path in zip((2, 3, 6), paths, strict=True):
        seen: list[int] = []
        result = train(
            config(stop_after=stop),
            seed=1,
            runtime=replace(keeping, checkpoint=path, start_from=before),
            report=lambda epoch, seen=seen: seen.append(epoch.epoch),  # type: ignore[misc]
        )
        assert seen == {2: [1, 2], 3: [3], 6: [4, 5, 6]}[stop], "nothing is trained twice"
        assert (result.notes, result.resumes) == ((), int(stop > 2))
        before = path
    assert figures(result) == whole


def test_a_trial_that_goes_on_under_another_policy_equals_one_from_the_start(runtime: Runtime) -> None:
    explored = under((1, ""), (1, A), (4, "Solarize 1 5"), stop_after=4)
    start = train(explored, seed=1, runtime=replace(runtime, checkpoint=None, keep_checkpoint="last"))
    weights = checkpoint.load(runtime.weights_path)  # type: ignore[arg-type]
    parent = left_by(config(stop_after=2), runtime)
    child = train(explored, seed=1, runtime=replace(runtime, start_from=parent, keep_checkpoint="last"))
    assert figures(child) == figures(start)
    assert not child.notes
    again = checkpoint.load(runtime.weights_path)  # type: ignore[arg-type]
    assert weights
    assert again
    for name, value in weights["state_dict"].items():
        assert torch.equal(value, again["state_dict"][name]), name


def test_the_policy_that_is_trained_is_that_of_the_child(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state holds the parent's schedule: what is restored must not bring it back."""
    parent = left_by(config(stop_after=2), runtime)
    seen: dict[int, set[str]] = {}
    original = Pipeline.batch

    def batch(self: Pipeline, *arguments: Any) -> Any:
        result = original(self, *arguments)
        ((_, text),) = self.on_pixels[0].options.schedule  # type: ignore[attr-defined]
        seen.setdefault(arguments[-1], set()).add(text)
        return result

    monkeypatch.setattr(Pipeline, "batch", batch)
    explored = under((1, ""), (1, A), (4, "Solarize 1 5"), stop_after=4)
    train(explored, seed=1, runtime=replace(runtime, start_from=parent))
    assert seen == {2: {"Solarize 1 5"}, 3: {"Solarize 1 5"}}


@pytest.mark.parametrize(
    ("child", "seed", "spoil", "note"),
    [
        (config(), 1, "lose", "trained from the start: checkpoint parent.pt, to go on from, is lost"),
        (config(), 1, "damage", "trained from the start: checkpoint parent.pt is damaged"),
        (config(), 1, "of a later version", "is of a trial that this one does not go on from"),
        (config(), 2, "", "checkpoint parent.pt is of a trial that this one does not go on from"),
        (config(lr=0.2), 1, "", "checkpoint parent.pt is of a trial that this one does not go on from"),
        (under((6, A)), 1, "", "checkpoint parent.pt is of a trial that this one does not go on from"),
    ],
)
def test_without_a_usable_state_a_trial_starts_from_the_beginning_and_says_so(
    child: TrainConfig, seed: int, spoil: str, note: str, runtime: Runtime
) -> None:
    wanted = figures(train(child, seed=seed, runtime=replace(runtime, checkpoint=None)))
    parent = left_by(config(stop_after=2), runtime)
    if spoil == "lose":
        parent.unlink()
    elif spoil == "damage":
        parent.write_bytes(parent.read_bytes()[:-1] + b"?")
    elif spoil:
        state = checkpoint.load(parent)
        assert state
        state["trial"]["config"]["later_option"] = 1
        checkpoint.save(parent, state)
    result = train(child, seed=seed, runtime=replace(runtime, start_from=parent))
    assert figures(result) == wanted
    assert len(result.notes) == 1
    assert note in result.notes[0]


def test_a_trials_own_checkpoint_comes_first(whole: Any, runtime: Runtime) -> None:
    parent = left_by(config(stop_after=2), runtime)
    left = iter([False] * 4 + [True] * 9)
    stopping = replace(runtime, start_from=parent, should_stop=lambda: next(left))
    with pytest.raises(Interrupted):
        train(config(), seed=1, runtime=stopping)
    parent.unlink()
    result = train(config(), seed=1, runtime=replace(runtime, start_from=parent))
    assert figures(result) == whole
    assert (result.notes, result.resumes) == ((), 2)


def test_a_damaged_checkpoint_of_its_own_leaves_the_parents(whole: Any, runtime: Runtime) -> None:
    parent = left_by(config(stop_after=2), runtime)
    assert runtime.checkpoint
    runtime.checkpoint.write_bytes(b"nonsense")
    seen: list[int] = []
    result = train(
        config(),
        seed=1,
        runtime=replace(runtime, start_from=parent),
        report=lambda epoch: seen.append(epoch.epoch),
    )
    assert figures(result) == whole
    assert seen == [3, 4, 5, 6]
    assert result.notes == ("started again: checkpoint own.pt is damaged",)


def test_a_test_that_only_the_parent_needed_does_not_show_in_the_child(runtime: Runtime) -> None:
    seldom = config(eval_every=4)
    wanted = figures(train(seldom, seed=1, runtime=replace(runtime, checkpoint=None)))
    parent = left_by(config(eval_every=4, stop_after=2), runtime)
    state = checkpoint.load(parent)
    assert state
    assert state["history"][-1]["test_error"] is not None, "the last epoch is always tested"
    assert figures(train(seldom, seed=1, runtime=replace(runtime, start_from=parent))) == wanted


@pytest.mark.parametrize(("of_third", "kept"), [(0.1, None), (0.25, 2)])
def test_the_best_weights_are_of_an_epoch_that_the_trial_itself_tests(
    of_third: float, kept: int | None, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent ends with its third epoch, and so tests it. Its child does not."""
    errors = {2: 0.2, 3: of_third, 4: 0.3, 6: 0.22}
    monkeypatch.setattr(Run, "test", lambda run: (1.0, errors[len(run.history) + 1], None))
    own = runtime.checkpoint.with_name("child.weights")  # type: ignore[union-attr]
    runtime = replace(runtime, keep_checkpoint="best")
    parent = left_by(config(eval_every=2, stop_after=3), runtime)
    child = replace(runtime, start_from=parent, weights_path=own)
    result = train(config(eval_every=2), seed=1, runtime=child)
    assert [epoch.test_error for epoch in result.epochs] == [None, 0.2, None, 0.3, None, 0.22]
    found = checkpoint.load(own)
    assert (found and found["epoch"]) == kept
    assert any("best epoch's weights are lost" in note for note in result.notes) == (kept is None)


def test_an_average_that_ends_with_the_run_does_not_end_with_a_segment(runtime: Runtime) -> None:
    looking = config(average={"name": "lookahead", "every": 2})
    wanted = figures(train(looking, seed=1, runtime=replace(runtime, checkpoint=None)))
    parent = left_by(replace(looking, stop_after=3), runtime)
    assert figures(train(looking, seed=1, runtime=replace(runtime, start_from=parent))) == wanted


def test_a_state_is_kept_only_if_it_is_wanted(runtime: Runtime) -> None:
    train(config(stop_after=1), seed=1, runtime=runtime)
    assert runtime.checkpoint
    assert not runtime.checkpoint.exists()
    with_state = train(config(stop_after=1), seed=1, runtime=replace(runtime, keep_state=True))
    again = train(config(stop_after=1), seed=1, runtime=replace(runtime, keep_state=True))
    assert figures(again) == figures(with_state), "it had ended already"


@pytest.mark.slow
def test_several_processes_go_on_together(runtime: Runtime) -> None:
    two = config(num_gpus=2, batch_size=4)
    wanted = figures(train(two, seed=1, runtime=replace(runtime, checkpoint=None)))
    parent = left_by(replace(two, stop_after=4), runtime)
    result = train(two, seed=1, runtime=replace(runtime, start_from=parent))
    assert figures(result) == wanted
    assert not result.notes
