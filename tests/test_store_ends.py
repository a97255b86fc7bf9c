"""Which of two ends of a trial counts: by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import by_hand
import pytest

from gridrun.store import Store
from gridrun.store.ends import End, later


def end(status: Any, attempts: int | None = 1, ended_at: str = "2026") -> End:
    return End(status, ended_at, None, attempts)


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        (end("done"), end("done", 2, "2027"), "old"),
        (end("done"), end("failed", 2, "2027"), "old"),
        (end("done"), end("diverged", 2, "2027"), "old"),
        (end("failed"), end("done", 1, "2025"), "new"),  # clocks of two machines differ
        (end("failed"), end("failed", 2, "2027"), "new"),
        (end("failed", 2), end("failed", 1, "2027"), "new"),
        (end("failed"), end("failed", 2), "old"),  # of the same moment: the same end
        (end("failed"), end("diverged"), "new"),
        (end("diverged"), end("done"), "new"),
        (end("diverged"), end("diverged", 1, "2027"), "new"),
        (end("diverged"), end("failed", 1, "2027"), "old"),  # no retry of it
        (end("diverged", 2), end("failed", 2, "2027"), "old"),
        (end("diverged", 2), end("failed", 3, "2027"), "new"),
        (end("diverged", None), end("failed", None, "2027"), "old"),
        (end("diverged", None), end("failed", 2, "2027"), "new"),
        (end("diverged", 2), end("failed", None, "2027"), "old"),
    ],
)
def test_which_of_two_ends_counts(old: End, new: End, counts: str) -> None:
    assert later(old, new) is (old if counts == "old" else new)


def test_the_first_end_counts() -> None:
    assert later(None, end("failed")) == end("failed")


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_record_that_came_after_the_result_is_left_out(tmp_path: Path, status: Any) -> None:
    """Two launches have trained one trial: the record of one is in the table when that of the other comes."""
    store = Store(tmp_path)
    store.create()
    done = by_hand.record(by_hand.row(), 0, test_error=0.1)
    late = replace(done, status=status, ended_at="2027-01-01T00:00:00.000+00:00")
    store.add(done)
    store.compact(now=True)
    (tmp_path / f".work/ended/{late.trial_id}.json").write_text(late.to_json())
    for _ in range(2):
        assert store.statuses() == {done.trial_id: "done"}
        assert store.records()[done.trial_id].ended_at == done.ended_at
        store.compact(now=True)
    assert not list(tmp_path.glob(".work/ended/*"))
