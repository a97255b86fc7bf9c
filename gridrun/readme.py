"""Tables between markers in a Markdown file.

    <!-- gridrun table grids/quickstart.yaml --results results/readme -->
    ... rewritten by `gridrun table --readme FILE` ...
    <!-- end -->

The marker is the command that prints what stands below it.
"""

from __future__ import annotations

import itertools
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
    profile: str | None = None


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
    grids = list(itertools.takewhile(lambda word: not word.startswith("--"), words))
    given = words[len(grids) :]
    options = dict(zip(given[::2], given[1::2], strict=False))
    well_formed = grids and len(given) == 2 * len(options)
    if well_formed and "--results" in options and options.keys() <= {"--results", "--profile"}:
        return Request(tuple(map(Path, grids)), Path(options["--results"]), options.get("--profile"))
    raise GridrunError(
        f"a marker must read GRID... [--profile NAME] --results DIR, got {shlex.join(words)!r}"
    )
