"""From records to tables: medians over the seeds, and what a table reads of a store."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from by_hand import CPU, H200, Spec, build, errors, markdown_cells, only_cell, record, records, row
from click.testing import CliRunner

from cli import main
from gridrun.errors import GridrunError
from gridrun.grid import Grid, Published, load_grid
from gridrun.grid.table_specs import Reported, TableSpec
from gridrun.metrics import METRICS
from gridrun.store import Store, parquet
from gridrun.store.records import TRIAL_TYPES
from gridrun.tables.arrange import pivot, sort_lines
from gridrun.tables.build import build_table, tables_of
from gridrun.tables.csv import to_csv
from gridrun.tables.model import Table
from gridrun.trial import Trial
from trainer import files


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
    two = only_cell(build(Spec((row(),)), [0, 1], *errors(row(), 0.1, 0.2)))
    assert two.std == pytest.approx(0.0707107)  # 0.1 / sqrt(2)
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
    measured = {metric.record: 1 for metric in METRICS.values() if not metric.reads}
    found = [
        record(one, seed, provenance=provenance, notes="moved", compiled=seed == 0, **measured)
        for seed, provenance in enumerate(provenances)
    ]
    found += [record(other, 0, test_error=0.1), record(other, 1, "failed", error="disk full")]
    found += [record(other, 2, "diverged", error="not finite")]
    store = Store(tmp_path)
    store.create()
    with files.temporary_beside(store.trials_path) as partial:
        parquet.append(store.trials_path, [one.row() for one in found], TRIAL_TYPES, (), partial)
    rows = tuple(replace(one, seeds=tuple(range(6))) for one in (one, other))
    spec = TableSpec("g", "A grid", rows, ("batch_size", *METRICS), {}, (), {})
    grid = Grid(path=tmp_path, name="g", title="", description="", rows=rows, seeds=(), tables=(spec,))
    (table,) = tables_of([grid], store)
    assert table == build_table(spec, records(*found))
    assert len(table.notes) == 12, table.notes


def test_a_table_may_call_a_column_otherwise() -> None:
    (only,) = (row("WRN-28-10, Cutout 16"),)
    table = build(Spec((only,), ("name", "lr", "test_error"), headers={"name": "Model"}), [0])
    assert markdown_cells(table)[0] == ["Model", "Initial LR", "Test Error (%), 1 run"]


def test_tables_need_no_heavy_package() -> None:
    code = (
        "import sys, gridrun.tables.render, gridrun.tables.build, gridrun.metrics;"
        "print({'torch', 'ray', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


# --- which columns, which order -------------------------------------------------------------------

CASES = """\
base: {model: {name: resnet_preact, depth: 20}, dataset: cifar10, epochs: 200}
axes:
- cases: [{name: plain, lr: 0.1}, {name: hot, lr: 0.2, augmentation: {cutout: true}}]
"""


def table_of(folder: Path, text: str, **options: Any) -> Table:
    (folder / "g.yaml").write_text(text)
    (spec,) = load_grid(folder / "g.yaml", **options).tables
    return build_table(spec, {})


def test_named_cases_are_rows_by_their_name(tmp_path: Path) -> None:
    assert table_of(tmp_path, CASES).columns == ("name", "test_error", "train_time")
    crossed = table_of(tmp_path, CASES + "- {batch_size: [64, 128], schedule: [cosine, constant]}\n")
    assert crossed.columns == ("name", "batch_size", "schedule", "test_error", "train_time")


def test_what_all_rows_share_stands_below_once(tmp_path: Path) -> None:
    batches = CASES + "- batch_size: [64, 128]\n"
    assert table_of(tmp_path, CASES).notes[0] == (
        "all: CIFAR-10 ResNet-preact-20, batch size 128, cosine, 200 epochs"
    )
    assert table_of(tmp_path, batches).notes[0] == "all: CIFAR-10 ResNet-preact-20, cosine, 200 epochs"
    some = table_of(tmp_path, batches, where={"batch_size": 64})
    assert some.columns == ("name", "test_error", "train_time")
    assert some.notes[0] == "all: CIFAR-10 ResNet-preact-20, batch size 64, cosine, 200 epochs"


def test_columns_that_the_grid_names_stay(tmp_path: Path) -> None:
    table = table_of(tmp_path, CASES + "tables: [{columns: [name, model, epochs, test_error]}]\n")
    assert table.columns == ("name", "model", "epochs", "test_error")
    assert not any(note.startswith("all:") for note in table.notes)


def test_lines_are_sorted_by_any_column() -> None:
    rows = tuple(row(lr=lr) for lr in (0.3, 0.1, 0.2, 0.4))
    reported = (Reported({"lr": 0.0}, Published({"test_error": 1.0})),)
    spec = Spec(rows, ("lr", "test_error"), reported=reported)
    table = build(spec, [0], *errors(rows[0], 0.06), *errors(rows[1], 0.05), *errors(rows[2], 0.07))

    def lrs(by: str) -> list[Any]:
        return [line.options["lr"] for line in sort_lines(table, by).lines]

    assert lrs("lr") == lrs("initial LR") == [0.1, 0.2, 0.3, 0.4, 0.0]
    assert lrs("test_error") == [0.1, 0.3, 0.2, 0.4, 0.0], "without a result, then what is only reported"
    assert lrs("-Test Error") == [0.2, 0.3, 0.1, 0.4, 0.0]
    with pytest.raises(GridrunError, match=r"no such column\. Did you mean 'test_error'"):
        lrs("test_eror")


def test_numbers_are_sorted_before_texts() -> None:
    rows = row(), row(subdivision=4), row(subdivision=2), row(subdivision=8)
    table = build(Spec(rows, ("ghost_batch_size", "test_error")), [0])
    found = [line.options["ghost_batch_size"] for line in sort_lines(table, "ghost_batch_size").lines]
    assert found == [16, 32, 64, "N/A"]


def test_accuracies_are_a_hundred_minus_errors_published_ones_too() -> None:
    rows = row(), row(lr=0.2), row(lr=0.3)
    given = {
        rows[0].config_id: Published({"test_error": "6.37 (median of 5 runs)"}, 5),
        rows[1].config_id: Published({"test_accuracy": 94.1}),
    }
    columns = ("lr", "test_accuracy", "test_error")
    table = build(Spec(rows, columns, given), [0, 1, 2], *errors(rows[0], 0.05, 0.07, 0.06))
    cell = table.lines[0].cells["test_accuracy"]
    assert (cell.median, cell.low, cell.high) == pytest.approx((0.94, 0.93, 0.95))
    header, first, second, third = markdown_cells(table)
    assert header[1:4] == ["Test Accuracy (%), median of 3 runs", "Published (%)", "Difference (pp)"]
    assert first[1:4] == ["94.00", "93.63 (median of 5 runs)", "+0.37"]
    assert first[4:7] == ["6.00", "6.37 (median of 5 runs)", "-0.37"]
    assert (second[2], second[5], third[2]) == ("94.10", "5.90", "")


def test_a_verdict_beside_an_accuracy_is_that_of_the_error() -> None:
    rows = tuple(row(lr=lr) for lr in (0.1, 0.2, 0.3))
    given = {one.config_id: Published({"test_error": 9.0}, 3) for one in rows}
    runs = [one for each in rows for one in errors(each, 0.05, 0.052, 0.051)]
    table = build(Spec(rows, ("test_error", "test_accuracy"), given), [0, 1, 2], *runs)
    for line in table.lines:
        error, accuracy = line.cells["test_error"], line.cells["test_accuracy"]
        assert error.verdict == accuracy.verdict == "better"
        assert error.half_width == pytest.approx(accuracy.half_width)


def test_a_mean_and_its_standard_deviation() -> None:
    found = {row().config_id: Published({"test_error": 5.0}, 3)}
    table = build(Spec((row(),), published=found, spread="mean"), [0, 1, 2], *errors(row(), 0.05, 0.06, 0.1))
    header, cells = markdown_cells(table)
    assert header[1] == "Test Error (%), mean of 3 runs ± std"
    assert (cells[1], cells[3]) == ("7.00 ± 2.65", "+2.00")
    first, second = to_csv(table).splitlines()
    assert dict(zip(first.split(","), second.split(","), strict=True))["test_error_mean_pct"] == "7.0"


def test_a_pivot_has_one_option_as_lines_and_one_as_columns() -> None:
    rows = row(lr=0.1), row(lr=0.2), row(lr=0.1, batch_size=64)
    spec = Spec(rows, ("lr", "batch_size", "test_error", "train_time"))
    table = build(spec, [0], *errors(rows[0], 0.05), *errors(rows[2], 0.06))
    turned = pivot(table, "batch_size", "Initial LR")
    assert turned.title == "Linear scaling: Test Error (%), 1 run"
    assert markdown_cells(turned) == [
        ["Batch Size", "Initial LR 0.1", "Initial LR 0.2"],
        ["128", "5.00", ""],
        ["64", "6.00", ""],
    ]
    assert turned.notes == ("not run yet: 1 of 3 trials",)
    assert to_csv(turned).splitlines() == [
        "Batch Size,Initial LR 0.1,Initial LR 0.2",
        "128,5.00,",
        "64,6.00,",
    ]
    known = {rows[0].config_id: Published({"test_error": 4.0}, note="on a P100")}
    beside = pivot(build(replace(spec, published=known), [0], *errors(rows[0], 0.05)), "batch_size", "lr")
    assert beside.notes == ("not run yet: 2 of 3 trials", "published values are not shown here")
    with pytest.raises(GridrunError, match="they differ in batch_size, which --where can"):
        pivot(build(replace(spec, columns=("lr", "batch_size", "epochs", "test_error")), [0]), "lr", "epochs")
    with pytest.raises(GridrunError, match="two different options"):
        pivot(table, "lr", "test_error")


def test_the_command_shows_them(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(CASES + "- {batch_size: [64, 128]}\n")
    arguments = [
        "--accuracy",
        "--spread",
        "mean",
        "--pivot",
        "name",
        "batch_size",
        "--results",
        str(tmp_path),
    ]
    result = CliRunner().invoke(main, ["table", str(tmp_path / "g.yaml"), *arguments])
    assert result.exit_code == 0, result.output
    assert "### g: Test Accuracy (%), 1 run" in result.stdout
    assert "| Setting | Batch Size 64 | Batch Size 128 |" in result.stdout
