"""What is on disk before what: a cut of power leaves no more than that.

`benchmarks/power_cut.py` makes such cuts.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gridrun.store import Store
from gridrun.store.records import Record
from trainer import files

_steps: list[str] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _steps is not None and event == "os.rename":
        _steps.append(f"rename to {Path(os.fspath(arguments[1])).name}")
    if _steps is not None and event == "os.remove":
        _steps.append(f"remove {Path(os.fspath(arguments[0])).name}")


sys.addaudithook(_hear)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is synced, renamed and removed, in order; partial files by what they are to become."""
    global _steps
    sync, seen = os.fsync, []

    def noted(handle: int) -> None:
        sync(handle)
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        seen.append(f"sync {name[1:].partition('-')[0] if name.endswith('.partial') else name}")

    monkeypatch.setattr(os, "fsync", noted)
    _steps = seen
    yield seen
    _steps = None


RECORD = Record(
    trial_id=f"{1:016x}",
    config_id=f"{1:016x}",
    seed=0,
    status="done",
    config={"lr": 0.1},
    config_json="{}",
    ended_at="2026-01-01T00:00:00.000000+00:00",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    store.create()
    return store


def test_a_record_that_was_added_is_on_disk(store: Store, steps: list[str]) -> None:
    store.add(RECORD)
    name = f"{RECORD.trial_id}.json"
    assert [step for step in steps if not step.startswith("remove")] == [
        f"sync {name}",
        f"rename to {name}",
        "sync ended",
    ]


def test_a_record_goes_once_both_files_have_it_on_disk(store: Store, steps: list[str]) -> None:
    store.add(RECORD)
    steps.clear()
    store.compact(now=True)
    kept = [step for step in steps if "lock" not in step and not step.startswith("remove .")]
    assert kept[:6] == [
        "sync epochs.parquet",
        "rename to epochs.parquet",
        "sync results",
        "sync trials.parquet",
        "rename to trials.parquet",
        "sync results",
    ]
    assert re.fullmatch(rf"rename to {RECORD.trial_id}\.\w+\.taken", kept[6])
    assert kept[7] == kept[6].replace("rename to", "remove")


def test_what_is_synced_has_the_mode_that_it_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, modes = os.fsync, []

    def noted(handle: int) -> None:
        sync(handle)
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))

    monkeypatch.setattr(os, "fsync", noted)
    files.write_text(tmp_path / "file", "text")
    assert modes[0] == stat.S_IMODE((tmp_path / "file").stat().st_mode)
