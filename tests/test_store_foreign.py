"""Files of somebody else under a store's names: every command says so in one line, none waits for ever."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import by_hand
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import cli
import gridrun
from gridrun.grid import load_grid
from gridrun.store import Store

pytestmark = pytest.mark.timeout(60)
GRID = """
base: {dataset: digits, model: {name: resnet_preact, depth: 8}, epochs: 1}
axes: [{batch_size: [128, 256]}]
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store with one of two trials in its Parquet files, in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gridrun.store.opened._LOOK_SECONDS", 0.0)  # how long to wait for sshfs
    (tmp_path / "small.yaml").write_text(GRID)
    made = Store(tmp_path / "results")
    made.create()
    made.add(by_hand.record(load_grid("small.yaml").rows[0], 0, test_error=0.1))
    made.compact(now=True)
    return made


def commands(store: Store) -> list[list[str]]:
    trial_id = load_grid("small.yaml").trials[0].trial_id
    return [
        ["status"],
        ["status", "small.yaml"],
        ["plan", "small.yaml"],
        ["table", "small.yaml"],
        ["plot", "small.yaml"],
        ["show", trial_id],
        ["why", "small", "1", "small.yaml"],
        ["report", "small.yaml", "--out", "page.html"],
        ["forget", trial_id],
        ["launch", "small.yaml", "--executor", "serial"],
    ]


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


OTHERS: dict[str, Callable[[Path], Any]] = {
    "FIFO": os.mkfifo,
    "socket": socket_at,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "directory": Path.mkdir,
    "link to itself": lambda path: path.symlink_to(path),
    "text": lambda path: path.write_text("hello"),
    "nothing": Path.touch,
}


def columns(**changed: Any) -> Callable[[Path], None]:
    """Return a function that replaces columns of a Parquet file, or takes them out (None)."""

    def change(path: Path) -> None:
        table = pq.read_table(path)
        for name, values in changed.items():
            table = table.drop_columns([name]) if name in table.column_names else table
            if values is not None:
                table = table.append_column(name, pa.array(values))
        pq.write_table(table, path)

    return change


def only(*names: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        pq.write_table(pq.read_table(path).select(names), path)

    return change


TRIALS = {
    "a number as id": columns(trial_id=[7]),
    "a number as status": columns(status=[1]),
    "a text as error": columns(test_error=["low"]),
    "a list as seed": columns(seed=[[0, 1]]),
    "a struct as commit": columns(commit=[{"a": 1}]),
    "a time as end": columns(ended_at=pa.array([0], pa.timestamp("us"))),
    "bytes as name": columns(config_id=[b"\xff"]),
    "three columns": only("trial_id", "status", "test_error"),
    "no ids": columns(trial_id=None),
}
EPOCHS = {
    "a text as loss": columns(train_loss=pa.array([], pa.string())),
    "no epochs": columns(epoch=None),
}


def refused_by_all(store: Store, name: str, *, but: tuple[str, ...] = ()) -> None:
    for words in commands(store):
        result = CliRunner().invoke(cli.main, words)
        if words[0] in but and result.exit_code == 0:
            continue
        assert result.exit_code == 2, (words, result.output, result.exception)
        assert result.stderr.startswith("Error: "), result.stderr
        assert str(store.root / name) in result.stderr
        assert "Traceback" not in result.output
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_no_table_but_something_else(store: Store, make: Callable[[Path], None]) -> None:
    store.trials_path.unlink()
    make(store.trials_path)
    refused_by_all(store, "trials.parquet")
    with pytest.raises(gridrun.errors.GridrunError, match=r"trials\.parquet"):
        gridrun.load_results()


@pytest.mark.parametrize("change", TRIALS.values(), ids=TRIALS)
def test_a_table_with_other_columns(store: Store, change: Callable[[Path], None]) -> None:
    change(store.trials_path)
    refused_by_all(store, "trials.parquet")
    with pytest.raises(gridrun.errors.GridrunError, match=r"trials\.parquet"):
        gridrun.load_results()


@pytest.mark.parametrize("change", [*OTHERS.values(), *EPOCHS.values()], ids=[*OTHERS, *EPOCHS])
def test_no_table_of_epochs(store: Store, change: Callable[[Path], None]) -> None:
    if change in OTHERS.values():
        store.epochs_path.unlink()
    change(store.epochs_path)
    refused_by_all(store, "epochs.parquet", but=("status", "plan", "table", "plot", "show", "why"))
    with pytest.raises(gridrun.errors.GridrunError, match=r"epochs\.parquet"):
        gridrun.load_epochs()


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_no_record_but_something_else(store: Store, make: Callable[[Path], None]) -> None:
    name = f".work/ended/{load_grid('small.yaml').trials[0].trial_id}.json"
    make(store.root / name)
    refused_by_all(store, name)


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_what_launches_and_users_say_is_left_out(store: Store, make: Callable[[Path], None]) -> None:
    """No result is in these files, so what is none of them does no harm."""
    trial_id = load_grid("small.yaml").trials[0].trial_id
    for name in (
        ".work/launches/0123456789abcdef.json",
        f".work/checkpoints/{trial_id}.pt.epoch",
        f".work/checkpoints/{trial_id}.pt",
        f"notes/{trial_id}.0123456789abcdef.json",
        f".work/leases/{trial_id}.0123456789abcdef",
        ".work/asked/small.0123",
    ):
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    store.launches.end("f" * 16)  # as at the end of another launch, which tidies up
    for words in commands(store)[:-2]:
        result = CliRunner().invoke(cli.main, words)
        assert result.exit_code == 0, (words, result.output, result.exception)
        assert "Traceback" not in result.output
