"""Records that no Parquet file can hold: they are named, and harm nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_store import record

from gridrun.errors import StoreError
from gridrun.store import Store


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    store.create()
    store.add(record(1))
    store.compact(now=True)
    return store


def plant(store: Store, **config: Any) -> Path:
    """Write a record as an older version, a foreign program or an attacker could."""
    one = record(2)
    path = store.root / ".work" / "ended" / f"{one.trial_id}.json"
    path.write_text(json.dumps(json.loads(one.to_json()) | {"config": config}))
    return path


@pytest.mark.parametrize("value", [nested(200), nested(9), {}, {"a": {}}, [{}], 2**63, [-(2**64)]])
def test_a_value_that_no_config_has_is_refused_and_named(store: Store, value: Any) -> None:
    before = store.trials_path.read_bytes()
    path = plant(store, lr=value)
    for use in (lambda: store.compact(now=True), store.rows, store.statuses):
        with pytest.raises(StoreError, match=rf"{path}: not a trial record: config: lr: .* Move it away"):
            use()
    assert store.trials_path.read_bytes() == before
    path.unlink()
    assert store.statuses() == {record(1).trial_id: "done"}


@pytest.mark.parametrize(
    "value", [None, True, 1, -(2**63), 0.5, "text", [1, 2], [[0.0, 0.1], [1.0, 0.2]], []]
)
def test_values_that_configs_have_are_stored(store: Store, value: Any) -> None:
    plant(store, option=value)
    store.compact(now=True)
    assert store.rows()[record(2).trial_id]["option"] == value


def test_what_arrow_cannot_write_is_set_aside_and_the_others_are_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridrun.store.records._is_option", lambda value: True)  # what the check overlooks
    path = plant(store, new={})
    store.add(record(3))
    with pytest.raises(
        StoreError, match=rf"trials\.parquet: cannot .*'new'.*Set aside as {path.with_suffix('.refused')}"
    ):
        store.compact(now=True)
    assert not path.exists()
    store.compact(now=True)
    assert set(store.statuses()) == {record(1).trial_id, record(3).trial_id}
    assert store.trials_table().num_rows == 2


def test_a_version_that_cannot_be_read_back_takes_no_place(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridrun.store.records._is_option", lambda value: True)
    path = plant(store, new=nested(200))
    before = store.trials_path.read_bytes()
    with pytest.raises(StoreError, match="cannot hold a new record"):
        store.compact(now=True)
    assert store.trials_path.read_bytes() == before
    assert path.with_suffix(".refused").exists()
    assert store.statuses() == {record(1).trial_id: "done"}
