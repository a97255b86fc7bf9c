"""`gridrun compare`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import Directory, json_option, results_option
from gridrun.commands._show import echo_json
from gridrun.errors import GridrunError
from gridrun.text import format_percent, number_of, printable

if TYPE_CHECKING:
    from gridrun.compare import Compared, Pair, Side


@click.command("compare", cls=GroupedCommand, example="gridrun compare b7393f b75cd8")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@results_option
@click.option(
    "--metric",
    type=click.Choice(["test_error", "best_test_error", "top5_error"]),
    default="test_error",
    help="What to compare.",
)
@click.option(
    "--tolerance",
    metavar="POINTS",
    type=click.FloatRange(min=0, max=100),
    default=0.2,
    help="Half the width of what counts as the same error, in percentage points.",
)
@click.option(
    "--predictions",
    metavar="DIR",
    type=Directory(),
    help="Directory of files from `gridrun evaluate ID --save FILE`: rows with the same seeds are also "
    "compared image by image. [default: predictions/ in the results directory]",
)
@json_option
def command(
    first: str,
    second: str,
    results: Path,
    metric: str,
    tolerance: float,
    predictions: Path | None,
    as_json: bool,
) -> None:
    """Compare the errors of two rows, grids, stores or commits.

    A and B are both of one kind: the beginning of the id of a row or of one of its trials; a grid file; a
    results directory; or the beginning of a commit, also of trials that were trained anew with --again.
    Rows of two grids belong together if they have the same name or the same values of what varies in both,
    those of stores and commits if they have the same config.

    You see A - B with its 95 % interval, and a verdict on A; see docs/statistics.md.
    """
    from gridrun.compare import compare, read_side
    from gridrun.grid import load_grid
    from gridrun.paired import read_predictions
    from gridrun.store import Store

    store = Store(results)
    sides = read_side(first, store, load_grid), read_side(second, store, load_grid)
    a, b = ([row.config for row in side.rows] for side in sides)
    if a == b and sides[0].kind == sides[1].kind == "row":
        raise GridrunError(f"{first} and {second} are of the same row; compare two rows")
    if predictions and not predictions.is_dir():
        raise GridrunError(f"--predictions {predictions}: there is no such directory")
    kept = read_predictions(predictions or results / "predictions")
    found = compare(*sides, metric, tolerance / 100, kept)
    if as_json:
        echo_json(dataclasses.asdict(found))
    else:
        _show(found, sides)


def _show(found: Compared, sides: Sequence[Side]) -> None:
    from gridrun.grid.describe import describe_option

    for letter, side in zip("AB", sides, strict=True):
        click.echo(f"{letter}: {side.kind} {printable(side.text)}")
    for name, values in found.differing.items():
        texts = (describe_option(name, value) for value in values)
        click.echo(f"  {printable(name)}: {printable(' | '.join(texts))}")
    click.echo()
    lines = [("", "A (%)", "B (%)", "A - B (pp), 95 %", "A is")]
    lines += [_cells(pair) for pair in found.pairs]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for about, *numbers, verdict in lines:
        padded = (f"{text:>{width}}" for text, width in zip(numbers, widths[1:-1], strict=True))
        click.echo("  ".join((f"{about:<{widths[0]}}", *padded, verdict)).rstrip())
    for pair in found.pairs:
        if pair.paired:
            _show_paired(pair)
    for note in _notes(found):
        click.echo(f"- {note}")


def _cells(pair: Pair) -> tuple[str, str, str, str, str]:
    sides = [
        f"{format_percent(median)} ({number_of(runs, 'run')})"
        for median, runs in zip(pair.medians, pair.runs, strict=True)
    ]
    more = "" if pair.more_seeds is None else f", {number_of(pair.more_seeds, 'more seed')} of both"
    return (
        printable(pair.about),
        *sides,
        _points(pair.difference, pair.half_width),
        f"{pair.verdict or 'no verdict'}{more}",
    )  # type: ignore[return-value]


def _points(difference: float, half_width: float | None) -> str:
    text = f"{100 * difference:+.2f}"
    return text if half_width is None else f"{text} ± {format_percent(half_width)}"


def _show_paired(pair: Pair) -> None:
    found = pair.paired
    assert found
    click.echo(f"\n{printable(pair.about)}, image by image:")
    over = f"{number_of(found.seeds, 'seed')} and {number_of(found.images, 'image')} of both"
    click.echo(f"  mean difference over {over}: {_points(found.difference, found.half_width)}")
    click.echo("    if other seeds and other test images were drawn")
    if found.half_width_seeds is not None:
        click.echo(f"    {_points(found.difference, found.half_width_seeds)} if other seeds were drawn")
    click.echo(f"  wrong in A alone: {found.only_first:,}; in B alone: {found.only_second:,}")


def _notes(found: Compared) -> list[str]:
    notes = []
    judged = [pair for pair in found.pairs if pair.verdict]
    if len(judged) < len(found.pairs):
        rows = number_of(len(found.pairs) - len(judged), "row")
        notes.append(f"no verdict on {rows}: too few runs, other test images, not learnt, or no error at all")
    if len(judged) > 1:
        told = sum(bool(pair.is_told) for pair in judged)
        notes.append(f"{told} of {len(judged)} differ if all are looked at together (Holm, 5 %)")
    for letter, count in zip("AB", found.only, strict=True):
        if count:
            notes.append(f"{number_of(count, 'row')} of {letter} alone")
    if same := sum(pair.same_runs for pair in found.pairs):
        notes.append(f"{number_of(same, 'trial')} with exactly the same error in both")
    return notes
