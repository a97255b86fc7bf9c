"""The user's own data: .npz files and image folders, whole, wrong, damaged and hostile."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import CONTEXT
from PIL import Image
from tiny import TinyNet, config

import trainer
from gridrun.trial import config_id
from trainer import ConfigError
from trainer.data import is_cached, load
from trainer.datasets import DataError, datasets
from trainer.datasets._folders import centre, five_crops, opened
from trainer.datasets.image_folder import digest_of
from trainer.schema import canonical, read_options

ROOT = Path(__file__).parent.parent


@pytest.fixture
def folders(tmp_path):
    """Return an empty data directory and an empty cache directory."""
    for name in ("data", "cache"):
        (tmp_path / name).mkdir()
    return tmp_path / "data", tmp_path / "cache"


def options(**values: Any) -> dict[str, Any]:
    """Return what both kinds say of 6 + 3 images of 4 pixels a side, in 3 classes."""
    about = {"num_classes": 3, "channels": 1, "image_size": 4, "num_train": 6, "num_test": 3}
    return {**about, "mean": [0.5], "std": [0.25], **values}


# --- .npz files ----------------------------------------------------------------------------------


def arrays(**changed: Any) -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).integers(0, 256, (9, 1, 4, 4), np.uint8)
    y = np.arange(9, dtype=np.int32) % 3
    return {"train_x": x[:6], "train_y": y[:6], "test_x": x[6:], "test_y": y[6:], **changed}


def npz(data_dir: Path, content: dict[str, np.ndarray] | bytes, name: str = "own.npz", **values: Any) -> Any:
    """Write a file for the `npz` data set; return the options that name it."""
    if isinstance(content, dict):
        file = io.BytesIO()
        np.savez_compressed(file, **content)  # type: ignore[arg-type]
        content = file.getvalue()
    (data_dir / "npz").mkdir(exist_ok=True)
    (data_dir / "npz" / name).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return read_options(datasets, {"name": "npz", "sha256": sha256, **options(**values)}, "dataset")


def test_npz(folders):
    dataset = npz(folders[0], arrays())
    images = load(dataset, *folders)
    assert all(np.array_equal(image, array) for image, array in zip(images, arrays().values(), strict=True))
    assert images.train_y.dtype == np.int64
    assert isinstance(images.train_x, np.memmap)
    assert is_cached(dataset, folders[1])


def test_a_trial_trains_on_own_data(folders):
    runtime = trainer.Runtime(data_dir=folders[0], cache_dir=folders[1])
    own = config(dataset=npz(folders[0], arrays()), model=TinyNet(), batch_size=2, train_size=5)
    assert trainer.train(own, seed=0, runtime=runtime).status == "done"


def test_content_names_a_file_wherever_it_stands(folders):
    dataset = npz(folders[0], arrays(), name="before.npz")
    npz(folders[0], arrays(train_y=np.zeros(6, np.int64)), name="another.npz")
    first = load(dataset, *folders)
    (folders[0] / "npz" / "before.npz").rename(folders[0] / "npz" / "after.npz")
    shutil.rmtree(folders[1])
    assert np.array_equal(load(dataset, *folders).train_y, first.train_y)
    assert "before" not in str(canonical(dataset))


def test_other_content_is_another_trial(folders):
    one, other = (npz(folders[0], arrays(test_y=np.full(3, label))) for label in (0, 1))
    assert config_id(config(dataset=one, batch_size=2)) != config_id(config(dataset=other, batch_size=2))


def test_columns_first_order_is_brought_into_the_usual_one(folders):
    x = np.asfortranarray(arrays()["train_x"])
    images = load(npz(folders[0], arrays(train_x=x)), *folders)
    assert images.train_x.flags.c_contiguous
    assert np.array_equal(images.train_x, x)


def test_a_file_that_is_not_there(folders):
    dataset = npz(folders[0], arrays())
    file = folders[0] / "npz" / "own.npz"
    file.rename(folders[0] / "own.npz")  # one level too high
    with pytest.raises(
        DataError, match=f"no .npz file in {file.parent} has sha256 {dataset.sha256}: none is there"
    ):
        load(dataset, *folders)
    file.write_bytes(b"edited")
    found = hashlib.sha256(b"edited").hexdigest()
    with pytest.raises(DataError, match=f"has sha256 {dataset.sha256}: own.npz has {found}"):
        load(dataset, *folders)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"train_x": np.zeros((6, 1, 4, 4))}, "train_x: must be uint8, is float64"),
        (
            {"train_x": np.zeros((5, 1, 4, 4), np.uint8)},
            "train_x: must be (6, 1, 4, 4), that is (N, C, H, W), is (5, 1, 4, 4)",
        ),
        (
            {"test_x": np.zeros((3, 4, 4), np.uint8)},
            "test_x: must be (3, 1, 4, 4), that is (N, C, H, W), is (3, 4, 4); x[:, None] fixes it",
        ),
        (
            {"test_x": np.zeros((3, 4, 4, 1), np.uint8)},
            "test_x: must be (3, 1, 4, 4), that is (N, C, H, W), is (3, 4, 4, 1); "
            "x.transpose(0, 3, 1, 2) fixes it",
        ),
        ({"train_y": np.zeros(6)}, "train_y: must be integers, is float64"),
        ({"test_y": np.zeros((3, 3), int)}, "test_y: must be (3,), is (3, 3)"),
        ({"test_y": np.array([0, 3, 1])}, "test_y: must be labels in 0..2, has 0..3"),
        ({"train_y": np.array([0, 1, 2, 0, 1, -1])}, "train_y: must be labels in 0..2, has -1..2"),
    ],
)
def test_arrays_that_are_not_as_declared(folders, changed, problem):
    dataset = npz(folders[0], arrays(**changed))
    with pytest.raises(DataError) as caught:
        load(dataset, *folders)
    assert str(caught.value) == f"data set 'npz': {folders[0] / 'npz' / 'own.npz'}: {problem}"
    assert not is_cached(dataset, folders[1])


def test_a_missing_array_is_named(folders):
    content = arrays()
    content["train_images"] = content.pop("train_x")
    with pytest.raises(
        DataError, match="train_x: is missing; there are: train_y, test_x, test_y, train_images"
    ):
        load(npz(folders[0], content), *folders)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "sprung")


def test_pickled_objects_are_refused_unread(folders, tmp_path):
    sprung = tmp_path / "sprung"
    trap = np.empty(6, dtype=object)
    trap[0] = Trap(sprung)
    dataset = npz(folders[0], arrays(train_y=trap))
    with pytest.raises(DataError, match=r"own\.npz: train_y: cannot be read: Object arrays cannot be loaded"):
        load(dataset, *folders)
    assert not sprung.exists()
    np.load(folders[0] / "npz" / "own.npz", allow_pickle=True)["train_y"]  # the trap does work
    assert sprung.exists()


def test_a_bare_pickle_is_refused_unread(folders, tmp_path):
    sprung = tmp_path / "sprung"
    file = io.BytesIO()
    np.save(file, np.array([Trap(sprung)], dtype=object))
    pickled = file.getvalue()[128:]  # behind the header
    for content in (pickled, file.getvalue(), b""):
        with pytest.raises(DataError, match=r"own\.npz is not a \.npz file, or not a whole one"):
            load(npz(folders[0], content), *folders)
    assert not sprung.exists()


def test_a_damaged_file_is_named(folders):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays())  # type: ignore[arg-type]
    whole = file.getvalue()
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo("test_x.npy").header_offset + 60
    flipped = whole[:start] + bytes([whole[start] ^ 0xFF]) + whole[start + 1 :]
    with pytest.raises(DataError, match=r"own\.npz: test_x: cannot be read"):
        load(npz(folders[0], flipped), *folders)
    with pytest.raises(DataError, match=r"own\.npz is not a \.npz file, or not a whole one"):
        load(npz(folders[0], whole[:-30]), *folders)


def test_a_header_that_claims_too_much_is_refused(folders):
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (2**60,)}
    np.lib.format.write_array_header_1_0(header, shape)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train_x.npy", header.getvalue())
    with pytest.raises(DataError, match=r"own\.npz: train_x: cannot be read"):
        load(npz(folders[0], file.getvalue()), *folders)


def test_an_array_that_unpacks_to_too_much_is_refused_unread(folders):
    bomb = np.zeros(2**24, np.uint8)  # 16 MiB for 6 images of 4 x 4 pixels, 16 KiB when packed
    file = io.BytesIO()
    np.savez_compressed(file, **{**arrays(), "train_x": bomb})
    assert len(file.getvalue()) < 2**16
    with pytest.raises(
        DataError, match=r"own\.npz: train_x: unpacks to 16,777,344 bytes, more than 96 pixels"
    ):
        load(npz(folders[0], file.getvalue()), *folders)


@pytest.mark.parametrize("name", ["npz", "image_folder"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_classes": 0}, "num_classes: must be > 0, got 0"),
        ({"image_size": -1}, "image_size: must be > 0, got -1"),
        ({"mean": [0.5, 0.5]}, "mean: must have one value a channel (1), got 2"),
        ({"std": []}, "std: must have one value a channel (1), got 0"),
        ({"mean": [127.5]}, "mean: must be in 0..1 (of pixels scaled to 0..1), got [127.5]"),
        ({"std": [0]}, "std: must be > 0 and <= 1 (of pixels scaled to 0..1), got [0.0]"),
        ({"path": "../own.npz"}, "path: unknown option."),
    ],
)
def test_descriptions_that_cannot_be(name, changed, message):
    digest = {"npz": {"sha256": "0" * 64}, "image_folder": {"digest": "0" * 16}}[name]
    with pytest.raises(ConfigError) as caught:
        read_options(datasets, {"name": name, **digest, **options(**changed)}, "dataset")
    assert str(caught.value).startswith(f"dataset.{message}")


@pytest.mark.parametrize(
    "digest",
    ["", "0" * 63, "A" * 64, "../" + "0" * 61, "0" * 64 + "\n"],
    ids=["none", "short", "upper", "path", "line"],
)
def test_a_digest_has_one_spelling(digest):
    with pytest.raises(ConfigError, match=r"dataset\.sha256: must be 64 hexadecimal digits in lower case"):
        read_options(datasets, {"name": "npz", "sha256": digest, **options()}, "dataset")


def test_grey_or_colour_folders_alone():
    wrong = options(channels=2, mean=[0.5, 0.5], std=[0.5, 0.5])
    with pytest.raises(ConfigError, match=r"dataset\.channels: must be 1 \(grey\) or 3 \(RGB\), got 2"):
        read_options(datasets, {"name": "image_folder", "digest": "0" * 16, **wrong}, "dataset")


# --- folders of images ---------------------------------------------------------------------------

COLOURS = {"ant": (200, 0, 0), "bee": (0, 200, 0), "cat": (0, 0, 200)}


def image_folder(data_dir: Path, name: str = "own", test: str = "test") -> Path:
    """Write two training images and one test image of each of three colours."""
    root = data_dir / "image_folder" / name
    for colour, rgb in COLOURS.items():
        for part, num in (("train", 2), (test, 1)):
            (root / part / colour).mkdir(parents=True)
            for i in range(num):
                Image.new("RGB", (12 + i, 8), rgb).save(root / part / colour / f"{i}.png")
    return root


def folder_options(root: Path, **values: Any) -> Any:
    about = options(channels=3, mean=[0.5] * 3, std=[0.25] * 3)
    return read_options(
        datasets, {"name": "image_folder", "digest": digest_of(root), **about, **values}, "dataset"
    )


@pytest.mark.parametrize("test", ["test", "val"])
def test_image_folder(folders, test):
    dataset = folder_options(image_folder(folders[0], test=test))
    images = load(dataset, *folders)
    assert images.train_x.shape == (6, 3, 4, 4)
    assert images.train_y.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.test_y.tolist() == [0, 1, 2]
    for x, y in zip(images.test_x, images.test_y, strict=True):
        assert x[:, 0, 0].tolist() == list([*COLOURS.values()][y])
    assert not list((folders[1] / "downloads").iterdir())
    shutil.rmtree(folders[0])
    assert np.array_equal(load(dataset, *folders).test_x, images.test_x)


def test_the_classes_of_a_folder_have_its_names(folders):
    root = image_folder(folders[0])
    for part in ("train", "test"):
        (root / part / "ant").rename(root / part / os.fsdecode(b"\xffant"))  # no UTF-8
    dataset = folder_options(root)
    assert dataset.class_names(folders[0]) == ("bee", "cat", "\N{REPLACEMENT CHARACTER}ant")
    shutil.rmtree(root)
    assert dataset.class_names(folders[0]) is None


def test_the_centre_of_the_shorter_side_is_kept(folders):
    root = image_folder(folders[0])
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 255  # a white square in the middle of a black strip
    path = root / "test" / "ant" / "0.png"
    Image.fromarray(pixels).save(path)
    (x, *_) = load(folder_options(root, image_size=8), *folders).test_x
    assert (x == 255).all()


def test_grey_images_have_one_channel(folders):
    dataset = folder_options(image_folder(folders[0]), **options())
    images = load(dataset, *folders)
    assert images.train_x.shape == (6, 1, 4, 4)
    luma = [np.array(Image.new("RGB", (1, 1), rgb).convert("L")).item() for rgb in COLOURS.values()]
    assert images.test_x[:, 0, 2, 2].tolist() == luma


def test_more_images_than_one_worker_takes(folders):
    root = image_folder(folders[0])
    for i in range(200):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(root / "train" / "ant" / f"{i:03}.bmp")
    images = load(folder_options(root, num_train=206), *folders)
    reds = images.train_x[images.train_y == 0, 0, 0, 0].tolist()
    assert reds == [200, *range(100), 200, *range(100, 200)]  # 0.png, 000.bmp ... 1.png, 100.bmp ...


def test_what_is_no_image_is_left_alone(folders):
    root = image_folder(folders[0])
    before = digest_of(root)
    (root / "train" / "ant" / "notes.txt").write_text("ants")
    (root / "train" / "ant" / "._0.png").write_bytes(b"left behind by a file manager")
    (root / "train" / ".cache").mkdir()
    (folders[0] / "image_folder" / "empty").mkdir()
    assert digest_of(root) == before
    assert load(folder_options(root), *folders).train_x.shape == (6, 3, 4, 4)


def test_a_digest_is_of_names_and_sizes(folders):
    root = image_folder(folders[0])
    first = digest_of(root)
    assert digest_of(shutil.copytree(root, root.with_name("copy"))) == first
    (root / "train" / "ant" / "1.png").rename(root / "train" / "bee" / "2.png")
    moved = digest_of(root)
    with (root / "train" / "ant" / "0.png").open("ab") as file:
        file.write(b"\0")
    assert len({first, moved, digest_of(root)}) == 3


def test_a_folder_that_is_not_there(folders):
    root = image_folder(folders[0])
    dataset = folder_options(root)
    (root / "train" / "ant" / "1.png").unlink()
    now = digest_of(root)
    message = f"no folder in {root.parent} has digest {dataset.digest}: own has {now}"
    with pytest.raises(DataError, match=message):
        load(dataset, *folders)


def test_a_link_to_nowhere_is_named_with_its_target(folders):
    root = image_folder(folders[0])
    dataset = folder_options(root)
    (root / "train/ant/2.png").symlink_to("/nowhere/ant.png")
    with pytest.raises(DataError) as caught:
        load(dataset, *folders)
    assert str(caught.value).endswith(
        f"cannot be read: No such file or directory ({root}/train/ant/2.png, a link to /nowhere/ant.png)"
    )


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"num_classes": 4}, "train has 3 classes, num_classes says 4"),
        ({"num_train": 7}, "train has 6 images, num_train says 7"),
        ({"num_test": 2}, "test has 3 images, num_test says 2"),
    ],
)
def test_folders_that_are_not_as_declared(folders, changed, problem):
    with pytest.raises(DataError, match=f"data set 'image_folder': .*{problem}$"):
        load(folder_options(image_folder(folders[0]), **changed), *folders)


def test_classes_of_the_test_set_alone_are_named(folders):
    root = image_folder(folders[0])
    (root / "test" / "dog").mkdir()
    with pytest.raises(DataError, match="test has classes that train has not: dog"):
        load(folder_options(root), *folders)


def test_broken_images_are_named(folders):
    root = image_folder(folders[0])
    whole = (root / "train" / "ant" / "0.png").read_bytes()
    (root / "train" / "ant" / "0.png").write_bytes(whole[:50])
    (root / "train" / "bee" / "1.png").write_bytes(b"no image")
    dataset = folder_options(root)
    with pytest.raises(DataError) as caught:
        load(dataset, *folders)
    message = str(caught.value)
    assert message.startswith(f"data set 'image_folder': cannot decode {root / 'train' / 'ant' / '0.png'} (")
    assert str(root / "train" / "bee" / "1.png") in message
    assert str(root / "train" / "cat") not in message
    assert not is_cached(dataset, folders[1])
    assert not list((folders[1] / "downloads").iterdir())


def test_only_the_formats_of_images_are_opened(folders):
    root = image_folder(folders[0])
    Image.new("RGB", (12, 8)).save(root / "train" / "ant" / "0.png", format="GIF")
    (root / "train" / "bee" / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match="cannot decode") as caught:
        load(folder_options(root), *folders)
    assert str(root / "train" / "ant" / "0.png") in str(caught.value)
    assert str(root / "train" / "bee" / "0.png") in str(caught.value)


def test_an_image_with_too_many_pixels_is_refused_undecoded(folders, monkeypatch):
    root = image_folder(folders[0])
    monkeypatch.setattr("trainer.datasets._folders.MAX_PIXELS", 100)
    with pytest.raises(ValueError, match=r"has 13 x 8 pixels; the most is 100"):
        opened(root / "train" / "ant" / "1.png", 3)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_an_image_of_more_than_eight_bits_is_refused(mode, tmp_path):
    """PIL would cut its values off at 255."""
    path = tmp_path / "x.tif"
    pixels = np.full((8, 12), 4096, {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
    Image.fromarray(pixels).save(path)
    with pytest.raises(ValueError, match=r"has more than 8 bits a channel \(" + mode):
        opened(path, 1)


@pytest.mark.parametrize("cut", [centre, five_crops])
def test_a_narrow_image_that_would_grow_too_large_is_refused(cut, monkeypatch):
    monkeypatch.setattr("trainer.datasets._folders.MAX_PIXELS", 1000)
    assert cut(Image.new("L", (4, 10)), 20, 8)  # 20 x 50
    with pytest.raises(ValueError, match="is too narrow to resize: 4 x 11 pixels"):
        cut(Image.new("L", (4, 11)), 20, 8)


def test_many_broken_images_are_counted(folders):
    root = image_folder(folders[0])
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"\) and 1 more$"):
        load(folder_options(root), *folders)


def put_sum(dataset, folders, sums):
    sums.put(load(dataset, *folders).train_x.sum())


def test_processes_at_once_share_one_cache(folders):
    root = image_folder(folders[0])
    sums = CONTEXT.SimpleQueue()
    processes = [
        CONTEXT.Process(target=put_sum, args=(folder_options(root), folders, sums)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert {sums.get() for _ in processes} == {load(folder_options(root), *folders).train_x.sum()}
    assert len([path for path in (folders[1] / "datasets").iterdir() if path.is_dir()]) == 1


def test_describing_own_data_needs_no_torch_and_no_files():
    code = (
        "import sys; from trainer.datasets import datasets, published; published()\n"
        "from trainer.schema import read_options\n"
        f"read_options(datasets, {{'name': 'npz', 'sha256': '0' * 64, **{options()!r}}}, '').spec\n"
        "assert not {'torch', 'torchvision', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0
