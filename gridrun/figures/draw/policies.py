"""Schedules as stacked steps, lineages as lines of members with arrows between them, images in a sheet."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from gridrun.figures.draw.style import GREY, wrapped
from gridrun.figures.policies import LineageFigure, ScheduleFigure, Stack
from gridrun.figures.sheet import SheetFigure
from gridrun.store.lineage import LineageRow
from trainer.augmentations.policy.schedules import OPERATIONS

BEST = "#D55E00"
EDGE = 0.6
"""How far, in members, an arrow stays from the lines that it joins."""


def draw_schedule(figure: ScheduleFigure) -> Canvas:
    """Draw one panel below the other, each a stack of all operations."""
    canvas = Canvas(figsize=(7.4, 1.2 + 1.9 * len(figure.stacks)))
    grid = canvas.subplots(len(figure.stacks), 1, sharex=True, squeeze=False)
    for stack, axes in zip(figure.stacks, grid.flat, strict=True):
        _draw_stack(figure, stack, axes)
    grid.flat[-1].set_xlabel("Epoch")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    canvas.legend(handles[::-1], labels[::-1], loc="outside right center", frameon=False)
    _around(canvas, figure.title, figure.notes)
    return canvas


def _draw_stack(figure: ScheduleFigure, stack: Stack, axes: Axes) -> None:
    """Draw steps: a policy counts from its first epoch until the next one begins."""
    edges = [*figure.starts, figure.epochs + 1]
    layers = [[*layer, layer[-1]] for layer in stack.layers]
    colors = matplotlib.colormaps["tab20"](range(len(OPERATIONS)))
    axes.stackplot(edges, layers, labels=OPERATIONS, colors=colors, step="post", linewidth=0)
    axes.set_ylabel(wrapped(stack.label, 24))
    axes.set_xlim(1, figure.epochs + 1)
    axes.set_ylim(0, 100 if "%" in stack.label else None)
    axes.grid(visible=False)


def draw_lineage(figure: LineageFigure) -> Canvas:
    """Draw the validation errors above, and below, for each member, which states it went on from."""
    members = 1 + max(row.member for row in figure.rows)
    canvas = Canvas(figsize=(7.4, 3.4 + 0.16 * members))
    above, below = canvas.subplots(2, 1, sharex=True, height_ratios=[2, 1 + 0.1 * members])
    _draw_errors(figure, above)
    _draw_members(figure, below)
    below.set_xlabel("Epoch")
    _around(canvas, figure.title, figure.notes)
    return canvas


def _draw_errors(figure: LineageFigure, axes: Axes) -> None:
    best = set(figure.best)
    by_id = {row.trial_id: row for row in figure.rows}
    for row in figure.rows:
        parent = by_id.get(row.parent_id or "")
        if row.val_error is None or (parent and parent.val_error is None):
            continue
        if parent and parent.val_error is not None:
            ends = [parent.last_epoch, row.last_epoch], [100 * parent.val_error, 100 * row.val_error]
            axes.plot(*ends, **_line(row.trial_id in best, dashed=row.donor is not None))
        else:
            axes.plot([row.last_epoch], [100 * row.val_error], ".", color=GREY, markersize=3)
    axes.set_ylabel("Validation error (%)")


def _line(is_best: bool, *, dashed: bool) -> dict[str, Any]:
    width, color, zorder = (2.0, BEST, 3) if is_best else (0.7, "#9A9A9A", 2)
    return {
        "color": color,
        "linewidth": width,
        "linestyle": "--" if dashed else "-",
        "zorder": zorder,
    }


def _draw_members(figure: LineageFigure, axes: Axes) -> None:
    """Draw a member's segments in the colour of their error, and an arrow for each state taken over."""
    best, errors = set(figure.best), [r.val_error for r in figure.rows if r.val_error is not None]
    scale = Normalize(100 * min(errors), 100 * max(errors))
    for bold, rows in itertools.groupby(
        sorted(figure.rows, key=lambda row: row.trial_id in best), lambda row: row.trial_id in best
    ):
        axes.add_collection(_segments(list(rows), scale, 5.0 if bold else 2.0))
    for row in figure.rows:
        if row.donor is not None:
            arrow = {
                "arrowstyle": "->",
                "linewidth": 0.7,
                "color": BEST if row.trial_id in best else GREY,
            }
            ends = (row.first_epoch - 0.5, row.member), (row.first_epoch - 0.5, row.donor)
            axes.annotate("", *ends, arrowprops=arrow, zorder=4, ha="center")
    axes.set_xlim(0.5, max(row.last_epoch for row in figure.rows) + 0.5)
    axes.set_ylim(max(row.member for row in figure.rows) + EDGE, -EDGE)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel("Member")
    shades = matplotlib.cm.ScalarMappable(scale, "viridis")
    axes.figure.colorbar(shades, ax=axes, label="Validation error (%)", aspect=12)


def _segments(rows: list[LineageRow], scale: Normalize, width: float) -> LineCollection:
    lines = [[(row.first_epoch - 0.5, row.member), (row.last_epoch + 0.5, row.member)] for row in rows]
    shades = [
        "#CCCCCC" if row.val_error is None else matplotlib.colormaps["viridis"](scale(100 * row.val_error))
        for row in rows
    ]
    return LineCollection(lines, colors=shades, linewidths=width, capstyle="butt")


def draw_sheet(figure: SheetFigure) -> Canvas:
    """Draw a row of images for each epoch, with the operations of each image above it."""
    rows, columns = len(figure.rows), 1 + max(len(row.images) for row in figure.rows)
    canvas = Canvas(figsize=(0.4 + 1.15 * columns, 0.7 + 1.45 * rows))
    grid = canvas.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, line in zip(figure.rows, grid, strict=True):
        shown = ((row.label, figure.original), *row.images)
        for (caption, image), axes in zip(shown, line, strict=False):
            axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
            axes.set_title(caption, fontsize=6)
    _around(canvas, figure.title, figure.notes)
    return canvas


def _around(canvas: Canvas, title: str, notes: tuple[str, ...]) -> None:
    width = canvas.get_figwidth()
    canvas.suptitle(wrapped(title, 12 * width))
    if notes:
        canvas.supxlabel(wrapped("; ".join(notes), 18 * width), x=0.01, ha="left", fontsize=7, color=GREY)
