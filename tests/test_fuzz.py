"""Damaged grid files, stores and checkpoints are answered, and break nothing (`benchmarks/fuzz.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz, guided_fuzz

PATIENT = settings(
    derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(autouse=True)
def cached(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))


@settings(PATIENT, max_examples=25)
@given(st.integers(0, 10**9))
def test_a_mutated_grid_is_planned_or_refused(seed: int) -> None:
    fuzz.try_one("grids", seed)


@settings(PATIENT, max_examples=8)
@given(st.integers(0, 10**9))
def test_a_damaged_store_is_used_or_refused(seed: int) -> None:
    fuzz.try_one("stores", seed)


@settings(PATIENT, max_examples=3)
@given(st.integers(0, 10**9))
def test_a_damaged_checkpoint_starts_its_trial_again(seed: int) -> None:
    fuzz.try_one("checkpoints", seed)


@pytest.mark.parametrize("kind", fuzz.KINDS)
@pytest.mark.slow
def test_many(kind: str) -> None:
    for seed in range(100):
        fuzz.try_one(kind, seed)


@pytest.mark.parametrize("kind", guided_fuzz.KINDS)
@pytest.mark.slow
def test_where_coverage_leads(kind: str) -> None:
    pytest.importorskip("atheris")
    assert guided_fuzz.run(kind, seconds=20, seed=1)
