"""The figure of how much rows vary from seed to seed."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from by_hand import errors, records, row
from click.testing import CliRunner

from cli import main
from gridrun import verdicts
from gridrun.figures import draw
from gridrun.figures.spread import spread_figure
from gridrun.verdicts import Runs


def grid(*rows: Any, seeds: int = 3) -> Any:
    return SimpleNamespace(name="one", rows=[replace(one, seeds=tuple(range(seeds))) for one in rows])


def test_rows_and_what_they_share(tmp_path: Path) -> None:
    rows = [row(lr=lr) for lr in (0.1, 0.2, 0.3)]
    made = [(0.06, 0.061, 0.062), (0.10, 0.103), (0.2,)]  # one run says nothing about a spread
    found = records(*(r for one, e in zip(rows, made, strict=True) for r in errors(one, *e)))
    figure = spread_figure([grid(*rows)], found)
    assert figure
    (panel,) = figure.panels
    pool = verdicts.pool(Runs(e, 10_000, 10) for e in made)
    assert pool
    assert (panel.phi, panel.num_test) == (pool.phi, 10_000)
    assert [(mean, n) for mean, _, n in panel.rows] == [(pytest.approx(0.061), 3), (pytest.approx(0.1015), 2)]
    assert [s for _, s, _ in panel.rows] == pytest.approx([statistics.stdev(e) for e in made[:2]])
    assert panel.title.startswith("CIFAR-10: phi = 0.")
    assert "3 degrees of freedom" in panel.title
    path = tmp_path / f"{figure.id}.svg"
    draw.save(figure, path)
    assert path.name == "one_spread.svg"
    assert draw.is_current(path, figure)


def test_no_figure_without_rows_of_two_runs() -> None:
    one = row()
    assert spread_figure([grid(one)], records(*errors(one, 0.06))) is None


def test_other_options_do_not_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "base: {model: {name: resnet, depth: 8}, dataset: digits, epochs: 1}\n"
    Path("one.yaml").write_text(text)
    result = CliRunner().invoke(main, ["plot", "one.yaml", "--kind", "spread", "--x", "lr"])
    assert (result.exit_code, "--kind spread goes with no other option, got x" in result.output) == (2, True)
    result = CliRunner().invoke(main, ["plot", "one.yaml", "--kind", "spread"])
    assert (result.exit_code, "no row of these grids has two runs" in result.output) == (2, True)
