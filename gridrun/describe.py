"""A trial in a few words, for a line in a terminal."""

from __future__ import annotations

from gridrun.trial import Trial


def describe(trial: Trial) -> str:
    """Return a trial in a few words."""
    config = trial.config
    return (
        f"{config.dataset.name} {config.model.label}, batch size {config.batch_size}, lr {config.lr:g}, "
        f"{config.schedule.name}, {config.epochs} epochs, seed {trial.seed}"
    )
