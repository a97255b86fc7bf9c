"""What a grid file says about running its trials. None of it is part of their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gridrun.grid.node import Node, read_or
from gridrun.resources import GpusPerTrial, is_share

RUNNING_KEYS = ("gpus_per_trial", "retries", "stop_after_failures")


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """None: the grid file does not say."""

    gpus_per_trial: GpusPerTrial | None = None
    retries: int | None = None
    stop_after_failures: int | None = None


def read_running(given: Mapping[str, Node]) -> Running:
    """Read RUNNING_KEYS from a grid file's top level. Raises GridError: a value is not valid."""
    return Running(
        gpus_per_trial=read_or(given, "gpus_per_trial", _read_gpus, None),
        retries=read_or(given, "retries", lambda node: node.count(least=0), None),
        stop_after_failures=read_or(given, "stop_after_failures", lambda node: node.count(least=1), None),
    )


def _read_gpus(node: Node) -> GpusPerTrial:
    value = node.value
    if value == "auto":
        return "auto"
    if type(value) in (int, float) and is_share(float(value)):
        return float(value)
    raise node.must_be("auto, a part of a GPU or a whole number")
