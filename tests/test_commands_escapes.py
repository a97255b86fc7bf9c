"""Texts of stores and grids steer no terminal, and spoil no figure, whatever is in them."""

from __future__ import annotations

import json
import unicodedata
import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from pathlib import Path

import by_hand
import pytest
from click.testing import CliRunner

import cli
from gridrun.grid import load_grid
from gridrun.store import Store
from gridrun.store.launches import EndedTrial, LaunchState, Running
from gridrun.store.notes import Note
from gridrun.store.records import Provenance, Record
from trainer.metrics import Epoch

HOSTILE = "\x1b]0;title\x07\x1b[31mred\x9b2J\r\x08\x00\u202e\u2028\x0b\x85over"
"""A window's title, colours in 7 and 8 bits, a clear screen, overwriting, right to left, other line ends."""
QUOTED = json.dumps(HOSTILE)[1:-1].replace("\\u0000", "")  # YAML refuses no escape but NUL in a title
GRID = f"""
name: small
title: "{QUOTED}"
description: "{QUOTED}"
source: "{QUOTED}"
base: {{dataset: digits, model: {{name: resnet_preact, depth: 8}}, epochs: 2}}
axes:
  - cases:
      - {{name: "a{QUOTED}", batch_size: 128, published: {{test_error: 3, runs: 1}}}}
      - {{name: "b{QUOTED}", batch_size: 256}}
      - {{name: c, batch_size: 512}}
tables: [{{id: small, headers: {{name: "{QUOTED}"}}, columns: [name, batch_size, test_error]}}]
profiles: {{tiny: {{scale: {{epochs: 0.5}}}}}}
"""


OWN = ("config", "config_json", "trial_id", "config_id", "status", "failure", "ended_at", "started_at")


def texts_of(cls: type) -> dict[str, str]:
    """Return the fields of a record's class that may hold any text, with a hostile one."""
    return {
        f.name: HOSTILE
        for f in fields(cls)
        if "str" in str(f.type) and f.name not in (*OWN, "checkpoint", "device")
    }


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(GRID)
    store = Store(tmp_path / "results")
    store.create()
    provenance = Provenance(**texts_of(Provenance))  # type: ignore[arg-type]
    grid = load_grid("small.yaml")
    for row, status in zip(grid.rows, ("done", "failed", "diverged"), strict=True):
        one = by_hand.record(row, 0, status, provenance=provenance, test_error=0.1, **texts_of(Record))
        epoch = Epoch(
            epoch=1, lr=0.1, train_loss=1, train_error=0.5, test_loss=1, test_error=0.5, train_seconds=1
        )
        curve = (epoch, replace(epoch, epoch=2))
        store.add(replace(one, config={**one.config, "note": HOSTILE}, epochs=curve))
        store.notes.add(Note(about=one.trial_id, text=HOSTILE, at="2026-01-01T00:00:00", by=HOSTILE))
    store.compact(now=True)
    trial = grid.trials[0]
    run = Running(trial_id=trial.trial_id, about=HOSTILE, epochs=2, place=HOSTILE)
    end = EndedTrial(trial_id=trial.trial_id, about=HOSTILE, outcome=HOSTILE, reason=HOSTILE)
    state = LaunchState(started_at="x", total=1, alike=HOSTILE, running=(run,), last=(end,), failures=(end,))
    store.launches.write("0123456789abcdef", state)
    return store


def odd(text: str) -> set[str]:
    """Return the characters that steer a terminal."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


@pytest.mark.parametrize(
    "words",
    [
        "status",
        "status small.yaml",
        "status small.yaml --json",
        "plan small.yaml",
        "plan small.yaml --profile tiny",
        "plan small.yaml --json",
        "launch small.yaml --dry-run",
        "launch small.yaml --dry-run --retry",
        "table small.yaml",
        "table small.yaml --format text",
        "table small.yaml --format latex",
        "table small.yaml --format csv",
        "table small.yaml --format json",
        "table small.yaml --spread minmax --sort test_error",
        "table small.yaml --pivot name batch_size",
        "why small 1 small.yaml",
        "why small 2 small.yaml",
        "show {}",
        "note",
        "note {} hello",
        "list grids",
        "doctor",
        "report small.yaml --out page.html",
        "plot small.yaml --format svg",
        "plot small.yaml --kind curves --format svg",
        "forget {}",
    ],
)
def test_no_command_prints_what_steers_a_terminal(store: Store, words: str) -> None:
    trial_id = load_grid("small.yaml").trials[0].trial_id
    Path("grids").mkdir()
    Path("grids/small.yaml").write_text(GRID)
    result = CliRunner().invoke(cli.main, words.format(trial_id).split(), color=True)
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert odd(result.output) == set(), result.output
    for path in Path("figures").glob("*.svg"):
        ET.parse(path)  # XML 1.0 has no control characters
        assert odd(path.read_text()) == set()


def test_errors_do_not_either(store: Store) -> None:
    typed = HOSTILE.replace("\0", "")
    for words in (["show", typed], ["plan", f"{typed}.yaml"], ["why", f"x{typed}", "1", "small.yaml"]):
        result = CliRunner().invoke(cli.main, words, color=True)
        assert result.exit_code == 2
        assert odd(result.output) == set()
