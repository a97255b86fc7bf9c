"""Keep tables and figures in a Markdown file up to date, each between two markers.

    <!-- gridrun table grids/quickstart.yaml --results results/readme -->
    ... rewritten by `gridrun table --readme FILE` ...
    <!-- end -->

    <!-- gridrun plot grids/quickstart.yaml --results results/readme --out docs/figures --format svg -->
    ![Schedules on digits](docs/figures/quickstart_curves.svg)
    <!-- end -->

The first marker is the command that makes what is below it.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gridrun.errors import GridrunError

_BLOCK = re.compile(r"(<!-- gridrun (table|plot) (.*?) -->\n)(.*?)(^<!-- end -->$)", re.DOTALL | re.MULTILINE)
_MARKER = re.compile(r"<!-- gridrun (?:table|plot) .*?-->")
_OPTIONS = {
    "table": ("--results", "--profile", "--table", "--spread"),
    "plot": ("--results", "--profile", "--out", "--format"),
}
_USAGE = {
    "table": "GRID... [--profile NAME] [--table ID] [--spread SPREAD] --results DIR",
    "plot": "GRID... [--profile NAME] --results DIR --out DIR [--format FORMAT]",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a marker asks for. Paths are as written, relative to the Markdown file."""

    command: str
    """table or plot."""
    grids: tuple[Path, ...]
    results: Path
    profile: str | None = None
    table: str | None = None
    """Id of the one table to show; None: all tables of the grids."""
    spread: str | None = None
    """`minmax`, `std` or `none`; None: what each table says."""
    out: Path = Path()
    """Directory for the figures of a plot."""
    format: str = "png"
    """File format of the figures of a plot."""


def rewrite(path: Path, text: str, render: Callable[[Request], str]) -> str:
    """Return the text of the file `path` with everything between its markers rendered again.

    Raises:
        GridrunError: there are no markers, one is not closed, or one is not a valid command; names file and
            line.
    """
    blocks = {block.start() for block in _BLOCK.finditer(text)}
    markers = [marker.start() for marker in _MARKER.finditer(text)]
    odd = next((start for start in markers if start not in blocks), None)
    if not blocks or len(blocks) != len(markers):
        place = str(path) if odd is None else _place(path, text, odd)
        raise GridrunError(
            f"{place}: expected `<!-- gridrun table GRID... --results DIR -->` or "
            "`<!-- gridrun plot GRID... --results DIR --out DIR -->`, with `<!-- end -->` below it, "
            "each on its own line"
        )

    def rendered(block: re.Match[str]) -> str:
        try:
            shown = render(_request(block[2], block[3]))
        except GridrunError as error:
            raise GridrunError(f"{_place(path, text, block.start())}: {error}") from None
        return f"{block[1]}\n{shown}\n\n{block[5]}"

    return _BLOCK.sub(rendered, text)


def _place(path: Path, text: str, start: int) -> str:
    line = text.count("\n", 0, start) + 1
    return f"{path}:{line}"


def _request(command: str, text: str) -> Request:
    try:
        words = shlex.split(text)
    except ValueError:  # an unclosed quotation mark
        words = []
    grids = list(itertools.takewhile(lambda word: not word.startswith("--"), words))
    given = words[len(grids) :]
    options = dict(zip(given[::2], given[1::2], strict=False))
    well_formed = grids and len(given) == 2 * len(options) and options.keys() <= set(_OPTIONS[command])
    if not well_formed or "--results" not in options or (command == "plot" and "--out" not in options):
        raise GridrunError(f"a marker must read {_USAGE[command]}, got {text!r}")
    return Request(
        command=command,
        grids=tuple(map(Path, grids)),
        results=Path(options["--results"]),
        profile=options.get("--profile"),
        table=options.get("--table"),
        spread=options.get("--spread"),
        out=Path(options.get("--out", "")),
        format=options.get("--format", "png"),
    )
