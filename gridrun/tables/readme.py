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

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from gridrun.errors import GridrunError

_OPEN = re.compile(r"<!-- gridrun (table|plot) ")
_NEXT = re.compile(r"^<!-- (?:end -->$|gridrun (?:table|plot) )", re.MULTILINE)
_END = "<!-- end -->"

Render = Callable[[str, Sequence[str]], str]
"""Returns what belongs below a marker, given its command, `table` or `plot`, and the words after it."""


def rewrite(path: Path, text: str, render: Render) -> str:
    """Return the text of the file `path` with everything between its markers rendered again.

    Raises:
        GridrunError: there are no markers, one is not closed, or one is not a valid command; names file and
            line.
    """
    parts: list[str] = []
    position = 0
    while marker := _OPEN.search(text, position):
        closed = text.find("-->", marker.end())
        start = closed + len("-->\n")
        end = _NEXT.search(text, start) if closed >= 0 and text[start - 1 : start] == "\n" else None
        if end is None or end[0] != _END:
            raise _unclear(_place(path, text, marker.start()))
        try:
            shown = render(marker[1], _words(text[marker.end() : closed]))
        except GridrunError as error:
            raise GridrunError(f"{_place(path, text, marker.start())}: {error}") from None
        parts += [text[position:start], f"\n{shown}\n\n", end[0]]
        position = end.end()
    if not parts:
        raise _unclear(str(path))
    return "".join([*parts, text[position:]])


def _unclear(place: str) -> GridrunError:
    return GridrunError(
        f"{place}: expected `<!-- gridrun table GRID... --results DIR -->` or "
        f"`<!-- gridrun plot GRID... --results DIR --out DIR -->`, with `{_END}` below it, "
        "each on its own line"
    )


def _place(path: Path, text: str, start: int) -> str:
    line = text.count("\n", 0, start) + 1
    return f"{path}:{line}"


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise GridrunError(f"a quotation mark is not closed in {text!r}") from None
