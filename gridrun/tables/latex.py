"""Tables as LaTeX: a `table` float with booktabs rules and the notes below."""

from __future__ import annotations

import re
import textwrap

from gridrun.tables.model import Table
from gridrun.tables.render import TextColumn, in_bold, text_columns
from gridrun.text import one_line

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

    Letters outside pdflatex's fonts stay as they are; LuaLaTeX and XeLaTeX can set them.
    """
    columns = text_columns(table)
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


def _header(column: TextColumn) -> str:
    """Break a header into lines about as wide as its cells, because pages are narrow."""
    header = one_line(column.header)
    width = max(map(len, (*column.cells, *header.split())), default=1)
    parts = header.split(", ", maxsplit=1)  # what is measured; of which runs
    lines = [escape(line) for part in parts for line in textwrap.wrap(part, width)]
    stack = r" \\ ".join(lines)
    if len(lines) < 2:
        return stack
    side = "r" if column.is_number else "l"
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stack}\end{{tabular}}"


def _cells(column: TextColumn) -> list[str]:
    """Escape a column's cells, and set the minus of a negative number in math mode."""
    if not column.is_number:
        return in_bold(column, escape, r"\textbf{{{}}}")
    return in_bold(column, lambda cell: re.sub(r"^-(?=\d)", "$-$", escape(cell)), r"\textbf{{{}}}")


ESCAPES = {
    **{character: f"\\{character}" for character in "{}$&#%_"},
    **{character: f"{{{character}}}" for character in "[]*"},  # these have a meaning after `\\`
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
"""What LaTeX reads for each character that means something to it. Of a hyphen, only before another."""
SPECIAL = f"-(?=-)|[{re.escape(''.join(ESCAPES.keys() - {'-'}))}]"
"""A pattern of what `ESCAPES` replaces."""
_SPECIAL = re.compile(SPECIAL)


def escape(text: str) -> str:
    """Make LaTeX show a text as it is."""
    return _SPECIAL.sub(lambda found: ESCAPES[found[0]], one_line(text))
