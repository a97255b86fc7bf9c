"""Which trials were trained with other source files than those of today."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from gridrun.text import number_of, printable
from trainer import TrainConfig
from trainer.sources import digest_of_source, sources


def changed_sources(today: Mapping[str, str], recorded: str | None) -> list[str]:
    """Return the paths of a config's parts whose files differ from those that a trial was trained with.

    Args:
        today: `sources` of the trial's config.
        recorded: `sources` of its record; None or damaged in a store of an older version: nothing is known.
    """
    then = recorded_sources(recorded)
    return [path for path, digest in today.items() if then.get(path, digest) != digest]


def is_of_today(path: str, config: TrainConfig, recorded: str | None) -> bool:
    """Return whether a record says that its trial was trained with today's files of a part; as above."""
    return recorded_sources(recorded).get(path) == sources(config)[path]


def recorded_sources(recorded: str | None) -> dict[str, str]:
    """Return the digests in the column `sources` of a record, by path; none if it is damaged."""
    try:
        then = json.loads(recorded or "{}")
    except (ValueError, RecursionError):
        return {}
    known = then.items() if isinstance(then, dict) else ()
    return {path: digest for path, digest in known if isinstance(digest, str)}


def source_notes(trials: Iterable[tuple[TrainConfig, str | None]]) -> Iterator[str]:
    """Say how many trials were trained with other files. Each is a config and `sources` of its record."""
    digest_of = functools.cache(digest_of_source)  # of each file once, not once a trial
    counts, total = Counter[str](), 0
    for (config, recorded), count in Counter(trials).items():
        total += count
        if recorded:
            changed = changed_sources(sources(config, digest_of), recorded)
            counts.update(dict.fromkeys(changed, count))
    for path, count in counts.items():
        yield f"{count} of {number_of(total, 'trial')} trained with another {printable(path)} than today's"
