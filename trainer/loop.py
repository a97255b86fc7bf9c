"""The training loop: one trial, from its start or its checkpoint to its end."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainer import checkpoint, compiling, evaluation, memory, parallel
from trainer.checkpoint import CheckpointError
from trainer.clock import Clock
from trainer.config import TrainConfig
from trainer.data.trial import TrialData
from trainer.learner import Learner, build_model
from trainer.metrics import Epoch, Result, best_of
from trainer.precision import check_supported, set_matmul_precision
from trainer.runtime import Runtime, never, no_step, nothing
from trainer.schema import ConfigError
from trainer.version import VERSION

Report = Callable[[Epoch], None]


class Interrupted(Exception):
    """The trial was asked to stop. Its checkpoint holds everything done so far."""


def ignore(epoch: Epoch) -> None:
    """Do nothing with a report."""


def train(
    config: TrainConfig, *, seed: int, report: Report = ignore, runtime: Runtime | None = None
) -> Result:
    """Train one trial to its end. If it has a checkpoint, resume from there.

    Args:
        config: what to train.
        seed: the seed of all its randomness.
        report: called after each epoch that this call trains.
        runtime: where to run; it does not change the result.

    Raises:
        DataError: the data set is not available.
        Interrupted: `runtime.should_stop` returned True.
        ParallelError: there are fewer GPUs than the trial needs, or one of its other processes failed.
    """
    runtime = runtime or Runtime()
    silent: dict[str, Any] = {"on_step": no_step, "should_stop": never, "on_saved": nothing}
    followers = dataclasses.replace(runtime, **silent, keep_checkpoint="none")
    with (
        parallel.start(config.num_gpus, runtime.device, _follow, config, seed, followers) as group,
        contextlib.closing(_begin(config, seed, runtime, group)) as run,
    ):
        while not run.ended:
            report(run.epoch())
        run.keep_weights()
        run.keep_state()
        return run.result()


def _follow(group: parallel.Group, config: TrainConfig, seed: int, runtime: Runtime) -> None:
    """Train as a rank after the first."""
    with contextlib.closing(_begin(config, seed, runtime, group)) as run, contextlib.suppress(Interrupted):
        while not run.ended:
            run.epoch()
        run.keep_state()


def _begin(config: TrainConfig, seed: int, runtime: Runtime, group: parallel.Group) -> Run:
    """Return the trial, restored from its checkpoint, else from `start_from`, if one of them is usable."""
    run, notes = Run(config, seed, runtime, group), list[str]()
    for restore, otherwise in ((Run.resume, "started again"), (Run.go_on, "trained from the start")):
        problem = ""
        try:
            if restore(run):
                break
        except CheckpointError as error:
            problem = str(error)
        if problem:
            del run  # it may be half restored, and two may not fit on a GPU
            run = Run(config, seed, runtime, group)
            notes.append(f"{otherwise}: {problem}")
    run.notes += notes
    if group.first(lambda: run.learner.step) != run.learner.step:
        raise CheckpointError("the processes of the trial see different checkpoints")
    return run


class Run:
    """One trial in progress: its epochs and tests, and the state that a checkpoint saves."""

    def __init__(self, config: TrainConfig, seed: int, runtime: Runtime, group: parallel.Group) -> None:
        self.config, self.seed, self.runtime, self.group = config, seed, runtime, group
        self.clock = Clock()
        self.device = group.device(runtime.device)
        _reset_process(config, runtime, self.device)

        self.data = TrialData(config, seed, runtime, self.device)
        model = build_model(config, seed, self.data.pipeline.spec, self.device)
        self.prepare_seconds = self._prepare(model)
        if config.init_from:
            config.init_from.load_into(model, config.model, runtime.data_dir, runtime.cache_dir)
        selecting = config.select_examples
        selection = selecting.build(config, seed, self.device) if selecting else None
        if selection:
            self.prepare_seconds += self._prepare(selection.model)
        self.learner = Learner(model, selection, self.data.pipeline, config, seed, group)

        self.history: list[Epoch] = []
        self.epoch_seconds = 0.0  # training time of this epoch
        self.test_seconds = 0.0  # of the last test
        self.diverged = False
        self.best: dict[str, Any] | None = None  # the best epoch's weights, if they are to be kept
        self.resumes = 0
        self.notes: list[str] = []
        self._compile()
        self.saved_at = time.monotonic()

    def _prepare(self, network: Any) -> float:
        """Let a network see the first training images if it asks for some; return the seconds it takes.

        A run that is restored from a checkpoint does it too, and then has the checkpoint's weights.
        """
        wanted = getattr(network, "images_to_prepare", 0)
        if not wanted:
            return 0.0
        started = self.clock.now()
        network.prepare(self.data.first_images(wanted))
        self._synchronise()
        return self.clock.now() - started

    def _compile(self) -> None:
        """Train a compiled network if the runtime wants one."""
        if self.runtime.compile == "off":
            return
        config, learner, pipeline = self.config, self.learner, self.data.pipeline
        pipeline.prepare(0)
        with contextlib.closing(self.data.batches(0, [0])) as batches:
            pixels, targets, places = next(iter(batches))
        images = pipeline.batch(pixels, targets, torch.Generator(self.device), places, 0).images
        kept = len(images) * config.num_kept // config.batch_size  # an augmentation may copy images
        images = images[: kept // config.subdivision]
        network = compiling.network_to_train(learner.model, images, config, self.runtime)
        if network is not learner.model:
            learner.network, learner.compiled = network, True

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def close(self) -> None:
        """End the worker processes of the data."""
        self.data.close()

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.diverged or len(self.history) >= self.config.last_epoch

    def epoch(self) -> Epoch:
        """Train to the end of the current epoch, then test if a test is due."""
        size, done = self.config.batch_size, len(self.history)
        before = done * self.config.steps_per_epoch
        steps = min(self.config.steps_per_epoch, self.config.total_steps - before)
        taken = self.learner.step - before  # steps of this epoch taken before an interruption
        starts = [(place * self.group.size + self.group.rank) * size for place in range(taken, steps)]
        self.learner.model.train()
        started = self.clock.now()
        self.data.pipeline.prepare(done)
        with contextlib.closing(self.data.batches(done, starts)) as batches:
            for pixels, targets, places in batches:
                if self.group.first(self._checkpoint_due):
                    self._pause(started)
                    started = self.clock.now()
                self.learner.train_step(pixels, targets, places, done)
        totals = self.group.sum(self.learner.totals)
        trained_on = steps * self.config.num_kept * self.group.size
        loss, wrong = (totals / trained_on).tolist()  # synchronises with the device
        self.epoch_seconds += self.clock.now() - started

        number = done + 1
        test_loss = test_error = top5_error = None
        if self._test_due(number):
            started = self.clock.now()
            test_loss, test_error, top5_error = self.group.first(self.test)
            self.test_seconds = self.clock.now() - started
        self.diverged = not all(math.isfinite(value) for value in (loss, test_loss) if value is not None)
        epoch = Epoch(
            epoch=number,
            lr=self.config.lr_at(self.learner.step - 1),
            train_loss=_finite(loss),
            train_error=wrong if math.isfinite(loss) else None,
            test_loss=_finite(test_loss),
            test_error=None if _finite(test_loss) is None else test_error,
            top5_error=None if _finite(test_loss) is None else top5_error,
            train_seconds=self.epoch_seconds,
        )
        self.history.append(epoch)
        self.learner.totals.zero_()
        self.epoch_seconds = 0.0
        if best_of(self.history) is epoch:
            self.best = self._weights() if self.runtime.keep_checkpoint == "best" else None
        return epoch

    def _test_due(self, number: int) -> bool:
        """Return whether to test after an epoch, counted from 1."""
        return number % self.config.eval_every == 0 or number == self.config.last_epoch

    def test(self) -> tuple[float, float, float | None]:
        """Return the mean loss on the test set, the error and the top-5 error, fractions."""
        config = self.config
        how = (config.precision, config.tta, config.tta_least_confident)
        network = self.learner.evaluated
        return evaluation.loss_and_errors(network, self.data.test, self.data.pipeline, *how)

    def result(self) -> Result:
        """Return the result of the trial."""
        return Result(
            status="diverged" if self.diverged else "done",
            epochs=tuple(self.history),
            num_params=self.learner.num_params,
            num_images=self.learner.step * self.config.global_batch_size,
            time_to_train_seconds=None if self.diverged else self._time_to_train(),
            peak_memory_mib=memory.peak_mib(self.device),
            resumes=self.resumes,
            compiled=self.learner.compiled,
            notes=(*self.notes, *self._pauses()),
        )

    def _pauses(self) -> list[str]:
        """Return a note if the process stood still, as after SIGSTOP. A resumed trial knows its last part."""
        seconds = self.clock.paused_seconds
        return [f"stood still for {seconds:.0f} s, which are not training time"] if seconds else []

    def _time_to_train(self) -> float:
        return self.prepare_seconds + sum(epoch.train_seconds for epoch in self.history) + self.test_seconds

    # --- kept weights --------------------------------------------------------------------------

    def keep_weights(self) -> None:
        """Write the weights to keep (`trainer.kept` reads them).

        If that fails, add a note and do not raise: the measured errors must not be lost.
        """
        keep, path = self.runtime.keep_checkpoint, self.runtime.weights_path
        if keep == "none" or path is None or self.diverged:
            return
        weights = self._weights() if keep == "last" else self.best
        if weights is None:
            self.notes.append("the best epoch's weights are lost: they were not kept when it was trained")
            return
        averaged = self.learner.evaluated is not self.learner.model
        about = {"trial_id": self.runtime.trial_id, "kept": keep, "ema": averaged}
        try:
            checkpoint.save(path, {**self._identity(), **about, **weights})
        except OSError as error:
            self.notes.append(f"the weights could not be kept: {error.strerror or error}")

    def _weights(self) -> dict[str, Any]:
        """Return a copy of the current weights, on the CPU."""
        state = self.learner.evaluated.state_dict()
        copies = {name: value.to("cpu", copy=True) for name, value in state.items()}
        return {"epoch": len(self.history), "state_dict": copies}

    # --- checkpoints ---------------------------------------------------------------------------

    def _checkpoint_due(self) -> bool:
        self.runtime.on_step(self.learner.step)
        stop = self.runtime.should_stop()  # first: if it raises, the checkpoint stays as it is
        return stop or time.monotonic() - self.saved_at >= self.runtime.checkpoint_seconds

    def _pause(self, started: float) -> None:
        """Save a checkpoint between two steps, then stop if asked to."""
        self._synchronise()
        self.epoch_seconds += self.clock.now() - started
        if self.runtime.checkpoint:
            state = self.state_dict()  # needs every rank
            if self.group.rank == 0:
                self._save(self.runtime.checkpoint, state)
        self.saved_at = time.monotonic()
        if self.group.first(self.runtime.should_stop):
            raise Interrupted

    def _save(self, path: Path, state: dict[str, Any]) -> None:
        """Save a checkpoint. If that fails (a full disk), keep the last one, note it and train on."""
        try:
            checkpoint.save(path, state)
            self.runtime.on_saved()
        except OSError as error:
            note = f"a checkpoint could not be saved: {error.strerror or error}"
            if note not in self.notes:
                self.notes.append(note)

    def keep_state(self) -> None:
        """Leave the final state where another trial can go on from it, if it is wanted."""
        if self.runtime.keep_state and self.runtime.checkpoint and not self.diverged:
            state = self.state_dict()  # needs every rank
            if self.group.rank == 0:
                self._save(self.runtime.checkpoint, state)

    def resume(self) -> bool:
        """Restore the state from the checkpoint; return False if there is none.

        Raises:
            CheckpointError: it is damaged or belongs to another trial. Do not use this run then.
        """
        state = checkpoint.load(self.runtime.checkpoint) if self.runtime.checkpoint else None
        if state is None:
            return False
        if state.get("trial") != self._identity():
            raise CheckpointError("checkpoint is another trial's")
        self._restore(state)
        self.resumes += 1
        return True

    def go_on(self) -> bool:
        """Restore the state that the trial of `start_from` has left; return False if there is none to use.

        Raises:
            CheckpointError: it is lost or damaged, or this trial does not go on from it. Do not use this run
                then.
        """
        path = self.runtime.start_from
        if path is None:
            return False
        state = checkpoint.load(path)
        if state is None:
            raise CheckpointError(f"checkpoint {path.name}, to go on from, is lost")
        if not self._goes_on_from(state.get("trial")):
            raise CheckpointError(f"checkpoint {path.name} is of a trial that this one does not go on from")
        self._restore(state)
        self.resumes = 1
        last = self.history[-1] if self.history else None
        if last and not self._test_due(last.epoch):  # it was tested only because the other trial ended there
            self.history[-1] = dataclasses.replace(last, test_loss=None, test_error=None, top5_error=None)
            if self.best and self.best["epoch"] == last.epoch:
                self.best = None
        return True

    def _goes_on_from(self, trial: Any) -> bool:
        """Return whether this trial begins with all that another one does, given its `_identity`."""
        try:
            other = TrainConfig.from_dict(trial["config"])
            same = (trial["version"], trial["seed"]) == (VERSION, self.seed)
        except (KeyError, TypeError, ConfigError):
            return False
        return same and self.config.goes_on_from(other, self.seed)

    def _restore(self, state: dict[str, Any]) -> None:
        """Restore a state. Raises CheckpointError: it does not fit."""
        try:
            self.load_state_dict(state)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # not the checkpoint's fault: the next attempt may use it
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"checkpoint does not fit: {error}") from error

    def _identity(self) -> dict[str, Any]:
        return {"version": VERSION, "config": self.config.canonical(), "seed": self.seed}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the rest of the trial depends on, as tensors and plain values."""
        own, *others = self.group.gather(self.learner.rank_state())
        return {
            **own,
            "others": others,
            **self.learner.state_dict(),
            "trial": self._identity(),
            "history": [dataclasses.asdict(epoch) for epoch in self.history],
            "epoch_seconds": self.epoch_seconds,
            "prepare_seconds": self.prepare_seconds,
            "test_seconds": self.test_seconds,
            "resumes": self.resumes,
            "notes": list(self.notes),
            "best": self.best,
            "compiled": self.learner.compiled,
            "hardware": _hardware(self.device),
            "origin": self.runtime.origin.as_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, also on another kind of device.

        Raises:
            ValueError and others: it was made by somebody else.
        """
        own = state["others"][self.group.rank - 1] if self.group.rank else state
        self.learner.load_state_dict(state, own)
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        numbers = {type(value) for epoch in self.history for value in dataclasses.astuple(epoch)}
        if not numbers <= {int, float, type(None)}:
            raise ValueError("its epochs are no numbers")
        first = min(len(self.history) * self.config.steps_per_epoch, self.config.total_steps)
        if not first <= self.learner.step <= first + self.config.steps_per_epoch:
            raise ValueError(f"it has {self.learner.step} steps in epoch {len(self.history) + 1}")
        self.epoch_seconds = state["epoch_seconds"]
        self.prepare_seconds = state["prepare_seconds"]
        self.test_seconds = state.get("test_seconds", 0.0)
        self.resumes = state["resumes"]
        self.notes = list(state["notes"])
        self.best = state.get("best")
        was, now = state.get("hardware"), _hardware(self.device)
        if was not in (None, now):  # results and speed differ between devices
            self.notes.append(f"moved from {was} to {now} at step {self.learner.step}")
        if bool(state.get("compiled")) != self.learner.compiled:
            change = "compiled" if self.learner.compiled else "no longer compiled"
            self.notes.append(f"{change} from step {self.learner.step} on")
        self.notes += self.runtime.origin.notes_since(state.get("origin"), self.learner.step)


def _hardware(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _reset_process(config: TrainConfig, runtime: Runtime, device: torch.device) -> None:
    """Set all process-wide switches, whatever an earlier trial of this process set."""
    torch.set_num_threads(runtime.threads)
    torch.set_default_dtype(torch.float32)
    set_matmul_precision(config.precision)
    torch.backends.cudnn.benchmark = device.type == "cuda"
    if device.type == "cuda" and device.index is not None:  # without an index, use the current device
        torch.cuda.set_device(device)
    check_supported(config.precision, device)
    memory.limit(device, runtime.gpu_share)
    memory.reset_peak(device)
