"""The notes below a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from by_hand import CPU, H200, FakeNet, Spec, build, markdown_cells, record, row

from gridrun.store.records import Provenance
from gridrun.tables.model import Table


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
        "diverged: batch size 4096, lr 3.2 (seeds 0, 2)",
        "failed: batch size 128, lr 0.1 (seed 1)",
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


def notes_below(*configs: dict[str, Any], columns: tuple[str, ...] = ("lr", "test_error")) -> tuple[str, ...]:
    """Return the notes of a table with one done trial of each config."""
    rows = tuple(row(lr=0.1 * number, **options) for number, options in enumerate(configs, 1))
    return build(Spec(rows, columns), [0], *(record(one, 0, test_error=0.1) for one in rows)).notes


FLIP = {"tta": "flip"}
SOME = {"tta": "six_views", "tta_least_confident": 0.07}


def test_test_time_augmentation_stands_under_the_table() -> None:
    words = "with test-time augmentation (flip)"
    assert notes_below(FLIP, FLIP) == (f"Test Error: {words}",)
    assert notes_below(FLIP, columns=("tta", "test_error")) == (f"Test Error: {words}",)
    every = ("best_test_error", "test_loss", "train_error", "test_error")
    assert notes_below(FLIP, columns=every) == (f"Best Test Error, Test Loss, Test Error: {words}",)
    assert notes_below(FLIP, columns=("lr", "train_error")) == ()
    assert notes_below(FLIP, {}, FLIP) == (f"Test Error of lr 0.1; lr 0.3: {words}",)
    assert notes_below(*[FLIP] * 5, {}) == (f"Test Error of 5 rows: {words}",)
    some = "with test-time augmentation (six_views) of the 7 % least confident images (transductive)"
    assert notes_below(SOME) == (f"Test Error: {some}",)
    assert notes_below(SOME, FLIP) == (f"Test Error of lr 0.1: {some}", f"Test Error of lr 0.2: {words}")


def test_errors_on_held_out_images_are_called_validation_errors() -> None:
    rows = (row(lr=0.1, val_size=1000), row(lr=0.2, val_size=1000))
    found = [record(one, 0, test_error=0.1) for one in rows]
    shown = markdown_cells(build(Spec(rows, ("lr", "test_error", "top5_error", "train_error")), [0], *found))
    assert shown[0] == [
        "Initial LR",
        "Validation Error (%), 1 run",
        "Validation Top-5 Error (%), 1 run",
        "Training Error (%), 1 run",
    ]
    mixed = (rows[0], row(lr=0.2))
    table = build(Spec(mixed, ("lr", "test_error")), [0], *(record(one, 0, test_error=0.1) for one in mixed))
    assert markdown_cells(table)[0][1] == "Test Error (%), 1 run"
    assert "Test Error of lr 0.1: on images held out of the training set" in table.notes


def test_what_has_not_run_was_not_augmented() -> None:
    assert build(Spec((row(tta="flip"),)), [0]).notes == ("not run yet",)


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
    assert noted(None, "started again: no space") == ("note from lr 0.2 (seed 0): started again: no space",)
    assert noted("a", "b; a", "a", None) == (
        "note from lr 0.1 (seeds 0, 1); lr 0.2 (seed 0): a",
        "note from lr 0.2 (seed 0): b",
    )
    assert noted(*["a"] * 6) == ("note from 6 trials: a",)
    assert noted("moved from V100 to H200 at step 7", None) == (
        "note from lr 0.1 (seed 0): moved from V100 to H200 at step 7",
    )
    assert noted("moved from V100 to H200 at step 7", "moved from V100 to H200 at step 9") == (
        "note from lr 0.1 (seed 0); lr 0.2 (seed 0): moved from V100 to H200",
    )


def test_notes_of_a_diverged_trial_are_told_too() -> None:
    found = record(row(), 0, "diverged", notes="moved from cuda to cpu at step 1")
    assert build(Spec((row(),)), [0], found).notes == (
        "diverged: batch size 128 (seed 0)",
        "note from batch size 128 (seed 0): moved from cuda to cpu at step 1",
    )


def test_times_on_different_hardware_carry_a_note() -> None:
    table = two_rows(("train_time", "test_error"), H200, changed(H200, gpu="Tesla V100"))
    assert markdown_cells(table)[0] == ["Initial LR", r"Training Time\*", "Test Error (%), median of 2 runs"]
    assert table.notes == (
        "* Training Time: not comparable between rows, trained on different hardware: "
        "NVIDIA H200 (3 trials), Tesla V100 (1 trial)",
    )


def test_times_of_compiled_networks_are_told_apart() -> None:
    one = row()

    def table(*compiled: bool) -> Table:
        found = [
            record(one, seed, train_seconds=2.0, provenance=CPU, compiled=value)
            for seed, value in enumerate(compiled)
        ]
        return build(Spec((one,), ("train_time",)), range(2), *found)

    assert table(True, True).notes == ("Training Time: on Xeon, 1 thread, compiled",)
    assert table(True, False).notes == (
        "* Training Time: not comparable between rows, some compiled: "
        "Xeon, 1 thread, compiled (1 trial), Xeon, 1 thread (1 trial)",
    )
    assert table(True, False).mixed_hardware


def test_hardware_of_a_trial_on_the_cpu_is_the_cpu_and_its_threads() -> None:
    assert two_rows(("train_time",), CPU, CPU).notes == ("Training Time: on Xeon, 1 thread",)
    beside_a_gpu = changed(CPU, gpu="NVIDIA H200")
    assert not two_rows(("train_time",), CPU, beside_a_gpu).mixed_hardware
    assert two_rows(("train_time",), CPU, changed(CPU, threads=2)).mixed_hardware
    assert two_rows(("train_time",), beside_a_gpu, H200).mixed_hardware
