"""Figures: their numbers and labels, the files drawn, and the errors for what cannot be drawn."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import test_layering
from all_grids import GRIDS
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

import cli
from gridrun.errors import GridError
from gridrun.figures import draw
from gridrun.figures.build import build_figure
from gridrun.figures.model import FORMATS, Axis, Figure, Panel, Point, Series
from gridrun.grid import Grid, PlotSpec, load_grid
from gridrun.grid.plot_specs import is_geometric
from gridrun.metrics import METRICS
from gridrun.store import Store
from gridrun.store.records import Provenance, Record
from gridrun.tables.build import build_table
from gridrun.tables.render import to_markdown
from gridrun.trial import Trial
from trainer.metrics import Epoch

ROOT = Path(__file__).parent.parent

HEAD = """
title: A study
base:
  model: {name: resnet_preact, depth: 8}
  epochs: 3
"""
SCALING = """
axes:
  - schedule: [cosine, multistep]
  - zip: {batch_size: [512, 256, 128], lr: [0.4, 0.2, 0.1]}
derive: {schedule.milestones: [0.5 * epochs]}
seeds: 3
"""


@pytest.fixture
def grid_of(tmp_path: Path) -> Any:
    """Return a function that loads a grid from its text."""

    def load(*texts: str, head: str = HEAD) -> Grid:
        path = tmp_path / "study.yaml"
        path.write_text("".join([head, *map(textwrap.dedent, texts)]))
        return load_grid(path)

    return load


def default(grid: Grid, **asked: Any) -> PlotSpec:
    return grid.plot_as(asked, grid.rows) if asked else grid.plot_of(grid.tables[0])


def row_of(grid: Grid, **options: Any) -> Any:
    """Return the one row with these options."""
    (row,) = [
        row for row in grid.rows if all(row.config.flat()[key] == value for key, value in options.items())
    ]
    return row


def epochs_of(*test_errors: float | None) -> tuple[Epoch, ...]:
    """Return an epoch for each test error: half of it the training error, ten times it the test loss."""
    return tuple(
        Epoch(
            epoch=number,
            lr=0.1,
            train_loss=None if error is None else 5 * error,
            train_error=None if error is None else error / 2,
            test_loss=None if error is None else 10 * error,
            test_error=error,
            train_seconds=60.0,
        )
        for number, error in enumerate(test_errors, 1)
    )


def record(row: Any, seed: int, *test_errors: float | None, status: Any = "done", **given: Any) -> Record:
    trial = Trial(row.config, seed)
    return Record(
        trial_id=trial.trial_id,
        config_id=trial.config_id,
        seed=seed,
        status=status,
        config=row.config.flat(),
        config_json="{}",
        ended_at="2026-01-01T00:00:00.000+00:00",
        epochs=epochs_of(*test_errors),
        **{
            "test_error": test_errors[-1] if test_errors else None,
            "test_loss": 1.0,
            "provenance": Provenance(commit="a" * 40, torch_version="2.15.0", gpu="NVIDIA H200"),
            **given,
        },
    )


def build(spec: PlotSpec, *records: Record) -> Figure:
    epochs = {one.trial_id: one.epoch_rows() for one in records}
    return build_figure(spec, {one.trial_id: Record.from_row(one.row()) for one in records}, epochs)


def series_of(figure: Figure, label: str, role: str = "measured", metric: str = "test_error") -> Series:
    index = figure.labels.index(label)
    (found,) = [
        series
        for panel in figure.panels
        for series in panel.series
        if (series.index, series.role, series.metric) == (index, role, metric)
    ]
    return found


def medians(series: Series) -> list[tuple[float, float | None]]:
    return [(point.x, point.median) for point in series.points]


# --- lines -------------------------------------------------------------------------------------


def test_a_line_shows_the_median_of_the_seeds_and_their_range(grid_of: Any) -> None:
    grid = grid_of(SCALING)
    row = row_of(grid, batch_size=256, schedule="cosine")
    runs = [record(row, seed, error) for seed, error in enumerate([0.09, 0.05, 0.06])]
    figure = build(default(grid), *runs)
    point = series_of(figure, "cosine").points[1]
    assert point == Point(x=256, median=6.0, low=5.0, high=9.0, n=3, wanted=3)
    assert (figure.kind, figure.title, figure.legend) == ("line", "A study", "learning rate schedule")
    assert figure.y.label == "Test error (%)"
    assert figure.x.label == "Batch size (images)"
    assert "median of 3 runs, bars from the lowest to the highest" in figure.notes
    assert "not run yet: 15 of 18 runs" in figure.notes


def test_the_median_of_two_runs_is_their_mean_and_one_is_counted_as_missing(grid_of: Any) -> None:
    grid = grid_of(SCALING)
    row = row_of(grid, batch_size=128, schedule="cosine")
    figure = build(default(grid), record(row, 0, 0.05), record(row, 2, 0.07))
    first, *others = series_of(figure, "cosine").points
    assert first == Point(x=128, median=6.0, low=5.0, high=7.0, n=2, wanted=3)
    assert [(point.median, point.n) for point in others] == [(None, 0), (None, 0)]


def test_notes_count_runs_that_diverged_or_failed_and_they_give_no_value(grid_of: Any) -> None:
    grid = grid_of(SCALING)
    row = row_of(grid, batch_size=512, schedule="multistep")
    figure = build(
        default(grid),
        record(row, 0, 0.5, None, status="diverged"),
        record(row, 1, 0.08),
        record(row, 2, status="failed"),
    )
    point = series_of(figure, "multistep").points[-1]
    assert point == Point(x=512, median=8.0, low=8.0, high=8.0, n=1, wanted=3, diverged=1)
    where = "(batch size 512, multistep)"
    assert f"diverged (×): 1 of 18 runs {where}" in figure.notes  # noqa: RUF001
    assert f"failed: 1 of 18 runs {where}" in figure.notes
    assert "not run yet: 15 of 18 runs" in figure.notes


def test_a_row_with_its_own_seeds_asks_for_no_more_runs(grid_of: Any) -> None:
    grid = grid_of(
        """
        axes:
          - cases: [{batch_size: 32}, {batch_size: 64, seeds: 1}, {batch_size: 128}]
        seeds: 2
        """
    )
    figure = build(default(grid), *(record(row, 0, 0.1) for row in grid.rows))
    assert [(point.n, point.wanted) for point in figure.panels[0].series[0].points] == [
        (1, 2),
        (1, 1),
        (1, 2),
    ]


def test_published_values_are_series_of_their_own(grid_of: Any) -> None:
    grid = grid_of(
        SCALING,
        """
        tables:
          - id: cosine
            where: {schedule: cosine}
            published:
              - {batch_size: 128, test_error: 4.91, train_time: 22m, runs: 3}
              - {batch_size: 256, test_error: "~5", runs: 1}
            source: a paper
        plots:
          - {id: error, x: batch_size, by: schedule}
          - {id: time, x: batch_size, by: schedule, y: train_time}
          - {id: ours, x: batch_size, by: schedule, published: false}
        """,
    )
    error, time, ours = (
        build(spec, record(row_of(grid, batch_size=128, schedule="cosine"), 0, 0.05)) for spec in grid.plots
    )
    assert medians(series_of(error, "cosine", "published")) == [(128, 4.91)]
    assert "published: 3 runs, a paper" in error.notes
    for figure in (time, ours):  # a time elsewhere does not compare with ours
        assert {series.role for panel in figure.panels for series in panel.series} == {"measured"}


def test_a_profile_has_the_grid_s_figures_without_published_values(
    grid_of: Any,
) -> None:
    study = grid_of(
        SCALING,
        """
        tables:
          - where: {schedule: cosine}
            published: [{batch_size: 128, test_error: 4.91, runs: 3}]
        plots:
          - {title: Error, x: batch_size, by: schedule}
        profiles:
          small: {scale: {train: 600}, exclude: [{batch_size: 512}], seeds: 1}
        """,
    )
    reduced = load_grid(study.path, profile="small")
    (spec,) = reduced.plots
    figure = build(spec, *(record(row, 0, 0.1) for row in spec.rows))
    assert spec.id == "study_small"
    assert figure.title.startswith("Error (small: 3 epochs, 600 images")
    assert medians(series_of(figure, "cosine")) == [(128, 10.0), (256, 10.0)]
    assert all(series.role == "measured" for panel in figure.panels for series in panel.series)
    assert reduced.plot_as({"kind": "curves"}, reduced.rows).id == "study_small_curves"


@pytest.mark.parametrize(
    ("seconds", "label", "shown"),
    [
        (90.0, "Training time (s)", 90.0),
        (120.0, "Training time (min)", 2.0),
        (9000, "Training time (h)", 2.5),
    ],
)
def test_times_are_in_seconds_minutes_or_hours(
    grid_of: Any, seconds: float, label: str, shown: float
) -> None:
    grid = grid_of(SCALING)
    row = row_of(grid, batch_size=128, schedule="cosine")
    figure = build(default(grid, y="train_time"), record(row, 0, 0.1, train_seconds=seconds))
    assert figure.y.label == label
    assert series_of(figure, "cosine", metric="train_time").points[0].median == shown


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_an_axis(grid_of: Any, metric: str) -> None:
    grid = grid_of(SCALING)
    given: dict[str, Any] = {METRICS[metric].record: 1}
    if metric == "gpu_hours":  # computed: an hour on a GPU
        given = {"train_seconds": 3600.0, "provenance": Provenance(gpu="H200", gpu_share=1.0)}
    run = record(row_of(grid, batch_size=128, schedule="cosine"), 0, 0.1, **given)
    figure = build(default(grid, y=metric), run)
    assert figure.y.label
    expected = 0 if METRICS[metric].error else METRICS[metric].scale  # the store has 1 - accuracy
    assert series_of(figure, "cosine", metric=metric).points[0].median == expected


def test_a_note_names_different_hardware(grid_of: Any) -> None:
    grid = grid_of(SCALING)
    here, there = (row_of(grid, batch_size=size, schedule="cosine") for size in (128, 256))
    figure = build(
        default(grid),
        record(here, 0, 0.1),
        record(
            there, 0, 0.1, provenance=Provenance(commit="b" * 40, torch_version="2.15.0", gpu="Tesla V100")
        ),
    )
    assert any(note.startswith("trained on different hardware") for note in figure.notes)
    assert any(note.startswith("different commits") for note in figure.notes)


def test_a_note_names_test_time_augmentation(grid_of: Any) -> None:
    grid = grid_of("axes: [{tta: [none, flip]}, {lr: [0.1, 0.2]}]\n")
    records = [record(row, 0, 0.1) for row in grid.rows]
    words = "with test-time augmentation (flip)"
    figure = build(default(grid, x="lr"), *records)
    assert f"Test Error of lr 0.1, TTA flip; lr 0.2, TTA flip: {words}" in figure.notes
    figure = build(default(grid, x="lr", y="train_error"), *records)
    assert not any(words in note for note in figure.notes)


# --- curves ------------------------------------------------------------------------------------


def test_curves_are_medians_and_ranges_epoch_by_epoch(grid_of: Any) -> None:
    grid = grid_of("axes: [{schedule: [cosine, linear]}]\nseeds: 3\n")
    row = row_of(grid, schedule="cosine")
    figure = build(
        default(grid, kind="curves"),
        record(row, 0, 0.9, 0.5, 0.1),
        record(row, 1, 0.7, 0.2, 0.3),
        record(row, 2, 0.8, 0.4, 0.2),
    )
    curve = series_of(figure, "cosine")
    assert medians(curve) == [(1, 80.0), (2, 40.0), (3, 20.0)]
    assert [(point.low, point.high) for point in curve.points] == [(70.0, 90.0), (20.0, 50.0), (10.0, 30.0)]
    assert medians(series_of(figure, "cosine", metric="train_error")) == [(1, 40.0), (2, 20.0), (3, 10.0)]
    assert figure.metrics == {"test_error": "test", "train_error": "training"}
    assert (figure.x.label, figure.y.label) == ("Epoch", "Error (%)")
    assert "median of 3 runs, band from the lowest to the highest" in figure.notes


@pytest.mark.parametrize(
    ("last", "asked", "expected"), [(0.1, {}, True), (0.2, {}, False), (0.1, {"log_y": False}, False)]
)
def test_curves_that_span_factors_get_a_logarithmic_axis(
    grid_of: Any, last: float, asked: dict[str, bool], expected: bool
) -> None:
    grid = grid_of("axes: [{schedule: [cosine, linear]}]\nseeds: 1\n")
    spec = default(grid, kind="curves", y=["test_error"], **asked)
    assert build(spec, record(grid.rows[0], 0, 0.8, 0.5, last)).y.log is expected


def test_the_last_epoch_is_labelled(grid_of: Any) -> None:
    grid = grid_of("axes: [{schedule: [cosine, linear]}]\nseeds: 1\n")
    with draw.in_style():
        canvas = draw.draw(build(default(grid, kind="curves"), record(grid.rows[0], 0, *[0.5] * 47)))
        canvas.draw_without_rendering()
    labels = [label.get_text() for label in canvas.axes[0].get_xticklabels()]
    assert labels[-1] == "47"
    assert labels[0] == "0"


def test_whiskers_of_two_lines_stand_side_by_side(grid_of: Any) -> None:
    grid = grid_of("axes: [{batch_size: [32, 64, 128]}, {schedule: [cosine, linear]}]\nseeds: 2\n")
    found = [record(row, seed, 0.2 + 0.1 * seed) for row in grid.rows for seed in range(2)]
    with draw.in_style():
        canvas = draw.draw(build(default(grid, kind="line", x="batch_size"), *found))
        canvas.draw_without_rendering()
    lines = [
        line for line in canvas.axes[0].lines if len(line.get_xdata()) == 3 and line.get_linestyle() != "None"
    ]
    first, second = (line.get_transform().transform((32, 20.0))[0] for line in lines[:2])
    assert second - first == pytest.approx(3.0 / 72 * canvas.dpi, rel=0.01)


def test_a_line_of_single_runs_is_within_the_axis(grid_of: Any) -> None:
    grid = grid_of(SCALING, "tables: [{id: a}]")
    values = {row.column("batch_size"): 0.2 + index / 10 for index, row in enumerate(grid.rows[:3])}
    found = [record(row, 0, values[row.column("batch_size")]) for row in grid.rows[:3]]
    with draw.in_style():
        canvas = draw.draw(build(default(grid, kind="line", x="batch_size"), *found))
        canvas.canvas.draw()
        low, high = canvas.axes[0].get_ylim()
    assert low < 20 < 40 < high
    assert high - low < 30


def test_a_run_that_diverged_is_its_own_curve_up_to_its_last_finite_value(grid_of: Any) -> None:
    grid = grid_of("axes: [{schedule: [cosine, linear]}]\nseeds: 2\n")
    row = row_of(grid, schedule="cosine")
    figure = build(
        default(grid, kind="curves", y="test_loss"),
        record(row, 0, 0.9, 0.5, 0.1),
        record(row, 1, 0.8, 0.85, None, status="diverged"),
    )
    assert medians(series_of(figure, "cosine", metric="test_loss")) == [(1, 9.0), (2, 5.0), (3, 1.0)]
    assert medians(series_of(figure, "cosine", "diverged", "test_loss")) == [(1, 8.0), (2, 8.5)]
    assert figure.y.label == "Test loss (nats)"


def test_epochs_without_a_test_leave_no_gap_in_a_curve(grid_of: Any) -> None:
    grid = grid_of("axes: [{schedule: [cosine, linear]}]\n")
    figure = build(default(grid, kind="curves"), record(row_of(grid, schedule="cosine"), 0, 0.9, None, 0.1))
    assert medians(series_of(figure, "cosine")) == [(1, 90.0), (3, 10.0)]


def test_a_note_counts_zeros_that_a_logarithmic_axis_cannot_show(tmp_path: Path, grid_of: Any) -> None:
    grid = grid_of("axes: [{schedule: [cosine, linear]}]\n")
    run = record(row_of(grid, schedule="cosine"), 0, 0.5, 0.0, 0.0)
    figure = build(default(grid, kind="curves", y="train_error", log_y=True), run)
    assert "below the axis, as they are 0: 2 points" in figure.notes
    assert not any("below" in note for note in build(default(grid, kind="curves"), run).notes)


def test_a_published_error_is_drawn_at_the_last_epoch(grid_of: Any) -> None:
    grid = grid_of(
        "axes: [{cases: [{schedule: cosine, published: {test_error: 7.5, runs: 1}}, {schedule: linear}]}]\n"
    )
    figure = build(default(grid, kind="curves"), record(grid.rows[0], 0, 0.9, 0.5, 0.1))
    assert medians(series_of(figure, "cosine", "published")) == [(3, 7.5)]


def test_many_curves_are_spread_over_panels(grid_of: Any) -> None:
    grid = grid_of("axes: [{batch_size: [32, 64]}, {lr: [0.1, 0.2]}, {schedule: [cosine, linear]}]\n")
    spec = default(grid, kind="curves")
    assert (spec.panels, spec.by) == (("batch_size",), ("lr", "schedule"))
    figure = build(spec, record(grid.rows[0], 0, 0.9))
    assert [panel.title for panel in figure.panels] == ["batch size 32", "batch size 64"]
    assert figure.labels[0] == "lr 0.1, cosine"


# --- bars --------------------------------------------------------------------------------------

ABLATION = """
axes:
  - epochs: [3, 6]
  - cases:
      - {name: plain}
      - {name: smoothed, label_smoothing: 0.1}
      - {name: more, label_smoothing: 0.2}
"""


def test_named_rows_are_bars_in_their_order(grid_of: Any) -> None:
    grid = grid_of(ABLATION, head=HEAD.replace("  epochs: 3\n", ""))
    figure = build(default(grid), record(grid.rows[1], 0, 0.25), record(grid.rows[3], 0, 0.5))
    assert (figure.kind, figure.x.names) == ("bars", ("plain", "smoothed", "more"))
    assert (figure.legend, figure.labels) == ("epochs", ("3", "6"))
    assert medians(series_of(figure, "3")) == [(0, None), (1, 25.0), (2, None)]
    assert medians(series_of(figure, "6")) == [(0, 50.0), (1, None), (2, None)]
    assert "1 run each" in figure.notes


# --- defaults ----------------------------------------------------------------------------------


def test_an_option_that_follows_from_the_x_axis_makes_no_series(grid_of: Any) -> None:
    spec = default(grid_of(SCALING))
    assert (spec.kind, spec.x, spec.by, spec.panels) == ("line", ("batch_size",), ("schedule",), ())
    assert spec.log_x
    assert not spec.log_y


def test_a_line_figure_with_many_series_is_spread_over_panels(grid_of: Any) -> None:
    sizes = ", ".join(str(size) for size in range(16, 26))
    spec = default(grid_of(f"axes: [{{batch_size: [{sizes}]}}, {{lr: [0.1, 0.2, 0.3, 0.4]}}]\n"), x="lr")
    assert (spec.kind, spec.by, spec.panels) == ("line", (), ("batch_size",))


def test_a_single_row_is_a_bar_named_after_its_model(grid_of: Any) -> None:
    grid = grid_of("")
    figure = build(default(grid), record(grid.rows[0], 0, 0.25))
    assert (figure.kind, figure.x.names) == ("bars", ("ResNet-preact-8",))
    assert medians(figure.panels[0].series[0]) == [(0, 25.0)]


def test_options_with_two_values_are_drawn_as_bars(grid_of: Any) -> None:
    spec = default(grid_of("axes: [{batch_size: [32, 64]}, {schedule: [cosine, linear]}]\n"))
    assert (spec.kind, spec.x, spec.by) == ("bars", ("batch_size",), ("schedule",))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.name)
def test_every_grid_has_figures_that_are_empty_without_runs(path: Path) -> None:
    grid = load_grid(path)
    specs = list(grid.plots) or [grid.plot_of(table) for table in grid.tables if table.rows]
    for spec in specs:
        assert build(spec).is_empty
        keys = (*spec.x, *spec.by, *spec.panels)
        assert spec.kind == "curves" or keys


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([8, 16, 32, 64], True),
        ([0.025, 0.05, 0.1, 0.4, 3.2], True),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], False),
        ([1e-4, 2e-4, 3e-4, 4e-4, 5e-4], False),
        ([8, 4096], False),
        ([0, 1, 10, 100], False),
        ([], False),
    ],
)
def test_values_that_grow_by_factors_get_a_logarithmic_axis(values: list[float], expected: bool) -> None:
    assert is_geometric(values) is expected


@given(
    st.floats(1e-6, 1e6),
    st.floats(2.1, 10),
    st.integers(4, 12),
    st.randoms(use_true_random=False),
)
def test_a_geometric_series_is_one_in_any_order_and_unit(
    first: float, factor: float, length: int, random: Any
) -> None:
    values = [first * factor**n for n in range(length)]
    random.shuffle(values)
    assert is_geometric(values)
    assert not is_geometric([first * (10 + n) for n in range(length)])


# --- errors in grid files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plot", "message"),
    [
        ("{kimd: line}", "study.yaml:12: plots[0].kimd: unknown key. Did you mean 'kind'?"),
        ("{kind: lines}", "plots[0].kind: unknown kind 'lines'. Did you mean 'line'?"),
        ("{x: batchsize}", "plots[0].x: unknown option 'batchsize'. Did you mean 'batch_size'?"),
        ("{x: schedule, kind: line}", "plots[0].x: schedule must be a number in every row, but is 'cosine'"),
        ("{x: [lr, batch_size], kind: line}", "plots[0].x: a line has one option along its axis"),
        ("{kind: curves, x: lr}", "plots[0].x: curves are drawn over epochs"),
        ("{kind: curves, y: [test_error, test_loss]}", "errors and losses have different units"),
        ("{kind: curves, y: train_time}", "plots[0].y: 'train_time': curves show one of test_error"),
        ("{y: test_eror}", "Did you mean 'test_error'?"),
        ("{y: [test_error, train_error]}", "plots[0].y: a figure of kind line has one metric"),
        ("{x: batch_size, by: batch_size}", "two rows have the same place (batch size 512"),
        ("{x: batch_size, by: []}", "plots[0].by: must be a list, got an empty one"),
        ("{x: batch_size, by: [schedule, schedule]}", "plots[0].by[1]: 'schedule' appears twice"),
        ("{where: {schedule: linear}}", "plots[0].where: matches no row"),
        ("{log_x: 2}", "plots[0].log_x: must be true or false, got 2"),
        ("{id: ../x}", "plots[0].id: may hold letters"),
        ("{id: a}, {id: a}", "plots[1]: the id 'a' is taken by another figure"),
        ("{}, {}", "plots[0]: needs an `id`, as there are several figures"),
        ("bars", "plots[0]: must be a mapping, got 'bars'"),
    ],
)
def test_an_error_names_the_file_and_the_key(grid_of: Any, plot: str, message: str) -> None:
    with pytest.raises(GridError) as caught:
        grid_of(f"{SCALING}plots: [{plot}]\n")
    assert message in str(caught.value)


def test_more_series_than_can_be_told_apart_are_refused(grid_of: Any) -> None:
    lists = "axes: [{epochs: [1, 2, 3, 4, 5, 6, 7, 8, 9]}, {batch_size: [32, 64, 128]}]\n"
    with pytest.raises(
        GridError,
        match="9 series, the most is 8: narrow by `where` or spread them over `panels`",
    ):
        grid_of(lists + "plots: [{x: batch_size, by: epochs}]\n", head=HEAD.replace("  epochs: 3\n", ""))


def test_a_logarithmic_axis_with_zero_is_refused(grid_of: Any) -> None:
    with pytest.raises(GridError, match="label_smoothing takes the value 0, which has no logarithm"):
        grid_of("axes: [{label_smoothing: [0, 0.1]}]\nplots: [{x: label_smoothing, log_x: true}]\n")


# --- files -------------------------------------------------------------------------------------

TITLE = "Costs $5, x_1^2 <&> ü"


def figures(tmp_path: Path, grid_of: Any) -> list[Figure]:
    """Return one figure of each kind, with everything that a figure can show."""
    grid = grid_of(
        SCALING,
        f"""
        tables:
          - where: {{schedule: cosine}}
            published: [{{batch_size: 128, test_error: 4.91, runs: 3}}]
        plots:
          - {{id: line, title: "{TITLE}", x: batch_size}}
          - {{id: curves, kind: curves, panels: batch_size, log_y: true}}
          - {{id: bars, kind: bars, x: batch_size, by: schedule}}
        """,
    )
    runs = [
        record(row, seed, 0.9, 0.5, error)
        for row, error in zip(grid.rows, (0.1, 0.2, 0.3, 0.15, 0.25), strict=False)
        for seed in range(2)
    ]
    runs.append(record(grid.rows[0], 2, 0.9, None, status="diverged"))
    return [build(spec, *runs) for spec in grid.plots]


def extremes(grid_of: Any) -> list[Figure]:
    """Return figures that are almost empty, or that have values which are hard for an axis."""
    lone, pair = (
        grid_of("title: 桜 \U0001f338\n", head=HEAD.replace("title: A study\n", "")),
        grid_of(SCALING),
    )
    first = pair.rows[0]
    lost = [record(row, seed, 0.9, None, status="diverged") for row in pair.rows for seed in range(3)]
    return [
        build(default(lone), record(lone.rows[0], 0, 0.5)),
        build(default(lone, kind="curves", log_y=True), record(lone.rows[0], 0, 0.0)),
        build(default(pair), *lost),
        build(default(pair, log_y=True), *lost),
        build(default(pair, kind="bars", log_y=True), *lost),
        build(default(pair, kind="bars", log_y=True), record(first, 0, 0.0)),
        build(default(pair, kind="curves"), *lost),
        build(default(pair, kind="curves", log_x=True, log_y=True), *lost[:3], record(pair.rows[-1], 0, 0.0)),
        build(default(pair, log_y=True), record(first, 0, 0.0)),
        build(default(pair), record(first, 0, 1e-9), record(first, 1, 1.0)),
        build(default(pair, y="train_time"), record(first, 0, 0.1, train_seconds=1e9)),
    ]


@pytest.mark.parametrize("forged", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_impossible_values_are_ignored(tmp_path: Path, grid_of: Any, forged: float) -> None:
    grid = grid_of("axes: [{batch_size: [32, 64]}]\nseeds: 2\n")
    wrong, right = record(grid.rows[0], 0, forged, forged), record(grid.rows[0], 1, 0.5, 0.25)
    curves, bars = (build(default(grid, kind=kind), wrong, right) for kind in ("curves", "bars"))
    assert medians(series_of(curves, "32")) == [(1, 50.0), (2, 25.0)]
    assert medians(series_of(bars, "A study")) == [(0, 25.0), (1, None)]
    for figure in (curves, bars):
        draw.save(figure, tmp_path / "figure.png")


def line_over(values: Sequence[float], log: bool, panels: int = 3) -> Figure:
    """Return a line figure over the values of an option."""
    points = tuple(Point(x=x, median=5.0, low=4.0, high=6.0, n=3, wanted=3) for x in values)
    panel = Panel(title="", series=(Series(role="measured", index=0, metric="test_error", points=points),))
    return Figure(
        id="line",
        title="A line",
        kind="line",
        x=Axis(label="x", log=log, ticks=tuple(values)),
        y=Axis(label="Test error (%)"),
        legend="",
        labels=("A line",),
        ordered=False,
        metrics={},
        panels=(panel,) * panels,
        notes=(),
    )


def x_labels(figure: Figure) -> list[str]:
    """Return the labels along the lowest x axis, as they are drawn. They must not overlap."""
    with draw.in_style():
        canvas = draw.draw(figure)
        canvas.draw_without_rendering()
    axis = canvas.axes[-1].xaxis
    low, high = sorted(axis.get_view_interval())
    shown = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [label.get_window_extent() for label in shown]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    return [label.get_text() for label in shown]


@pytest.mark.parametrize(
    ("values", "log", "expected"),
    [
        ((128, 256, 512), True, "128 256 512"),
        ([2**k for k in range(3, 20)], True, "8 128 2048 32768 524288"),
        (range(1, 101), False, "0 20 40 60 80 100"),
        ((0.00125, 0.0025, 0.005, 0.0075, 0.01, 0.02, 0.4, 1.2, 1.6, 2, 2.4, 3.2), True, "0.001 0.01 0.1 1"),
        ((0.1, 0.12, 0.13, 0.5), False, "0.1 0.2 0.3 0.4 0.5"),
        ((5,), True, "5"),
    ],
)  # fmt: skip
def test_an_axis_is_labelled_at_its_values_or_at_round_numbers(
    values: Sequence[float], log: bool, expected: str
) -> None:
    assert x_labels(line_over(values, log)) == expected.split()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.sets(st.floats(1e-30, 1e30), min_size=1, max_size=40), st.booleans())
def test_an_axis_has_a_label_whatever_its_values(values: set[float], log: bool) -> None:
    assert x_labels(line_over(sorted(values), log))


def test_figures_with_odd_values_can_be_drawn(tmp_path: Path, grid_of: Any) -> None:
    for figure in extremes(grid_of):
        draw.save(figure, tmp_path / "figure.png")  # a warning is an error here


@pytest.mark.parametrize("form", FORMATS)
def test_files_are_valid_and_hold_the_digest(tmp_path: Path, grid_of: Any, form: str) -> None:
    for figure in figures(tmp_path, grid_of):
        path = tmp_path / "new" / f"{figure.id}.{form}"
        draw.save(figure, path)
        assert draw.is_current(path, figure)
        assert [other.name for other in path.parent.iterdir() if other.suffix == ".partial"] == []
        data = path.read_bytes()
        if form == "svg":
            ElementTree.fromstring(data)
        elif form == "png":
            from matplotlib.image import imread

            assert min(imread(path).shape[:2]) > 300
        else:
            assert data.startswith(b"%PDF")
            assert data.rstrip().endswith(b"%%EOF")


def test_a_bar_and_its_table_show_the_same_number(tmp_path: Path, grid_of: Any) -> None:
    grid = grid_of("axes: [{schedule: [cosine, constant]}]\nseeds: 2\n")
    row = grid.rows[0]
    found = [record(row, 0, 0.2466), record(row, 1, 0.2471)]  # 24.685 %, a half that binary has lower
    draw.save(build(default(grid, kind="bars"), *found), tmp_path / "bars.svg")
    assert " 24.69 |" in to_markdown(build_table(grid.tables[0], {one.trial_id: one for one in found}))
    assert "<!-- 24.69 -->" in (tmp_path / "bars.svg").read_text()


def test_the_value_of_a_bar_is_beside_that_bar_and_no_other_mark(grid_of: Any) -> None:
    grid = grid_of(
        """
        axes: [{cases: [{name: one, published: {test_error: 30.5, runs: 1}}, {name: two, lr: 0.2}]}]
        seeds: 2
        """
    )
    runs = [record(grid.rows[0], 0, 0.1), record(grid.rows[0], 1, 0.1028), record(grid.rows[1], 0, 0.4)]
    with draw.in_style():
        canvas = draw.draw(build(default(grid), *runs))
        canvas.draw_without_rendering()
    (axes,) = canvas.axes
    values = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert list(values) == ["10.14", "(1/2 runs) 40.00"]
    for box, bar in zip(values.values(), axes.patches, strict=True):
        assert box.x1 < axes.bbox.x0, "left of the axis, where there are no marks"
        assert (box.y0 + box.y1) / 2 == pytest.approx(
            bar.get_window_extent().p0[1] + bar.get_window_extent().height / 2, abs=2
        )
    names = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert max(name.x1 for name in names) < min(box.x0 for box in values.values())


def test_the_same_figure_gives_the_same_bytes_whatever_the_user_s_settings(
    tmp_path: Path, grid_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib as mpl

    for figure, form in zip(figures(tmp_path, grid_of), FORMATS, strict=True):
        first, second = tmp_path / f"first.{form}", tmp_path / f"second.{form}"
        draw.save(figure, first)
        with mpl.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": "other"}):
            draw.save(figure, second)
            assert mpl.rcParams["font.size"] == 20
        assert first.read_bytes() == second.read_bytes()


def test_another_process_draws_the_same_bytes(store: Path, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "cli.py", "plot", tmp_path / "small.yaml", "--results", store]
    for seed in "12":
        subprocess.run(
            [*command, "--out", tmp_path / seed, "--format", "svg,png,pdf"],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()


def test_the_digest_changes_with_the_data_alone(tmp_path: Path, grid_of: Any) -> None:
    grid = grid_of(SCALING)
    row = row_of(grid, batch_size=128, schedule="cosine")
    one, same, other = (build(default(grid), record(row, 0, error)) for error in (0.1, 0.1, 0.11))
    assert one.digest == same.digest
    assert one.digest != other.digest


# --- the command -------------------------------------------------------------------------------

SMALL = """
title: Small
base: {model: {name: resnet_preact, depth: 8}, epochs: 3}
axes: [{schedule: [cosine, linear]}, {batch_size: [32, 64, 128]}]
seeds: 2
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store with the runs of `small.yaml`."""
    (tmp_path / "small.yaml").write_text(SMALL)
    store = Store(tmp_path / "results")
    store.create()
    for row in load_grid(tmp_path / "small.yaml").rows:
        for seed in range(2):
            store.add(record(row, seed, 0.9, 0.5, 0.1 + seed / 100))
    return store.root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def plot(store: Path, *arguments: object) -> Result:
    return run(
        "plot", store.parent / "small.yaml", "--results", store, "--out", store.parent / "out", *arguments
    )


def test_the_command_prints_the_files_it_wrote(store: Path) -> None:
    result = plot(store, "--format", "png,svg")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(store.parent / "out" / f"small.{form}") for form in ("png", "svg")]
    assert all(Path(path).stat().st_size > 1000 for path in result.stdout.split())


def test_another_figure_can_be_asked_for(store: Path) -> None:
    for arguments, name in (
        (["--kind", "curves", "--where", "batch_size=[32, 64]"], "small_curves_where_batch_size-32-64"),
        (["--kind", "bars", "--x", "batch_size,schedule", "--log-y"], "small_bars"),
        (["--x", "batch_size", "--y", "test_loss", "--by", "schedule", "--linear-x"], "small_own"),
    ):
        result = plot(store, *arguments)
        assert result.exit_code == 0, result.output
        assert result.stdout.split() == [str(store.parent / "out" / f"{name}.png")]


def test_one_of_the_grid_s_figures_can_be_asked_for(store: Path) -> None:
    file = store.parent / "small.yaml"
    plots = [f"{{id: {name}, x: batch_size, by: schedule}}" for name in ("errors_20", "errors_110", "other")]
    file.write_text(f"{SMALL}plots: [{', '.join(plots)}]\n")
    assert plot(store, "--figure", "errors_1").stdout.split() == [str(store.parent / "out/errors_110.png")]
    for text, message in (
        ("errors", "'errors' is the beginning of several figures: errors_20, errors_110"),
        ("othr", "there is no figure 'othr'. Did you mean 'other'?"),
    ):
        result = plot(store, "--figure", text)
        assert result.exit_code == 2
        assert message in result.stderr


def test_check_tells_whether_a_figure_is_up_to_date(store: Path) -> None:
    assert plot(store, "--check").exit_code == 1, "nothing is drawn yet"
    assert plot(store).exit_code == 0
    before = (store.parent / "out" / "small.png").read_bytes()
    assert plot(store, "--check").exit_code == 0
    result = plot(store, "--check", "--where", "schedule=cosine")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "differs from the stored results" in result.stderr
    assert (store.parent / "out" / "small.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "pgn"], "--format: unknown format 'pgn'. Did you mean 'png'?"),
        (["--by", "schedul"], "--by: unknown option 'schedul'. Did you mean 'schedule'?"),
        (["--log-x", "--x", "schedule", "--kind", "line"], "--x: schedule must be a number in every row"),
        (["--where", "batch_size=77"], "no row of {grid} has batch_size=77; batch_size is 32, 64"),
        (["--where", "batchsize=32"], "--where: batchsize: unknown option. Did you mean 'batch_size'?"),
        (["--where", "batch_size"], "--where: must be KEY=VALUE, such as epochs=200, got 'batch_size'"),
        (["--out", __file__], "is a file"),
    ],
)
def test_errors_name_the_option_and_the_nearest_choice(
    store: Path, arguments: Sequence[str], message: str
) -> None:
    result = plot(store, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message.format(grid=store.parent / "small.yaml") in result.stderr


def test_an_empty_store_gives_a_message_and_no_picture(store: Path, tmp_path: Path) -> None:
    result = plot(store, "--results", tmp_path / "nothing")
    assert result.exit_code == 2
    assert "none of these trials has results yet, so there is nothing to draw" in result.stderr
    assert not (store.parent / "out").exists()


def test_rows_that_a_profile_makes_alike_are_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        SMALL.replace("{batch_size: [32, 64, 128]}", "{zip: {batch_size: [32, 64], lr: [0.1, 0.2]}}")
        + "plots: [{x: batch_size, by: schedule}]\nprofiles: {flat: {set: {batch_size: 16}}}\n"
    )
    result = plot(store, "--profile", "flat")
    assert result.exit_code == 2
    assert "two rows have the same place (batch size 16, cosine); they differ in lr" in result.stderr


def test_no_two_grids_have_a_figure_of_the_same_name() -> None:
    grids = [load_grid(path) for path in GRIDS]
    own = [spec for grid in grids for spec in grid.plots]
    others = [grid.plot_of(table) for grid in grids if not grid.plots for table in grid.tables if table.rows]
    ids = [spec.id for spec in (*own, *others)]
    assert len(ids) == len(set(ids))


def test_two_figures_with_one_file_name_are_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "twin.yaml").write_text("name: small" + SMALL)
    result = plot(store, tmp_path / "twin.yaml")
    assert result.exit_code == 2
    assert "both have a figure 'small': draw them with different --out" in result.stderr


def test_an_output_directory_that_cannot_be_written_is_refused(store: Path) -> None:
    (store.parent / "file").write_text("")
    result = plot(store, "--out", store.parent / "file" / "below")
    assert result.exit_code == 2
    assert "--out': " in result.stderr
    assert "below: Not a directory" in result.stderr


def test_figures_need_neither_torch_nor_ray_and_descriptions_no_matplotlib(store: Path) -> None:
    arguments = ["plot", str(store.parent / "small.yaml"), "--results", str(store), "--out", str(store)]
    loaded = test_layering.imported_by(test_layering.command(*arguments))
    assert "matplotlib" in loaded
    assert not loaded & {"torch", "ray", "pandas"}
    assert "matplotlib" not in test_layering.imported_by(
        "import gridrun.figures.build, gridrun.commands.plot"
    )


MARKER = "<!-- gridrun plot small.yaml --results results --out figures --format svg -->\n"


def test_figures_of_a_readme_are_redrawn_when_their_data_changes(store: Path, tmp_path: Path) -> None:
    readme, figure = tmp_path / "README.md", tmp_path / "figures" / "small.svg"
    readme.write_text(f"Before\n{MARKER}<!-- end -->\nAfter\n")
    assert run("table", "--readme", readme, "--check").exit_code == 1
    assert not figure.exists()
    assert run("table", "--readme", readme).exit_code == 0
    assert readme.read_text() == f"Before\n{MARKER}\n![Small](figures/small.svg)\n\n<!-- end -->\nAfter\n"
    first = figure.read_bytes()
    assert run("table", "--readme", readme, "--check").exit_code == 0

    row = load_grid(tmp_path / "small.yaml").rows[0]
    grid = tmp_path / "small.yaml"
    grid.write_text(SMALL.replace("seeds: 2", "seeds: 3"))
    Store(store).add(record(row, 2, 0.9, 0.5, 0.3))
    checked = run("table", "--readme", readme, "--check")
    assert checked.exit_code == 1
    assert f"{figure}: differs from the stored results" in checked.stderr
    assert figure.read_bytes() == first
    assert run("table", "--readme", readme).exit_code == 0
    assert figure.read_bytes() != first
    assert run("table", "--readme", readme, "--check").exit_code == 0


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (MARKER.replace(" --out figures", ""), "must read GRID... --results DIR --out DIR [OPTIONS], got"),
        (MARKER.replace("svg", "svg,png"), "a marker shows its figures in one format"),
        (MARKER.replace("svg", "gif"), "unknown format 'gif'"),
        (MARKER.replace("--results results", "--results ."), "there is nothing to draw"),
        (MARKER.replace("--results results", "--results none"), "none: no such results directory"),
    ],
)
def test_a_wrong_marker_is_refused(store: Path, tmp_path: Path, marker: str, message: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{marker}<!-- end -->\n")
    result = run("table", "--readme", readme)
    assert result.exit_code == 2
    assert message in result.stderr
    assert readme.read_text() == f"{marker}<!-- end -->\n"


def test_the_title_of_a_figure_of_some_rows_says_which(store: Path, tmp_path: Path) -> None:
    assert plot(store, "--where", "schedule=cosine", "--format", "svg").exit_code == 0
    assert b"Small (only cosine)" in (tmp_path / "out" / "small_where_schedule-cosine.svg").read_bytes()
