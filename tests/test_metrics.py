"""What columns are called, and how their values are written and read."""

from __future__ import annotations

from typing import Any

import pytest
from by_hand import Spec, build, markdown_cells, record, row
from hypothesis import assume, given
from hypothesis import strategies as st

from gridrun.grid.settings import known_keys
from gridrun.grid.table_specs import default_columns
from gridrun.metrics import (
    ACCURACIES,
    COMPUTED,
    METRICS,
    complement,
    format_column,
    header_of,
    metric_of,
    parse_time,
)
from gridrun.text import format_option, format_time
from trainer.augmentations.random_crop import RandomCrop
from trainer.datasets.cifar import Cifar10
from trainer.datasets.npz import Npz


def test_columns_that_are_computed_from_a_config() -> None:
    rows = (row(), row(batch_size=4096, subdivision=32, no_weight_decay_on_bn=True))
    columns = ("ghost_batch_size", "weight_decay_on_bn")
    assert markdown_cells(build(Spec(rows, columns), [0])) == [
        ["Ghost Batch Size", "Weight Decay on BN"],
        ["N/A", "yes"],
        ["128", "no"],
    ]


def test_a_data_set_stands_under_its_label() -> None:
    about = {"image_size": 8, "num_classes": 2, "num_train": 999, "num_test": 9, "channels": 1}
    own = [Npz(sha256=digest * 32, mean=(0.5,), std=(0.5,), **about) for digest in ("01", "ab")]
    rows = tuple(row(dataset=dataset) for dataset in (Cifar10(), *own))
    assert default_columns(rows)[:2] == ("dataset", "test_error"), "and not what the digests are"
    table = build(Spec(rows, ("dataset",)), [0])
    assert markdown_cells(table) == [["Data Set"], ["CIFAR-10"], ["npz 01010101"], ["npz abababab"]]


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


def test_the_longest_list_that_is_written_out_has_60_characters() -> None:
    exactly, longer = [10**9] * 4 + [10**11], [10**9] * 3 + [10**10, 10**11]
    assert len(format_option(exactly)) == 60
    assert format_column("schedule.milestones", exactly) == format_option(exactly)
    assert format_column("schedule.milestones", longer).startswith("5 parts, ")


def test_what_a_config_decides_has_no_median() -> None:
    columns = ("num_params", "macs", "epochs_trained")
    found = [record(row(), seed, num_params=10, macs=20, epochs_trained=3) for seed in range(2)]
    table = build(Spec((row(),), columns, spread="minmax"), range(3), *found)
    assert markdown_cells(table) == [["# of Params", "# of MACs", "Epochs Trained"], ["10", "20", "3"]]


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
        [
            *("Augmentation", "Random Crop", "Random Crop Padding", "LR Schedule Milestones"),
            *("Weight Decay", "Warm-Up", "Setting"),
        ],
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
        "Batch Size",
        "Initial LR",
        "Widening Factor",
    ]
    assert header_of("no_weight_decay_on_bn") == "No Weight Decay on BN"
    assert header_of("model.depth", whole=True) == "Model Depth"
    assert header_of("Top-1 of mCE") == "Top-1 of mCE", "a reported row may call its column anything"
    assert [header_of(c) for c in ("of_what", "one_of_many")] == ["Of What", "One of Many"]


def test_what_is_measured_on_test_images_is_called_otherwise_on_held_out_ones() -> None:
    renamed = {name: metric_of(name, held_out=True).label for name in METRICS}
    assert {name: label for name, label in renamed.items() if label != METRICS[name].label} == {
        "test_error": "Validation Error",
        "best_test_error": "Best Validation Error",
        "top5_error": "Validation Top-5 Error",
        "test_accuracy": "Validation Accuracy",
        "best_test_accuracy": "Best Validation Accuracy",
        "top5_accuracy": "Validation Top-5 Accuracy",
        "test_loss": "Validation Loss",
    }
    assert all(metric_of(name) == METRICS[name] for name in METRICS)


def test_headers_of_one_table_differ() -> None:
    spec = Spec((row(),), ("model.depth", "optimizer.depth", "lr"))
    assert markdown_cells(build(spec, [0]))[0] == ["Model Depth", "Optimizer Depth", "Initial LR"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.43, "0.4s"),
        (8.0, "8s"),
        (9.94, "9.9s"),
        (9.97, "10s"),
        (10.0, "10s"),
        (10.4, "10s"),
        (10.6, "11s"),
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
    assert again == pytest.approx(value, abs=30 if metric.suffix == "_s" else 0.5)


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


def test_every_metric_is_a_column_of_the_store_or_computed_from_some() -> None:
    one = record(row(), 0)
    read = {name for metric in METRICS.values() for name in metric.reads or (metric.record,)}
    assert read <= one.row().keys()
    assert all(hasattr(one, metric.record) for metric in METRICS.values())


@pytest.mark.parametrize(
    ("error", "accuracy"),
    [
        (6.37, 93.63),
        (0, 100.0),
        (100, 0.0),
        ("6.37", "93.63"),
        ("6.37 (5 runs)", "93.63 (5 runs)"),
        ("0.82 (best 0.67)", "99.18 (best 99.33)"),
        ("6.37 +/- 0.1", "93.63 +/- 0.1"),
        ("about 6", "about 6"),
        ("101", "101"),
        (1205, 1205),
    ],
)
def test_an_error_becomes_an_accuracy_and_back(error: float | str, accuracy: float | str) -> None:
    assert complement(error) == accuracy
    assert type(complement(error)) is type(accuracy)
    assert complement(accuracy) == error


def test_what_depends_on_the_machine_is_said_to() -> None:
    own = {"train_time", "time_to_train", "images_per_second", "peak_memory_mib", "gpu_hours", "energy_kwh"}
    assert {name for name, metric in METRICS.items() if not metric.portable} == own


def test_each_error_has_its_accuracy() -> None:
    assert ACCURACIES == {
        "test_error": "test_accuracy",
        "best_test_error": "best_test_accuracy",
        "top5_error": "top5_accuracy",
        "train_error": "train_accuracy",
    }
