"""From records to tables: medians, notes, published values, and how each layout writes them."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gridrun import parquet
from gridrun.cells import Cell
from gridrun.columns import (
    COMPUTED,
    METRICS,
    format_column,
    format_option,
    format_percent,
    format_time,
    header_of,
    parse_time,
)
from gridrun.errors import GridError
from gridrun.grid import Grid, Published, Row, load_grid
from gridrun.grid.settings import known_keys
from gridrun.grid.table_specs import Reported, TableSpec, default_columns
from gridrun.layout import plain
from gridrun.records import TRIAL_TYPES, Provenance, Record
from gridrun.render import to_csv, to_json, to_markdown, to_text
from gridrun.store import Store
from gridrun.tables import Table, build_table, tables_of
from gridrun.trial import Trial
from trainer import TrainConfig
from trainer.augmentations.random_crop import RandomCrop
from trainer.datasets.cifar import Cifar10
from trainer.datasets.npz import Npz
from trainer.models import ModelOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeNet(ModelOptions):
    """A model that is only ever named."""

    name = "fake_net"
    depth: int = 20
    text: str = "FakeNet"

    @property
    def label(self) -> str:
        return f"{self.text}-{self.depth}"

    def build(self, data: Any) -> Any:
        raise AssertionError("a table builds no network")


@dataclass(frozen=True)
class Spec:
    rows: tuple[Row, ...]
    columns: tuple[str, ...] = ("batch_size", "test_error")
    published: Mapping[str, Published] = field(default_factory=dict)
    id: str = "linear_scaling"
    title: str = "Linear scaling"
    reported: tuple[Reported, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    spread: Any = None
    source: str | None = None


def row(name: str | None = None, *, model: FakeNet | None = None, **options: Any) -> Row:
    config = TrainConfig(model=model or FakeNet(), **{"dataset": Cifar10(), "epochs": 200, **options})
    return Row(config, name)


H200 = Provenance(
    commit="a" * 40, dirty=False, gpu="NVIDIA H200", device="cuda", torch_version="2.15.0", trainer_version=1
)
CPU = Provenance(
    commit="a" * 40,
    dirty=False,
    cpu="Xeon",
    device="cpu",
    threads=1,
    torch_version="2.15.0",
    trainer_version=1,
)


def record(
    row: Row, seed: int, status: Any = "done", *, provenance: Provenance = H200, **metrics: Any
) -> dict[str, Any]:
    trial = Trial(row.config, seed)
    return Record(
        trial_id=trial.trial_id,
        config_id=trial.config_id,
        seed=seed,
        status=status,
        config=row.config.flat(),
        config_json="{}",
        ended_at="2026-01-01T00:00:00.000+00:00",
        provenance=provenance,
        **metrics,
    ).row()


def records(*found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["trial_id"]: one for one in found}


def errors(row: Row, *test_errors: float) -> list[dict[str, Any]]:
    """Return one record a seed, from 0 on."""
    return [record(row, seed, test_error=value) for seed, value in enumerate(test_errors)]


def build(spec: Spec, seeds: Sequence[int], *found: dict[str, Any]) -> Table:
    """Return a table all of whose rows have these seeds."""
    rows = tuple(replace(one, seeds=tuple(seeds)) for one in spec.rows)
    return build_table(replace(spec, rows=rows), records(*found))  # type: ignore[arg-type]


def only_cell(table: Table, metric: str = "test_error") -> Cell:
    (line,) = table.lines
    return line.cells[metric]


# --- medians -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test_errors", "median"),
    [
        ([0.05], 0.05),
        ([0.05, 0.07], 0.06),
        ([0.09, 0.05, 0.06], 0.06),
        ([0.09, 0.05, 0.06, 0.07], 0.065),
        ([0.09, 0.05, 0.06, 0.5, 0.04], 0.06),
    ],
)
def test_median_of_the_seeds(test_errors: list[float], median: float) -> None:
    cell = only_cell(build(Spec((row(),)), range(len(test_errors)), *errors(row(), *test_errors)))
    assert cell.median == pytest.approx(median)
    assert (cell.n, cell.wanted) == (len(test_errors), len(test_errors))
    assert (cell.low, cell.high) == (min(test_errors), max(test_errors))


def test_spread_is_the_sample_standard_deviation() -> None:
    assert only_cell(build(Spec((row(),)), [0, 1, 2], *errors(row(), 0.1, 0.2, 0.3))).std == pytest.approx(
        0.1
    )
    assert only_cell(build(Spec((row(),)), [0], *errors(row(), 0.1))).std is None


def test_values_are_kept_by_seed() -> None:
    table = build(Spec((row(),)), [3, 7], record(row(), 7, test_error=0.2), record(row(), 3, test_error=0.1))
    assert only_cell(table).values == {3: 0.1, 7: 0.2}
    assert table.lines[0].trials == {seed: Trial(row().config, seed).trial_id for seed in (3, 7)}


def test_seeds_that_the_grid_does_not_ask_for_do_not_count() -> None:
    assert only_cell(build(Spec((row(),)), [0, 1], *errors(row(), 0.1, 0.2, 0.9))).median == pytest.approx(
        0.15
    )


def test_only_done_trials_give_values() -> None:
    table = build(
        Spec((row(),)),
        range(5),
        record(row(), 0, test_error=0.05),
        record(row(), 1, "diverged", test_error=0.9),
        record(row(), 2, "failed", test_error=0.8),
        record(row(), 4, test_error=0.07),
    )
    (line,) = table.lines
    assert line.cells["test_error"].median == pytest.approx(0.06)
    assert (line.done, line.diverged, line.failed, line.missing) == ((0, 4), (1,), (2,), (3,))


@pytest.mark.parametrize("absent", [None, math.nan, math.inf, -0.1, 1e300])
def test_a_value_that_was_not_measured_does_not_count(absent: float | None) -> None:
    found = [record(row(), 0, peak_memory_mib=absent), record(row(), 1, peak_memory_mib=900.0)]
    cell = only_cell(build(Spec((row(),), ("peak_memory_mib",)), [0, 1], *found), "peak_memory_mib")
    assert (cell.median, cell.n, cell.wanted) == (900.0, 1, 2)


# --- Markdown ----------------------------------------------------------------------------------


def test_markdown_of_a_whole_table() -> None:
    large, small = row(batch_size=4096, lr=3.2), row(batch_size=128, lr=0.1)
    columns = ("model", "batch_size", "lr", "schedule", "epochs", "test_error", "train_time")
    found = [
        *(
            record(large, seed, test_error=e, train_seconds=1320.0)
            for seed, e in enumerate([0.1057, 0.11, 0.1])
        ),
        record(small, 0, test_error=0.0491, train_seconds=5160.0),
        record(small, 2, test_error=0.0491, train_seconds=5160.0),
    ]
    golden = Path(__file__).parent / "golden" / "linear_scaling.md"
    table = build(Spec((large, small), columns), [0, 1, 2], *found)
    assert to_markdown(table) == golden.read_text(encoding="utf-8")


def test_one_seed_is_said_to_be_one_run() -> None:
    assert "| Test Error (1 run) |" in to_markdown(build(Spec((row(),)), [0], *errors(row(), 0.05)))


def test_markdown_of_a_table_that_has_not_run_shows_what_is_published() -> None:
    first, second = row(batch_size=4096), row(batch_size=128)
    spec = Spec(
        (first, second),
        ("batch_size", "test_error"),
        {
            first.config_id: Published({"test_error": 10.57}, 1),
            second.config_id: Published({"test_error": "7.2"}, 1),
        },
    )
    assert to_markdown(build(spec, [0, 1, 2])) == (
        "### Linear scaling\n"
        "\n"
        "| batch size | Test Error (median of 3 runs) | Published (1 run) | Difference |\n"
        "| ---------: | ----------------------------: | ----------------: | ---------: |\n"
        "|       4096 |                               |             10.57 |            |\n"
        "|        128 |                               |               7.2 |            |\n"
        "\n"
        "- not run yet\n"
    )


def test_every_line_of_a_markdown_table_has_the_same_width() -> None:
    rows = (row("深い網"), row("cafe\u0301", lr=0.2))
    table = to_markdown(build(Spec(rows, ("name", "lr", "test_error")), [0], *errors(rows[0], 0.05)))
    pipes = [[i for i, c in enumerate(line) if c == "|"] for line in to_markdown_lines(table)]
    assert {len(found) for found in pipes} == {4}
    # A wide character takes two columns and a combining one none.
    assert pipes[2][1] == pipes[0][1] - 3
    assert pipes[3][1] == pipes[0][1] + 1


MARKDOWN = MarkdownIt("commonmark").enable("table")


@given(
    st.lists(st.sampled_from([*"ab1 .:/@#$|\\`*_~[]()<>!&;^-+='\"", "http://x.y", "www.", "&amp;"])).map(
        "".join
    )
)
def test_a_renderer_shows_text_of_grid_files_as_it_is(text: str) -> None:
    one = row(text or None)
    found = {one.config_id: Published({"test_error": 5.0}, note=f"see {text}")}
    table = build(Spec((one,), ("name", "test_error"), found, title=text), [0])
    tokens = MARKDOWN.parse(to_markdown(table))
    pieces = [token.children or [] for token in tokens if token.type == "inline"]
    assert {piece.type for inline in pieces for piece in inline} <= {"text", "text_special"}
    heading, _, _, _, _, name, *_, note = ["".join(piece.content for piece in inline) for inline in pieces]
    assert heading == plain(text)
    assert name == plain(text or "FakeNet-20")
    assert note == plain(f"published: see {text}")


def to_markdown_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("<img src=x>", r"\<img src=x>"),
        ("two\nlines\ttab", "two lines tab"),
        ("*bold* _it_ `code`", r"\*bold\* \_it\_ \`code\`"),
        ("[x](javascript:y)", r"\[x\](javascript:y)"),
        ("snake_case & co", "snake_case & co"),
        ("&lt;", r"\&lt;"),
        ("red \x1b[31m\x07\x9bx\u202e!", r"red \[31mx!"),
        ("\ud800surrogate", "surrogate"),
    ],
)
def test_markdown_shows_text_of_grid_files_as_it_is(name: str, shown: str) -> None:
    spec = Spec((row(name),), ("name", "test_error"), title=name)
    heading, _, _, _, line, *_ = to_markdown(build(spec, [0])).splitlines()
    assert heading == f"### {shown}"
    assert line.startswith(f"| {shown} ")


# --- published values --------------------------------------------------------------------------


def published_table(values: Mapping[str, float | str], runs: int | None = None, **more: Any) -> Table:
    one = row()
    found = [record(one, seed, test_error=0.06, train_seconds=660.0) for seed in (0, 1, 2)]
    spec = Spec((one,), ("test_error", "train_time"), {one.config_id: Published(values, runs, **more)})
    return build(spec, [0, 1, 2], *found)


@pytest.mark.parametrize(
    ("published", "shown", "difference"),
    [
        (6.5, "6.50", "-0.50"),
        (5.46, "5.46", "+0.54"),
        (6, "6.00", "0.00"),
        (6.001, "6.00", "0.00"),
        ("5.5%", "5.5%", "+0.50"),
        ("6.37 (median of 5 runs)", "6.37 (median of 5 runs)", "-0.37"),
        ("4.26 +/- 0.23", "4.26 +/- 0.23", "+1.74"),
        ("6.82 (best 5.67)", "6.82 (best 5.67)", "-0.82"),
        ("N/A", "N/A", ""),
        ("6.43 (best), 6.61 +/- 0.16", "6.43 (best), 6.61 +/- 0.16", ""),
    ],
)
def test_difference_to_the_published_error(published: float | str, shown: str, difference: str) -> None:
    header, line = markdown_cells(published_table({"test_error": published}))
    assert header[1:3] == ["Published", "Difference"]
    assert line[1:3] == [shown, difference]


def test_a_difference_is_that_of_the_numbers_beside_it() -> None:
    one = row()  # a median of 4.885 % reads 4.89: it is 0.01 below 4.90 then, not 0.02
    found = {one.config_id: Published({"test_error": 4.9})}
    table = build(Spec((one,), ("test_error",), found), [0, 1], *errors(one, 0.0488, 0.0489))
    _, line = markdown_cells(table)
    assert line[:3] == ["4.89", "4.90", "-0.01"]


@given(st.integers(0, 100_000))
def test_a_half_is_rounded_up_as_it_reads_in_decimal(thousandths: int) -> None:
    hundredths = (thousandths + 5) // 10
    assert format_percent(thousandths / 100_000) == f"{hundredths // 100}.{hundredths % 100:02}"


def markdown_cells(table: Table) -> list[list[str]]:
    """Return header and lines of a table without its rule, cells stripped."""
    header, _, *lines = to_markdown_lines(to_markdown(table))
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in (header, *lines)]


def test_times_have_no_difference() -> None:
    table = published_table({"train_time": "10m"})
    assert markdown_cells(table) == [
        ["Test Error (median of 3 runs)", "Training Time", "Published"],
        ["6.00", "11m", "10m"],
    ]
    assert only_cell(table, "train_time").published == 600
    assert "published Training Time: on the authors' own hardware, so no difference is shown" in table.notes


@pytest.mark.parametrize(
    ("runs", "published", "verdict"),
    [
        ([], 6.0, None),
        ([0.06], 6.0, "too few runs"),
        ([0.06, 0.06], 6.0, "too few runs"),
        ([0.058, 0.06, 0.063], 6.1, "within spread"),
        ([0.058, 0.06, 0.063], 5.8, "within spread"),
        ([0.058, 0.06, 0.063], "6.3 (1 run)", "within spread"),
        ([0.058, 0.06, 0.063], 5.79, "differs"),
        ([0.058, 0.06, 0.063], 6.31, "differs"),
        ([0.06004, 0.06004, 0.06004], 6.0, "within spread"),  # as printed, all are 6.00
        ([0.06006, 0.06006, 0.06006], 6.0, "differs"),
        ([0.058, 0.06, 0.063], "~6.0", None),
    ],
)
def test_verdict(runs: list[float], published: float | str, verdict: str | None) -> None:
    one = row()
    spec = Spec((one,), ("test_error", "train_time"), {one.config_id: Published({"test_error": published})})
    table = build(spec, range(4), *errors(one, *runs))
    assert only_cell(table).verdict == verdict
    header, line = markdown_cells(table)
    assert ("Verdict" in header) == (verdict is not None)
    assert any(note.startswith("Verdict: ") for note in table.notes) == (verdict is not None)
    if verdict:
        assert line[header.index("Verdict")] == verdict


def test_times_have_no_verdict() -> None:
    assert only_cell(published_table({"train_time": "10m"}), "train_time").verdict is None


@given(st.lists(st.floats(0, 1), min_size=3, max_size=9), st.floats(0, 1))
def test_a_value_that_one_of_the_runs_had_is_within_their_spread(runs: list[float], other: float) -> None:
    def verdict(published: float) -> str | None:
        spec = Spec((row(),), published={row().config_id: Published({"test_error": 100 * published})})
        return only_cell(build(spec, range(len(runs)), *errors(row(), *runs))).verdict

    assert verdict(runs[0]) == "within spread"
    assert (verdict(other) == "within spread") == (
        round(100 * min(runs), 2) <= round(100 * other, 2) <= round(100 * max(runs), 2)
    )


# --- spread ------------------------------------------------------------------------------------


def spread_table(spread: str | None, *runs: float, wanted: int = 3) -> Table:
    found = [
        record(row(), seed, test_error=error, train_seconds=600 * (seed + 1), num_params=10)
        for seed, error in enumerate(runs)
    ]
    return build(
        Spec((row(),), ("test_error", "train_time", "num_params"), spread=spread), range(wanted), *found
    )


@pytest.mark.parametrize(
    ("spread", "runs", "header", "cells"),
    [
        (None, (0.05, 0.06, 0.08), "Test Error (median of 3 runs)", ["6.00", "20m", "10"]),
        (
            "minmax",
            (0.05, 0.06, 0.08),
            "Test Error (median of 3 runs, min–max)",
            ["6.00 (5.00–8.00)", "20m (10m–30m)", "10"],
        ),
        (
            "std",
            (0.05, 0.06, 0.07),
            "Test Error (median of 3 runs ± std)",
            ["6.00 ± 1.00", "20m ± 10m", "10"],
        ),
        (
            "minmax",
            (0.05, 0.07),
            "Test Error (median of 3 runs, min–max)",
            ["6.00 (5.00–7.00; 2 of 3 runs)", "15m (10m–20m; 2 of 3 runs)", "10"],
        ),
        (
            "minmax",
            (0.05,),
            "Test Error (median of 3 runs)",
            ["5.00 (1 of 3 runs)", "10m (1 of 3 runs)", "10"],
        ),
        ("std", (0.05,), "Test Error (median of 3 runs)", ["5.00 (1 of 3 runs)", "10m (1 of 3 runs)", "10"]),
    ],
)
def test_spread_beside_the_median(
    spread: str | None, runs: tuple[float, ...], header: str, cells: list[str]
) -> None:
    first, second = markdown_cells(spread_table(spread, *runs))
    assert first[0] == header
    assert second == cells
    assert header in to_text(spread_table(spread, *runs))


def test_spread_as_numbers() -> None:
    text = to_csv(spread_table("std", 0.05, 0.06, 0.07))
    (line,) = csv.DictReader(io.StringIO(text))
    assert {key: float(line[key]) for key in line if key.startswith("test_error")} == {
        "test_error_pct": 6,
        "test_error_runs": 3,
        "test_error_min_pct": 5,
        "test_error_max_pct": 7,
        "test_error_std_pct": pytest.approx(1),
    }
    assert [float(line[f"train_time_{which}_s"]) for which in ("min", "max", "std")] == [600, 1800, 600]
    assert "num_params_min" not in line
    assert "min" not in to_csv(spread_table(None, 0.05, 0.06, 0.07))


def test_published_runs_stand_in_the_header_when_all_are_the_same() -> None:
    assert published_runs(1, 1) == ["Published (1 run)", "5.00", "6.00"]
    assert published_runs(3, 3) == ["Published (3 runs)", "5.00", "6.00"]


def test_published_runs_stand_in_the_cells_when_they_differ() -> None:
    assert published_runs(1, 3) == ["Published", "5.00 (1 run)", "6.00 (3 runs)"]
    assert published_runs(1, None) == ["Published", "5.00 (1 run)", "6.00"]
    assert published_runs(None, None) == ["Published", "5.00", "6.00"]


def test_published_text_that_names_its_runs_is_believed() -> None:
    assert published_runs(3, 3, "6.00 (1 run)") == ["Published", "5.00 (3 runs)", "6.00 (1 run)"]


def published_runs(first: int | None, second: int | None, value: float | str = 6.0) -> list[str]:
    rows = (row(lr=0.1), row(lr=0.2))
    published = {
        rows[0].config_id: Published({"test_error": 5.0}, first),
        rows[1].config_id: Published({"test_error": value}, second),
    }
    return [cells[2] for cells in markdown_cells(build(Spec(rows, ("lr", "test_error"), published), [0]))]


def test_no_published_column_for_a_metric_that_is_not_shown() -> None:
    one = row()
    spec = Spec((one,), ("lr", "test_error"), {one.config_id: Published({"train_time": "10m"}, 1)})
    assert markdown_cells(build(spec, [0]))[0] == ["initial lr", "Test Error (1 run)"]


def test_a_note_on_published_values_names_the_rows_it_is_about() -> None:
    rows = (row(lr=0.1), row(lr=0.2))
    noted, plain = Published({"test_error": 5.0}, note="on a P100"), Published({"test_error": 6.0})
    both = {one.config_id: noted for one in rows}
    assert "published: on a P100" in build(Spec(rows, ("lr", "test_error"), both), [0]).notes
    one = {rows[0].config_id: noted, rows[1].config_id: plain}
    assert "published, initial lr 0.1: on a P100" in build(Spec(rows, ("lr", "test_error"), one), [0]).notes


# --- rows of different numbers of runs -----------------------------------------------------------


def test_cells_say_their_runs_where_rows_ask_for_different_numbers() -> None:
    once, thrice = replace(row(lr=0.1), seeds=(0,)), replace(row(lr=0.2), seeds=(0, 1, 2))
    spec = Spec((once, thrice), ("lr", "test_error", "train_time"))

    def cells(*found: dict[str, Any]) -> list[list[str]]:
        return markdown_cells(build_table(spec, records(*found)))  # type: ignore[arg-type]

    alone = record(once, 0, test_error=0.05, train_seconds=60.0)
    of_three = [record(thrice, seed, test_error=0.06, train_seconds=60.0) for seed in (0, 1, 2)]
    assert cells(alone, *of_three) == [
        ["initial lr", "Test Error (median)", "Training Time"],
        ["0.1", "5.00 (1 run)", "1m00s"],
        ["0.2", "6.00 (3 runs)", "1m00s"],
    ]
    assert cells(*of_three[:2])[1:] == [["0.1", "", ""], ["0.2", "6.00 (2 of 3 runs)", "1m00s (2 of 3 runs)"]]


def test_the_source_of_published_values_is_noted() -> None:
    one = row()
    found = {one.config_id: Published({"test_error": 5.0})}
    assert "published values: a paper" in build(Spec((one,), published=found, source="a paper"), [0]).notes
    assert build(Spec((one,), source="a paper"), [0]).notes == ("not run yet",)
    reported = (Reported({}, Published({"test_error": 5.0})),)
    table = build(Spec((), reported=reported, source="a paper"), [0])
    assert table.notes == ("published values: a paper", "every row: as published, not trained here")


def test_a_table_of_nothing_but_published_values_shows_them_alone() -> None:
    reported = (
        Reported({"batch_size": 8}, Published({"test_error": 5.0}, runs=3)),
        Reported({"batch_size": 16}, Published({"test_error": "6.1"}, runs=3)),
    )
    assert markdown_cells(build(Spec((), reported=reported), [0])) == [
        ["batch size", "Test Error (3 runs)"],
        ["8", "5.00"],
        ["16", "6.1"],
    ]


def test_equal_values_that_are_written_differently_stay_so() -> None:
    values: list[Any] = [1, True, 1.0, 0.5, [1, 2], [True, 2], "yes", 0, False, None]
    reported = tuple(Reported({"batch_size": value}, Published({"test_error": 5.0})) for value in values)
    cells = markdown_cells(build(Spec((), reported=reported), [0]))
    written = ["1", "yes", "1", "0.5", "1, 2", "yes, 2", "yes", "0", "no", "none"]
    assert [text for text, _ in cells[1:]] == written


# --- notes -------------------------------------------------------------------------------------


def test_diverged_and_failed_trials_are_named() -> None:
    rows = (row(batch_size=4096, lr=3.2), row(batch_size=128, lr=0.1))
    columns = ("model", "batch_size", "lr", "test_error")
    found = [
        record(rows[0], 0, "diverged"),
        record(rows[0], 1, test_error=0.1),
        record(rows[0], 2, "diverged"),
        record(rows[1], 1, "failed"),
        record(rows[1], 0, test_error=0.1),
        record(rows[1], 2, test_error=0.1),
    ]
    assert build(Spec(rows, columns), [0, 1, 2], *found).notes == (
        "diverged: batch size 4096, initial lr 3.2 (seeds 0, 2)",
        "failed: batch size 128, initial lr 0.1 (seed 1)",
    )


def test_why_a_trial_failed_stands_under_the_table_seeds_of_one_reason_together() -> None:
    (only,) = (row(name="plain"),)
    found = [
        record(only, 0, "failed", error="OutOfMemoryError: no room"),
        record(only, 1, "failed", error="RuntimeError: shapes " + "x" * 500),
        record(only, 2, "failed", error="OutOfMemoryError: no room"),
        record(only, 3, "failed"),
    ]
    first, second, third = build(Spec((only,), ("name", "test_error")), range(4), *found).notes
    assert first == "failed: plain (seeds 0, 2): OutOfMemoryError: no room"
    assert second.startswith("failed: plain (seed 1): RuntimeError: shapes xxx")
    assert second.endswith("x...")
    assert len(second) < 200
    assert third == "failed: plain (seed 3)"


def test_rows_are_named_by_model_or_setting_where_that_is_what_varies() -> None:
    rows = (row(model=FakeNet(depth=20)), row(model=FakeNet(depth=56)))
    table = build(Spec(rows, ("model", "lr", "test_error")), [0], record(rows[1], 0, "diverged"))
    assert "diverged: FakeNet-56 (seed 0)" in table.notes
    (only,) = (row("w/o BN"),)
    table = build(Spec((only,), ("name", "test_error")), [0], record(only, 0, "failed"))
    assert table.notes == ("failed: w/o BN (seed 0)",)


def two_rows(columns: tuple[str, ...], first: Provenance, second: Provenance, **options: Any) -> Table:
    rows = (row(lr=0.1), row(lr=0.2, **options))
    found = [
        *(record(rows[0], seed, test_error=0.1, train_seconds=60.0, provenance=first) for seed in (0, 1)),
        record(rows[1], 0, test_error=0.1, train_seconds=60.0, provenance=second),
        record(rows[1], 1, test_error=0.1, train_seconds=60.0, provenance=first),
    ]
    return build(Spec(rows, ("lr", *columns)), [0, 1], *found)


def changed(provenance: Provenance, **changes: Any) -> Provenance:
    return replace(provenance, **changes)


def test_a_table_of_one_kind_has_no_notes() -> None:
    assert two_rows(("test_error",), H200, H200).notes == ()


@pytest.mark.parametrize(
    ("second", "note"),
    [
        ({"commit": "b" * 40}, "different commits: aaaaaaaaaa (3 trials), bbbbbbbbbb (1 trial)"),
        ({"commit": None}, "different commits: aaaaaaaaaa (3 trials), unknown (1 trial)"),
        ({"dirty": True}, "uncommitted changes in the code of 1 of 4 trials"),
        ({"torch_version": "2.14.0"}, "different torch versions: 2.15.0 (3 trials), 2.14.0 (1 trial)"),
        ({"trainer_version": 2}, "different trainer versions: 1 (3 trials), 2 (1 trial)"),
        (
            {"gpu": "Tesla V100"},
            "trained on different hardware: NVIDIA H200 (3 trials), Tesla V100 (1 trial)",
        ),
    ],
)
def test_what_differs_between_trials_is_noted(second: dict[str, Any], note: str) -> None:
    assert two_rows(("test_error",), H200, changed(H200, **second)).notes == (note,)


@pytest.mark.parametrize(
    ("option", "value", "note"),
    [
        ("precision", "mixed_bf16", "different precisions: fp32 (2 trials), mixed_bf16 (2 trials)"),
        ("epochs", 400, "different numbers of epochs: 200 (2 trials), 400 (2 trials)"),
        ("num_gpus", 2, "different numbers of GPUs: 1 (2 trials), 2 (2 trials)"),
    ],
)
def test_mixed_options_are_noted_unless_they_are_a_column(option: str, value: Any, note: str) -> None:
    assert two_rows(("test_error",), H200, H200, **{option: value}).notes == (note,)
    assert two_rows((option, "test_error"), H200, H200, **{option: value}).notes == ()


def noted(*notes: str | None) -> tuple[str, ...]:
    """Return the notes of a table of two rows, whose trials noted these: first row, second row, in turn."""
    rows = (row(lr=0.1), row(lr=0.2))
    found = [record(rows[i % 2], i // 2, test_error=0.1, notes=note) for i, note in enumerate(notes)]
    return build(Spec(rows, ("lr", "test_error")), range(-(-len(notes) // 2)), *found).notes


def test_what_trials_note_of_themselves_is_told() -> None:
    assert noted(None, "started again: no space") == (
        "noted of initial lr 0.2 (seed 0): started again: no space",
    )
    assert noted("a", "b; a", "a", None) == (
        "noted of initial lr 0.1 (seeds 0, 1); initial lr 0.2 (seed 0): a",
        "noted of initial lr 0.2 (seed 0): b",
    )
    assert noted(*["a"] * 6) == ("noted of 6 trials: a",)
    assert noted("moved from V100 to H200 at step 7", None) == (
        "noted of initial lr 0.1 (seed 0): moved from V100 to H200 at step 7",
    )
    assert noted("moved from V100 to H200 at step 7", "moved from V100 to H200 at step 9") == (
        "noted of initial lr 0.1 (seed 0); initial lr 0.2 (seed 0): moved from V100 to H200",
    )


def test_notes_of_a_diverged_trial_are_told_too() -> None:
    found = record(row(), 0, "diverged", notes="moved from cuda to cpu at step 1")
    assert build(Spec((row(),)), [0], found).notes == (
        "diverged: batch size 128 (seed 0)",
        "noted of batch size 128 (seed 0): moved from cuda to cpu at step 1",
    )


def test_times_on_different_hardware_carry_a_note() -> None:
    table = two_rows(("train_time", "test_error"), H200, changed(H200, gpu="Tesla V100"))
    assert markdown_cells(table)[0] == ["initial lr", r"Training Time\*", "Test Error (median of 2 runs)"]
    assert table.notes == (
        "* Training Time: not comparable between rows, trained on different hardware: "
        "NVIDIA H200 (3 trials), Tesla V100 (1 trial)",
    )


def test_hardware_of_a_trial_on_the_cpu_is_the_cpu_and_its_threads() -> None:
    assert two_rows(("train_time",), CPU, CPU).notes == ("Training Time: on Xeon, 1 thread",)
    beside_a_gpu = changed(CPU, gpu="NVIDIA H200")
    assert not two_rows(("train_time",), CPU, beside_a_gpu).mixed_hardware
    assert two_rows(("train_time",), CPU, changed(CPU, threads=2)).mixed_hardware
    assert two_rows(("train_time",), beside_a_gpu, H200).mixed_hardware


def test_a_table_of_a_store_reads_all_that_it_shows_and_notes(tmp_path: Path) -> None:
    """Its records have few columns; a note that needs another would be silent."""
    one, other = row(batch_size=8), row(batch_size=16, precision="mixed_bf16", epochs=100, num_gpus=2)
    provenances = [
        H200,
        CPU,
        replace(CPU, threads=4),
        replace(H200, commit="b" * 40, dirty=True, gpu_share=0.5),
        replace(H200, torch_version="2.14.0", trainer_version=2),
    ]
    found = [
        record(one, seed, provenance=provenance, notes="moved", **{METRICS[m].record: 1 for m in METRICS})
        for seed, provenance in enumerate(provenances)
    ]
    found += [record(other, 0, test_error=0.1), record(other, 1, "failed", error="disk full")]
    found += [record(other, 2, "diverged", error="not finite")]
    store = Store(tmp_path)
    store.create()
    parquet.append(store.trials_path, found, TRIAL_TYPES, ())
    rows = tuple(replace(one, seeds=tuple(range(6))) for one in (one, other))
    spec = TableSpec("g", "A grid", rows, ("batch_size", *METRICS), {}, (), {})
    grid = Grid(path=tmp_path, name="g", title="", description="", rows=rows, seeds=(), tables=(spec,))
    (table,) = tables_of([grid], store)
    assert table == build_table(spec, records(*found))
    assert len(table.notes) == 12, table.notes


# --- what others report ------------------------------------------------------------------------


def test_rows_that_are_only_reported_come_last_and_claim_no_trial() -> None:
    (only,) = (row(),)
    found = {only.config_id: Published({"test_error": 2.63}, runs=1)}
    reported = (Reported({"batch_size": 256}, Published({"test_error": 2.71}, runs=1)), Reported({}, None))
    table = build(Spec((only,), published=found, reported=reported), [0], *errors(only, 0.0270))
    assert markdown_cells(table) == [
        ["batch size", "Test Error (1 run)", "Published (1 run)", "Difference", "Verdict"],
        ["128", "2.70", "2.63", "+0.07", "too few runs"],
        ["256", "", "2.71", "", ""],
        ["", "", "", "", ""],
    ]
    assert [line.config_id for line in table.lines] == [only.config_id, "", ""]
    assert not any(line.trials or line.missing for line in table.lines[1:])
    assert table.notes[-1] == "the last 2 rows: as published, not trained here"
    assert to_csv(table).splitlines()[2] == ",256,,0,2.71,1,"


def test_the_value_of_the_paper_behind_a_row_has_its_column() -> None:
    rows = (row(lr=0.1), row(lr=0.2), row(lr=0.3))
    found = {
        rows[0].config_id: Published({"test_error": 6.52}, paper="6.43 (best), 6.61 +/- 0.16"),
        rows[1].config_id: Published({}, paper="N/A"),
    }
    table = build(Spec(rows, ("lr", "test_error", "paper"), found), [0])
    assert [cells[-1] for cells in markdown_cells(table)] == [
        "Test Error (in paper)",
        "6.43 (best), 6.61 +/- 0.16",
        "N/A",
        "",
    ]


def test_a_table_may_call_a_column_otherwise() -> None:
    (only,) = (row("WRN-28-10, Cutout 16"),)
    table = build(Spec((only,), ("name", "lr", "test_error"), headers={"name": "Model"}), [0])
    assert markdown_cells(table)[0] == ["Model", "initial lr", "Test Error (1 run)"]


GRID = """
source: a paper
base: {model: {name: resnet_preact, depth: 20}, dataset: cifar10, epochs: 200}
axes:
  - cases:
      - {lr: 0.1, published: {test_error: 6.52, paper: N/A}}
      - {lr: 0.2, published: {paper: ~3.75 (from Figure 7)}}
tables:
  - id: ours
    columns: [lr, test_error, paper]
    headers: {lr: rate}
    spread: minmax
  - id: theirs
    source: their paper
    columns: [System, lr, test_error]
    reported:
      - {System: airbench94, lr: none, test_error: 5.99}
      - {System: "96.0"}
  - id: both
    where: {lr: 0.1}
    columns: [lr, test_error]
    reported: [{lr: 0.3}]
"""


def test_a_grid_says_what_others_report(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    grid = load_grid(path)
    ours, theirs, both = (build_table(spec, {}) for spec in grid.tables)
    assert [line.options["paper"] for line in ours.lines] == ["N/A", "~3.75 (from Figure 7)"]
    assert ours.headers == {"lr": "rate"}
    assert (ours.spread, theirs.spread) == ("minmax", None)
    assert [spec.source for spec in grid.tables] == ["a paper", "their paper", "a paper"]
    assert [line.options for line in theirs.lines] == [
        {"System": "airbench94", "lr": "none"},
        {"System": "96.0", "lr": ""},
    ]
    assert theirs.lines[0].cells["test_error"].published == pytest.approx(0.0599)
    assert theirs.notes[-1] == "every row: as published, not trained here"
    assert [line.options["lr"] for line in both.lines] == [0.1, 0.3]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("{lr: rate}", "{lrs: rate}", "headers.lrs: unknown key. Did you mean 'lr'?"),
        ("{lr: rate}", "{test_error: Error}", "headers.test_error: unknown key."),
        ("{lr: rate}", "{lr: 1}", "headers.lr: must be text"),
        ("[System, lr, test_error]", "[lr, test_error]", "reported[0].System: is no column of this table."),
        ("    columns: [System, lr, test_error]\n", "", "needs `columns`"),
        ("spread: minmax", "spread: minmx", "spread: unknown choice 'minmx'. Did you mean 'minmax'?"),
        ("spread: minmax", "spread: yes", "spread: must be text, got true"),
        ("[System, lr, test_error]", "[Systems, lr]", "unknown column 'Systems'. Did you mean 'System'?"),
        ("test_error: 5.99", "test_error: 599", "must be in 0..100, percent"),
        ("System: airbench94", "System: {a: 1}", "reported[0].System: must be a value"),
        ("[{lr: 0.3}]", "{lr: 0.3}", "reported: must be a list of rows"),
        ("paper: N/A", "paper: 3", "paper: must be text"),
        ("{paper: ~3.75 (from Figure 7)}", "{runs: 3}", "must give a metric"),
    ],
)
def test_a_mistake_in_what_others_report_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "grid.yaml"
    assert GRID.count(old) == 1
    path.write_text(GRID.replace(old, new))
    with pytest.raises(GridError) as caught:
        load_grid(path)
    assert problem in str(caught.value)


# --- config columns ----------------------------------------------------------------------------


def test_columns_that_are_computed_from_a_config() -> None:
    rows = (row(), row(batch_size=4096, subdivision=32, no_weight_decay_on_bn=True))
    columns = ("ghost_batch_size", "weight_decay_on_bn")
    assert markdown_cells(build(Spec(rows, columns), [0])) == [
        ["ghost batch size", "weight decay on BN"],
        ["N/A", "yes"],
        ["128", "no"],
    ]


def test_a_data_set_stands_under_its_label() -> None:
    about = {"image_size": 8, "num_classes": 2, "num_train": 999, "num_test": 9, "channels": 1}
    own = [Npz(sha256=digest * 32, mean=(0.5,), std=(0.5,), **about) for digest in ("01", "ab")]
    rows = tuple(row(dataset=dataset) for dataset in (Cifar10(), *own))
    assert default_columns(rows)[:2] == ("dataset", "test_error"), "and not what the digests are"
    table = build(Spec(rows, ("dataset",)), [0])
    assert markdown_cells(table) == [["data set"], ["CIFAR-10"], ["npz 01010101"], ["npz abababab"]]


def test_a_computed_column_hides_no_option() -> None:
    assert known_keys() & COMPUTED.keys() == {"model", "dataset"}


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("precision", "fp32", "FP32"),
        ("precision", "pure_fp16", "FP16"),
        ("precision", "mixed_fp16", "mixed"),
        ("optimizer", "sgd", "SGD"),
        ("optimizer", "lars", "LARS"),
        ("optimizer", "new_one", "new_one"),
        ("schedule", "cosine", "cosine"),
        ("lr", 0.1, "0.1"),
        ("augmentation", ["cutout"], "cutout"),
    ],
)
def test_values_are_written_as_in_tables_elsewhere(column: str, value: Any, text: str) -> None:
    assert format_column(column, value) == text


def test_config_columns() -> None:
    rows = (row(augmentation=(RandomCrop(),), weight_decay=5e-4), row())
    columns = (
        "augmentation",
        "augmentation.random_crop",
        "augmentation.random_crop.padding",
        "schedule.milestones",
        "weight_decay",
        "warmup",
        "name",
        "test_error",
    )
    assert [cells[:-1] for cells in markdown_cells(build(Spec(rows, columns), [0]))] == [
        [*columns[:4], "weight decay", "warmup", "Setting"],
        ["random_crop", "yes", "4", "none", "5e-4", "none", "FakeNet-20"],
        ["none", "no", "none", "none", "1e-4", "none", "FakeNet-20"],
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (5e-4, "5e-4"),
        (1.25e-5, "1.25e-5"),
        (-0.0005, "-5e-4"),
        (0.001, "0.001"),
        (0.006125, "0.006125"),
        (0.1 + 0.2, "0.3"),
        (0.0, "0"),
        (1.0, "1"),
        (100.0, "100"),
        (2.5e20, "2.5e20"),
        (4096, "4096"),
        (True, "yes"),
        (False, "no"),
        (None, "none"),
        ([100.0, 150.0], "100, 150"),
        ([], "none"),
        ("cosine", "cosine"),
    ],
)
def test_option_values(value: Any, text: str) -> None:
    assert format_option(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30))
def test_an_option_reads_back_as_its_value(value: float) -> None:
    assert float(format_option(value)) == pytest.approx(value, rel=1e-8, abs=1e-300)


def test_headers_are_those_of_the_field() -> None:
    assert [header_of(c) for c in ("model", "batch_size", "lr", "model.widening_factor")] == [
        "Model",
        "batch size",
        "initial lr",
        "model.widening_factor",
    ]


# --- metrics -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.43, "0.4s"),
        (8.0, "8s"),
        (9.97, "10s"),
        (45.4, "45s"),
        (59.6, "1m00s"),
        (95.0, "1m35s"),
        (136.2, "2m16s"),
        (599.6, "10m"),
        (1320.0, "22m"),
        (3599.0, "1h00m"),
        (5160.0, "1h26m"),
        (3600 * 101 + 32 * 60, "101h32m"),
    ],
)
def test_times_are_written_short(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8s", 8),
        ("2m16s", 136),
        ("22m", 1320),
        ("95 min", 5700),
        ("1h26m", 5160),
        ("3h05m", 11100),
        ("24h12m*", 87120),
        ("1h", 3600),
        ("1.5h", 5400),
        ("22m (1 run)", 1320),
        ("", None),
        ("N/A", None),
        ("22", None),
        ("m", None),
        ("-5m", None),
    ],
)
def test_published_times_are_read(text: str, seconds: float | None) -> None:
    assert parse_time(text) == seconds


@given(st.floats(0, 1e7))
def test_a_time_reads_back_within_its_rounding(seconds: float) -> None:
    rounding = 0.05 if seconds < 10 else 0.5 if seconds < 600 else 30
    assert parse_time(format_time(seconds)) == pytest.approx(seconds, abs=rounding + 1e-6)


@given(st.sampled_from(sorted(METRICS)), st.floats(0, 1) | st.integers(0, 10**9))
def test_every_metric_reads_what_it_writes(name: str, value: float) -> None:
    assume(name != "epochs_trained" or isinstance(value, int))
    metric = METRICS[name]
    text = metric.format(value)
    again = metric.parse(text)
    assert again is not None
    assert metric.format(again) == text
    assert again == pytest.approx(value, abs=30 if name == "train_time" else 0.5)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("test_error", 0.0491, "4.91"),
        ("best_test_error", 1.0, "100.00"),
        ("train_loss", 0.00123, "0.0012"),
        ("images_per_second", 12345.6, "12,346"),
        ("num_params", 269722, "269,722"),
        ("epochs_trained", 200, "200"),
        ("epochs_trained", 62.5, "62.5"),
    ],
)
def test_metric_values(name: str, value: float, text: str) -> None:
    assert METRICS[name].format(value) == text


@pytest.mark.parametrize("text", ["", "N/A", "~3.75 (from Figure 7)", "1.2.3", "five", "(1 run)"])
def test_published_text_that_is_not_a_number(text: str) -> None:
    assert METRICS["test_error"].parse(text) is None


def test_every_metric_is_a_column_of_the_store() -> None:
    columns = record(row(), 0).keys()
    assert {metric.record for metric in METRICS.values()} <= columns


# --- JSON, CSV, text ---------------------------------------------------------------------------


def test_json_holds_raw_values_and_ids() -> None:
    one = row(lr=0.2)
    spec = Spec((one,), ("lr", "test_error"), {one.config_id: Published({"test_error": 10.0}, 1)})
    (table,) = json.loads(to_json([build(spec, [0, 1], record(one, 1, test_error=0.125))]))
    (line,) = table["lines"]
    assert table["id"] == "linear_scaling"
    assert line["config_id"] == one.config_id
    assert line["options"] == {"lr": 0.2}
    assert line["trials"] == {str(seed): Trial(one.config, seed).trial_id for seed in (0, 1)}
    assert (line["done"], line["missing"]) == ([1], [0])
    assert line["cells"]["test_error"] == {
        "values": {"1": 0.125},
        "n": 1,
        "wanted": 2,
        "median": 0.125,
        "low": 0.125,
        "high": 0.125,
        "std": None,
        "published": 0.1,
        "published_text": "10.00",
        "published_runs": 1,
        "difference": pytest.approx(0.025),
        "verdict": "too few runs",
    }


def test_csv_holds_raw_numbers() -> None:
    rows = (row(lr=0.2), row(lr=5e-4))
    columns = ("model", "lr", "test_error", "train_time", "num_params")
    spec = Spec(rows, columns, {rows[0].config_id: Published({"test_error": "10.5 (1 run)"})})
    found = record(rows[0], 1, test_error=0.0491, train_seconds=136.25, num_params=269722)
    assert to_csv(build(spec, [0, 1], found)) == (
        "config_id,model,lr,test_error_pct,test_error_runs,published_test_error_pct,published_test_error_runs,"
        "test_error_verdict,train_time_s,train_time_runs,num_params,num_params_runs\r\n"
        f"{rows[0].config_id},FakeNet-20,0.2,4.91,1,10.5,1,too few runs,136.25,1,269722,1\r\n"
        f"{rows[1].config_id},FakeNet-20,0.0005,,0,,,,,0,,0\r\n"
    )


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ('a,"b"', 'a,"b"'),
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@sum", "'@sum"),
        ("\t=1", "'=1"),
        ("\x00=1", "'=1"),
        ("two\r\nlines", "two lines"),
    ],
)
def test_csv_text_stays_text(name: str, cell: str) -> None:
    text = to_csv(build(Spec((row(name),), ("name", "test_error")), [0]))
    header, line = csv.reader(io.StringIO(text))
    assert header[1] == "name"
    assert line[1] == cell


def test_text_is_aligned_and_harmless() -> None:
    rows = (row("base"), row("wide \x1b]0;title\x07net", lr=0.2))
    spec = Spec(rows, ("name", "lr", "test_error"), title="Two | nets\x1b[2J")
    assert to_text(build(spec, [0], *errors(rows[0], 0.0491))) == (
        "Two | nets[2J\n"
        "\n"
        "Setting           initial lr  Test Error (1 run)\n"
        "────────────────  ──────────  ──────────────────\n"
        "base                     0.1                4.91\n"
        "wide ]0;titlenet         0.2\n"
        "\n"
        "not run yet: 1 of 2 trials\n"
    )


@given(st.text(max_size=40))
def test_no_text_of_a_grid_file_breaks_a_layout(name: str) -> None:
    table = build(Spec((row(name or None),), ("name", "lr", "test_error"), title=name), [0])
    assert len(to_markdown_lines(to_markdown(table))) == 3
    assert len(list(csv.reader(io.StringIO(to_csv(table))))) == 2
    assert json.loads(to_json([table]))[0]["title"] == name
    for text in (to_markdown(table), to_text(table), to_csv(table)):
        assert not {unicodedata.category(c) for c in text if c not in "\r\n"} & {"Cc", "Cf", "Cs"}


# --- layering ----------------------------------------------------------------------------------


def test_tables_need_no_heavy_package() -> None:
    code = (
        "import sys, gridrun.render, gridrun.tables, gridrun.columns;"
        "print({'torch', 'ray', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
