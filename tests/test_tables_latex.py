"""Tables as LaTeX: what they look like, and that no text of a grid file becomes a command."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from by_hand import Spec, build, errors, record, row
from hypothesis import given
from hypothesis import strategies as st

from gridrun.grid import Published
from gridrun.tables.latex import ESCAPES, escape, to_latex
from gridrun.tables.model import Table
from gridrun.text import one_line

HOSTILE = r"""50% & \input{x} _a_ $y$ ^^41 ~ # "q" `g` 'a' [b] <c> |d| -- --- * ?` !` {"""


def table(name: str = "plain") -> Table:
    one, other = row("[1ex] first"), row(name, lr=0.2)
    published = {one.config_id: Published({"test_error": 6.5}, 3), other.config_id: Published({}, paper="~4")}
    spec = Spec((one, other), ("name", "lr", "test_error", "paper"), published, title=name, spread="std")
    return build(spec, [0, 1, 2], *errors(one, 0.05, 0.06, 0.07), record(other, 0, "diverged"))


def test_a_whole_table() -> None:
    assert to_latex(table()) == (
        r"""\begin{table}
  \centering
  \caption{plain}
  \label{tab:linear_scaling}
  \begin{tabular}{lrrrrl}
    \toprule
    Setting & \begin{tabular}[b]{@{}r@{}}Initial \\ LR\end{tabular} & """
        r"""\begin{tabular}[b]{@{}r@{}}Test Error \\ (\%) \\ median of 3 \\ runs $\pm$ std\end{tabular} & """
        r"""\begin{tabular}[b]{@{}r@{}}Published \\ (\%) \\ 3 runs\end{tabular} & """
        r"""\begin{tabular}[b]{@{}r@{}}Difference \\ (pp)\end{tabular} & """
        r"""\begin{tabular}[b]{@{}l@{}}Test \\ Error \\ (\%) \\ in \\ paper\end{tabular} \\
    \midrule
    {[}1ex{]} first & 0.1 & 6.00 $\pm$ 1.00 & 6.50 & $-$0.50 &  \\
    plain & 0.2 &  &  &  & \textasciitilde{}4 \\
    \bottomrule
  \end{tabular}

  \smallskip
  \begin{minipage}{\linewidth}
    \footnotesize\raggedright
    diverged: plain, lr 0.2 (seed 0)\par
    not run yet: 2 of 6 trials\par
    no verdicts on Test Error: too few runs to know how much it varies from seed to seed
  \end{minipage}
\end{table}
"""
    )


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("50% & more_of #1 $x$ {y}", r"50\% \& more\_of \#1 \$x\$ \{y\}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("a~b^^41", r"a\textasciitilde{}b\textasciicircum{}\textasciicircum{}41"),
        ("<c> | [d]*", r"\textless{}c\textgreater{} \textbar{} {[}d{]}{*}"),
        ("1-2 -- ---", "1-2 -{}- -{}-{}-"),
        ("1–2 ± 3", r"1\textendash{}2 $\pm$ 3"),
        ('?` "q"', r"?\textasciigrave{} \symbol{34}q\symbol{34}"),
        ("two\nlines\n\nand a bell\x07", "two lines and a bell"),
        ("é 深", "é 深"),
    ],
)
def test_latex_shows_text_as_it_is(text: str, latex: str) -> None:
    assert escape(text) == latex


@given(st.text(st.sampled_from(sorted({*ESCAPES, "a", " ", "\n", "é"}))))
def test_an_escaped_text_reads_back(text: str) -> None:
    back = {latex: character for character, latex in ESCAPES.items()}
    tokens = "|".join(map(re.escape, sorted(back, key=len, reverse=True)))
    assert re.sub(tokens, lambda found: back[found[0]], escape(text)) == one_line(text)


@given(st.text(max_size=40))
def test_every_row_stays_one_row(name: str) -> None:
    inside = to_latex(table(name or "x")).partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    lines = inside.strip().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == 5


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex and booktabs")
def test_pdflatex_sets_it(tmp_path: Path) -> None:
    document = tmp_path / "tables.tex"
    document.write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}"
        f"\n{to_latex(table())}\n{to_latex(table(HOSTILE))}\n"
        r"\end{document}",
        encoding="utf-8",
    )
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", document.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "tables.pdf").stat().st_size > 0
