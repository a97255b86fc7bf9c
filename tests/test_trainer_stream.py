"""Data sets whose images stay files: decoded by workers, the same whatever their number."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny import TinyNet, figures
from torchvision.transforms import v2

from gridrun.sweep.retries import kind_of
from trainer import ConfigError, Runtime, TrainConfig, data, seeds, train
from trainer.augmentations.random_resized_crop import RandomResizedCrop
from trainer.data.pipeline import Pipeline, open_splits
from trainer.datasets import DataError, DataSpec, ImageFiles, datasets
from trainer.datasets.image_folder import ImageFolder, digest_of
from trainer.datasets.imagenet import ImageNet
from trainer.evaluation import evaluate, loss_and_errors
from trainer.kept import load_weights
from trainer.loop import Interrupted
from trainer.schema import read, read_options

ROOT = Path(__file__).parent.parent
NUM_TRAIN, NUM_TEST = 20, 6


def photograph(seed: int, width: int, height: int) -> Image.Image:
    """Return noise, smooth enough that two crops of it differ by their place."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((width, height))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with a folder of three classes, images of several sizes and formats."""
    folder = tmp_path_factory.mktemp("data")
    root = folder / "image_folder" / "own"
    for split, number in (("train", NUM_TRAIN), ("val", NUM_TEST)):
        for i in range(number):
            path = root / split / "abc"[i % 3] / f"{i:02}.{('png', 'jpg', 'webp')[i % 3]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph(i + 100 * (split == "val"), 20 + i, 34 - i).save(path, lossless=True)
    return folder


def folder(data_dir: Path, **changed: Any) -> ImageFolder:
    about: dict[str, Any] = {
        "digest": digest_of(data_dir / "image_folder" / "own"),
        "num_classes": 3,
        "image_size": 8,
        "num_train": NUM_TRAIN,
        "num_test": NUM_TEST,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "stream": True,
    }
    return read(ImageFolder, about | changed)


def config(data_dir: Path, **options: Any) -> TrainConfig:
    """Return 3 epochs of 3 steps, with what draws from every stream."""
    usual: dict[str, Any] = {
        "dataset": folder(data_dir, resize=12),
        "model": TinyNet(dropout=0.2),
        "batch_size": 6,
        "augmentation": read_augmentation(random_resized_crop=True, horizontal_flip=True, mixup=True),
    }
    return tiny.config(**usual | options)


def read_augmentation(**chosen: Any) -> Any:
    values = {"model": "wrn", "epochs": 1, "dataset": "imagenet", "augmentation": chosen}
    return TrainConfig.from_dict(values).augmentation


@pytest.fixture
def runtime(data_dir: Path, cache_dir: Path, tmp_path: Path) -> Runtime:
    return Runtime(
        data_dir=data_dir,
        cache_dir=cache_dir,
        workers=0,
        checkpoint=tmp_path / "trial.ckpt",
        checkpoint_seconds=math.inf,
    )


def with_workers(runtime: Runtime, workers: int, **changed: Any) -> Runtime:
    return dataclasses.replace(runtime, workers=workers, **changed)


def nobody_is_left() -> bool:
    return not multiprocessing.active_children()


# --- what is decoded -----------------------------------------------------------------------------


def splits(one: TrainConfig, runtime: Runtime, seed: int = 0) -> Any:
    images = data.load(one.dataset, runtime.data_dir, runtime.cache_dir)
    assert isinstance(images, ImageFiles)
    return open_splits(images, one, seed, torch.device("cpu"), runtime.num_workers)


def test_test_images_are_those_of_the_decoded_data_set(data_dir, runtime):
    """Streamed or decoded once, an image is resized and its centre cut out in the same way."""
    _, streamed = splits(config(data_dir), runtime)
    decoded = data.load(folder(data_dir, resize=12, stream=False), data_dir, runtime.cache_dir)
    batches = list(streamed.batches(4))
    assert [len(y) for _, y in batches] == [4, 2]
    assert torch.cat([x for x, _ in batches]).numpy().tobytes() == decoded.test_x.tobytes()
    assert torch.cat([y for _, y in batches]).tolist() == decoded.test_y.tolist()


def test_training_images_without_a_random_crop_are_cut_alike(data_dir, runtime):
    one = config(data_dir, augmentation=())
    decoded = data.load(folder(data_dir, resize=12, stream=False), data_dir, runtime.cache_dir)
    order = torch.randperm(NUM_TRAIN)
    taken = list(splits(one, runtime)[0].taken(order, [0, 10], 10, epoch=0))
    assert torch.cat([x for x, _, _ in taken]).numpy().tobytes() == decoded.train_x[order].tobytes()
    assert torch.cat([y for _, y, _ in taken]).tolist() == decoded.train_y[order].tolist()
    assert torch.equal(torch.cat([places for _, _, places in taken]), order)


def test_a_random_crop_is_torchvisions(data_dir, runtime):
    one = config(data_dir, augmentation=(RandomResizedCrop(scale=(0.2, 0.5), ratio=(0.5, 2)),))
    images = data.load(one.dataset, data_dir, runtime.cache_dir)
    image = Image.open(images.source.root / os.fsdecode(images.train_x[7])).convert("RGB")
    (pixels, _, _), *_ = splits(one, runtime, seed=5)[0].taken(torch.tensor([7]), [0], 1, epoch=2)
    torch.manual_seed(seeds.stream(5, "decode", 2, 7))
    crop = v2.RandomResizedCrop(8, (0.2, 0.5), (0.5, 2))(image)
    assert torch.equal(pixels[0], v2.functional.pil_to_tensor(crop))


def drawn(one: TrainConfig, runtime: Runtime, places: list[int], *, seed: int = 0, epoch: int = 0) -> Any:
    """Return the pixels of training images, decoded one a batch."""
    order = torch.tensor(places)
    taken = splits(one, runtime, seed)[0].taken(order, range(len(places)), 1, epoch)
    return [x[0].numpy().tobytes() for x, _, _ in taken]


def test_a_crop_depends_on_seed_epoch_and_place_alone(data_dir, runtime):
    one = config(data_dir)
    first = drawn(one, runtime, [3, 4, 5])
    torch.rand(1)
    assert drawn(one, runtime, [5, 3]) == [first[2], first[0]]
    assert drawn(one, runtime, [3], seed=1) != first[:1]
    assert drawn(one, runtime, [3], epoch=1) != first[:1]


def test_decoding_leaves_torchs_own_generator_alone(data_dir, runtime):
    before = torch.get_rng_state()
    drawn(config(data_dir), runtime, [0, 1])
    drawn(config(data_dir), with_workers(runtime, 1), [0, 1])
    assert torch.equal(torch.get_rng_state(), before)


def test_large_images_are_tested_a_few_at_a_time(data_dir, runtime, monkeypatch):
    monkeypatch.setattr("trainer.data.stream.MAX_PIXELS", 3 * 8 * 8)
    _, test = splits(config(data_dir), runtime)
    assert [len(x) for x, _ in test.batches(1000)] == [3, 3]


# --- ten crops -----------------------------------------------------------------------------------


def ten_crops(path: Path) -> list[torch.Tensor]:
    """Return the corners and the centre, 8 pixels wide, of an image resized to 12 on its shorter side."""
    with Image.open(path) as image:
        pixels = v2.functional.pil_to_tensor(v2.functional.resize(image.convert("RGB"), [12]))
    _, height, width = pixels.shape
    assert min(height, width) == 12
    middle = round((height - 8) / 2), round((width - 8) / 2)
    corners = [(0, 0), (0, width - 8), (height - 8, 0), (height - 8, width - 8), middle]
    crops = [pixels[:, top : top + 8, left : left + 8] for top, left in corners]
    return [*crops, *(crop.flip(2) for crop in crops)]


@pytest.mark.parametrize("workers", [0, 2])
def test_ten_crops_average_the_probabilities_of_corners_and_centre(workers, data_dir, runtime, monkeypatch):
    """Of 6 images, 4 at a time: the last batch is smaller."""
    monkeypatch.setattr("trainer.data.stream.MAX_PIXELS", 4 * 5 * 8 * 8)
    runtime = with_workers(
        runtime, workers, keep_checkpoint="last", weights_path=runtime.checkpoint.with_name("kept.pt")
    )
    one = config(data_dir, tta="ten_crop", epochs=1, model=read_options_model())
    result = train(one, seed=0, runtime=runtime)
    kept = load_weights(runtime.weights_path)
    found = evaluate(kept, runtime=runtime)
    files = data.load(one.dataset, data_dir, runtime.cache_dir)
    network, mean = kept.network(), []
    for name in files.test_x:
        x = torch.stack(ten_crops(files.source.root / os.fsdecode(name))).float() / 255
        with torch.no_grad():
            mean.append(network((x - 0.5) / 0.25).double().softmax(1).mean(0))
    expected = torch.stack(mean).numpy()
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    loss = -np.log(expected[np.arange(NUM_TEST), files.test_y]).mean()
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert result.epochs[-1].test_loss == pytest.approx(loss, rel=1e-5)
    assert result.epochs[-1].test_error == found.error == (expected.argmax(1) != files.test_y).mean()


def test_ten_crops_of_hopeless_images_have_a_finite_loss(data_dir, runtime):
    class Sure(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[500.0, 0.0, 0.0]]).expand(len(images), 3)

    one = config(data_dir, tta="ten_crop")
    pipeline = Pipeline(one.dataset.spec, (), torch.device("cpu"))
    loss, wrong, _ = loss_and_errors(Sure(), splits(one, runtime)[1], pipeline, "fp32", "ten_crop")
    assert (round(loss / 87.3, 2), wrong) == (0.67, pytest.approx(4 / 6))


def test_ten_crops_of_a_decoded_data_set_are_refused(data_dir, runtime):
    kept_at = runtime.checkpoint.with_name("kept.pt")
    runtime = dataclasses.replace(runtime, keep_checkpoint="last", weights_path=kept_at)
    decoded = folder(data_dir, resize=12, stream=False)
    train(
        config(data_dir, dataset=decoded, augmentation=(), epochs=1, model=read_options_model()),
        seed=0,
        runtime=runtime,
    )
    message = r"^data set 'image_folder' is not streamed, but tta 'ten_crop' needs images that are str"
    with pytest.raises(ValueError, match=message):
        evaluate(load_weights(kept_at), tta="ten_crop", runtime=runtime)
    evaluate(load_weights(kept_at), tta="ten_crop", dataset=folder(data_dir, resize=12), runtime=runtime)


def test_a_part_of_the_training_set(data_dir, runtime):
    one = config(data_dir, train_size=12, val_ratio=0.2)
    result = train(one, seed=0, runtime=runtime)
    assert result.num_images == 12 * len(result.epochs)


# --- whole runs ----------------------------------------------------------------------------------


def test_the_number_of_workers_changes_nothing(data_dir, runtime):
    whole = [
        figures(train(config(data_dir), seed=0, runtime=with_workers(runtime, n, checkpoint=None)))
        for n in (0, 1, 3)
    ]
    assert whole[0] == whole[1] == whole[2]
    assert whole[0]["status"] == "done"
    assert nobody_is_left()


@pytest.mark.parametrize(("step", "workers", "then"), [(1, 0, 2), (4, 2, 0), (5, 1, 1)])
def test_resumed_in_an_epoch_a_trial_ends_bit_identical(step, workers, then, data_dir, runtime):
    one = config(data_dir)
    whole = figures(train(one, seed=0, runtime=dataclasses.replace(runtime, checkpoint=None)))
    stop_at = iter([False] * step + [True] * 10)
    stopping = with_workers(runtime, workers, should_stop=lambda: next(stop_at))
    with pytest.raises(Interrupted):
        train(one, seed=0, runtime=stopping)
    assert runtime.checkpoint is not None
    assert runtime.checkpoint.exists()
    assert nobody_is_left()
    resumed = train(one, seed=0, runtime=with_workers(runtime, then))
    assert resumed.resumes == 1
    assert figures(resumed) == whole


def test_workers_stay_from_epoch_to_epoch(data_dir, runtime):
    seen = set()

    def look() -> bool:
        seen.update(child.pid for child in multiprocessing.active_children())
        return False

    train(config(data_dir), seed=0, runtime=with_workers(runtime, 2, should_stop=look))
    assert len(seen) == 3  # two that train, and one for the only batch of test images
    assert nobody_is_left()


def test_a_pass_that_was_left_leaves_nothing_to_the_next(data_dir, runtime):
    one, order = config(data_dir), torch.arange(NUM_TRAIN)
    split, _ = splits(one, with_workers(runtime, 2))
    with contextlib.closing(split.taken(order, range(0, 20, 2), 2, epoch=0)) as batches:
        next(batches)
    found = [x[0].numpy().tobytes() for x, *_ in split.taken(order, range(3, 6), 1, epoch=1)]
    assert found == drawn(one, runtime, [3, 4, 5], epoch=1)
    split.close()
    assert nobody_is_left()


@pytest.mark.slow
def test_ranks_have_workers_of_their_own(data_dir, runtime):
    one = config(data_dir, num_gpus=2, batch_size=3)
    whole = [figures(train(one, seed=0, runtime=with_workers(runtime, n, checkpoint=None))) for n in (0, 1)]
    assert whole[0] == whole[1]
    assert nobody_is_left()


def test_kept_weights_are_evaluated_on_streamed_images(data_dir, runtime, tmp_path):
    kept = dataclasses.replace(runtime, keep_checkpoint="last", weights_path=tmp_path / "kept.pt")
    # only registered options can be read back
    one = config(data_dir, model=read_options_model(), epochs=1)
    result = train(one, seed=0, runtime=kept)
    found = evaluate(load_weights(tmp_path / "kept.pt"), runtime=runtime)
    assert found.error == result.epochs[-1].test_error
    assert sorted(found.labels.tolist()) == [0, 0, 1, 1, 2, 2]


def read_options_model() -> Any:
    from trainer.models import models

    return read_options(models, {"name": "resnet", "depth": 8, "initial_channels": 4}, "model")


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_images_are_named(workers, tmp_path, cache_dir):
    root = tmp_path / "image_folder" / "own"
    for split in ("train", "val"):
        for name in "abc":
            (root / split / name).mkdir(parents=True)
            photograph(0, 9, 9).save(root / split / name / "0.png")
    broken = root / "train" / "b" / "0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    dataset = folder(tmp_path, num_train=3, num_test=3)
    runtime = Runtime(data_dir=tmp_path, cache_dir=cache_dir, workers=workers)
    with pytest.raises(DataError, match=rf"^cannot decode {broken} \(.*\)$"):
        train(tiny.config(dataset=dataset, batch_size=3), seed=0, runtime=runtime)
    assert nobody_is_left()


def test_a_worker_that_dies_ends_the_trial_with_an_error(data_dir, runtime):
    one = config(data_dir, epochs=50)

    def kill() -> bool:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)
        return False

    with pytest.raises(RuntimeError, match="DataLoader worker") as raised:
        train(one, seed=0, runtime=with_workers(runtime, 1, should_stop=kill))
    assert kind_of(raised.value) == "worker_killed"


def test_workers_end_with_their_trial_however_it_ends(data_dir, tmp_path):
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
import multiprocessing, test_trainer_stream
from trainer import Runtime, train
def slowly():
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    time.sleep(60)
    return False
if __name__ == "__main__":
    data_dir = Path({str(data_dir)!r})
    runtime = Runtime(data_dir=data_dir, cache_dir=data_dir, workers=2, should_stop=slowly)
    train(test_trainer_stream.config(data_dir), seed=0, runtime=runtime)
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        process.kill()
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        time.sleep(0.1)  # a worker that stays makes this test hang


def test_ctrl_c_is_for_the_trial_alone(data_dir, tmp_path):
    """It reaches every process of the group: while the workers' parent starts, and while they decode."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from multiprocessing import forkserver
from pathlib import Path
import test_trainer_stream
from trainer import Runtime, train
from trainer.data import stream
def press():
    for number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(0, number)
    return False
if __name__ == "__main__":
    os.setpgrp()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    stream._context()
    first = forkserver._forkserver._forkserver_pid
    press()
    data_dir = Path({str(data_dir)!r})
    runtime = Runtime(data_dir=data_dir, cache_dir=data_dir, workers=2, should_stop=press)
    print(train(test_trainer_stream.config(data_dir), seed=0, runtime=runtime).status)
    assert forkserver._forkserver._forkserver_pid == first
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


# --- what is refused -----------------------------------------------------------------------------


def test_a_random_resized_crop_is_for_files_alone():
    values = {
        "model": "wrn",
        "epochs": 1,
        "dataset": "cifar10",
        "augmentation": {"random_resized_crop": True},
    }
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(values)
    assert str(caught.value) == (
        "augmentation.random_resized_crop: is for images that are streamed: imagenet, or image_folder with "
        "stream: true"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": [0, 1]}, "scale: must be increasing, > 0 and <= 1, got [0.0, 1.0]"),
        ({"scale": [0.5, 0.2]}, "scale: must be increasing, > 0 and <= 1, got [0.5, 0.2]"),
        ({"ratio": [0, 1]}, "ratio: must be increasing and > 0, got [0.0, 1.0]"),
        ({"scale": [0.1]}, "scale: must have 2 items, got 1"),
    ],
)
def test_crops_that_cannot_be(values, message):
    with pytest.raises(ConfigError) as caught:
        read(RandomResizedCrop, values)
    assert str(caught.value) == message


def test_images_are_not_resized_below_what_is_cut_out(data_dir):
    with pytest.raises(ConfigError, match=r"resize: must be above image_size \(8; .*, got 8"):
        folder(data_dir, resize=8)
    with pytest.raises(ConfigError, match=r"resize: must be at least image_size \(224\), got 200"):
        ImageNet(resize=200)


def test_streaming_is_another_config_and_its_defaults_are_not():
    own = {"digest": "0" * 16, "num_classes": 2, "image_size": 8, "num_train": 2, "num_test": 2}
    own |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    values = {"model": {"name": "resnet", "depth": 8}, "epochs": 1, "batch_size": 2}
    plain = TrainConfig.from_dict(values | {"dataset": {"name": "image_folder", **own}})
    assert plain.canonical()["dataset"] == {"name": "image_folder", **own}
    streamed = TrainConfig.from_dict(values | {"dataset": {"name": "image_folder", "stream": True, **own}})
    assert streamed.canonical()["dataset"] == {"name": "image_folder", "stream": True, **own}


# --- ImageNet ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class FewClasses(ImageNet):
    """ImageNet with three classes of two images, and three to test. Not registered."""

    name: ClassVar[str] = "imagenet"
    spec: ClassVar[DataSpec] = dataclasses.replace(ImageNet().spec, num_classes=3, num_train=6, num_test=3)


SYNSETS = ("n01440764", "n01443537", "n01484850")


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    root = tmp_path / "imagenet"
    for label, name in enumerate(SYNSETS):
        for split, number in (("train", 2), ("val", 1)):
            (root / split / name).mkdir(parents=True)
            for i in range(number):
                photograph(label, 300, 260 + i).save(root / split / name / f"{name}_{i}.JPEG")
    (root / "meta.bin").write_bytes(b"torchvision's")
    return root


def test_imagenet(imagenet):
    files = FewClasses().decode(imagenet.parent, imagenet.parent)
    assert files.train_y.tolist() == [0, 0, 1, 1, 2, 2]
    assert files.test_x[2] == b"val/n01484850/n01484850_0.JPEG"
    one = tiny.config(dataset=FewClasses(), model=TinyNet(channels=1), batch_size=3, epochs=1)
    one = dataclasses.replace(one, augmentation=read_augmentation(random_resized_crop=True))
    result = train(one, seed=0, runtime=Runtime(data_dir=imagenet.parent, cache_dir=imagenet.parent))
    assert result.status == "done"


def test_imagenet_has_the_published_size():
    spec = datasets.get("imagenet")().spec
    assert (spec.num_classes, spec.num_train, spec.num_test) == (1000, 1_281_167, 50_000)
    assert (spec.image_size, spec.mean, spec.std) == (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def wrong(imagenet: Path) -> str:
    with pytest.raises(DataError) as caught:
        data.load(FewClasses(), imagenet.parent, imagenet.parent)
    return str(caught.value)


def test_a_folder_that_is_not_there_is_named(imagenet):
    val = imagenet / "val"
    val.rename(imagenet / "test")
    assert wrong(imagenet).startswith(f"data set 'imagenet': there is no folder {val}. ")
    assert "torchvision.datasets.ImageNet(root, split), for both splits" in wrong(imagenet)


def test_loose_files_are_named(imagenet):
    """As the archive of test images unpacks: 50,000 files side by side."""
    for path in sorted((imagenet / "val").rglob("*.JPEG")):
        path.rename(imagenet / "val" / path.name)
    for name in SYNSETS:
        (imagenet / "val" / name).rmdir()
    assert f"{imagenet / 'val'} has 0 folders of classes and files beside them, such as n0" in wrong(imagenet)


def test_missing_and_other_classes_are_named(imagenet):
    (imagenet / "val" / SYNSETS[2]).rename(imagenet / "val" / "tench")
    assert wrong(imagenet).endswith("val has classes that train has not: tench")
    (imagenet / "train" / SYNSETS[0] / f"{SYNSETS[0]}_0.JPEG").unlink()
    (imagenet / "val" / "tench").rename(imagenet / "val" / SYNSETS[2])
    assert "train has 5 images, ImageNet has 6. An archive is not wholly unpacked" in wrong(imagenet)
