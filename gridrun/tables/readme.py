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

_BLOCK = re.compile(r"(<!-- gridrun (table|plot) (.*?) -->\n)(.*?)(^<!-- end -->$)", re.DOTALL | re.MULTILINE)
_MARKER = re.compile(r"<!-- gridrun (?:table|plot) .*?-->")

Render = Callable[[str, Sequence[str]], str]
"""Returns what belongs below a marker, given its command, `table` or `plot`, and the words after it."""


def rewrite(path: Path, text: str, render: Render) -> str:
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
            shown = render(block[2], _words(block[3]))
        except GridrunError as error:
            raise GridrunError(f"{_place(path, text, block.start())}: {error}") from None
        return f"{block[1]}\n{shown}\n\n{block[5]}"

    return _BLOCK.sub(rendered, text)


def _place(path: Path, text: str, start: int) -> str:
    line = text.count("\n", 0, start) + 1
    return f"{path}:{line}"


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise GridrunError(f"a quotation mark is not closed in {text!r}") from None
