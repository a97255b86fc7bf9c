"""Python's search for garbage, put off while much is made at once."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Keep Python from looking for cycles among rows again and again: a fifth of a large grid's time.

    Also a decorator. Around what trains it has no place: cycles may hold a GPU's memory.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
