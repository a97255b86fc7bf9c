"""Learning-rate schedules: a factor on the peak rate as a pure function of time in epochs.

Being pure they have no state to save: a resumed run computes the very same rates.
"""

from __future__ import annotations

import abc
from typing import ClassVar

from trainer.registry import Options, Registry

schedules: Registry[ScheduleOptions] = Registry("schedule", __name__)


class ScheduleOptions(Options, abc.ABC):
    """What the learning rate does once warm-up is over."""

    registry: ClassVar[Registry[ScheduleOptions]] = schedules
    __slots__ = ()

    def check(self, epochs: float) -> None:
        """Raise ConfigError if the schedule does not fit a run of so many epochs."""

    @abc.abstractmethod
    def factor(self, epoch: float, start: float, end: float) -> float:
        """Return lr / peak lr at a moment.

        Args:
            epoch: time since the run began, in epochs, fractional within one.
            start: when warm-up was over and this schedule took over.
            end: length of the run.
        """
