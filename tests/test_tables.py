"""From records to tables: medians over the seeds, and what a table reads of a store."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from by_hand import CPU, H200, Spec, build, errors, markdown_cells, only_cell, record, records, row

from gridrun.grid import Grid
from gridrun.grid.table_specs import TableSpec
from gridrun.metrics import METRICS
from gridrun.store import Store, parquet
from gridrun.store.records import TRIAL_TYPES
from gridrun.tables.build import build_table, tables_of
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
    assert markdown_cells(table)[0] == ["Model", "initial lr", "Test Error (%), 1 run"]


def test_tables_need_no_heavy_package() -> None:
    code = (
        "import sys, gridrun.tables.render, gridrun.tables.build, gridrun.metrics;"
        "print({'torch', 'ray', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
