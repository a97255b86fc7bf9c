"""Fine-tuning: which weights a trial starts from, and which files it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from click.testing import CliRunner
from test_trainer_checkpoint import Trap
from torch import nn

import cli
from gridrun.sweep.retries import kind_of
from trainer import ConfigError, Runtime, TrainConfig, checkpoint, parallel, train
from trainer.datasets import DataError
from trainer.initial_weights.file import File
from trainer.initial_weights.published import Published
from trainer.loop import Run
from trainer.models.torchvision_models import TorchvisionOptions


@pytest.fixture
def runtime(tmp_path: Path, cache_dir: Path) -> Runtime:
    (tmp_path / "weights").mkdir()
    return Runtime(data_dir=tmp_path, cache_dir=cache_dir)


def stored(runtime: Runtime, state: Any, name: str = "some.pt") -> File:
    """Save something where weights are looked for; return what a config says of it."""
    path = runtime.data_dir / "weights" / name
    torch.save(state, path)
    return File(sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def begun(config: TrainConfig, runtime: Runtime, seed: int = 0) -> nn.Module:
    return Run(config, seed, runtime, parallel.Group()).learner.model


def trained(runtime: Runtime, **options: Any) -> tuple[File, dict[str, torch.Tensor]]:
    """Train a trial, and return its kept weights, as a config names them and as tensors."""
    kept = runtime.data_dir / "weights" / "kept.pt"
    keeping = dataclasses.replace(runtime, keep_checkpoint="last", weights_path=kept)
    train(tiny.config(**options), seed=3, runtime=keeping)
    state = checkpoint.load(kept)
    assert state
    return File(sha256=hashlib.sha256(kept.read_bytes()).hexdigest()), state["state_dict"]


def test_a_trial_starts_from_kept_weights_and_a_new_head(runtime: Runtime) -> None:
    file, before = trained(runtime)
    fresh, tuned = (begun(tiny.config(init_from=one), runtime).state_dict() for one in (None, file))
    for name, value in tuned.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, (fresh if name.startswith("5.") else before)[name]), name
    assert not torch.equal(fresh["0.weight"], tuned["0.weight"])
    assert not torch.equal(fresh["1.running_mean"], tuned["1.running_mean"])
    assert tuned["1.num_batches_tracked"] == 0
    kept_head = dataclasses.replace(file, keep_head=True)
    whole = begun(tiny.config(init_from=kept_head), runtime).state_dict()
    assert torch.equal(whole["5.weight"], before["5.weight"])


def test_the_number_of_classes_may_differ(runtime: Runtime) -> None:
    """Weights of ten classes start a trial of three."""
    file, before = trained(runtime)
    ten = {name: value for name, value in before.items() if not name.startswith("5.")}
    ten |= {"5.weight": torch.zeros(10, 8 * 36), "5.bias": torch.zeros(10)}
    file = stored(runtime, ten)
    model = begun(tiny.config(init_from=file), runtime)
    assert torch.equal(model.state_dict()["0.weight"], before["0.weight"])
    with pytest.raises(DataError, match=r"another network's weights: 5\.bias is 10 there, 3 here$"):
        begun(tiny.config(init_from=dataclasses.replace(file, keep_head=True)), runtime)


def test_training_from_the_same_weights_resumes_bit_for_bit(runtime: Runtime, tmp_path: Path) -> None:
    file, _ = trained(runtime)
    config = tiny.config(init_from=file, average=None, precision="mixed_bf16")
    whole = train(config, seed=0, runtime=runtime)
    stopping = dataclasses.replace(runtime, checkpoint=tmp_path / "work.pt", checkpoint_seconds=0)

    def crash(epoch: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, seed=0, report=crash, runtime=stopping)
    resumed = train(config, seed=0, runtime=stopping)
    assert resumed.resumes == 1
    assert tiny.figures(resumed) == tiny.figures(whole)
    assert tiny.figures(whole) != tiny.figures(train(tiny.config(), seed=0, runtime=runtime))


def test_weights_of_half_precision_become_those_of_the_network(runtime: Runtime) -> None:
    _, before = trained(runtime, precision="pure_fp16", lr=0.01)
    assert before["0.weight"].dtype == torch.float16
    model = begun(tiny.config(init_from=stored(runtime, before)), runtime)
    assert torch.equal(model.state_dict()["0.weight"], before["0.weight"].float())


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (Trap(Path("sprung")), "cannot be loaded safely; it must hold tensors and plain values alone"),
        ([1, 2], "holds no weights; keep some with --keep-checkpoint, or save a network's state_dict()"),
        ({"0.weight": 3}, "holds no weights; keep some with"),
        ({}, "has another network's weights: 0.weight is missing there, 8 x 2 x 3 x 3 here"),
        ({"0.weight": torch.zeros(4)}, "has another network's weights: 0.weight is 4 there, 8 x 2 x 3 x 3"),
    ],
    ids=["code", "a list", "numbers", "nothing", "another shape"],
)
def test_files_that_are_no_such_weights_are_refused(state: Any, problem: str, runtime: Runtime) -> None:
    file = stored(runtime, state)
    with pytest.raises(DataError) as caught:
        begun(tiny.config(init_from=file), runtime)
    assert str(caught.value).startswith(f"init_from: {runtime.data_dir / 'weights' / 'some.pt'} {problem}")
    assert kind_of(caught.value) == "data"


def test_a_missing_file_stops_a_launch_before_any_trial(runtime: Runtime, tmp_path: Path) -> None:
    other, results = stored(runtime, {}).sha256, tmp_path / "results"
    settings = ["model={name: resnet, depth: 8}", "epochs=1", f"init_from={{name: file, sha256: {'f' * 64}}}"]
    places = ["--results", str(results), "--data", str(runtime.data_dir)]
    found = CliRunner().invoke(cli.main, ["train", *settings, *places])
    assert found.exit_code == 2
    problem = f"weights has sha256 {'f' * 64}: some.pt has {other} (--data chooses the directory)"
    assert problem in found.stderr
    assert not (results / "trials.parquet").exists()


# --- torchvision -------------------------------------------------------------------------------

RESNET = TorchvisionOptions(arch="resnet18")


def test_published_weights_are_downloaded_once(runtime: Runtime, tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[tuple[str, str]] = []

    def download(url: str, path: str, digest: str, progress: bool) -> None:
        asked.append((url.rpartition("/")[2], digest))
        Path(path).write_bytes(b"weights")

    content = hashlib.sha256(b"weights").hexdigest()
    named = SimpleNamespace(name="IMAGENET1K_V1", url=f"https://x.org/resnet18-{content[:8]}.pth")
    monkeypatch.setattr("torchvision.models.get_model_weights", lambda arch: [named])
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    paths = {Published().available(RESNET, tmp_path, tmp_path) for _ in range(2)}
    assert paths == {tmp_path / "downloads" / f"resnet18-{content[:8]}.pth"}
    assert asked == [(f"resnet18-{content[:8]}.pth", content[:8])]
    paths.pop().write_bytes(b"damaged")
    Published().available(RESNET, tmp_path, tmp_path)
    assert len(asked) == 2, "a damaged file is downloaded again"


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: Any) -> None:
    def download(*arguments: Any, **options: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(DataError, match=r"resnet18-f37072fd.pth cannot be downloaded \(Network is unreach"):
        Published().available(RESNET, tmp_path, tmp_path)
    with pytest.raises(DataError, match=r"resnet18 has no weights 'DEFAULT', only IMAGENET1K_V1$"):
        Published(weights="DEFAULT").available(RESNET, tmp_path, tmp_path)


def test_a_file_of_torchvisions_fits_its_network_with_other_classes(runtime: Runtime) -> None:
    """DenseNet: its file has the names that its layers had before."""
    model = TorchvisionOptions(arch="densenet121")
    spec = dataclasses.replace(tiny.ColourImages.spec, num_classes=7)
    source = model.build(dataclasses.replace(spec, num_classes=1000))
    old = {
        ".".join(
            part[:-1] + "." + part[-1] if part[:-1] in ("norm", "conv") and part[-1:] in "12" else part
            for part in name.split(".")
        ): value
        for name, value in source.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    path = runtime.data_dir / "old.pth"
    torch.save(old, path)

    class Here(Published):
        def available(self, *_: Any) -> Path:
            return path

    network = model.build(spec)
    Here().load_into(network, model, runtime.data_dir, runtime.cache_dir)
    found, wanted = network.state_dict(), source.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted if "classifier" not in name)
    assert found["classifier.weight"].shape == (7, 1024)


# --- in a config -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init_from", "message"),
    [
        ("file", "init_from.sha256: is required"),
        ({"name": "file", "sha256": "abc"}, "init_from.sha256: must be 64 hexadecimal digits in lower case"),
        ("torchvison", "init_from: unknown initial weights 'torchvison'. Did you mean 'torchvision'?"),
        (
            "torchvision",
            "init_from: is for model: {name: torchvision, arch: ...} without small_images, ",
        ),
    ],
)
def test_what_no_trial_can_start_from_is_refused(init_from: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict({"model": {"name": "resnet", "depth": 8}, "epochs": 1, "init_from": init_from})
    assert str(caught.value).startswith(message)
