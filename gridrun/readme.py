"""Tables between markers in a Markdown file.

    <!-- gridrun table grids/quickstart.yaml --results results/readme -->
    ... rewritten by `gridrun table --readme FILE` ...
    <!-- end -->

The marker is the command that prints what stands below it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gridrun.errors import GridrunError

_BLOCK = re.compile(r"(<!-- gridrun table (.*?) -->\n)(.*?)(^<!-- end -->$)", re.DOTALL | re.MULTILINE)
_MARKER = re.compile(r"<!-- gridrun table .*?-->")


@dataclass(frozen=True, slots=True)
class Request:
    """What a marker asks for; paths as written, relative to the file."""

    grids: tuple[Path, ...]
    results: Path


def rewrite(text: str, render: Callable[[Request], str]) -> str:
    """Return `text` with what stands between its markers rendered anew.

    Raises:
        GridrunError: there are no markers, one is not closed, or one cannot be understood.
    """
    blocks = _BLOCK.findall(text)
    if not blocks or len(blocks) != len(_MARKER.findall(text)):
        raise GridrunError(
            "expected `<!-- gridrun table GRID... --results DIR -->` and below it `<!-- end -->`, "
            "each on a line of its own"
        )
    return _BLOCK.sub(
        lambda block: f"{block[1]}\n{render(_request(shlex.split(block[2])))}\n\n{block[4]}", text
    )


def _request(words: Sequence[str]) -> Request:
    if words.count("--results") == 1 and (at := words.index("--results")) == len(words) - 2 and at > 0:
        return Request(tuple(map(Path, words[:at])), Path(words[-1]))
    raise GridrunError(f"a marker must read GRID... --results DIR, got {shlex.join(words)!r}")
