"""The training loop: one trial, from its start or its checkpoint to its end."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer import checkpoint, compiling, data, evaluation, memory, parallel, seeds
from trainer import loss as loss_of
from trainer.checkpoint import CheckpointError
from trainer.clock import Clock
from trainer.config import TrainConfig
from trainer.data import splits
from trainer.data.pipeline import Pipeline, Split, open_splits, order_of
from trainer.data.statistics import normalised_spec
from trainer.loss import Batch
from trainer.metrics import Epoch, Result, best_of
from trainer.models._layers import initialise, set_bn_momentum
from trainer.models.count import count_params
from trainer.optimizers._groups import clip_gradients, for_optimizer, parameter_groups
from trainer.precision import (
    autocast,
    check_supported,
    grad_scaler,
    like_weights,
    set_matmul_precision,
    weight_dtype,
)
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
    if group.first(lambda: run.step) != run.step:
        raise CheckpointError("the processes of the trial see different checkpoints")
    return run


class Run:
    """One trial in progress: the state that a checkpoint saves, and the steps that change it."""

    def __init__(self, config: TrainConfig, seed: int, runtime: Runtime, group: parallel.Group) -> None:
        self.config, self.seed, self.runtime, self.group = config, seed, runtime, group
        self.clock = Clock()
        self.device = group.device(runtime.device)
        _reset_process(config, runtime, self.device)

        images = data.load(config.dataset, runtime.data_dir, runtime.cache_dir)
        images = splits.split(images, config.train_size, config.num_held_out, config.split_seed)
        spec = normalised_spec(config, images)
        workers = runtime.num_workers
        self.train_split, self.test_split = open_splits(images, config, seed, self.device, workers)
        pixels = None
        if config.normalisation == "per_pixel":
            assert isinstance(self.train_split, Split)
            pixels = self.train_split.x
        self.pipeline = Pipeline(spec, config.augmentation, self.device, seed, config.num_epochs, pixels)

        torch.manual_seed(seeds.stream(seed, "init"))
        model = config.model.build(spec)
        initialise(model, config.init, config.bn_scale_init, config.linear_init)
        if config.sync_bn:
            model = parallel.synchronise_batch_norm(model, self.device)
        if isinstance(config.bn_momentum, float):
            set_bn_momentum(model, config.bn_momentum)
        model.to(self.device, weight_dtype(config.precision))
        self.model = model.to(memory_format=torch.channels_last)
        self.prepare_seconds = self._prepare(self.model)
        if config.init_from:
            config.init_from.load_into(self.model, config.model, runtime.data_dir, runtime.cache_dir)
        self.network = group.wrap(self.model)
        self.num_params = count_params(model)
        options = config.running_average
        self.average = options.build(self.model, config.total_steps) if options else None
        selecting = config.select_examples
        self.selection = selecting.build(config, seed, self.device) if selecting else None
        if self.selection:
            self.prepare_seconds += self._prepare(self.selection.model)
        torch.manual_seed(seeds.stream(seed, "model", *group.stream))  # dropout and the like

        self.groups = parameter_groups(self.model, config)
        groups = for_optimizer(self.groups, config)
        self.optimizer = config.optimizer.build(groups, config.lr, config.total_steps)
        self.scaler = grad_scaler(config.precision, self.device)
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(seeds.stream(seed, "augmentation", *group.stream))

        self.compiled = False
        self.step = 0  # optimiser steps taken
        self.history: list[Epoch] = []
        self.totals = torch.zeros(2, dtype=torch.float64, device=self.device)  # of this epoch: loss, errors
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
        firsts: list[torch.Tensor] = []
        with contextlib.closing(self.train_split.batches(wanted)) as batches:
            for pixels, _ in batches:  # of large streamed images, a batch has fewer
                firsts.append(self.pipeline.normalise(pixels))
                if sum(map(len, firsts)) >= wanted:
                    break
        network.prepare(torch.cat(firsts)[:wanted])
        self._synchronise()
        return self.clock.now() - started

    def _compile(self) -> None:
        """Train a compiled network if the runtime wants one."""
        if self.runtime.compile == "off":
            return
        config, order = self.config, self.order(0)
        self.pipeline.prepare(0)
        with contextlib.closing(self.train_split.taken(order, [0], config.batch_size, 0)) as batches:
            pixels, targets, places = next(iter(batches))
        own = torch.Generator(self.device)
        images = self.pipeline.batch(pixels, targets, own, places, 0).images
        images = images[: config.num_kept // config.subdivision]
        network = compiling.network_to_train(self.model, images, config, self.runtime)
        self.compiled = network is not self.model
        if self.compiled:
            self.network = network

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def close(self) -> None:
        """End the worker processes of the data."""
        self.train_split.close()
        self.test_split.close()

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.diverged or len(self.history) >= self.config.last_epoch

    def epoch(self) -> Epoch:
        """Train to the end of the current epoch, then test if a test is due."""
        size, before = self.config.batch_size, len(self.history) * self.config.steps_per_epoch
        steps = min(self.config.steps_per_epoch, self.config.total_steps - before)
        taken = self.step - before  # steps of this epoch taken before an interruption
        starts = [(place * self.group.size + self.group.rank) * size for place in range(taken, steps)]
        self.model.train()
        started = self.clock.now()
        order = self.order(len(self.history))
        self.pipeline.prepare(len(self.history))
        with contextlib.closing(self.train_split.taken(order, starts, size, len(self.history))) as batches:
            for pixels, targets, places in batches:
                if self.group.first(self._checkpoint_due):
                    self._pause(started)
                    started = self.clock.now()
                self.train_step(pixels, targets, places)
        totals = self.group.sum(self.totals)
        trained_on = steps * self.config.num_kept * self.group.size
        loss, wrong = (totals / trained_on).tolist()  # synchronises with the device
        self.epoch_seconds += self.clock.now() - started

        number = len(self.history) + 1
        test_loss = test_error = top5_error = None
        if self._test_due(number):
            started = self.clock.now()
            test_loss, test_error, top5_error = self.group.first(self.test)
            self.test_seconds = self.clock.now() - started
        self.diverged = not all(math.isfinite(value) for value in (loss, test_loss) if value is not None)
        epoch = Epoch(
            epoch=number,
            lr=self.config.lr_at(self.step - 1),
            train_loss=_finite(loss),
            train_error=wrong if math.isfinite(loss) else None,
            test_loss=_finite(test_loss),
            test_error=None if _finite(test_loss) is None else test_error,
            top5_error=None if _finite(test_loss) is None else top5_error,
            train_seconds=self.epoch_seconds,
        )
        self.history.append(epoch)
        self.totals.zero_()
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
        return evaluation.loss_and_errors(self.evaluated, self.test_split, self.pipeline, *how)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is tested: the average of the weights, if there is one in its place."""
        return self.average.evaluated(self.model) if self.average else self.model

    def train_step(self, pixels: torch.Tensor, targets: torch.Tensor, places: torch.Tensor) -> None:
        """Take one optimiser step; nothing in it waits for the device."""
        for own, group in zip(self.groups, self.optimizer.param_groups, strict=True):
            group["lr"] = self.config.lr_at(self.step, own.options)
        if self.config.bn_momentum == "dynamic":
            set_bn_momentum(self.model, 1 / (1 + self.step % self.config.steps_per_epoch))
        batch = self.pipeline.batch(pixels, targets, self.generator, places, len(self.history))
        if self.selection:
            batch = self.selection.select(batch)
        self.optimizer.zero_grad()
        *parts, last = _parts(batch, self.config.subdivision)
        with parallel.unsynchronised(self.network):
            for part in parts:
                self._backward(part)
        self._backward(last)
        self._freeze()
        if self.config.gradient_clip is not None:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self.model, self.groups, self.config)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        if self.average:
            self.average.update(self.model, self.step)

    def _freeze(self) -> None:
        """Drop the gradients of the groups whose epochs are over, and compute no more of them."""
        for own in self.groups:
            epochs = own.options.epochs if own.options else None
            if epochs is None or self.step < self.config.steps_in(epochs):
                continue
            for parameter in own.params:
                parameter.grad = None
                if self.group.size == 1:  # several GPUs wait for the gradient of every parameter
                    parameter.requires_grad_(False)

    def _backward(self, batch: Batch) -> None:
        """Add the gradients of a batch, or of a part of one, and count it in the epoch's totals."""
        with autocast(self.config.precision, self.device):
            logits = self.network(like_weights(batch.images, self.model))
        logits = logits.float()
        loss = loss_of.training_loss(logits, batch, self.config.label_smoothing)
        self.scaler.scale(loss / self.config.subdivision).backward()
        self.totals[0] += loss.detach() * batch.num_originals
        self.totals[1] += loss_of.wrong(logits.detach(), batch)

    def order(self, epoch: int) -> torch.Tensor:
        """Return the order of an epoch's images. It depends on the seed and the epoch only."""
        return order_of(self.config, self.seed, epoch)

    def result(self) -> Result:
        """Return the result of the trial."""
        return Result(
            status="diverged" if self.diverged else "done",
            epochs=tuple(self.history),
            num_params=self.num_params,
            num_images=self.step * self.config.global_batch_size,
            time_to_train_seconds=None if self.diverged else self._time_to_train(),
            peak_memory_mib=memory.peak_mib(self.device),
            resumes=self.resumes,
            compiled=self.compiled,
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
        """Write the weights to keep (`trainer.evaluation` reads them).

        If that fails, add a note and do not raise: the measured errors must not be lost.
        """
        keep, path = self.runtime.keep_checkpoint, self.runtime.weights_path
        if keep == "none" or path is None or self.diverged:
            return
        weights = self._weights() if keep == "last" else self.best
        if weights is None:
            self.notes.append("the best epoch's weights are lost: they were not kept when it was trained")
            return
        about = {"trial_id": self.runtime.trial_id, "kept": keep, "ema": self.evaluated is not self.model}
        try:
            checkpoint.save(path, {**self._identity(), **about, **weights})
        except OSError as error:
            self.notes.append(f"the weights could not be kept: {error.strerror or error}")

    def _weights(self) -> dict[str, Any]:
        """Return a copy of the current weights, on the CPU."""
        state = self.evaluated.state_dict()
        copies = {name: value.to("cpu", copy=True) for name, value in state.items()}
        return {"epoch": len(self.history), "state_dict": copies}

    # --- checkpoints ---------------------------------------------------------------------------

    def _checkpoint_due(self) -> bool:
        self.runtime.on_step(self.step)
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
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"checkpoint does not fit: {error}") from error

    def _identity(self) -> dict[str, Any]:
        return {"version": VERSION, "config": self.config.canonical(), "seed": self.seed}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the rest of the trial depends on, as tensors and plain values."""
        own, *others = self.group.gather(self._own_state())
        return {
            **own,
            "others": others,
            "trial": self._identity(),
            "step": self.step,
            "history": [dataclasses.asdict(epoch) for epoch in self.history],
            "epoch_seconds": self.epoch_seconds,
            "prepare_seconds": self.prepare_seconds,
            "test_seconds": self.test_seconds,
            "resumes": self.resumes,
            "notes": list(self.notes),
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict() if self.average else None,
            "selection": self.selection.state_dict() if self.selection else None,
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "compiled": self.compiled,
            "device": self.device.type,
            "hardware": _hardware(self.device),
            "origin": self.runtime.origin.as_dict(),
        }

    def _own_state(self) -> dict[str, Any]:
        """Return the part of the state that differs between ranks."""
        on_cuda = self.device.type == "cuda"
        return {
            "totals": self.totals.cpu(),
            "generator": self.generator.get_state(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if on_cuda else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, also on another kind of device."""
        self.step = state["step"]
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.epoch_seconds = state["epoch_seconds"]
        self.prepare_seconds = state["prepare_seconds"]
        self.test_seconds = state.get("test_seconds", 0.0)
        self.resumes = state["resumes"]
        self.notes = list(state["notes"])
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.model.load_state_dict(state["average"])
        if self.selection:
            self.selection.load_state_dict(state["selection"])
        self.best = state.get("best")
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        own = state["others"][self.group.rank - 1] if self.group.rank else state
        self.totals.copy_(own["totals"])
        torch.set_rng_state(own["rng"])
        if state["device"] == self.device.type:
            self.generator.set_state(own["generator"])
            if own["cuda_rng"] is not None:
                torch.cuda.set_rng_state(own["cuda_rng"], self.device)
        else:  # a generator's state fits one kind of device only: start a new stream
            self.generator.manual_seed(seeds.stream(self.seed, "augmentation", self.step, *self.group.stream))
        was, now = state.get("hardware"), _hardware(self.device)
        if was not in (None, now):  # results and speed differ between devices
            self.notes.append(f"moved from {was} to {now} at step {self.step}")
        if bool(state.get("compiled")) != self.compiled:
            self.notes.append(
                f"{'compiled' if self.compiled else 'no longer compiled'} from step {self.step} on"
            )
        self.notes += self.runtime.origin.notes_since(state.get("origin"), self.step)


def _hardware(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _parts(batch: Batch, number: int) -> Iterator[Batch]:
    """Split a batch into equal parts. Copies of one image stay in one part."""
    images, labels, weights = batch.images.chunk(number), batch.labels, batch.weights
    parts = zip(images, labels.chunk(number, dim=1), weights.chunk(number, dim=1), strict=True)
    return (Batch(*part, batch.agreement) for part in parts)


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
