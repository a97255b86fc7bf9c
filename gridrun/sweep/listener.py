"""Who else follows a sweep, beside the screen: notifications, event files."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gridrun.plan import Plan
    from gridrun.store.launches import LaunchState


class Listener(Protocol):
    """Follows a sweep. Its methods raise nothing and take no time: the sweep waits for them."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def show(self, event: object) -> None:
        """Hear of a `LaunchEvent`: as those of executors, but a failure comes as `Failed` alone."""

    def update(self, state: LaunchState) -> None:
        """Hear of the state of the launch."""

    def end(self, outcome: str, plan: Plan | None) -> None:
        """Hear how the sweep has ended: `done`, `failed` or `interrupted`, and what its plan has become."""
