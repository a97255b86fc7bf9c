"""Data sets and their cache. Real archives are used where they are at hand; nothing is downloaded."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torchvision
from forks import CONTEXT
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_dataset import Toy, num_decodes

from trainer import data
from trainer.data import is_cached, load
from trainer.datasets import DataError, Images, datasets, published
from trainer.schema import ConfigError, canonical, read_options

TESTS = Path(__file__).parent
REAL_DATA = Path(os.environ.get("GRIDRUN_DATA") or TESTS.parent.parent / "shared" / "data")


@pytest.fixture
def folders(tmp_path):
    """Return an empty data directory and an empty cache (or work) directory."""
    for name in ("data", "cache"):
        (tmp_path / name).mkdir()
    return tmp_path / "data", tmp_path / "cache"


@pytest.fixture
def unreachable(monkeypatch):
    """Return the URL of a loopback port where nobody listens; keep proxies out of it."""
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and modification time of everything below a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def equal(a: Images, b: Images) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# --- what each data set is ---------------------------------------------------------------------


def test_published_data_sets_need_no_options():
    assert set(datasets.names()) - set(published()) == {"npz", "image_folder"}
    with pytest.raises(ConfigError, match=r"dataset\.\w+: is required"):
        read_options(datasets, "npz", "dataset")


@pytest.mark.parametrize("name", published())
def test_every_dataset_describes_itself(name):
    dataset = read_options(datasets, name, "dataset")
    assert dataset.name == name
    assert canonical(dataset) == {}
    spec = dataset.spec
    assert len(spec.mean) == len(spec.std) == spec.channels
    assert all(0 < value < 1 for value in (*spec.mean, *spec.std))


def test_labels_are_those_of_the_field():
    assert {name: datasets.get(name)().label for name in published()} == {
        "cifar10": "CIFAR-10",
        "cifar100": "CIFAR-100",
        "digits": "digits",
        "fashion_mnist": "FashionMNIST",
        "imagenet": "ImageNet",
        "kmnist": "KMNIST",
        "mnist": "MNIST",
        "svhn": "SVHN",
    }
    assert datasets.get("svhn")(extra=True).label == "SVHN with extra images"


def test_classes_have_their_published_names(folders):
    named = {name: datasets.get(name)().class_names(folders[0]) for name in published()}
    assert {name for name, classes in named.items() if classes} == {
        "cifar10", "cifar100", "fashion_mnist", "kmnist",
    }  # fmt: skip
    for name in ("FashionMNIST", "KMNIST"):
        (found,) = [n for n in named if datasets.get(n)().label == name]
        assert list(named[found]) == getattr(torchvision.datasets, name).classes
    for name, number in (("cifar10", 10), ("cifar100", 100)):
        assert len(named[name]) == number
        assert sorted(named[name]) == list(named[name]), "their labels are in the order of the alphabet"


def test_digits(folders):
    dataset = datasets.get("digits")()
    images = load(dataset, *folders)
    spec = dataset.spec

    assert images.train_x.shape == (1442, 1, 8, 8)
    assert images.test_x.shape == (355, 1, 8, 8)
    assert (images.train_x.min(), images.train_x.max()) == (0, 255)
    # the file begins 0, 1 ... 9 three times over; so does the training part
    assert images.train_y[:30].tolist() == [*range(10)] * 3
    per_class = np.bincount(images.test_y) / (np.bincount(images.train_y) + np.bincount(images.test_y))
    assert np.all(np.abs(per_class - 0.2) < 0.006)
    pixels = images.train_x / 255
    assert pixels.mean() == pytest.approx(spec.mean[0], abs=5e-5)
    assert pixels.std() == pytest.approx(spec.std[0], abs=5e-5)
    assert not list(folders[0].iterdir())


@pytest.mark.parametrize(
    ("name", "source", "train_labels", "test_labels"),
    [
        ("mnist", "MNIST", [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]),
        ("fashion_mnist", "FashionMNIST", [9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
    ],
)
def test_real_archives(folders, name, source, train_labels, test_labels):
    if not (REAL_DATA / source / "raw" / "train-images-idx3-ubyte.gz").is_file():
        pytest.skip(f"no {source} archives in {REAL_DATA} (GRIDRUN_DATA names another directory)")
    data_dir, cache_dir = folders
    shutil.copytree(REAL_DATA / source / "raw", data_dir / source / "raw")
    for path in [*data_dir.rglob("*"), data_dir]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(data_dir)
    dataset = datasets.get(name)()

    images = load(dataset, data_dir, cache_dir)

    assert images.train_x.shape == (60_000, 1, 28, 28)
    assert images.test_x.shape == (10_000, 1, 28, 28)
    assert images.train_y[:10].tolist() == train_labels
    assert images.test_y[:10].tolist() == test_labels
    assert np.bincount(images.test_y).sum() == 10_000
    pixels = images.train_x.astype(np.float32) / 255
    assert pixels.mean() == pytest.approx(dataset.spec.mean[0], abs=1e-4)
    assert pixels.std() == pytest.approx(dataset.spec.std[0], abs=1e-4)
    assert snapshot(data_dir) == before
    # neither what was unpacked nor a second copy of the archives is left
    assert not list((cache_dir / "downloads").iterdir())
    for path in [data_dir, *data_dir.rglob("*")]:
        path.chmod(0o755)


# --- archives, on small ones of the same make ----------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """Return an array as an idx file of unsigned bytes."""
    header = [8, array.ndim] + [byte for size in array.shape for byte in size.to_bytes(4, "big")]
    return bytes([0, 0, *header]) + array.astype(np.uint8).tobytes()


@pytest.fixture
def small_kmnist(monkeypatch, unreachable):
    """Make torchvision's KMNIST four small files that cannot be downloaded; return them by name."""
    from torchvision.datasets import KMNIST

    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (5, 28, 28)),
        "train-labels-idx1-ubyte": np.arange(5),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (2, 28, 28)),
        "t10k-labels-idx1-ubyte": np.array([7, 3]),
    }
    files = {f"{name}.gz": gzip.compress(idx(array), mtime=0) for name, array in arrays.items()}
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(KMNIST, "resources", resources)
    monkeypatch.setattr(KMNIST, "mirrors", [unreachable])
    return files


def write(files: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def check_kmnist(images: Images) -> None:
    assert images.train_x.shape == (5, 1, 28, 28)
    assert images.train_x.dtype == images.test_x.dtype == np.uint8
    assert images.train_y.dtype == images.test_y.dtype == np.int64
    assert images.train_y.tolist() == [0, 1, 2, 3, 4]
    assert images.test_y.tolist() == [7, 3]
    assert images.train_x.sum() == np.random.default_rng(0).integers(0, 256, (5, 28, 28)).sum()


def decode(name: str, folders: tuple[Path, Path]) -> Images:
    return datasets.get(name)().decode(*folders)


@pytest.fixture
def mirror(tmp_path, small_kmnist, monkeypatch):
    """Serve an empty folder as the mirror of KMNIST; return the folder."""
    from torchvision.datasets import KMNIST

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    folder = tmp_path / "mirror"
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(KMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        yield folder
        server.shutdown()


def test_archives_in_the_data_directory(folders, small_kmnist, capfd):
    data_dir, work_dir = folders
    write(small_kmnist, data_dir / "KMNIST" / "raw")
    before = snapshot(data_dir)
    check_kmnist(decode("kmnist", folders))
    assert snapshot(data_dir) == before
    assert not list(work_dir.iterdir())
    assert capfd.readouterr().out == ""


def test_unpacked_files_alone_are_enough(folders, small_kmnist):
    unpacked = {name.removesuffix(".gz"): gzip.decompress(file) for name, file in small_kmnist.items()}
    write(unpacked, folders[0] / "KMNIST" / "raw")
    before = snapshot(folders[0])
    check_kmnist(decode("kmnist", folders))
    assert snapshot(folders[0]) == before


def test_missing_archives_are_downloaded_once(folders, small_kmnist, mirror, capfd):
    data_dir, work_dir = folders
    labels = "train-labels-idx1-ubyte.gz"
    write({labels: small_kmnist[labels]}, data_dir / "KMNIST" / "raw")
    before = snapshot(data_dir)
    write({name: file for name, file in small_kmnist.items() if name != labels}, mirror)
    check_kmnist(decode("kmnist", folders))
    kept = {path.name for path in work_dir.rglob("*") if path.is_file()}
    assert kept == set(small_kmnist) - {labels}
    assert snapshot(data_dir) == before
    assert capfd.readouterr().out == ""

    shutil.rmtree(mirror)
    check_kmnist(decode("kmnist", folders))


def test_what_was_downloaded_before_a_failure_is_kept(folders, small_kmnist, mirror):
    labels = "train-labels-idx1-ubyte.gz"  # the second of four
    write({**small_kmnist, labels: b"garbage"}, mirror)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz \(missing\)"):
        decode("kmnist", folders)
    assert [path.name for path in folders[1].rglob("*.gz")] == ["train-images-idx3-ubyte.gz"]
    assert not list(folders[1].glob(".*"))


def test_no_network_says_what_is_missing_and_where_it_belongs(folders, small_kmnist):
    with pytest.raises(DataError) as caught:
        load(datasets.get("kmnist")(), *folders)
    message = str(caught.value)
    assert "'kmnist'" in message
    assert "Connection refused" in message
    assert f"below {folders[0]}, or choose another data directory: " in message
    for name in small_kmnist:
        assert f"KMNIST/raw/{name} (missing)" in message
    assert "\n" not in message


def test_broken_archive_is_named_and_left_alone(folders, small_kmnist):
    raw = folders[0] / "KMNIST" / "raw"
    broken = "t10k-images-idx3-ubyte.gz"
    write({**small_kmnist, broken: small_kmnist[broken][:-9]}, raw)
    before = snapshot(raw)
    with pytest.raises(DataError) as caught:
        decode("kmnist", folders)
    assert f"KMNIST/raw/{broken} (damaged)" in str(caught.value)
    assert "train-images" not in str(caught.value).split("data directory: ")[1]
    assert snapshot(raw) == before


def test_broken_unpacked_file(folders, small_kmnist):
    unpacked = {name.removesuffix(".gz"): gzip.decompress(file) for name, file in small_kmnist.items()}
    unpacked["train-images-idx3-ubyte"] = unpacked["train-images-idx3-ubyte"][:-1]
    write(unpacked, folders[0] / "KMNIST" / "raw")
    with pytest.raises(DataError, match="unpacked files there are incomplete or damaged"):
        decode("kmnist", folders)


def test_whole_files_of_the_wrong_length_are_refused(folders, small_kmnist):
    write(small_kmnist, folders[0] / "KMNIST" / "raw")
    with pytest.raises(DataError, match=r"'kmnist' are not the published ones.*train_x \(5, 1, 28, 28\)"):
        load(datasets.get("kmnist")(), *folders)
    assert not is_cached(datasets.get("kmnist")(), folders[1])


@pytest.fixture(params=["cifar10", "cifar100"])
def small_cifar(request, monkeypatch, unreachable):
    """Make one of torchvision's CIFAR classes a small archive; return name, archive and members."""
    import torchvision

    name = request.param
    source = getattr(torchvision.datasets, name.upper())
    label_key = "labels" if name == "cifar10" else "fine_labels"
    rng = np.random.default_rng(0)

    def batch(num: int) -> bytes:
        return pickle.dumps({"data": rng.integers(0, 256, (num, 3072), np.uint8), label_key: [*range(num)]})

    members = {file: batch(2) for file, _ in (*source.train_list, *source.test_list)}
    members[source.meta["filename"]] = pickle.dumps({source.meta["key"]: ["a", "b"]})
    md5 = {file: hashlib.md5(content).hexdigest() for file, content in members.items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file, content in members.items():
            entry = tarfile.TarInfo(f"{source.base_folder}/{file}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    for parts in ("train_list", "test_list"):
        monkeypatch.setattr(source, parts, [(file, md5[file]) for file, _ in getattr(source, parts)])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": md5[source.meta["filename"]]})
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5(packed.getvalue()).hexdigest())
    monkeypatch.setattr(source, "url", unreachable + source.filename)
    return name, {source.filename: packed.getvalue()}, source.base_folder, members


@pytest.mark.parametrize("form", ["archive", "unpacked"])
def test_cifar(folders, small_cifar, form):
    name, archive, base_folder, members = small_cifar
    write(*((archive, folders[0]) if form == "archive" else (members, folders[0] / base_folder)))
    before = snapshot(folders[0])

    images = decode(name, folders)

    num_batches = len(members) - 2  # all but the test batch and the names
    assert images.train_x.shape == (2 * num_batches, 3, 32, 32)
    assert images.train_y.tolist() == [0, 1] * num_batches
    assert images.test_y.dtype == np.int64
    first = pickle.loads(next(iter(members.values())))["data"][0]
    assert np.array_equal(images.train_x[0].ravel(), first)  # rows of a batch are C, H, W
    assert snapshot(folders[0]) == before
    assert not list(folders[1].iterdir())


def test_broken_cifar_archive(folders, small_cifar):
    name, archive, _, _ = small_cifar
    ((file, content),) = archive.items()
    write({file: content[:100]}, folders[0])
    with pytest.raises(DataError, match=rf"{name}.*below .*: {file} \(damaged\)"):
        decode(name, folders)


@pytest.fixture
def small_svhn(monkeypatch, unreachable):
    """Make torchvision's SVHN three small files that cannot be downloaded; return them by name."""
    import scipy.io
    from torchvision.datasets import SVHN

    rng = np.random.default_rng(0)
    files, split_list = {}, {}
    for part, num in (("train", 4), ("test", 2), ("extra", 3)):
        x = rng.integers(0, 256, (32, 32, 3, num), np.uint8)  # (H, W, C, N)
        packed = io.BytesIO()
        scipy.io.savemat(packed, {"X": x, "y": np.arange(10, 10 - num, -1, dtype=np.uint8)[:, None]})
        file = f"{part}_32x32.mat"
        files[file] = packed.getvalue()
        split_list[part] = [unreachable + file, file, hashlib.md5(files[file]).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", split_list)
    return files


@pytest.mark.parametrize("extra", [False, True])
def test_svhn(folders, small_svhn, extra):
    write({name: file for name, file in small_svhn.items() if extra or "extra" not in name}, folders[0])
    before = snapshot(folders[0])

    images = datasets.get("svhn")(extra=extra).decode(*folders)

    # 10 stands for the digit 0 in the files
    assert images.train_y.tolist() == [0, 9, 8, 7] + extra * [0, 9, 8]
    assert images.test_y.tolist() == [0, 9]
    assert images.train_y.dtype == images.test_y.dtype == np.int64
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (32, 32, 3, 4), np.uint8)[..., 0]  # (H, W, C)
    assert np.array_equal(images.train_x[0], first.transpose(2, 0, 1))
    assert images.train_x.shape == (7 if extra else 4, 3, 32, 32)
    assert images.train_x.dtype == np.uint8
    assert images.test_x.shape == (2, 3, 32, 32)
    assert snapshot(folders[0]) == before
    assert not list(folders[1].iterdir())


def test_svhn_is_another_data_set_with_the_extra_images():
    plain, extra = datasets.get("svhn")(), datasets.get("svhn")(extra=True)
    assert (plain.spec.num_train, extra.spec.num_train) == (73_257, 604_388)
    assert plain.spec.num_test == extra.spec.num_test == 26_032
    assert plain.spec.mean != extra.spec.mean
    assert canonical(extra) == {"extra": True}


def test_missing_and_damaged_svhn_files_are_named(folders, small_svhn):
    write({"train_32x32.mat": small_svhn["train_32x32.mat"][:-1]}, folders[0])
    with pytest.raises(DataError) as caught:
        decode("svhn", folders)
    assert "train_32x32.mat (damaged), test_32x32.mat (missing)" in str(caught.value)
    assert "extra" not in str(caught.value)


# --- the cache ---------------------------------------------------------------------------------


def test_cache_is_decoded_once(folders):
    toy = Toy()
    assert not is_cached(toy, folders[1])
    first = load(toy, *folders)
    second = load(toy, *folders)
    assert is_cached(toy, folders[1])
    assert num_decodes(folders[0]) == 1
    assert equal(first, second)
    assert all(isinstance(array, np.memmap) for array in second)


def test_writing_to_the_images_leaves_the_cache_alone(folders):
    images = load(Toy(), *folders)
    images.train_x[:] = 255
    again = load(Toy(), *folders)
    assert again.train_x.max() < 255
    assert num_decodes(folders[0]) == 1


def test_options_have_a_cache_of_their_own(folders):
    plain, filled = load(Toy(), *folders), load(Toy(fill=1), *folders)
    assert np.array_equal(plain.train_x + 1, filled.train_x)
    assert equal(plain, load(Toy(), *folders))
    assert num_decodes(folders[0]) == 2


@settings(max_examples=40, deadline=None)
@given(
    part=st.sampled_from(Images._fields), at=st.floats(0, 1, exclude_max=True), garbage=st.binary(max_size=8)
)
def test_damaged_cache_is_made_anew(part, at, garbage):
    with tempfile.TemporaryDirectory() as folder:
        data_dir = cache_dir = Path(folder)
        whole = load(Toy(), data_dir, cache_dir)
        kept = [np.array(array) for array in whole]
        (file,) = cache_dir.rglob(f"{part}.npy")
        content = file.read_bytes()
        file.unlink()  # not under the maps that are open
        file.write_bytes((content[: int(at * len(content))] + garbage)[: len(content) - 1])  # always shorter
        assert not is_cached(Toy(), cache_dir)
        assert equal(load(Toy(), data_dir, cache_dir), Images(*kept))
        assert num_decodes(data_dir) == 2


@pytest.mark.parametrize("part", Images._fields)
def test_a_cache_with_other_bytes_is_made_anew(folders, part):
    whole = [np.array(array) for array in load(Toy(), *folders)]
    (file,) = folders[1].rglob(f"{part}.npy")
    array = np.load(file)
    file.unlink()
    np.save(file, np.roll(array, 1))  # right in shape and range
    assert equal(load(Toy(), *folders), Images(*whole))
    assert num_decodes(folders[0]) == 2


def test_a_cache_without_digests_is_made_anew(folders):
    load(Toy(), *folders)
    data._sound.clear()
    (file,) = folders[1].rglob("digests.json")
    file.unlink()
    load(Toy(), *folders)
    load(Toy(), *folders)
    assert num_decodes(folders[0]) == 2


def test_a_process_checks_the_digests_once(folders, monkeypatch):
    load(Toy(), *folders)
    monkeypatch.setattr(data, "_digest", None)  # calling it would raise
    load(Toy(), *folders)
    assert num_decodes(folders[0]) == 1


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_outside_of_the_classes_are_refused(folders, monkeypatch, label):
    images = Toy().decode(folders[0], folders[1])
    images.test_y[1] = label
    monkeypatch.setattr(Toy, "decode", lambda *_: images)
    with pytest.raises(DataError, match=rf"^data set 'toy' has a label {label}; its classes are 0..2$"):
        load(Toy(), *folders)
    assert not is_cached(Toy(), folders[1])


def test_cache_of_another_shape_is_made_anew(folders):
    load(Toy(), *folders)
    (file,) = folders[1].rglob("test_y.npy")
    np.save(file, np.zeros(4, dtype=np.int64))
    assert load(Toy(), *folders).test_y.tolist() == [0, 1, 2]


def run_python(code: str, folders: tuple[Path, Path]) -> subprocess.Popen[str]:
    """Start a process in which `data_dir` and `cache_dir` are set and the imports done."""
    head = (
        "import os, signal, sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from toy_dataset import Toy\nfrom trainer.data import load\n"
        "data_dir, cache_dir = map(Path, sys.argv[1:])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", head + code, *map(str, folders)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
        stdout=subprocess.PIPE,
        text=True,
    )


def put_sum(dataset, folders, sums):
    sums.put(load(dataset, *folders).train_x.sum())


def test_processes_at_once_decode_once(folders):
    toy = Toy(decode_seconds=0.5)
    sums = CONTEXT.SimpleQueue()
    processes = [CONTEXT.Process(target=put_sum, args=(toy, folders, sums)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert {sums.get() for _ in processes} == {load(toy, *folders).train_x.sum()}
    assert num_decodes(folders[0]) == 1


@pytest.mark.parametrize("killed_in", ["Toy.decode", "np.save"])
def test_kill_in_the_middle_leaves_nothing_in_the_way(folders, killed_in):
    code = (
        "done = []\nsave = np.save\n"
        "def die(*args, **kwargs):\n"
        "    done.append(args)\n"
        "    if len(done) == 3 or not isinstance(args[-1], np.ndarray):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    save(*args, **kwargs)\n"
        f"{killed_in} = die\n"
        "load(Toy(), data_dir, cache_dir)"
    )
    process = run_python(code, folders)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not is_cached(Toy(), folders[1])

    assert load(Toy(), *folders).test_y.tolist() == [0, 1, 2]
    assert sorted(path.name for path in (folders[1] / "datasets").iterdir()) == ["toy-v1", "toy.lock"]


def test_unwritable_cache_directory(folders):
    blocked = folders[1] / "file"
    blocked.touch()
    with pytest.raises(DataError, match=r"'toy' cannot be decoded into .*another cache directory"):
        load(Toy(), folders[0], blocked / "below")
    assert not is_cached(Toy(), blocked / "below")


def test_describing_data_needs_no_torch():
    code = "from trainer.datasets import datasets; datasets.names(); assert 'torch' not in sys.modules"
    process = run_python(code, (Path(), Path()))
    process.communicate(timeout=60)
    assert process.returncode == 0
