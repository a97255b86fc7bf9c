"""Learning-rate schedules: a factor on the peak rate, as a pure function of time in epochs.

They have no state to save: a resumed run computes the same rates.
"""

from __future__ import annotations

import abc
from typing import ClassVar

from trainer.registry import Options, Registry

schedules: Registry[ScheduleOptions] = Registry("schedule", __name__)


class ScheduleOptions(Options, abc.ABC):
    """The course of the learning rate after warm-up."""

    registry: ClassVar[Registry[ScheduleOptions]] = schedules
    __slots__ = ()

    def check(self, epochs: float) -> None:
        """Raise ConfigError if the schedule does not fit a run of this many epochs."""

    @abc.abstractmethod
    def factor(self, epoch: float, start: float, end: float) -> float:
        """Return lr / peak lr at a time.

        Args:
            epoch: time since the start of the run, in epochs, as a fraction.
            start: end of warm-up, when this schedule begins.
            end: length of the run.
        """
