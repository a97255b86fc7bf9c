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
    "table": ("--results", "--profile"),
    "plot": ("--results", "--profile", "--out", "--format"),
}
_USAGE = {
    "table": "GRID... [--profile NAME] --results DIR",
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
    out: Path = Path()
    """Directory for the figures of a plot."""
    format: str = "png"
    """File format of the figures of a plot."""


def rewrite(text: str, render: Callable[[Request], str]) -> str:
    """Return `text` with everything between its markers rendered again.

    Raises:
        GridrunError: there are no markers, one is not closed, or one is not a valid command.
    """
    blocks = _BLOCK.findall(text)
    if not blocks or len(blocks) != len(_MARKER.findall(text)):
        raise GridrunError(
            "expected `<!-- gridrun table GRID... --results DIR -->` or "
            "`<!-- gridrun plot GRID... --results DIR --out DIR -->`, with `<!-- end -->` below it, "
            "each on its own line"
        )
    return _BLOCK.sub(lambda block: f"{block[1]}\n{render(_request(block[2], block[3]))}\n\n{block[5]}", text)


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
        out=Path(options.get("--out", "")),
        format=options.get("--format", "png"),
    )
