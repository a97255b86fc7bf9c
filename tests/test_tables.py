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

from gridrun.errors import GridrunError
from gridrun.grid import Grid, Published, load_grid
from gridrun.grid.table_specs import Reported, TableSpec
from gridrun.metrics import METRICS
from gridrun.store import Store, parquet
from gridrun.store.records import TRIAL_TYPES
from gridrun.tables.arrange import sort_lines
from gridrun.tables.build import build_table, tables_of
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
    found = [
        record(one, seed, provenance=provenance, notes="moved", **{METRICS[m].record: 1 for m in METRICS})
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
