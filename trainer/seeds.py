"""Independent random streams of one trial."""

from __future__ import annotations

import hashlib


def stream(seed: int, *names: str | int) -> int:
    """Return a seed for the named use of a trial's randomness.

    Each use (initialisation, the order of an epoch ...) has a stream of its own, so that adding
    one leaves the others' numbers as they are.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
