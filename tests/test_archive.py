"""Export and verify: what one lab writes another can check, and nothing harms whoever checks."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cli
from gridrun.archive import container, verify
from gridrun.archive.container import ArchiveError, is_safe_name
from gridrun.grid import Grid, load_grid
from gridrun.store import Store
from gridrun.store.notes import Note
from gridrun.store.records import Provenance, Record
from gridrun.sweep.worker import identity_of
from gridrun.trial import Trial
from gridrun.verdicts import Pool
from trainer.metrics import Epoch

GRID = """
title: Two rates
include: _base/common.yaml
axes: [{lr: [0.1, 0.2]}]
seeds: 3
tables: [{columns: [lr, test_error], published: {file: published/rates.csv}, source: a paper}]
"""
FILES = {
    "rates.yaml": GRID,
    "_base/common.yaml": "base: {model: {name: resnet_preact, depth: 8}, epochs: 2}\n",
    "published/rates.csv": "lr,test_error,runs\n0.1,4.0,3\n",
}


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "study" / "grids" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "study" / "grids" / "rates.yaml"


def record(trial: Trial, error: float, **fields: Any) -> Record:
    curve = tuple(
        Epoch(
            epoch=n,
            lr=0.1,
            train_loss=1.0,
            train_error=0.5,
            test_loss=1.0,
            test_error=error,
            train_seconds=1.0,
        )
        for n in (1, 2)
    )
    made = Provenance(trainer_version=1, host="a", user="ann", device="cpu", commit="c" * 40, dirty=False)
    values = {"status": "done", "test_error": error, "epochs_trained": 2, "epochs": curve, "provenance": made}
    when = "2026-01-01T00:00:00.000+00:00"
    return Record(**identity_of(trial), ended_at=when, **(values | fields))


def store_of(root: Path, grid: Grid) -> Store:
    """Return a store with a result for each trial but the last: errors of 0.04, 0.05, ..."""
    store = Store(root)
    store.create()
    for number, trial in enumerate(grid.trials[:-1]):
        store.add(record(trial, 0.04 + number / 100))
    store.notes.add(Note(about=grid.trials[0].trial_id, text="warm", at="2026-01-01", by="ann"))
    return store


@pytest.fixture
def archive(grid: Path, tmp_path: Path) -> Path:
    store = store_of(tmp_path / "results", load_grid(grid))
    done = gridrun("export", grid, "--results", store.root, "-o", tmp_path / "rates.zip")
    assert done.exit_code == 0, done.output
    return tmp_path / "rates.zip"


def gridrun(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, list(map(str, arguments)))


def contents_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def rewrite(path: Path, changes: Mapping[str, bytes], *, honest: bool = True) -> None:
    """Write an archive with some other content; `honest`: with the digests of that."""
    contents = {**contents_of(path), **changes}
    manifest = json.loads(contents.pop(container.MANIFEST))
    listed = manifest.pop("files")
    container.write(path, manifest, contents)
    if not honest:
        manifest["files"] = listed
        with zipfile.ZipFile(path, "w") as opened:
            for name, data in {container.MANIFEST: json.dumps(manifest).encode(), **contents}.items():
                opened.writestr(name, data)


def test_an_archive_holds_all_that_a_table_is_made_of(archive: Path, tmp_path: Path) -> None:
    contents = contents_of(archive)
    assert {name for name in contents if name.startswith("grids/")} == {f"grids/{name}" for name in FILES}
    assert all(contents[f"grids/{name}"].decode() == text for name, text in FILES.items())
    assert len(contents["records.jsonl"].splitlines()) == 5
    assert json.loads(contents["notes.jsonl"])["text"] == "warm"
    assert re.search(r"\| +0\.1 \|", contents["tables.md"].decode())
    assert json.loads(contents["environment.json"])["packages"]["torch"]
    (tmp_path / "study").rename(tmp_path / "moved")  # the archive is all that is needed
    done = gridrun("verify", archive)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == f"{archive}: SHA-256 {hashlib.sha256(archive.read_bytes()).hexdigest()}"
    assert lines[2:] == [
        "      Two rates: 2 rows",
        "ok    8 files, each as it was exported",
        "ok    5 trials, each with the id of its config and seed; of 1 there is none",
        "ok    1 table, made again from the records",
    ]


def test_seeds_that_stop_by_themselves_are_those_that_the_records_ask_for(grid: Path, tmp_path: Path) -> None:
    grid.write_text(GRID.replace("seeds: 3", "seeds: {min: 3, max: 5, looks: [3, 5]}"))
    store = store_of(tmp_path / "results", load_grid(grid))  # a row of 3 runs far apart, one that lacks a run
    done = gridrun("export", grid, "--results", store.root, "-o", tmp_path / "auto.zip")
    assert done.exit_code == 0, done.output
    done = gridrun("verify", tmp_path / "auto.zip")
    assert done.exit_code == 0, done.output
    assert "ok    1 table, made again from the records" in done.stdout


def test_seeds_that_the_whole_store_decided_stay_as_they_were(grid: Path, tmp_path: Path) -> None:
    grid.write_text(GRID.replace("seeds: 3", "seeds: {min: 3, max: 5, looks: [3, 5]}"))
    row, other = load_grid(grid).rows
    store = Store(tmp_path / "results")
    store.create()
    elsewhere = load_grid(grid, {"epochs": 3}, seeds=8).rows[0]  # not exported, but it decides a verdict
    for trials, error in ((row.trials, 0.05), (other.trials[:2], 0.07), (elsewhere.trials, 0.05)):
        for number, trial in enumerate(trials):
            store.add(record(trial, error + number % 2 / 10_000))
    done = gridrun("export", grid, "--results", store.root, "-o", tmp_path / "auto.zip")
    assert done.exit_code == 0, done.output
    done = gridrun("verify", tmp_path / "auto.zip")
    assert done.exit_code == 0, done.output
    assert "of 1 there is none" in done.stdout
    counts = json.loads(contents_of(tmp_path / "auto.zip")[container.MANIFEST])["seed_counts"]
    assert counts == [{row.config_id: 3, other.config_id: 3}]


@pytest.mark.parametrize("counts", [None, [], [[]], [{}], [{"x": 3}], "4", "True", "10**9"], ids=str)
def test_seed_counts_that_no_look_has_are_refused(grid: Path, tmp_path: Path, counts: Any) -> None:
    grid.write_text(GRID.replace("seeds: 3", "seeds: {min: 3, max: 5, looks: [3, 5]}"))
    store = store_of(tmp_path / "results", load_grid(grid))
    path = tmp_path / "auto.zip"
    assert gridrun("export", grid, "--results", store.root, "-o", path).exit_code == 0
    contents = contents_of(path)
    manifest = json.loads(contents.pop(container.MANIFEST))
    if isinstance(counts, str):
        counts = [dict.fromkeys(manifest["seed_counts"][0], eval(counts))]
    container.write(path, {**manifest, "seed_counts": counts}, contents)
    _refused(path, "`seed_counts` does not fit its grids")


def test_row_options_come_along_as_data(grid: Path, archive: Path, tmp_path: Path) -> None:
    options = ["--seeds", "2", "--where", "lr=0.1", "--results", tmp_path / "results"]
    done = gridrun("export", grid, *options, "-o", tmp_path / "part.zip")
    assert done.exit_code == 0, done.output
    assert len(contents_of(tmp_path / "part.zip")["records.jsonl"].splitlines()) == 2
    assert "made again" in gridrun("verify", tmp_path / "part.zip").stdout


def test_anonymous_leaves_out_names(grid: Path, archive: Path, tmp_path: Path) -> None:
    trial, out = load_grid(grid).trials[-1], tmp_path / "nameless.zip"
    moves = "moved from cpu to cuda at step 2; moved from machine ann-pc to lab 7.example at step 2; paused"
    Store(tmp_path / "results").add(record(trial, 0.05, notes=moves))
    done = gridrun("export", grid, "--results", tmp_path / "results", "-o", out, "--anonymous")
    assert done.exit_code == 0
    assert b"ann" in contents_of(archive)["records.jsonl"]
    contents = contents_of(out)
    assert not any(name in data for data in contents.values() for name in (b'"ann"', b"ann-pc", b"lab 7"))
    note = "moved from cpu to cuda at step 2; moved to another machine at step 2; paused"
    assert note in contents["records.jsonl"].decode()
    assert gridrun("verify", out).exit_code == 0


def test_what_cannot_be_exported_is_named(grid: Path, tmp_path: Path) -> None:
    store_of(tmp_path / "results", load_grid(grid))
    other = tmp_path / "other" / "grids" / "rates.yaml"
    other.parent.mkdir(parents=True)
    other.write_text("base: {model: {name: resnet_preact, depth: 8}, epochs: 2}")
    for arguments, message in (
        ([grid, "--results", tmp_path / "none"], "no trial of these grids has ended"),
        ([grid, other, "--results", tmp_path / "results"], "would both be 'rates.yaml'"),
    ):
        done = gridrun("export", *arguments, "-o", tmp_path / "a.zip")
        assert (done.exit_code, message in done.stderr) == (2, True), done.output
        assert not (tmp_path / "a.zip").exists()


def test_tables_that_do_not_follow_are_shown(archive: Path) -> None:
    tables = json.loads(contents_of(archive)["tables.json"])
    tables[0]["lines"][1]["cells"]["test_error"]["median"] = 0.01
    tables[0]["notes"] = ["other notes are no finding"]
    rewrite(archive, {"tables.json": json.dumps(tables).encode()})
    done = gridrun("verify", archive)
    assert done.exit_code == 1
    assert "WRONG 1 table" in done.stdout
    assert "tables[0].lines[1].cells.test_error.median: 0.01 in the file, 0.075" in done.stdout


def test_tables_for_readers_that_do_not_follow_are_shown(archive: Path) -> None:
    markdown = contents_of(archive)["tables.md"].decode()
    (line,) = re.findall(r"^\| +0\.1 \|.*$", markdown, re.MULTILINE)
    noted = markdown + "- other notes are no finding\n"
    rewrite(archive, {"tables.md": noted.encode()})
    assert gridrun("verify", archive).exit_code == 0
    for forged in (
        markdown.replace(line, re.sub(r"\d+\.\d\d", "1.50", line, count=1)),
        f"Ours is the best.\n{markdown}",
        "",
    ):
        assert forged != markdown
        rewrite(archive, {"tables.md": forged.encode()})
        done = gridrun("verify", archive)
        assert (done.exit_code, "WRONG 1 table" in done.stdout, "tables.md" in done.stdout) == (1, True, True)


def _records_with(archive: Path, **fields: Any) -> bytes:
    first, *others = contents_of(archive)["records.jsonl"].splitlines()
    return b"\n".join([json.dumps({**json.loads(first), **fields}).encode(), *others])


TAMPERED: dict[str, tuple[Callable[[Path], Mapping[str, bytes]], str]] = {
    "another seed": (
        lambda a: {"records.jsonl": _records_with(a, seed=7)},
        "not that of its config and seed",
    ),
    "another config": (
        lambda a: {"records.jsonl": _records_with(a, config_json='{"lr": 9}')},
        "not the one that its id",
    ),
    "NaN": (lambda a: {"records.jsonl": _records_with(a, test_error=float("nan"))}, "not a trial record"),
    "twice": (
        lambda a: {"records.jsonl": 2 * contents_of(a)["records.jsonl"]},
        "is there twice",
    ),
    "an id that leads out": (lambda a: {"records.jsonl": _records_with(a, trial_id="../x")}, "no trial id"),
    "no text": (lambda a: {"records.jsonl": b"\xff"}, "is not UTF-8"),
    "deep": (lambda a: {"tables.json": b"[" * 100_000}, "no JSON"),
    "no tables": (lambda a: {"tables.json": b"1"}, "no list of tables"),
    "a grid that leads out": (
        lambda a: {"grids/rates.yaml": b"include: ../../../../etc/passwd"},
        "must be a relative path that stays within grids/",
    ),
    "a grid that is none": (lambda a: {"grids/rates.yaml": b"{"}, "grids/rates.yaml:"),
    "a note about nothing": (
        lambda a: {"notes.jsonl": b'{"about": "x", "text": "", "at": ""}'},
        "a note is about",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_no_export_writes_is_refused_even_with_right_digests(name: str, archive: Path) -> None:
    change, message = TAMPERED[name]
    rewrite(archive, change(archive))
    _refused(archive, message)


def _refused(archive: Path, message: str) -> None:
    done = gridrun("verify", archive)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.output
    assert "/tmp/gridrun-" not in done.output


def test_a_changed_file_is_found_by_its_digest(archive: Path) -> None:
    text = FILES["rates.yaml"].encode().replace(b"a paper", b"another")
    rewrite(archive, {"grids/rates.yaml": text}, honest=False)
    _refused(archive, "grids/rates.yaml was changed after it was exported")


def test_a_file_too_many_and_one_too_few(archive: Path) -> None:
    rewrite(archive, {"grids/more.yaml": b""}, honest=False)
    _refused(archive, "its manifest does not name, 'grids/more.yaml'")


def _entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


HOSTILE = {
    "../outside": "is not the name of a file",
    "/etc/passwd": "is not the name of a file",
    "grids/../../x": "is not the name of a file",
    "grids/a\\b": "is not the name of a file",
    "grids/C:x": "is not the name of a file",
    "grids/\x1b[2J": "is not the name of a file",
    "grids/": "is not the name of a file",
    "other/x.yaml": "is not the name of a file",
    "grids/rates.yaml/x": "a file and a folder, of one name",
    "grids/RATES.yaml": "has two files",
}


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_names_that_lead_elsewhere_are_refused(name: str, archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(_entry(name), b"x")
    _refused(archive, HOSTILE[name])


def test_links_and_bombs_and_rubbish_are_refused(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = archive.read_bytes()
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(_entry("grids/link.yaml", stat.S_IFLNK | 0o777), b"/etc/passwd")
    _refused(archive, "is a link")
    archive.write_bytes(sound)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_BZIP2) as opened:
        opened.writestr("grids/a.yaml", b"x")
    _refused(archive, "packed in a way")
    for damaged in (b"", b"PK", sound[:-30], sound[:200] + b"\0" * 50 + sound[250:], b"x" * 1000):
        archive.write_bytes(damaged)
        _refused(archive, "zip archive")
    archive.write_bytes(sound)
    monkeypatch.setattr(container, "MAX_BYTES", 5000)
    _refused(archive, "holds more than")  # once unpacked: the file itself is smaller
    monkeypatch.setattr(container, "MAX_BYTES", 100)
    _refused(archive, "is larger than")


def test_an_entry_that_says_it_is_smaller_gives_no_more_than_it_says(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    size = len(contents_of(archive)["records.jsonl"])
    at = data.rindex(b"records.jsonl") - 46 + 24  # in the central directory
    assert int.from_bytes(data[at : at + 4], "little") == size
    data[at : at + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(data)
    _refused(archive, "zip archive")


def test_safe_names() -> None:
    assert all(map(is_safe_name, ("grids/a.yaml", "grids/_base/ü b.yaml", "records.jsonl", "gridrun.json")))
    assert not any(
        map(is_safe_name, ("", "x", "grids", "grids//a", "grids/ a", "grids/...", "grids/" + "a" * 101))
    )


# --- training again ---------------------------------------------------------------------------------


def compared(theirs: list[Record], ours: list[Record], spread: Pool | None) -> verify.Compared:
    config = load_config()
    return verify.compared(config, theirs, {each.trial_id: each for each in ours}, spread)


def load_config() -> Any:
    from gridrun.grid import lone_trial

    return lone_trial(["model.name=resnet_preact", "model.depth=8", "epochs=2"]).rows[0].config


def runs(*errors: float, **fields: Any) -> list[Record]:
    return [record(Trial(load_config(), seed), error, **fields) for seed, error in enumerate(errors)]


SPREAD = Pool(phi=1.0, degrees=40, rows=20, fit=1.0)


def test_rows_trained_again_are_judged_by_what_the_machine_allows() -> None:
    theirs = runs(0.04, 0.05, 0.06)
    elsewhere = Provenance(device="cuda")
    assert compared(theirs, runs(0.04, 0.05, 0.06), None).outcome == "equal"
    assert compared(theirs, runs(0.04, 0.05, 0.07), SPREAD).outcome == "differs", "same CPU, same code"
    compiled = [replace(one, compiled=True) for one in theirs]
    assert compared(compiled, runs(0.04, 0.05, 0.0605), SPREAD).outcome == "agrees", "rounds differently"
    near = compared(theirs, runs(0.045, 0.052, 0.06, provenance=elsewhere), SPREAD)
    # t(40; 0.9995) = 3.551; sigma = sqrt(.0523 * .9477 / 355) = .01182; 2 * .4487 / 1 under the root
    assert near.outcome == "agrees"
    assert near.text.endswith("5.20 % here, 5.00 % in the file; within the 3.98 points that runs may differ")
    far = runs(0.15, 0.16, 0.17, provenance=elsewhere)
    assert compared(theirs, far, SPREAD).outcome == "differs"
    assert compared(theirs, far, None).outcome == "open"
    failed = [*runs(0.04, 0.05), replace(theirs[2], status="failed", error="no memory")]
    assert compared(theirs, failed, SPREAD).text == "seed 2: done in the file, here failed (no memory)"


def test_rows_are_trained_again(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    path = tmp_path / "grids" / "one.yaml"
    path.parent.mkdir()
    path.write_text("base: {model: {name: resnet_preact, depth: 8}, epochs: 1, train_size: 256}\n")
    options = ["--results", tmp_path / "results", "--executor", "serial", "--gpus", "0"]
    assert gridrun("launch", path, *options).exit_code == 0
    archive = tmp_path / "one.zip"
    assert gridrun("export", path, "--results", tmp_path / "results", "-o", archive).exit_code == 0
    done = gridrun("verify", archive, "--retrain", "3", "--gpus", "0")
    assert done.exit_code == 0, done.output
    assert "the same numbers in every epoch of 1 trial" in done.stdout
    line = json.loads(contents_of(archive)["records.jsonl"])
    line["epochs"][0]["test_error"] = line["test_error"] = 0.0
    store = Store(tmp_path / "forged")
    store.create()
    store.add(Record.from_json(json.dumps(line)))
    assert gridrun("export", path, "--results", store.root, "-o", archive).exit_code == 0
    assert gridrun("verify", archive).exit_code == 0, "what is forged whole only training shows"
    done = gridrun("verify", archive, "--retrain", "1", "--gpus", "0")
    assert "trained again" in done.stdout
    assert "the same numbers" not in done.stdout


def test_a_file_that_is_no_archive_raises_archive_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("records.jsonl", "")
    with pytest.raises(ArchiveError, match=r"has no gridrun\.json"):
        container.read(tmp_path / "a.zip")
    _refused(tmp_path / "none.zip", "no such file")
