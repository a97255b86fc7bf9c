"""The epochs of trials as TensorBoard event files: while they train, and of those that ended before.

A run lies in DIRECTORY/GRID/RUN, where RUN says in what it differs from the grid's others. It has the options
of its trial as hyper-parameters.
"""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gridrun.errors import GridrunError
from gridrun.store import Store
from gridrun.sweep.events import Ended, Progress
from gridrun.sweep.names import TrialName
from gridrun.sweep.retries import Failed
from gridrun.trial import Trial
from trainer.metrics import Epoch

if TYPE_CHECKING:
    from gridrun.plan import Plan
    from gridrun.store.launches import LaunchState

SCALARS = ("lr", "train_loss", "train_error", "test_loss", "test_error", "top5_error")
COMPARED = ("test_error", "test_loss", "train_error")
"""Scalars that TensorBoard shows beside the hyper-parameters."""
FLUSH_SECONDS = 10


class EventFiles(contextlib.AbstractContextManager["EventFiles"]):
    """Writes event files while a sweep runs.

    Args:
        directory: is created.
        store: has the epochs of trials that were trained before, or by other launches.
        names: of the trials, by id. A trial without one is called by its id.
        warn: gets one line when the files can no longer be written; the sweep goes on.

    Raises:
        GridrunError: tensorboardX is not installed, or the directory cannot be written to.
    """

    def __init__(
        self, directory: Path, store: Store, names: Mapping[str, TrialName], warn: Callable[[str], None]
    ) -> None:
        if importlib.util.find_spec("tensorboardX") is None:
            raise GridrunError("--tensorboard needs the package tensorboardX: pip install tensorboardX")
        self._directory, self._store, self._names, self._warn = directory, store, names, warn
        self._writers: dict[str, Any] = {}  # by trial id
        self._written: dict[str, int] = {}  # last epoch, by trial id
        self._has_failed = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                pass
        except OSError as error:
            problem = f"cannot be written to ({error.strerror or error})"
            raise GridrunError(f"--tensorboard {directory}: {problem}") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files of trials that were interrupted."""
        for trial_id in list(self._writers):
            with self._safely():
                self._writers.pop(trial_id).close()

    def show(self, event: object) -> None:
        """Write what is new in an event."""
        with self._safely():
            match event:
                case Progress(trial, epoch):
                    self._write(trial, epoch)
                case Ended(trial, outcome, epoch):
                    if epoch:
                        self._write(trial, epoch)
                    self._close(trial, is_over=outcome in ("done", "diverged"))
                case Failed(trial):
                    self._close(trial, is_over=False)

    def update(self, state: LaunchState) -> None:
        """Write nothing: epochs come with events."""

    def end(self, outcome: str, plan: Plan | None) -> None:
        """Write the done and diverged trials of the plan that have no files yet.

        Failed trials are left out, because they may be retried.
        """
        with self._safely():
            missing = {
                trial.trial_id: trial
                for trial in (plan.ended("done", "diverged") if plan else ())
                if not self._place(trial.trial_id).exists()
                and not (self._directory / trial.trial_id).exists()  # as earlier versions named them
            }
            with tempfile.TemporaryDirectory(prefix=".", dir=self._directory) as scratch:
                for trial_id, epochs in self._store.epochs(list(missing)).items():
                    with contextlib.closing(_open(Path(scratch, trial_id), missing[trial_id], 1)) as writer:
                        for epoch in epochs:
                            _add(writer, epoch)
                        _say_over(writer)
                    place = self._place(trial_id)
                    place.parent.mkdir(exist_ok=True)
                    if not place.exists():  # another launch may have written it meanwhile
                        Path(scratch, trial_id).rename(place)

    def _place(self, trial_id: str) -> Path:
        name = self._names.get(trial_id)
        return self._directory.joinpath(*name.path(trial_id)) if name else self._directory / trial_id

    def _write(self, trial: Trial, epoch: Epoch) -> None:
        key = trial.trial_id
        if epoch.epoch <= self._written.get(key, 0) or self._has_failed:
            return
        if key not in self._writers:
            self._writers[key] = _open(self._place(key), trial, epoch.epoch)
        self._written[key] = epoch.epoch
        _add(self._writers[key], asdict(epoch))

    def _close(self, trial: Trial, *, is_over: bool) -> None:
        self._written.pop(trial.trial_id, None)
        if writer := self._writers.pop(trial.trial_id, None):
            if is_over:
                _say_over(writer)
            writer.close()

    @contextlib.contextmanager
    def _safely(self) -> Iterator[None]:
        """Keep errors of writing away from the sweep."""
        try:
            yield
        except Exception as error:
            if not self._has_failed:
                self._warn(
                    f"--tensorboard {self._directory}: no more is written: {type(error).__name__}: {error}"
                )
            self._has_failed = True


def _open(directory: Path, trial: Trial, first_epoch: int) -> Any:
    """Return a writer with the trial's hyper-parameters. Older entries from `first_epoch` on are void."""
    from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

    writer = SummaryWriter(
        str(directory),
        purge_step=first_epoch,
        flush_secs=FLUSH_SECONDS,
        filename_suffix=f".{first_epoch}",  # the rest of a file's name is the second of its creation
    )
    experiment, start, _ = _hparams(trial)
    writer.file_writer.add_summary(experiment)
    writer.file_writer.add_summary(start)
    return writer


def _hparams(trial: Trial | None) -> tuple[Any, Any, Any]:
    """Return what tells TensorBoard of a run's hyper-parameters, its start and its end."""
    from tensorboardX.summary import hparams  # type: ignore[import-untyped]

    options = {"seed": trial.seed, **trial.config.flat()} if trial else {}
    is_plain = (int, float, str, type(None))
    plain = {key: value if isinstance(value, is_plain) else str(value) for key, value in options.items()}
    found: tuple[Any, Any, Any] = hparams(plain, dict.fromkeys(COMPARED))
    return found


def _add(writer: Any, epoch: Mapping[str, Any]) -> None:
    for name in SCALARS:
        if epoch[name] is not None:
            writer.add_scalar(name, epoch[name], epoch["epoch"])


def _say_over(writer: Any) -> None:
    writer.file_writer.add_summary(_hparams(None)[2])
