"""A trial that resumes under other code, or on another machine, says so."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import tiny

from trainer import Runtime, checkpoint, train
from trainer.loop import Interrupted
from trainer.origins import Origin

HERE = Origin(commit="a" * 40, dirty=False, host="one", sources={"trainer/models/mlp": "1", "b": "2"})


@pytest.fixture
def runtime(tmp_path: Path, cache_dir: Path) -> Runtime:
    """Return where a trial resumes that was interrupted before its step 4."""
    runtime = Runtime(cache_dir=cache_dir, checkpoint=tmp_path / "trial.pt", origin=HERE)
    asked = itertools.count()
    with pytest.raises(Interrupted):
        train(
            tiny.config(), seed=0, runtime=dataclasses.replace(runtime, should_stop=lambda: next(asked) >= 8)
        )
    return runtime


def resumed(runtime: Runtime, **changes: Any) -> tuple[str, ...]:
    origin = dataclasses.replace(runtime.origin, **changes)
    result = train(tiny.config(), seed=0, runtime=dataclasses.replace(runtime, origin=origin))
    assert result.resumes == 1
    return tuple(note.partition(" at step ")[0] for note in result.notes)


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        ({}, ()),
        ({"commit": "b" * 40}, ("resumed by other code, bbbbbbbbbb after aaaaaaaaaa,",)),
        (
            {"dirty": True},
            ("resumed by other code, aaaaaaaaaa with uncommitted changes after aaaaaaaaaa,",),
        ),
        (
            {"sources": {"trainer/models/mlp": "9", "b": "2", "new": "3"}},
            ("resumed with another trainer/models/mlp",),
        ),
        ({"host": "two"}, ("moved from machine one to two",)),
        ({"commit": None, "dirty": None, "host": None, "sources": {}}, ()),
    ],
)
def test_what_has_changed_is_noted(runtime: Runtime, changes: dict[str, Any], notes: tuple[str, ...]) -> None:
    assert resumed(runtime, **changes) == notes


@pytest.mark.parametrize("origin", [None, 5, [], {"commit": 5, "host": [], "sources": "x"}])
def test_an_older_or_odd_checkpoint_is_resumed_without_a_note(runtime: Runtime, origin: Any) -> None:
    assert runtime.checkpoint
    state = checkpoint.load(runtime.checkpoint)
    assert state
    assert state.pop("origin") == HERE.as_dict()
    checkpoint.save(runtime.checkpoint, state if origin is None else {**state, "origin": origin})
    assert resumed(runtime, host="two", commit="b") == ()


def test_a_text_from_a_checkpoint_is_shortened_and_cannot_look_like_two_notes() -> None:
    odd = {"host": "\x1b[31mx; y" + "z" * 999}
    (note,) = Origin(host="one").notes_since(odd, 3)
    assert note.startswith("moved from machine [31mx y")
    assert note.endswith(" to one at step 3")
    assert len(note) < 150
