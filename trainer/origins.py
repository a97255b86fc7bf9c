"""Where a trial's steps come from: code and machine. A checkpoint has it, and a run that resumes compares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_LONGEST = 80
"""Most characters of a text from a checkpoint that a note repeats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What runs a trial. None: not known."""

    commit: str | None = None
    dirty: bool | None = None
    """Whether the code has uncommitted changes."""
    host: str | None = None
    """Name of the machine."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Digests of the config's parts (`trainer.sources`)."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for a checkpoint."""
        own = {name: getattr(self, name) for name in ("commit", "dirty", "host")}
        return {**own, "sources": dict(self.sources)}

    def notes_since(self, before: Any, step: int) -> Iterator[str]:
        """Say what has changed since a checkpoint.

        Args:
            before: what its run gave as `as_dict`; anything else, as from an older version, says nothing.
            step: the step of the checkpoint.
        """
        if not isinstance(before, dict):
            return
        commit, host, sources = (before.get(name) for name in ("commit", "host", "sources"))
        then = _code(commit, before.get("dirty")), _code(self.commit, self.dirty)
        if isinstance(commit, str) and self.commit and then[0] != then[1]:
            yield f"resumed by other code, {then[1]} after {then[0]}, at step {step}"
        old = sources if isinstance(sources, dict) else {}
        changed = [name for name, digest in self.sources.items() if old.get(name, digest) != digest]
        if changed:
            yield f"resumed with another {', '.join(changed)} at step {step}"
        if isinstance(host, str) and self.host and host != self.host:
            yield f"moved from machine {_shown(host)} to {_shown(self.host)} at step {step}"


def without_hosts(notes: str) -> str:
    """Return notes, joined by `;`, without the names of machines in those of `Origin.notes_since`."""
    return re.sub(r"moved from machine [^;]* to [^;]* at step", "moved to another machine at step", notes)


def _code(commit: Any, dirty: Any) -> str:
    return f"{_shown(str(commit)[:10])}{' with uncommitted changes' if dirty is True else ''}"


def _shown(text: str) -> str:
    return "".join(char for char in text[:_LONGEST] if char.isprintable() and char != ";")
