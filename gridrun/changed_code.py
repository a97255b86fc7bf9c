"""Which trials were trained with other source files than those of today."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from gridrun.text import number_of, printable
from trainer import TrainConfig
from trainer.sources import sources


def changed_sources(config: TrainConfig, recorded: str | None) -> list[str]:
    """Return the paths of a config's parts whose files differ from those that a trial was trained with.

    Args:
        config: the trial's.
        recorded: `sources` of its record; None or damaged in a store of an older version: nothing is known.
    """
    then, now = _read(recorded), sources(config)
    return [path for path, digest in now.items() if isinstance(then.get(path), str) and then[path] != digest]


def is_of_today(path: str, config: TrainConfig, recorded: str | None) -> bool:
    """Return whether a record says that its trial was trained with today's files of a part; as above."""
    return _read(recorded).get(path) == sources(config)[path]


def _read(recorded: str | None) -> dict[str, Any]:
    try:
        then = json.loads(recorded or "{}")
    except (ValueError, RecursionError):
        return {}
    return then if isinstance(then, dict) else {}


def source_notes(trials: Iterable[tuple[TrainConfig, str | None]]) -> Iterator[str]:
    """Say how many trials were trained with other files. Each is a config and `sources` of its record."""
    counts, total = Counter[str](), 0
    for config, recorded in trials:
        total += 1
        counts.update(changed_sources(config, recorded))
    for path, count in counts.items():
        yield f"{count} of {number_of(total, 'trial')} trained with another {printable(path)} than today's"
