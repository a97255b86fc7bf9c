"""`gridrun features`: what the network hands to its last layer, file by file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import cli
from trainer import TrainConfig, checkpoint
from trainer.kept import KeptWeights, load_weights
from trainer.version import VERSION

DIGITS = {"model": {"name": "resnet_preact", "depth": 8, "initial_channels": 4}, "epochs": 1}
FOLDER = {
    "name": "image_folder",
    "digest": "0" * 16,
    "num_classes": 3,
    "image_size": 8,
    "resize": 12,
    "num_train": 200,
    "num_test": 1,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.3, 0.2, 0.1],
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["features", *map(str, arguments)])


def kept(path: Path, **options: object) -> KeptWeights:
    """Keep the weights that a network has at first."""
    config = TrainConfig.from_dict(DIGITS | options)
    torch.manual_seed(0)
    state = config.model.build(config.dataset.spec).state_dict()
    about = {"version": VERSION, "config": config.canonical(), "seed": 0, "kept": "last", "epoch": 1}
    checkpoint.save(path, {**about, "state_dict": state})
    return load_weights(path)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Return image files of several shapes, in two folders."""
    paths = [tmp_path / "images" / name for name in ("a.png", "b.jpg", "below/c.png", "below/d.webp")]
    rng = np.random.default_rng(0)
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12 + i, 15, 3), np.uint8)).save(path)
    return paths


def test_names_that_are_no_text_are_written_as_far_as_they_are(images, tmp_path):
    kept(tmp_path / "kept.pt", dataset=FOLDER)
    odd = images[0].rename(os.fsdecode(os.fsencode(tmp_path) + b"/odd-\xff.png"))
    assert run(tmp_path / "kept.pt", odd, "-o", tmp_path / "features.parquet").exit_code == 0
    assert pd.read_parquet(tmp_path / "features.parquet")["path"].tolist() == [f"{tmp_path}/odd-\ufffd.png"]


@pytest.mark.parametrize("wrong", [{"epoch": 0}, {"epoch": 10**12}, {"seed": -1}, {"kept": "\x1b[31m"}])
def test_weights_of_an_epoch_that_no_trial_has_are_refused(wrong, images, tmp_path):
    kept(tmp_path / "kept.pt", dataset=FOLDER)
    checkpoint.save(tmp_path / "odd.pt", checkpoint.load(tmp_path / "kept.pt") | wrong)
    found = run(tmp_path / "odd.pt", images[0], "-o", tmp_path / "features.parquet")
    assert (found.exit_code, "of an epoch or a seed that its trial cannot have" in found.stderr) == (2, True)


@pytest.mark.parametrize("size", [1000, 3])
def test_the_head_makes_logits_of_the_features(size, images, tmp_path, monkeypatch):
    """The trial's own size, resize, mean and std are used: by hand from the pixels to the logits."""
    monkeypatch.setattr("trainer.features.EVAL_BATCH_SIZE", size)
    weights = kept(tmp_path / "kept.pt", dataset=FOLDER)
    found = run(tmp_path / "kept.pt", *images, "-o", tmp_path / "features.parquet")
    assert (found.exit_code, found.stdout) == (
        0,
        f"{tmp_path}/features.parquet: 4 images, 16 features each\n",
    )
    table = pd.read_parquet(tmp_path / "features.parquet")
    assert table["path"].tolist() == [str(path) for path in images]
    pixels = []
    for path in images:
        image = Image.open(path).convert("RGB")
        short = min(image.size)
        image = image.resize([12 * side // short for side in image.size], Image.Resampling.BILINEAR)
        left, top = (round((side - 8) / 2) for side in image.size)
        pixels.append(np.asarray(image.crop((left, top, left + 8, top + 8)), dtype=np.float32) / 255)
    x = (torch.tensor(np.stack(pixels)) - torch.tensor(FOLDER["mean"])) / torch.tensor(FOLDER["std"])
    network = weights.network()
    with torch.no_grad():
        expected = network(x.permute(0, 3, 1, 2))
        logits = network.head(torch.tensor(np.stack(table["features"].to_list())))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_folders_are_searched_and_grey_networks_get_grey_images(images, tmp_path):
    kept(tmp_path / "kept.pt")
    found = run(tmp_path / "kept.pt", tmp_path / "images", images[1], "-o", tmp_path / "f.parquet")
    assert found.exit_code == 0, found.output
    table = pd.read_parquet(tmp_path / "f.parquet")
    assert table["path"].tolist() == [str(images[i]) for i in (0, 1, 2, 3, 1)]
    assert np.array_equal(table["features"][1], table["features"][4])


def test_files_that_cannot_be_decoded_are_named_and_nothing_is_written(images, tmp_path):
    kept(tmp_path / "kept.pt")
    images[1].write_bytes(b"no image")
    found = run(tmp_path / "kept.pt", *images, "-o", tmp_path / "f.parquet")
    assert found.exit_code == 2
    assert f"Error: cannot decode {images[1]} (" in found.stderr
    images[1].unlink()
    os.mkfifo(images[1])
    found = run(tmp_path / "kept.pt", *images, "-o", tmp_path / "f.parquet")
    assert f"Error: cannot decode {images[1]} (is no file)" in found.stderr
    assert not list(tmp_path.glob("*f.parquet*"))


def test_other_mistakes(images, tmp_path):
    kept(tmp_path / "kept.pt")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for arguments, message in (
        ((tmp_path / "kept.pt", tmp_path / "empty", "-o", "f.parquet"), "empty: has no images"),
        ((tmp_path / "kept.pt", tmp_path / "no.png", "-o", "f.parquet"), "no.png' does not exist"),
        ((images[0], images[0], "-o", "f.parquet"), "a.png: checkpoint a.png is damaged"),
        (
            (tmp_path / "kept.pt", images[0], "-o", tmp_path / "no" / "f.parquet"),
            "cannot be written (No such",
        ),
        ((tmp_path / "kept.pt", "-o", *images), "a.png is there already, and is no .parquet file"),
        ((tmp_path / "kept.pt", images[0], "-o", tmp_path / "f.csv"), "f.csv: must end in .parquet"),
        ((tmp_path / "kept.pt", images[0], "-o", tmp_path / "fifo"), "fifo is not a regular file"),
        ((tmp_path / "kept.pt", "-o", "f.parquet"), "Missing argument 'IMAGES...'"),
    ):
        found = run(*arguments)
        assert found.exit_code == 2
        assert message in found.stderr
