"""Fixtures of every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pathlib import Path

# on a busy machine an example's time says nothing
settings.register_profile("gridrun", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gridrun")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start files marked `long` first, so that no process waits for another's last file at the end.

    Tests marked `slow` have an hour before they count as hanging.
    """
    items.sort(key=lambda item: not item.get_closest_marker("long"))
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out tests marked `gpu` where there is no CUDA device."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where data sets are decoded, once for the whole run."""
    return tmp_path_factory.mktemp("cache")
