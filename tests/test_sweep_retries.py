"""Which failures are retried, how often, and on which share of a GPU: by hand, without a launch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from by_hand import H200, row

from gridrun.store import Store
from gridrun.store.records import Record
from gridrun.sweep.retries import RetryPolicy, RetryState, coarser
from gridrun.trial import Trial

TRIAL = Trial(row().config, 0)


@pytest.mark.parametrize(
    ("retries", "failure", "attempts"),
    [
        (None, "worker_killed", 2),
        (None, "host_memory", 2),
        (None, "node_lost", 2),
        (None, "checkpoints", 2),
        (None, "exception", 0),
        (None, "data", 0),
        (None, "gpu_memory", 0),
        (None, None, 0),
        (3, "exception", 3),
        (1, "worker_killed", 1),
        (0, "worker_killed", 0),
    ],
)
def test_the_last_attempt_that_is_followed_by_another(retries: Any, failure: Any, attempts: int) -> None:
    policy = RetryPolicy(retries)
    assert [n for n in range(1, 6) if policy.allows(failure, n)] == list(range(1, attempts + 1))


def test_a_diverged_trial_never_runs_again_and_one_on_a_part_of_a_gpu_always() -> None:
    assert not RetryPolicy(9).allows("divergence", 1)
    assert RetryPolicy(0).allows("gpu_memory", 7, 0.5)
    assert not RetryPolicy(0).allows("gpu_memory", 1, 1.0)
    assert RetryPolicy(1).allows("gpu_memory", 1, 1.0)
    assert not RetryPolicy(0).allows("exception", 1, 0.5)


@pytest.mark.parametrize(
    ("share", "larger"), [(0.1, 0.2), (0.125, 0.25), (0.2, 0.5), (0.25, 0.5), (1 / 3, 1), (0.5, 1), (1, 1)]
)
def test_half_as_many_share_a_gpu(share: float, larger: float) -> None:
    assert coarser(share) == pytest.approx(larger)


def ended(store: Store, n: int, status: Any = "failed", share: float | None = None, **fields: Any) -> None:
    """Add the end of the trial's attempt number `n`."""
    store.add(
        Record(
            trial_id=TRIAL.trial_id,
            config_id=TRIAL.config_id,
            seed=0,
            status=status,
            config=TRIAL.config.flat(),
            config_json="{}",
            ended_at=f"2026-01-01T00:00:0{n}.000+00:00",
            attempts=n,
            provenance=replace(H200, gpu_share=share),
            **fields,
        )
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results")
    made.create()
    return made


def test_attempts_count_over_launches(store: Store) -> None:
    state = RetryState(store, RetryPolicy())
    assert state.should_run(TRIAL)
    assert state.attempts(TRIAL) == 1
    for n in (1, 2):
        ended(store, n, failure="worker_killed")
        for one in (state, RetryState(store, RetryPolicy())):  # this launch, and one that is started now
            assert one.should_run(TRIAL)
            assert one.attempts(TRIAL) == n + 1
            assert one.retries[TRIAL.trial_id].gpu_share is None
    assert state.should_run(TRIAL), "asked again before the attempt has ended"
    ended(store, 3, failure="worker_killed")
    assert not state.should_run(TRIAL)
    assert not RetryState(store, RetryPolicy()).should_run(TRIAL)


def test_a_result_is_never_replaced_but_a_diverged_one_if_asked_for(store: Store) -> None:
    ended(store, 1, "diverged", failure="divergence")
    state = RetryState(store, RetryPolicy(5))
    assert not state.should_run(TRIAL)
    state.force([TRIAL])
    assert state.should_run(TRIAL)
    assert state.attempts(TRIAL) == 2
    ended(store, 2, "done")
    assert not state.should_run(TRIAL)


def test_a_trial_that_is_asked_for_again_has_as_many_retries_as_a_new_one(store: Store) -> None:
    ended(store, 3, failure="worker_killed")
    state = RetryState(store, RetryPolicy())
    assert not state.should_run(TRIAL)
    state.force([TRIAL])
    for n in (4, 5):
        assert state.should_run(TRIAL)
        assert state.attempts(TRIAL) == n
        ended(store, n, failure="worker_killed")
    assert state.should_run(TRIAL)
    ended(store, 6, failure="worker_killed")
    assert not state.should_run(TRIAL)


def test_a_failure_of_a_version_that_did_not_count_was_the_first(store: Store) -> None:
    ended(store, 1, failure="worker_killed")
    store.compact(now=True)
    pq.write_table(pq.read_table(store.trials_path).drop_columns(["attempts"]), store.trials_path)
    once = RetryState(store, RetryPolicy(1))
    assert once.should_run(TRIAL)
    assert once.attempts(TRIAL) == 2
    again = RetryState(store, RetryPolicy(1))
    again.force([TRIAL])
    for n, runs in ((2, True), (3, False)):
        assert again.should_run(TRIAL)
        ended(store, n, failure="worker_killed")
        assert again.should_run(TRIAL) == runs


def test_what_a_whole_gpu_was_too_small_for_is_retried_on_what_the_launch_gives(store: Store) -> None:
    ended(store, 1, share=1.0, failure="gpu_memory")
    state = RetryState(store, RetryPolicy(1))
    assert state.should_run(TRIAL)
    assert state.retries[TRIAL.trial_id].gpu_share is None


def test_a_larger_share_of_a_gpu_is_kept(store: Store) -> None:
    state = RetryState(store, RetryPolicy())
    for n, share, failure, then in (
        (1, 0.25, "gpu_memory", 0.5),
        (2, 0.5, "worker_killed", 0.5),
        (3, 0.5, "gpu_memory", 1.0),
    ):
        ended(store, n, share=share, failure=failure)
        assert state.should_run(TRIAL)
        assert state.retries[TRIAL.trial_id].gpu_share == then
    ended(store, 4, share=1.0, failure="gpu_memory")
    assert not state.should_run(TRIAL)
