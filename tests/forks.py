"""Processes that start at once: they are forked from one that has imported what takes seconds to import."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("hypothesis", "pandas", "pytest", "sklearn.datasets", "torch._dynamo"),
        *("gridrun.executors.serial", "gridrun.search.run", "gridrun.store", "trainer.data", "trainer.loop"),
    ]
)


class SpawnContext:
    """Stands in for the context `spawn`: its processes, too, get the environment of the moment."""

    Pipe = CONTEXT.Pipe

    def Process(self, *, target: Callable[..., None], args: Any, name: str) -> Any:  # noqa: N802
        return CONTEXT.Process(target=_run, args=(dict(os.environ), target, args), name=name)


def _run(environment: dict[str, str], target: Callable[..., None], args: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*args)
