"""How far a launch is: what it writes down for everybody to see."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A trial that is being trained."""

    trial_id: str
    about: str
    """The trial in a few words."""
    epochs: int
    epoch: int = 0
    """Finished, as far as is known here."""
    test_error: float | None = None
    images_per_second: float | None = None
    place: str = ""
    """Such as `GPU 0`; empty where there is but one place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedTrial:
    """A trial that a launch is through with."""

    trial_id: str
    about: str
    outcome: str
    test_error: float | None = None
    reason: str = ""
    """Why it failed, where only the launch knows; else the record says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchState:
    """A launch at one moment."""

    started_at: str
    """UTC, ISO 8601."""
    total: int
    """Trials that it set out to run."""
    ended: int = 0
    share: float = 0.0
    """Part of the work that is done, 0..1."""
    seconds_left: float | None = None
    """If work goes on as it has gone; None before any is done."""
    running: tuple[Running, ...] = ()
    again: tuple[str, ...] = ()
    """Ids of trials that have failed and wait to be tried again."""
    last: tuple[EndedTrial, ...] = ()
    """Trials that ended last, the latest first."""
    failures: tuple[EndedTrial, ...] = ()
    """Trials that failed or diverged last, the latest first."""

    def to_json(self) -> str:
        """Return the state as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LaunchState:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is no such state.
        """
        try:
            values = json.loads(text)
            for name, item in (("running", Running), ("last", EndedTrial), ("failures", EndedTrial)):
                values[name] = tuple(_checked(item, value) for value in values[name])
            values["again"] = tuple(map(str, values.get("again", ())))
            state: LaunchState = _checked(cls, values)
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"not the state of a launch: {error}") from None
        return state


_NUMBERS = {"epoch", "epochs", "total", "ended", "share", "seconds_left", "test_error", "images_per_second"}
_OPTIONAL = {"seconds_left", "test_error", "images_per_second"}


def _checked(cls: Any, values: dict[str, Any]) -> Any:
    """Make a state of plain values, each of the kind that its field holds."""
    for name, value in values.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = is_number or (value is None and name in _OPTIONAL) if name in _NUMBERS else True
        if not fits or (name not in _NUMBERS and not isinstance(value, (str, tuple))):
            raise TypeError(f"{name}: {value!r}")
    return cls(**values)
