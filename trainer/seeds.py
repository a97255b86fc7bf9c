"""Independent random streams of one trial."""

from __future__ import annotations

import hashlib


def stream(seed: int, *names: str | int) -> int:
    """Return the seed of one random stream of a trial.

    Each use (initialisation, the order of an epoch, ...) has its own stream, so a new use does not change the
    random numbers of the others.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
