"""Parquet files that grow: whoever has read a footer finds what it refers to in the next version too."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridrun.errors import StoreError
from gridrun.store import parquet
from trainer import files

TYPES = {"trial_id": str, "n": int}


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"trial_id": f"{number:016x}", "n": number, **more}


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    with files.temporary_beside(path) as partial:
        parquet.append(path, rows, TYPES, [row["trial_id"] for row in rows], partial)


def tidy(path: Path) -> bool:
    with files.temporary_beside(path) as partial:
        return parquet.tidy(path, partial)


def age(path: Path) -> None:
    """Let a file look as if nobody had touched it for a minute."""
    before = path.stat().st_mtime - 60
    os.utime(path, (before, before))


def content(path: Path) -> dict[str, int]:
    table = pd.read_parquet(path)
    assert table["trial_id"].is_unique
    return dict(zip(table["trial_id"], table["n"], strict=True))


STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 9), st.sampled_from([{}, {"depth": 3}, {"width": "x"}])),
    st.just("tidy"),
    st.just("age"),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25), most=st.integers(1, 6))
def test_what_an_old_footer_refers_to_is_in_the_next_version(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, steps: list[Any], most: int
) -> None:
    path = tmp_path_factory.mktemp("store") / "rows.parquet"
    monkeypatch.setattr(parquet, "MAX_ROW_GROUPS", most)
    monkeypatch.setattr(parquet, "TIDY_ROW_GROUPS", 1)
    monkeypatch.setattr(parquet, "SETTLED_SECONDS", 30)  # what `age` takes is more, what the steps take less
    expected: dict[str, int] = {}
    recent: list[bytes] = []  # versions whose footers a reader may still have
    for index, step in enumerate(steps):
        if step == "age":
            if path.exists():
                age(path)
            recent = []
            continue
        if path.exists():
            recent.append(path.read_bytes())
        if step == "tidy":
            tidy(path)
        else:
            _, number, more = step
            append(path, [row(number, **more) | {"n": index}])
            expected[row(number)["trial_id"]] = index
        for before in recent[-3:]:
            footer = pq.read_metadata(io.BytesIO(before))
            slow = pq.ParquetFile(path, metadata=footer, page_checksum_verification=True).read()
            assert slow.equals(pq.read_table(io.BytesIO(before)))
        if path.exists():
            assert content(path) == expected


def test_a_tidied_file_is_one_group_and_small(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for number in range(40):
        append(path, [row(number, depth=20, text="the same in all")])
    age(path)
    scattered = path.stat().st_size
    steps = 0
    while tidy(path):
        age(path)
        steps += 1
    assert steps <= 3
    assert pq.read_metadata(path).num_row_groups == 1
    assert path.stat().st_size < scattered / 8
    once = tmp_path / "once.parquet"
    append(once, [row(number, depth=20, text="the same in all") for number in range(40)])
    assert path.stat().st_size == once.stat().st_size
    assert content(path) == {row(number)["trial_id"]: number for number in range(40)}
    still = path.read_bytes()
    assert not tidy(path)
    assert path.read_bytes() == still


def test_a_fresh_version_is_not_moved_under_its_readers(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for number in range(20):
        append(path, [row(number)])
    assert tidy(path)
    waiting = path.read_bytes()
    assert tidy(path)
    assert path.read_bytes() == waiting
    age(path)
    assert tidy(path)  # its rows stand in front now; old bytes follow them
    waiting = path.read_bytes()
    assert tidy(path)
    assert path.read_bytes() == waiting
    age(path)
    assert not tidy(path)
    assert path.stat().st_size < len(waiting)


def test_where_there_is_no_file_there_is_nothing_to_tidy(tmp_path: Path) -> None:
    assert not tidy(tmp_path / "rows.parquet")
    assert not list(tmp_path.iterdir())


def test_what_is_stored_is_not_written_again_until_it_has_moved(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for number in range(20):
        append(path, [row(number)])
        assert pq.read_metadata(path).num_row_groups == number + 1
        age(path)
    assert tidy(path)  # its rows stand behind the bytes of older versions now
    age(path)
    append(path, [row(20)])
    assert pq.read_metadata(path).num_row_groups == 1
    assert content(path) == {row(number)["trial_id"]: number for number in range(21)}


def test_a_file_never_has_more_row_groups_than_the_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_ROW_GROUPS", 3)
    path = tmp_path / "rows.parquet"
    groups = []
    for number in range(5):
        append(path, [row(number)])
        groups.append(pq.read_metadata(path).num_row_groups)
    assert groups == [1, 2, 3, 1, 2]
    assert content(path) == {row(number)["trial_id"]: number for number in range(5)}


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_is_an_error_or_changes_nothing(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "rows.parquet"
    append(path, [row(number, depth=20, name=f"trial {number}") for number in range(30)])
    whole, table = path.read_bytes(), parquet.read(path)
    assert table is not None
    noticed = 0
    data_ends = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for place in range(4, data_ends, 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
        try:
            assert parquet.read(path) == table
        except StoreError:
            noticed += 1
    assert noticed > data_ends / 6


def test_only_the_rows_and_columns_asked_for_are_returned(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    append(path, [row(number, depth=number) for number in range(5)])
    table = parquet.read(path, ["depth"], [row(3)["trial_id"]])
    assert table is not None
    assert table.select(["trial_id", "depth"]).to_pylist() == [{"trial_id": row(3)["trial_id"], "depth": 3}]
    with pytest.raises(StoreError, match="has no column 'width'"):
        parquet.read(path, ["width"])
    assert parquet.read(tmp_path / "none.parquet") is None


def test_a_version_that_is_seen_with_the_length_of_the_one_before_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As through sshfs, by whoever looks first."""
    path = tmp_path / "rows.parquet"
    append(path, [row(0)])
    short = path.stat().st_size
    append(path, [row(1)])
    whole = path.read_bytes()
    assert len(whole) > short
    path.write_bytes(whole[:short])
    monkeypatch.setattr("gridrun.store.opened.time", SimpleNamespace(sleep=lambda _: path.write_bytes(whole)))
    append(path, [row(2)])
    assert content(path) == {row(number)["trial_id"]: number for number in range(3)}


def test_a_file_that_would_take_far_more_memory_than_results_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.parquet"
    append(path, [row(0, text="a" * 1000)])
    table = pq.read_table(path)
    many = pa.table({name: pa.repeat(table[name][0], 10**5) for name in table.column_names})
    many = many.replace_schema_metadata(table.schema.metadata)
    pq.write_table(many, path, compression="zstd")
    size = path.stat().st_size
    assert size < 10**5
    with pytest.raises(StoreError, match=rf"trials\.parquet: names 100000 rows in {size} bytes, which"):
        parquet.read(path)
    pq.write_table(
        many.slice(0, 1).set_column(2, "text", [["a" * 10**7]]).cast(table.schema), path, compression="zstd"
    )
    assert path.stat().st_size < 10**5
    with pytest.raises(StoreError, match=r"trials\.parquet: names 1 rows in \d+ bytes, which cannot be"):
        parquet.read(path)


@pytest.mark.parametrize("kind", ["text", "list", "struct"])
def test_one_long_text_in_many_rows_is_counted_in_each(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "any.parquet"
    append(path, [row(number) for number in range(20_000)])
    table = pq.read_table(path)
    long = pa.array(["".join(random.Random(1).choices("0123456789abcdef", k=100_000))], pa.string())
    texts = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), len(table)), long)
    if kind == "struct":
        texts = pa.StructArray.from_arrays([texts], ["text"])
    if kind == "list":
        texts = pa.ListArray.from_arrays(pa.array(range(len(table) + 1), pa.int32()), texts)
    table = table.append_column("text", texts)
    with pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"gridrun.format": "1"})
    assert pq.read_metadata(path).row_group(0).total_byte_size < 10**6  # harmless, says the footer
    refused = r"any\.parquet: would take 1,9\d\d MiB for its \d+ bytes, which cannot be results"
    with pytest.raises(StoreError, match=refused):
        parquet.read(path)
    with pytest.raises(StoreError, match=refused):
        append(path, [row(1)])
    names = parquet.read(path, ["n"])
    assert names
    assert len(names) == len(table)


def test_a_list_of_many_values_in_one_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "any.parquet"
    append(path, [row(0)])
    many = pa.ListArray.from_arrays(pa.array([0, 4 * 10**7], pa.int32()), pa.repeat(pa.scalar(1), 4 * 10**7))
    table = pq.read_table(path).append_column("list", many)
    pq.write_table(table.replace_schema_metadata({"gridrun.format": "1"}), path, compression="zstd")
    assert path.stat().st_size < 10**5
    with pytest.raises(StoreError, match=r"would take 305 MiB for its \d+ bytes, which cannot be"):
        parquet.read(path, ["n"])
