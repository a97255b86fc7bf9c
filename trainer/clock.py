"""A clock that stands still while this process does: stopped by a signal, or frozen with its container.

Time in which no step could be taken is not training time. The system's clock stands still while the machine
is suspended, but not while a process is stopped. A thread that wakes up twice a second notices that: if it is
late by seconds, nothing of this process has run.
"""

from __future__ import annotations

import threading
import time
import weakref

BEAT_SECONDS = 0.5
LATE_SECONDS = 5.0
"""A beat that comes later than that was held up: more than a busy machine does."""


class Clock:
    """Seconds since some moment, without those in which the process stood still.

    It is right within half a second a pause, for pauses longer than `LATE_SECONDS`. Any thread may read it.
    """

    def __init__(self) -> None:
        self.paused_seconds = 0.0
        self._lock = threading.Lock()
        self._beat_at = time.perf_counter()
        threading.Thread(target=_beat, args=(weakref.ref(self),), name="clock", daemon=True).start()

    def now(self) -> float:
        """Return the time in seconds."""
        with self._lock:  # whoever comes first after a pause notices it
            now = time.perf_counter()
            late = now - self._beat_at
            if late > LATE_SECONDS:
                self.paused_seconds += late
            self._beat_at = now
            return now - self.paused_seconds


def _beat(reference: weakref.ref[Clock]) -> None:
    """Read a clock twice a second as long as there is one."""
    while clock := reference():
        clock.now()
        del clock
        time.sleep(BEAT_SECONDS)
