"""Rows of a table against each other: the best in bold, and each against a row that it is compared with."""

from __future__ import annotations

import csv
import io
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from by_hand import Spec, build, errors, markdown_cells, record, records, row
from scipy import stats

from gridrun import verdicts
from gridrun.errors import GridError
from gridrun.grid import load_grid
from gridrun.grid.comparisons import Comparison
from gridrun.grid.looks import AdaptiveSeeds
from gridrun.store.records import Record
from gridrun.tables.build import build_table
from gridrun.tables.csv import to_csv
from gridrun.tables.latex import to_latex
from gridrun.tables.render import to_markdown, to_text
from gridrun.verdicts import Pool, Runs
from trainer.datasets.cifar import Cifar10, Cifar100


def runs(*values: float) -> Runs:
    return Runs(values, 10_000, 10)


SHARED = Pool(0.31, 10, 5, 1.0)


def test_two_rows_of_one_spread_by_hand() -> None:
    found = verdicts.compare_rows(runs(0.059, 0.06, 0.061), runs(0.07), SHARED, SHARED)
    variance = 0.31 / 10_000 * (0.06 * 0.94 * 0.4487 + 0.07 * 0.93)
    assert (found.value, found.degrees) == (pytest.approx(-0.01), 10)
    assert found.half_width() == pytest.approx(2.228 * math.sqrt(variance), rel=1e-3)
    assert found.verdict() == "better"
    assert verdicts.compare_rows(runs(0.06), runs(0.06), SHARED, SHARED).verdict(0.01) == "equivalent"


def test_rows_with_their_own_spreads_have_welchs_degrees_of_freedom() -> None:
    """Two rows of one error and one variance, 2 and 3 degrees: (2 v)^2 / (v^2 / 2 + v^2 / 3) = 4.8."""
    two, three = Pool(0.31, 2, 1, 1.0), Pool(0.31, 3, 1, 1.0)
    assert verdicts.compare_rows(runs(0.06), runs(0.06), two, three).degrees == pytest.approx(4.8)
    unlike = verdicts.compare_rows(runs(0.05, 0.06, 0.07), runs(0.065, 0.075), two, Pool(0.62, 3, 1, 1.0))
    ours, theirs = 0.31 * 0.06 * 0.94 / 10_000 * 0.4487, 0.62 * 0.07 * 0.93 / 10_000 * 0.5
    degrees = (ours + theirs) ** 2 / (ours**2 / 2 + theirs**2 / 3)
    assert unlike.degrees == pytest.approx(degrees)
    assert unlike.half_width() == pytest.approx(stats.t.ppf(0.975, degrees) * math.sqrt(ours + theirs))


def test_more_seeds_of_both_rows() -> None:
    found = verdicts.Difference(0.001, 0.0007, 100, 2 * 0.4487, between_rows=True)
    assert found.verdict(0.0) == "open"
    more = verdicts.more_seeds(found, 3, 0.0, other=3)
    assert more
    t = stats.t.ppf(0.975, 100)
    n = next(n for n in range(3, 50) if t * 0.0007 * math.sqrt(2 * verdicts.median_variance(n)) < 0.001)
    assert abs(3 + more - n) <= 1


def test_the_best_and_what_cannot_be_told_from_it() -> None:
    rows = [runs(0.0610), runs(0.0600), runs(0.0605), runs(0.08)]
    assert verdicts.best_rows(rows, [SHARED] * 4) == {0, 1, 2}
    assert verdicts.best_rows(rows[3:], [SHARED]) == {0}
    assert verdicts.best_rows([], []) == set()
    own = [replace(SHARED, degrees=1, fit=1.0, rows=i) for i in range(4)]
    assert verdicts.best_rows(rows, own) == {0, 1, 2, 3}, "one degree of freedom each tells nothing apart"


def test_rows_with_their_own_spreads_are_told_apart_by_welchs_test() -> None:
    """Three runs of 6 % with 2 degrees of freedom, two of 7 % with 3."""
    pools = Pool(0.31, 2, 1, 1.0), Pool(0.62, 3, 1, 1.0)
    parts = [0.31 * 0.06 * 0.94 / 10_000 * 0.4487, 0.62 * 0.07 * 0.93 / 10_000 * 0.5]
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    p_value = 2 * stats.t.sf(0.01 / math.sqrt(sum(parts)), degrees)
    rows = [runs(0.05, 0.06, 0.07), runs(0.065, 0.075)]
    for alpha, best in ((p_value * 1.001, {0}), (p_value * 0.999, {0, 1})):
        assert verdicts.best_rows(rows, pools, alpha) == best
        assert verdicts.best_rows(rows[::-1], pools[::-1], alpha) == {1 - place for place in best}


def test_rows_that_share_a_spread_are_told_apart_with_its_degrees_of_freedom() -> None:
    rows = [runs(0.059, 0.06, 0.061), runs(0.061, 0.062)]  # 10 degrees, not Welch's 20 for two pools
    variance = 0.31 / 10_000 * (0.06 * 0.94 * 0.4487 + 0.0615 * 0.9385 * 0.5)
    p_value = 2 * stats.t.sf(0.0015 / math.sqrt(variance), 10)
    assert verdicts.best_rows(rows, [SHARED] * 2, p_value * 1.001) == {0}
    assert verdicts.best_rows(rows, [SHARED] * 2, p_value * 0.999) == {0, 1}


def test_no_more_than_five_percent_of_tables_leave_out_a_row_as_good_as_the_best() -> None:
    draw, wrong, tables = random.Random(3), 0, 300
    sigma = SHARED.sigma(0.06, 10_000)
    for _ in range(tables):
        made = [runs(*(draw.gauss(0.06, sigma) for _ in range(3))) for _ in range(6)]
        spread = verdicts.pool(made)
        assert spread
        wrong += len(verdicts.best_rows(made, [spread] * 6)) < 6
    assert wrong / tables <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / tables)


def marked_spec() -> tuple[Spec, list[tuple[float, ...]]]:
    rows = tuple(row(lr=lr) for lr in (0.1, 0.2, 0.3, 0.4))
    made = [(0.06, 0.0610, 0.0605), (0.0612, 0.0603, 0.061), (0.10, 0.101, 0.102), (0.9, 0.9, 0.9)]
    return Spec(rows, ("lr", "test_error"), mark_best=True), made


def found_of(spec: Spec, made: list[tuple[float, ...]]) -> list[Record]:
    return [r for one, e in zip(spec.rows, made, strict=True) for r in errors(one, *e)]


def test_bold_rows_in_each_format() -> None:
    spec, made = marked_spec()
    table = build(spec, range(3), *found_of(spec, made))
    assert [line.cells["test_error"].is_best for line in table.lines] == [True, True, False, None]
    assert [cells[1] for cells in markdown_cells(table)][1:] == ["**6.05**", "**6.10**", "10.10", "90.00"]
    assert r"0.1 & \textbf{6.05} \\" in to_latex(table)
    text = to_text(table)
    assert "6.05 ←" in text
    assert "10.10 ←" not in text
    assert text.count("\x1b") == 0
    assert [line["test_error_is_best"] for line in csv.DictReader(io.StringIO(to_csv(table)))] == [
        "1",
        "1",
        "0",
        "",
    ]
    note = "bold, or ←: the lowest Test Error and all that cannot be told from it, all pairs of rows compared"
    assert any(one.startswith(note) for one in table.notes)
    assert any(one.startswith("1 row not compared") for one in table.notes)
    more = replace(spec, rows=(*spec.rows, row(lr=0.5), row(lr=0.6)))
    guessing = record(more.rows[4], 0, test_error=0.9)
    missing = build(more, range(3), *found_of(spec, made), guessing)
    assert any(one.startswith("2 rows not compared") for one in missing.notes), "a row without runs is none"


def notes_on_the_best(*made: tuple[float, ...]) -> tuple[list[bool | None], list[str]]:
    """Return which rows of a table are the best, and the beginnings of its notes about that."""
    spec = Spec(tuple(row(lr=number) for number in range(1, len(made) + 1)), mark_best=True)
    table = build(spec, range(5), *found_of(spec, list(made)))
    beginnings = "bold, or ←", "no lowest Test Error is marked", "row not compared", "rows not compared"
    told = [one for note in table.notes for one in beginnings if one in note]
    return [line.cells["test_error"].is_best for line in table.lines], told


def test_the_best_of_two_rows_is_marked_and_of_one_is_not() -> None:
    three, far = (0.06, 0.061, 0.0605), (0.10, 0.101, 0.102)
    assert notes_on_the_best(three, far) == ([True, False], ["bold, or ←"])
    assert notes_on_the_best((0.06, 0.061, 0.0605, 0.06, 0.0602)) == ([None], [])
    assert notes_on_the_best((0.06, 0.061, 0.0605, 0.06, 0.0602), ()) == ([None, None], [])
    assert notes_on_the_best((0.06,), (0.10,)) == ([None, None], ["no lowest Test Error is marked"])
    assert notes_on_the_best(three, (0.9, 0.9, 0.9)) == ([None, None], ["no lowest Test Error is marked"])


def test_each_test_set_has_its_own_best_row() -> None:
    rows = tuple(row(lr=lr, dataset=data) for data in (Cifar10(), Cifar100()) for lr in (0.1, 0.2, 0.3))
    spec = Spec(rows, ("dataset", "lr", "test_error"), mark_best=True)
    cifar10 = [(0.060, 0.061, 0.062), (0.070, 0.071, 0.072), (0.080, 0.081, 0.082)]
    cifar100 = [(0.270, 0.271, 0.272), (0.260, 0.261, 0.262), (0.280, 0.281, 0.282)]
    table = build(spec, range(3), *found_of(spec, [*cifar10, *cifar100]))
    best = [line.cells["test_error"].is_best for line in table.lines]
    assert best == [True, False, False, False, True, False]
    assert any("the lowest Test Error of each test set and all" in note for note in table.notes)


def test_no_row_is_marked_unless_asked_or_where_one_has_no_error() -> None:
    spec, made = marked_spec()
    found = found_of(spec, made)
    assert "**" not in to_markdown(build(replace(spec, mark_best=False), range(3), *found))
    table = build(spec, range(3), *found[:9], *errors(spec.rows[3], 0.0, 0.0, 0.0))
    assert "**" not in to_markdown(table)
    assert any("or one has no error at all" in note for note in table.notes)


def test_columns_against_a_row() -> None:
    rows = [row(lr=lr) for lr in (0.1, 0.2, 0.3)]
    ids = [one.config_id for one in rows]
    spec = Spec(
        tuple(rows), ("lr", "test_error"), compare=Comparison("lr 0.1", {ids[1]: ids[0], ids[2]: ids[0]})
    )
    made = [(0.060, 0.061, 0.062), (0.070, 0.071, 0.072), (0.0611, 0.0622, 0.0612)]
    table = build(spec, range(3), *(r for one, e in zip(rows, made, strict=True) for r in errors(one, *e)))
    pool = verdicts.pool(runs(*e) for e in made)
    assert pool
    width = verdicts.compare_rows(runs(*made[1]), runs(*made[0]), pool, pool).half_width()
    cells = markdown_cells(table)
    assert cells[0][2:] == ["To lr 0.1 (pp), 95 %", "Against lr 0.1"]
    assert cells[1][2:] == ["", ""]
    assert cells[2][2:] == [f"+1.00 ± {100 * width:.2f}", "worse"]
    assert cells[3][2].startswith("+0.02 ± ")
    assert cells[3][3].startswith("open")
    assert any(note.startswith("Verdict against a row: equivalent if") for note in table.notes)
    first, second, _ = csv.DictReader(io.StringIO(to_csv(table)))
    assert (first["test_error_against_pp"], second["test_error_against_pp"]) == ("", "1.0")
    accuracy = build(
        replace(spec, columns=("lr", "test_accuracy")),
        range(3),
        *errors(rows[0], *made[0]),
        *errors(rows[1], *made[1]),
    )
    cell = accuracy.lines[1].cells["test_accuracy"].against
    assert cell
    assert (round(cell.difference, 9), cell.verdict) == (-0.01, "worse")


def test_rows_on_other_images_get_no_verdict_against_each_other() -> None:
    rows = [row(lr=lr, dataset=dataset) for dataset in (Cifar10(), Cifar100()) for lr in (0.1, 0.2)]
    compared = Comparison("CIFAR-10", {rows[2].config_id: rows[0].config_id})
    spec = Spec(tuple(rows), ("dataset", "lr", "test_error"), compare=compared)
    made = [(0.060, 0.061, 0.062), (0.070, 0.071, 0.072), (0.26, 0.261, 0.262), (0.27, 0.271, 0.272)]
    against = build(spec, range(3), *found_of(spec, made)).lines[2].cells["test_error"].against
    assert against
    assert against.difference == pytest.approx(0.2)
    assert (against.half_width, against.verdict) == (None, None)


def test_a_row_with_more_looks_widens_the_interval_of_both() -> None:
    """Of looks at 3 and 12 seeds, the first spends 3/12 of 5 %, the second 9/12: 98.75 % and 96.25 %."""
    few, many = AdaptiveSeeds((3, 12)), AdaptiveSeeds((3, 12), 12)
    one, two = replace(row(lr=0.1), seeds=few), replace(row(lr=0.2), seeds=many)
    made = ((0.060, 0.061, 0.062), (0.070, 0.071, 0.072) * 4)
    found = records(*errors(one, *made[0]), *errors(two, *made[1]))
    pool = verdicts.pool(runs(*each) for each in made)
    assert pool
    difference = verdicts.compare_rows(runs(*made[0]), runs(*made[1]), pool, pool)
    for place, (ours, theirs) in enumerate(((one, two), (two, one))):
        compared = Comparison("the other", {ours.config_id: theirs.config_id})
        spec = Spec((one, two), ("lr", "test_error"), compare=compared)
        against = build_table(spec, found).lines[place].cells["test_error"].against  # type: ignore[arg-type]
        assert against
        assert against.half_width == pytest.approx(difference.half_width(0.9875))


GRID = """
base: {model: {name: resnet, depth: 8}, dataset: digits, epochs: 1}
axes: {model.depth: [8, 14], lr: [0.1, 0.2], augmentation.cutout: [false, {size: 4}]}
"""


def baselines(folder: Path, text: str, **options: object) -> list[tuple[str, str]]:
    path = folder / "one.yaml"
    path.write_text(text)
    grid = load_grid(path, **options)  # type: ignore[arg-type]
    (spec,) = grid.tables
    assert spec.compare
    about = {
        r.config_id: f"{r.option('model.depth')} {r.option('lr')} {r.option('augmentation.cutout')}"
        for r in spec.rows
    }
    return [(about[ours], about[theirs]) for ours, theirs in spec.compare.baselines.items()]


@pytest.mark.parametrize("by", ["augmentation.cutout, to: false", "augmentation, to: none"])
def test_a_row_is_compared_within_each_setting_of_the_other_options(tmp_path: Path, by: str) -> None:
    assert baselines(tmp_path, f"{GRID}compare: {{by: {by}}}") == [
        (f"{depth} {lr} True", f"{depth} {lr} False") for depth in (8, 14) for lr in (0.1, 0.2)
    ]


def test_derived_options_do_not_count(tmp_path: Path) -> None:
    text = (
        "base: {model: {name: resnet, depth: 8}, dataset: digits, epochs: 1, augmentation.cutout: false}\n"
        "axes: {model.depth: [8, 14], batch_size: [64, 128]}\n"
        "derive: {lr: 0.1 * batch_size / 64}\n"
        "compare: {by: batch_size, to: 64}\n"
    )
    assert baselines(tmp_path, text) == [("8 0.2 False", "8 0.1 False"), ("14 0.2 False", "14 0.1 False")]


def test_a_changed_grid_keeps_the_comparisons_that_are_left(tmp_path: Path) -> None:
    text = f"{GRID}compare: {{by: augmentation.cutout, to: false}}"
    assert len(baselines(tmp_path, text, overrides={"epochs": 2})) == 4
    assert baselines(tmp_path, text, where={"lr": 0.1, "model.depth": 8}) == [("8 0.1 True", "8 0.1 False")]


@pytest.mark.parametrize(
    ("compare", "problem"),
    [
        ("{by: augmentation.cutout}", "needs `to`"),
        ("{by: lrr, to: 1}", "unknown option. Did you mean 'lr'?"),
        ("{by: lr, to: 7}", "no row has lr 7; lr is 0.1, 0.2"),
        ("{by: lr, to: 0.1, within: []}", "empty"),
        ("{by: lr, to: 0.1, within: [model.depth]}", "could be compared with"),
        ("{by: lr, too: 0.1}", "unknown key. Did you mean 'to'?"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(tmp_path: Path, compare: str, problem: str) -> None:
    with pytest.raises(GridError, match=r"one\.yaml:4.*compare") as caught:
        baselines(tmp_path, f"{GRID}compare: {compare}")
    assert problem in str(caught.value)
