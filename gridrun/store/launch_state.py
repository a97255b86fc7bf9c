"""What a running launch says of itself, for `gridrun status` and other launches."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from gridrun.store.from_json import read


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A trial that is being trained."""

    trial_id: str
    about: str
    """The trial in a few words."""
    epochs: int
    epoch: int = 0
    """The last finished epoch that is known here."""
    test_error: float | None = None
    images_per_second: float | None = None
    place: str = ""
    """Where it runs, such as `GPU 0`; empty if there is only one place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedTrial:
    """A trial that has ended in this launch."""

    trial_id: str
    about: str
    outcome: str
    test_error: float | None = None
    reason: str = ""
    """Why it failed, if that is not in its record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchState:
    """The state of a launch at one moment."""

    started_at: str
    """UTC, ISO 8601."""
    total: int
    """Number of trials that it is to run."""
    ended: int = 0
    share: float = 0.0
    """Fraction of the work that is done, 0..1."""
    seconds_left: float | None = None
    """Estimate from the speed so far; None before any work is done."""
    running: tuple[Running, ...] = ()
    again: tuple[str, ...] = ()
    """Ids of failed trials that wait for another attempt."""
    last: tuple[EndedTrial, ...] = ()
    """The trials that ended last, latest first."""
    failures: tuple[EndedTrial, ...] = ()
    """The trials that failed or diverged last, latest first."""

    def to_json(self) -> str:
        """Return the state as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LaunchState:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is not such a state.
        """
        try:
            return read(cls, json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not the state of a launch: {error}") from None
