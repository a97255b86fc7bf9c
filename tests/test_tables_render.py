"""Tables as text: Markdown, the terminal, JSON and CSV, with the spread of the runs."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from by_hand import Spec, build, errors, markdown_cells, record, records, row, to_markdown_lines
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gridrun.grid import Published, load_grid
from gridrun.grid.table_specs import Reported
from gridrun.store import Store
from gridrun.store.records import Record
from gridrun.tables.build import build_table, tables_of
from gridrun.tables.csv import to_csv
from gridrun.tables.model import Table
from gridrun.tables.render import to_json, to_markdown, to_text
from gridrun.text import one_line
from gridrun.trial import Trial


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
    assert "| Test Error (%), 1 run |" in to_markdown(build(Spec((row(),)), [0], *errors(row(), 0.05)))


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
        "| Batch Size | Test Error (%), median of 3 runs | Published (%), 1 run | Difference (pp) |\n"
        "| ---------: | -------------------------------: | -------------------: | --------------: |\n"
        "|       4096 |                                  |                10.57 |                 |\n"
        "|        128 |                                  |                  7.2 |                 |\n"
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
    assert heading == one_line(text)
    assert name == one_line(text or "FakeNet-20")
    assert note == one_line(f"published: see {text}")


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
        (None, (0.05, 0.06, 0.08), "Test Error (%), median of 3 runs", ["6.00", "20m", "10"]),
        (
            "minmax",
            (0.05, 0.06, 0.08),
            "Test Error (%), median of 3 runs, min–max",
            ["6.00 (5.00–8.00)", "20m (10m–30m)", "10"],
        ),
        (
            "std",
            (0.05, 0.06, 0.07),
            "Test Error (%), median of 3 runs ± std",
            ["6.00 ± 1.00", "20m ± 10m", "10"],
        ),
        (
            "minmax",
            (0.05, 0.07),
            "Test Error (%), median of 3 runs, min–max",
            ["6.00 (5.00–7.00; 2 of 3 runs)", "15m (10m–20m; 2 of 3 runs)", "10"],
        ),
        (
            "minmax",
            (0.05,),
            "Test Error (%), median of 3 runs",
            ["5.00 (1 of 3 runs)", "10m (1 of 3 runs)", "10"],
        ),
        (
            "std",
            (0.05,),
            "Test Error (%), median of 3 runs",
            ["5.00 (1 of 3 runs)", "10m (1 of 3 runs)", "10"],
        ),
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


def test_cells_say_their_runs_where_rows_ask_for_different_numbers() -> None:
    once, thrice = replace(row(lr=0.1), seeds=(0,)), replace(row(lr=0.2), seeds=(0, 1, 2))
    spec = Spec((once, thrice), ("lr", "test_error", "train_time"))

    def cells(*found: Record) -> list[list[str]]:
        return markdown_cells(build_table(spec, records(*found)))  # type: ignore[arg-type]

    alone = record(once, 0, test_error=0.05, train_seconds=60.0)
    of_three = [record(thrice, seed, test_error=0.06, train_seconds=60.0) for seed in (0, 1, 2)]
    assert cells(alone, *of_three) == [
        ["Initial LR", "Test Error (%), median", "Training Time"],
        ["0.1", "5.00 (1 run)", "1m00s"],
        ["0.2", "6.00 (3 runs)", "1m00s"],
    ]
    assert cells(*of_three[:2])[1:] == [["0.1", "", ""], ["0.2", "6.00 (2 of 3 runs)", "1m00s (2 of 3 runs)"]]


def test_equal_values_that_are_written_differently_stay_so() -> None:
    values: list[Any] = [1, True, 1.0, 0.5, [1, 2], [True, 2], "yes", 0, False, None]
    reported = tuple(Reported({"batch_size": value}, Published({"test_error": 5.0})) for value in values)
    cells = markdown_cells(build(Spec((), reported=reported), [0]))
    written = ["1", "yes", "1", "0.5", "1, 2", "yes, 2", "yes", "0", "no", "none"]
    assert [text for text, _ in cells[1:]] == written


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
        "half_width": None,
        "verdict": None,
        "more_seeds": None,
        "against": None,
        "is_best": None,
    }


def test_csv_holds_raw_numbers() -> None:
    rows = (row(lr=0.2), row(lr=5e-4))
    columns = ("model", "lr", "test_error", "train_time", "num_params")
    spec = Spec(rows, columns, {rows[0].config_id: Published({"test_error": "10.5 (1 run)"})})
    found = record(rows[0], 1, test_error=0.0491, train_seconds=136.25, num_params=269722)
    assert to_csv(build(spec, [0, 1], found)) == (
        "config_id,model,lr,test_error_pct,test_error_runs,published_test_error_pct,published_test_error_runs,"
        "test_error_difference_pp,test_error_half_width_pp,test_error_verdict,train_time_s,train_time_runs,num_params,num_params_runs\r\n"
        f"{rows[0].config_id},FakeNet-20,0.2,4.91,1,10.5,1,-5.59,,,136.25,1,269722,1\r\n"
        f"{rows[1].config_id},FakeNet-20,0.0005,,0,,,,,,,0,,0\r\n"
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
        "Setting           Initial LR  Test Error (%), 1 run\n"
        "────────────────  ──────────  ─────────────────────\n"
        "base                     0.1                   4.91\n"
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


def test_headers_wrap_where_a_table_is_too_wide_and_cells_never_do() -> None:
    grid = load_grid(Path(__file__).parent.parent / "grids" / "quickstart.yaml")
    (table,) = tables_of([grid], Store(Path(__file__).parent.parent / "results" / "readme"))
    wide, narrow = to_text(table), to_text(table, 80)
    assert max(map(len, wide.splitlines()[2:22])) > 80
    assert max(map(len, narrow.splitlines()[2:22])) <= 80
    assert to_text(table, 200) == wide
    words = [" ".join(text.split("──")[0].split()) for text in (wide, narrow)]
    assert sorted(words[0].split()) == sorted(words[1].split()), "the same headers"
    rows = [
        [line.split() for line in text.splitlines() if line.startswith("ResNet")] for text in (wide, narrow)
    ]
    assert rows[0] == rows[1]
    impossible = to_text(table, 10)
    assert [line.split() for line in impossible.splitlines() if line.startswith("ResNet")] == rows[0]


def test_a_table_that_is_too_wide_says_once_how_many_runs_there_are() -> None:
    (only,) = (row(lr=0.1),)
    found = [record(only, seed, test_error=0.1, train_seconds=60.0) for seed in (0, 1)]
    table = build(Spec((only,), ("lr", "test_error", "train_time")), [0, 1, 2], *found)
    assert to_text(table).count("(2 of 3 runs)") == 2
    narrow = to_text(table, 40)
    assert narrow.count("(2 of 3 runs)") == 1
    assert max(map(len, narrow.splitlines()[2:6])) <= 40
    assert to_markdown(table).count("(2 of 3 runs)") == 2, "Markdown has no width"


def test_runs_that_only_a_later_metric_lacks_are_told_there() -> None:
    (only,) = (row(lr=0.1),)
    found = [record(only, seed, test_error=0.1, energy_kwh=0.5 if seed else None) for seed in (0, 1)]
    table = build(Spec((only,), ("lr", "test_error", "energy_kwh")), [0, 1, 2], *found)
    assert "(2 of 3 runs)" in to_text(table, 20)
    assert "(1 of 3 runs)" in to_text(table, 20)
