"""Trials that do nothing: a process that imports this does all of gridrun but train."""

from __future__ import annotations

from typing import Any

from benchmarks import scale
from gridrun.executors.ray import worker as ray_worker
from gridrun.sweep import worker

worker._train = lambda trial, setup, *_: scale.record(trial, setup.code)


class IdleWorker(ray_worker.TrialWorker):
    """A worker of Ray's, which imports this module to become one."""


def install() -> None:
    """Have the Ray executor of this process use such workers."""
    module: Any = ray_worker
    module.TrialWorker = IdleWorker
