"""The epochs of ended trials as TensorBoard event files."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gridrun.errors import GridrunError
from gridrun.plan import Plan
from gridrun.store import Store


def check_directory(directory: Path) -> None:
    """Create the directory for event files, and raise GridrunError before hours of training if that fails."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise GridrunError("--tensorboard needs the package tensorboardX: pip install tensorboardX")
    with _write_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass


def write_events(directory: Path, store: Store, plan: Plan) -> None:
    """Write one directory of event files for each done or diverged trial that has none yet.

    Failed trials are left out, because they may be retried. Raises GridrunError as `check_directory` does.
    """
    from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

    ended = [trial.trial_id for trial in plan.ended("done", "diverged")]
    new = [trial_id for trial_id in ended if not (directory / trial_id).exists()]
    with _write_errors(directory), tempfile.TemporaryDirectory(prefix=".", dir=directory) as scratch:
        for trial_id, epochs in store.epochs(new).items():
            with SummaryWriter(str(Path(scratch, trial_id))) as writer:
                for epoch in epochs:
                    for name in ("lr", "train_loss", "train_error", "test_loss", "test_error", "top5_error"):
                        if epoch[name] is not None:
                            writer.add_scalar(name, epoch[name], epoch["epoch"])
            if not (directory / trial_id).exists():  # another launch may have written it meanwhile
                Path(scratch, trial_id).rename(directory / trial_id)


@contextlib.contextmanager
def _write_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise GridrunError(f"--tensorboard {directory}: cannot be written to ({reason})") from None
