"""Tables as LaTeX: a `table` float with booktabs' rules, its notes below."""

from __future__ import annotations

import re
import textwrap

from gridrun.tables.model import Table
from gridrun.tables.render import Column, columns_of, each, plain

_FLOAT = r"""\begin{table}
  \centering
  \caption{%(caption)s}
  \label{tab:%(id)s}
  \begin{tabular}{%(alignment)s}
    \toprule
    %(header)s
    \midrule
    %(lines)s
    \bottomrule
  \end{tabular}%(notes)s
\end{table}
"""
_NOTES = r"""

  \smallskip
  \begin{minipage}{\linewidth}
    \footnotesize\raggedright
    %s
  \end{minipage}"""


def to_latex(table: Table) -> str:
    r"""Render a table as a float. The document needs `\usepackage{booktabs}` and nothing else.

    Letters that pdflatex does not know stay as they are; LuaLaTeX and XeLaTeX know them.
    """
    columns = columns_of(table)
    header, *lines = (
        rf"{' & '.join(cells)} \\" for cells in zip(*([_header(c), *_cells(c)] for c in columns), strict=True)
    )
    notes = "\\par\n    ".join(map(escape, table.notes))
    return _FLOAT % {
        "caption": escape(table.title),
        "id": table.id,
        "alignment": "".join("r" if column.is_number else "l" for column in columns),
        "header": header,
        "lines": "\n    ".join(lines),
        "notes": _NOTES % notes if notes else "",
    }


def _header(column: Column) -> str:
    """Break a header into lines that are hardly wider than its cells: pages are narrow."""
    header = plain(column.header)
    width = max(map(len, (*column.cells, *header.split())), default=1)
    parts = re.split(r" (?=\()", header, maxsplit=1)
    lines = [escape(line) for part in parts for line in textwrap.wrap(part, width)]
    stack = r" \\ ".join(lines)
    if len(lines) < 2:
        return stack
    side = "r" if column.is_number else "l"
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stack}\end{{tabular}}"


def _cells(column: Column) -> list[str]:
    """Write a column's cells, a minus before a number as one."""
    escaped = each(escape, column.cells)
    return [re.sub(r"^-(?=\d)", "$-$", cell) for cell in escaped] if column.is_number else escaped


_ESCAPES = {
    **{character: f"\\{character}" for character in "{}$&#%_"},
    **{character: f"{{{character}}}" for character in "[]*"},  # after `\\` they would mean something
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\symbol{34}",
    "-": "-{}",
    "–": r"\textendash{}",
    "±": r"$\pm$",
}
_SPECIAL = re.compile(f"-(?=-)|[{re.escape(''.join(_ESCAPES.keys() - {'-'}))}]")


def escape(text: str) -> str:
    """Make LaTeX show a text as it is."""
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], plain(text))
