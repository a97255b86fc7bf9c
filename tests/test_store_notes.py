"""Users' notes on trials and rows: kept beside the records, and shown wherever these are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from by_hand import record
from click.testing import CliRunner, Result

import gridrun
from cli import main
from gridrun.grid import Row, load_grid
from gridrun.store import Store
from gridrun.store.notes import MAX_TEXT, Note, Notes

GRID = """\
base: {model: {name: resnet_preact, depth: 20}, dataset: cifar10, epochs: 3}
axes: {lr: [0.1, 0.2]}
seeds: 2
"""


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    """Return the first row of a grid of two, whose first seed is done."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDRUN_RESULTS", raising=False)
    Path("g.yaml").write_text(GRID)
    row, other = load_grid("g.yaml").rows
    store = Store("results")
    store.create()
    for each in (row, other):
        store.add(replace(record(each, 0, test_error=0.07), config_json=json.dumps(each.config.canonical())))
    return row


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def ok(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_note_on_a_trial_and_on_its_row_is_shown_everywhere(row: Row) -> None:
    trial_id = row.trial_ids[0]
    ok("note", trial_id[:6], "the fan \x1b[31mwas broken")
    assert run("note", trial_id[:6], "the fan", "--json").exit_code == 2
    ok("note", row.config_id[:6], row.trial_ids[1], "see page 3")
    status = ok("status", "g.yaml")
    assert f"note on {trial_id} (" in status
    assert "the fan [31mwas broken" in status, "and no control character"
    assert "note on " not in ok("status", "g.yaml", "--where", "lr=0.2")
    assert "note on " in ok("status")
    assert len(json.loads(ok("status", "g.yaml", "--json"))["user_notes"]) == 3
    why = ok("why", "g", 1, "g.yaml")
    assert "note on seed 0 (" in why
    assert "note on seed 1 (" in why
    assert "note on the row (" in why
    assert len(json.loads(ok("why", "g", 1, "g.yaml", "--json"))["user_notes"]) == 3
    assert "see page 3" in ok("show", trial_id)
    frame = gridrun.load_results().set_index("trial_id")
    assert frame["note"][trial_id] == "the fan \x1b[31mwas broken; see page 3"
    assert frame["note"].isna().sum() == 1, "the other row has none"
    assert len(ok("note").splitlines()) == 3
    assert ok("note", trial_id).count("note on") == 1


def test_notes_survive_compaction_and_a_retry(row: Row) -> None:
    ok("note", row.trial_ids[0], "keep me")
    store = Store("results")
    store.compact(now=True)
    store.add(record(row, 1, "failed", error="broken"))
    store.compact(now=True)
    assert [note.text for note in store.notes.read()] == ["keep me"]


def test_stores_merge_by_copying(row: Row, tmp_path: Path) -> None:
    ok("note", row.trial_ids[0], "mine")
    shutil.copytree(tmp_path / "results" / "notes", tmp_path / "other" / "notes")
    other = Notes(tmp_path / "other" / "notes")
    other.add(Note(about=row.trial_ids[0], text="theirs", at="2020-01-01T00:00:00", by="ana"))
    shutil.copytree(tmp_path / "other" / "notes", tmp_path / "results" / "notes", dirs_exist_ok=True)
    assert [note.text for note in Store("results").notes.read()] == ["theirs", "mine"], "the oldest first"


def test_notes_are_removed_by_id(row: Row) -> None:
    ok("note", *row.trial_ids, "both")
    assert "1 note removed" in run("note", "--clear", row.trial_ids[0]).stderr
    assert [note.about for note in Store("results").notes.read()] == [row.trial_ids[1]]


def test_files_that_are_no_notes_are_left_out(row: Row, tmp_path: Path) -> None:
    ok("note", row.trial_ids[0], "good")
    place = tmp_path / "results" / "notes"
    about = row.trial_ids[0]
    for name, text in {
        "broken": "{",
        "deep": "[" * 100_000,
        "long": json.dumps({"about": about, "text": "x" * (MAX_TEXT + 1), "at": "now"}),
        "path": json.dumps({"about": "../../etc", "text": "x", "at": "now"}),
        "more": json.dumps({"about": about, "text": "x", "at": "now", "extra": 1}),
    }.items():
        (place / f"{about}.{name}.json").write_text(text)
    (place / f"{about}.link.json").symlink_to(next(place.glob("*.json")))
    assert [note.text for note in Store("results").notes.read()] == ["good"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["0123456", "text"], "has an id that begins with '0123456'"),
        (["abc", "text"], "give at least 4 characters"),
        (["ID", " "], "a note has 1 to 2,000 characters"),
        (["ID", "\ud800"], "a note is text in UTF-8"),
        (["ID", "x" * 2001], "a note has 1 to 2,000 characters"),
        (["--clear"], "--clear needs an ID"),
        (["ID", "text", "--results", "nowhere"], "no such results directory"),
    ],
)
def test_mistakes_are_messages(row: Row, words: list[str], problem: str) -> None:
    result = run("note", *[row.trial_ids[0] if word == "ID" else word for word in words])
    assert (result.exit_code, problem in result.stderr) == (2, True), result.output
