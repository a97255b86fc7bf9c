"""What a grid says of how its trials are run. None of it is a part of their ids."""

from __future__ import annotations

from dataclasses import dataclass

from gridrun.grid.yaml import Node, shown
from gridrun.resources import GpusPerTrial, is_share

RUNNING_KEYS = ("gpus_per_trial", "retries", "stop_after_failures")


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """None: the grid does not say."""

    gpus_per_trial: GpusPerTrial | None = None
    retries: int | None = None
    stop_after_failures: int | None = None


def read_running(root: Node) -> Running:
    """Read the keys of a grid's top level. Raises GridError: one cannot be that."""
    given = {key: root.child(key) for key in RUNNING_KEYS if key in root.value}
    share, retries, stop = map(given.get, RUNNING_KEYS)
    return Running(
        gpus_per_trial=_read_gpus(share) if share else None,
        retries=_read_count(retries, least=0) if retries else None,
        stop_after_failures=_read_count(stop, least=1) if stop else None,
    )


def _read_gpus(node: Node) -> GpusPerTrial:
    value = node.value
    if value == "auto":
        return "auto"
    if type(value) in (int, float) and is_share(float(value)):
        return float(value)
    raise node.error(f"must be auto, a part of a GPU or a whole number, got {shown(node.located)}")


def _read_count(node: Node, least: int) -> int:
    value = node.value
    if type(value) is not int or value < least:
        raise node.error(f"must be a whole number >= {least}, got {shown(node.located)}")
    return value
