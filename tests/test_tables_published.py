"""What others report beside a table's own numbers: differences, verdicts, runs, rows of their own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from by_hand import Spec, build, errors, markdown_cells, only_cell, record, records, row
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gridrun import verdicts
from gridrun.errors import GridError
from gridrun.grid import Published, load_grid
from gridrun.grid.table_specs import Reported
from gridrun.store import Store
from gridrun.tables import judge
from gridrun.tables.build import build_table
from gridrun.tables.csv import to_csv
from gridrun.tables.model import Cell, Table
from gridrun.text import format_percent
from gridrun.verdicts import Pool, Runs
from trainer.datasets.cifar import Cifar100


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
    assert header[1:3] == ["Published (%)", "Difference (pp)"]
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


def test_times_have_no_difference() -> None:
    table = published_table({"train_time": "10m"})
    assert markdown_cells(table) == [
        ["Test Error (%), median of 3 runs", "Training Time", "Published"],
        ["6.00", "11m", "10m"],
    ]
    assert only_cell(table, "train_time").published == 600
    assert "published Training Time: on the authors' own hardware, so no difference is shown" in table.notes


@pytest.mark.parametrize(
    ("runs", "published", "verdict"),
    [
        ([], 6.0, None),
        ([0.06, 0.061, 0.059, 0.06], 6.0, None),  # 3 degrees of freedom
        ([0.06, 0.0601, 0.06, 0.0599, 0.06], 6.05, "reproduced"),
        ([0.06, 0.062, 0.058, 0.061, 0.059], 6.05, "open"),
        ([0.06, 0.061, 0.059, 0.0605, 0.0595], 5.5, "worse"),
        ([0.06, 0.061, 0.059, 0.0605, 0.0595], 6.5, "better"),
        ([0.06, 0.061, 0.059, 0.0605, 0.0595], "~6.0", None),
    ],
)
def test_verdict(runs: list[float], published: float | str, verdict: str | None) -> None:
    one = row()
    spec = Spec((one,), ("test_error", "train_time"), {one.config_id: Published({"test_error": published})})
    table = build(spec, range(5), *errors(one, *runs))
    assert only_cell(table).verdict == verdict
    header, line = markdown_cells(table)
    assert ("Verdict" in header) == (verdict is not None)
    assert any(note.startswith("Verdict: ") for note in table.notes) == (verdict is not None)
    if verdict:
        assert line[header.index("Verdict")].startswith(verdict)


def test_an_open_verdict_says_how_many_more_seeds_would_settle_it() -> None:
    one, runs = row(), (0.06, 0.062, 0.058, 0.061, 0.059)

    def cell_beside(error: float) -> Cell:
        known = {one.config_id: Published({"test_error": error}, runs=100)}
        return only_cell(build(Spec((one,), published=known), range(5), *errors(one, *runs)))

    def half_width(more: int) -> float:
        variance = verdicts.median_variance(5 + more) + verdicts.median_variance(100)
        return float(stats.t.ppf(0.975, 4 + more)) * statistics.stdev(runs) * math.sqrt(variance)

    settling = next(more for more in range(1, 100) if 0.0005 + half_width(more) <= 0.002)
    assert (cell_beside(6.05).verdict, cell_beside(6.05).more_seeds) == ("open", settling)
    assert (cell_beside(9.0).verdict, cell_beside(9.0).more_seeds) == ("better", None)


def test_an_interval_by_hand() -> None:
    one = row()
    spec = Spec((one,), ("test_error",), {one.config_id: Published({"test_error": 5.5}, runs=1)})
    table = build(spec, range(5), *errors(one, 0.06, 0.061, 0.059, 0.0605, 0.0595))
    # one row: its own standard deviation, 0.00079; t of 4 degrees of freedom 2.776; medians of 5 and of 1 run
    half_width = 2.776 * statistics.stdev([0.06, 0.061, 0.059, 0.0605, 0.0595]) * math.sqrt(0.2868 + 1)
    assert only_cell(table).half_width == pytest.approx(half_width, rel=1e-3)
    header, line = markdown_cells(table)
    assert line[header.index("Difference (pp), 95 %")] == f"+0.50 ± {100 * half_width:.2f}"
    assert (
        "Test Error from seed to seed: 0.11 of the binomial variance, from 1 row (4 degrees of freedom)"
        in (table.notes)
    )


@pytest.mark.parametrize(
    ("text", "runs", "variance"),
    [
        ("5.5", 4, 0.2982),  # the median of four normal draws has 0.2982 of the variance of one
        ("5.5 (median of 4 runs)", 4, 0.2982),
        ("5.5 (mean of 4 runs)", 4, 1 / 4),
        ("5.5 (average of 4 runs)", 4, 1 / 4),
        ("5.5 +/- 0.1", 4, 1 / 4),
        ("5.5 ± 0.1", 4, 1 / 4),
        ("5.5", None, 1),
    ],
)
def test_a_published_mean_is_better_known_than_a_median(text: str, runs: int | None, variance: float) -> None:
    one, ours = row(), (0.06, 0.061, 0.059, 0.0605, 0.0595)
    spec = Spec((one,), ("test_error",), {one.config_id: Published({"test_error": text}, runs=runs)})
    half_width = 2.776 * statistics.stdev(ours) * math.sqrt(0.2868 + variance)
    assert only_cell(build(spec, range(5), *errors(one, *ours))).half_width == pytest.approx(
        half_width, rel=1e-3
    )


def test_rows_share_their_spread() -> None:
    rows = [row(lr=lr) for lr in (0.1, 0.2, 0.3)]
    spec = Spec(tuple(rows), ("lr", "test_error"), {rows[0].config_id: Published({"test_error": 6.0})})
    alone = build(replace(spec, rows=rows[:1]), range(2), *errors(rows[0], 0.06, 0.061))
    assert only_cell(alone).verdict is None
    assert any(note.startswith("no verdicts on Test Error: too few runs") for note in alone.notes)
    found = [
        one for r, e in zip(rows, (0.06, 0.1, 0.2), strict=True) for one in errors(r, e, e + 0.001, e - 0.002)
    ]
    together = build(spec, range(3), *found)
    assert together.lines[0].cells["test_error"].verdict == "open"
    assert any(note.startswith("Verdict: ") for note in together.notes), "also if other rows have none"
    assert any("from 3 rows (6 degrees of freedom)" in note for note in together.notes)


def test_rows_of_other_test_images_do_not_share_a_spread() -> None:
    """Row 0 is judged by its own five runs, though the others vary alike enough; see the interval by hand."""
    own, other = (0.06, 0.061, 0.059, 0.0605, 0.0595), (0.1, 0.1027, 0.0973, 0.1013, 0.0987)
    rows = row(), row(val_size=5000), row(dataset=Cifar100())
    spec = Spec(rows, published={rows[0].config_id: Published({"test_error": 5.5}, runs=1)})
    others = [each for one in rows[1:] for each in errors(one, *other)]
    cell = build(spec, range(5), *errors(rows[0], *own), *others).lines[0].cells["test_error"]
    assert cell.half_width == pytest.approx(2.776 * statistics.stdev(own) * math.sqrt(0.2868 + 1), rel=1e-3)


def test_rows_that_vary_unlike_are_judged_by_their_own_runs() -> None:
    calm, wild, lone = row(lr=0.1), row(lr=0.2), row(lr=0.3)
    runs = (0.06, 0.0601, 0.0599, 0.06), (0.1, 0.13, 0.07, 0.11), (0.08,)
    known = {one.config_id: Published({"test_error": 7.0}, runs=1) for one in (calm, wild, lone)}
    spec = Spec((calm, wild, lone), ("lr", "test_error"), known)
    found = [one for each, e in zip(spec.rows, runs, strict=True) for one in errors(each, *e)]
    table = build(spec, range(4), *found)
    widths = [line.cells["test_error"].half_width for line in table.lines]
    by_hand = [3.182 * statistics.stdev(own) * math.sqrt(0.2982 + 1) for own in runs[:2]]  # t of 3 degrees
    assert widths == [*(pytest.approx(width, rel=1e-3) for width in by_hand), None]
    assert any("2 rows differ in how much Test Error varies from seed to seed" in n for n in table.notes)


def test_the_spread_of_a_store_is_that_of_its_done_trials_on_the_same_images(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    same, other, others = row(lr=0.1), row(lr=0.2, epochs=9), [row(val_size=5000), row(dataset=Cifar100())]
    counted = (0.06, 0.061, 0.062), (0.07, 0.072)
    made = [*errors(same, *counted[0]), *errors(other, *counted[1])]
    made += [record(same, 3, "diverged", test_error=0.5), record(same, 4, train_error=0.1)]
    made += [each for one in others for each in errors(one, 0.1, 0.2, 0.3)]
    for one in made:
        store.add(one)
    pools = judge.pools_of(store)
    assert pools(same.config, "test_error") == verdicts.pool(Runs(e, 10_000, 10) for e in counted)
    on_held_out = pools(others[0].config, "test_error")
    assert on_held_out == verdicts.pool([Runs((0.1, 0.2, 0.3), 5_000, 10)])
    assert pools(same.config, "top5_error") is None


def test_a_row_that_guesses_five_classes_has_not_learnt(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    guessing, learnt = row(lr=0.1), row(lr=0.2)  # of 10 classes, five guesses leave an error of 50 %
    for each, errors_of in ((guessing, (0.49, 0.5, 0.51)), (learnt, (0.06, 0.061, 0.062))):
        for seed, error in enumerate(errors_of):
            store.add(record(each, seed, test_error=0.5, top5_error=error))
    pool = judge.pools_of(store)(learnt.config, "top5_error")
    assert pool
    assert (pool.rows, pool.degrees) == (1, 2)


def test_a_record_that_lacks_a_newer_option_is_of_the_same_test_set() -> None:
    old, new = {"dataset": "cifar10", "lr": 1}, {"val_size": None, "dataset": "cifar10"}
    assert judge.test_set_of(old) == judge.test_set_of(new) != judge.test_set_of({**new, "val_size": 5})


@pytest.mark.parametrize(("degrees", "verdict"), [(3, None), (4, "worse")])
def test_a_spread_needs_four_degrees_of_freedom(degrees: int, verdict: str | None) -> None:
    one = replace(row(), seeds=(0,))
    spec = Spec((one,), ("test_error",), {one.config_id: Published({"test_error": 5.0})})
    table = build_table(spec, records(*errors(one, 0.06)), lambda *_: Pool(0.31, degrees, 2, 0.5))  # type: ignore[arg-type]
    assert only_cell(table).verdict == verdict


def test_the_whole_store_helps_a_small_table() -> None:
    one = row()
    spec = Spec((replace(one, seeds=(0,)),), ("test_error",), {one.config_id: Published({"test_error": 5.0})})
    asked: list[str] = []

    def pools(config: Any, column: str) -> Pool:
        asked.append(column)
        return Pool(0.31, 40, 20, 0.5)

    table = build_table(spec, records(*errors(one, 0.06)), pools)  # type: ignore[arg-type]
    assert only_cell(table).verdict == "worse"
    assert asked == ["test_error"]
    assert any("from 20 rows of the whole store" in note for note in table.notes)


def test_the_tolerance_is_the_tables() -> None:
    one = row()
    found = errors(one, 0.06, 0.0601, 0.06, 0.0599, 0.06)
    published = {one.config_id: Published({"test_error": 6.05})}
    assert only_cell(build(Spec((one,), published=published), range(5), *found)).verdict == "reproduced"
    strict = Spec((one,), published=published, tolerance=0.01)
    assert only_cell(build(strict, range(5), *found)).verdict == "better"
    width = only_cell(build(strict, range(5), *found)).half_width
    assert width
    for share, verdict in ((1.001, "reproduced"), (0.999, "better")):  # 0.05 points and the half width
        spec = Spec((one,), published=published, tolerance=share * (0.05 + 100 * width))
        assert only_cell(build(spec, range(5), *found)).verdict == verdict


def test_times_have_no_verdict() -> None:
    assert only_cell(published_table({"train_time": "10m"}), "train_time").verdict is None


def test_published_runs_stand_in_the_header_when_all_are_the_same() -> None:
    assert published_runs(1, 1) == ["Published (%), 1 run", "5.00", "6.00"]
    assert published_runs(3, 3) == ["Published (%), 3 runs", "5.00", "6.00"]


def test_published_runs_stand_in_the_cells_when_they_differ() -> None:
    assert published_runs(1, 3) == ["Published (%)", "5.00 (1 run)", "6.00 (3 runs)"]
    assert published_runs(1, None) == ["Published (%)", "5.00 (1 run)", "6.00"]
    assert published_runs(None, None) == ["Published (%)", "5.00", "6.00"]


def test_published_text_that_names_its_runs_is_believed() -> None:
    assert published_runs(3, 3, "6.00 (1 run)") == ["Published (%)", "5.00 (3 runs)", "6.00 (1 run)"]


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
    assert markdown_cells(build(spec, [0]))[0] == ["Initial LR", "Test Error (%), 1 run"]


def test_a_note_on_published_values_names_the_rows_it_is_about() -> None:
    rows = (row(lr=0.1), row(lr=0.2))
    noted, plain = Published({"test_error": 5.0}, note="on a P100"), Published({"test_error": 6.0})
    both = {one.config_id: noted for one in rows}
    assert "published: on a P100" in build(Spec(rows, ("lr", "test_error"), both), [0]).notes
    one = {rows[0].config_id: noted, rows[1].config_id: plain}
    assert "published, lr 0.1: on a P100" in build(Spec(rows, ("lr", "test_error"), one), [0]).notes


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
        ["Batch Size", "Test Error (%), 3 runs"],
        ["8", "5.00"],
        ["16", "6.1"],
    ]


def test_rows_that_are_only_reported_come_last_and_claim_no_trial() -> None:
    (only,) = (row(),)
    found = {only.config_id: Published({"test_error": 2.63}, runs=1)}
    reported = (Reported({"batch_size": 256}, Published({"test_error": 2.71}, runs=1)), Reported({}, None))
    table = build(Spec((only,), published=found, reported=reported), [0], *errors(only, 0.0270))
    assert markdown_cells(table) == [
        ["Batch Size", "Test Error (%), 1 run", "Published (%), 1 run", "Difference (pp)"],
        ["128", "2.70", "2.63", "+0.07"],
        ["256", "", "2.71", ""],
        ["", "", "", ""],
    ]
    assert [line.config_id for line in table.lines] == [only.config_id, "", ""]
    assert not any(line.trials or line.missing for line in table.lines[1:])
    assert [line.cells["test_error"].wanted for line in table.lines] == [1, 0, 0]
    assert table.notes[-1] == "the last 2 rows: as published, not trained here"
    assert to_csv(table).splitlines()[2] == ",256,,0,2.71,1,,,"


def test_the_value_of_the_paper_behind_a_row_has_its_column() -> None:
    rows = (row(lr=0.1), row(lr=0.2), row(lr=0.3))
    found = {
        rows[0].config_id: Published({"test_error": 6.52}, paper="6.43 (best), 6.61 +/- 0.16"),
        rows[1].config_id: Published({}, paper="N/A"),
    }
    table = build(Spec(rows, ("lr", "test_error", "paper"), found), [0])
    assert [cells[-1] for cells in markdown_cells(table)] == [
        "Test Error (%), in paper",
        "6.43 (best), 6.61 +/- 0.16",
        "N/A",
        "",
    ]


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
        (
            "[System, lr, test_error]",
            "[lr, test_error]",
            "reported[0].System: is not a column of this table.",
        ),
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


def test_a_published_error_of_0_is_a_value() -> None:
    one = row()
    spec = Spec((one,), published={one.config_id: Published({"test_error": 0.0}, 3)})
    cell = only_cell(build(spec, [0, 1, 2], *errors(one, 0.01, 0.02, 0.03)))
    assert cell.published == 0.0
    assert cell.difference == pytest.approx(0.02)
    table = published_table({"test_error": 0.0}, 3)
    assert markdown_cells(table)[1][:3] == ["6.00", "0.00", "+6.00"]
