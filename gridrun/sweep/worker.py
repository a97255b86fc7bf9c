"""One trial in this process, from its lock to its record. Every executor calls `run_trial`."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from gridrun import energy
from gridrun.store import Store, TrialStore, checkpoint_copies
from gridrun.store.leases import Claim, kernel
from gridrun.store.records import Failure, Provenance, Record
from gridrun.sweep import provenance
from gridrun.sweep.events import Outcome
from gridrun.sweep.retries import Retry, kind_of
from gridrun.text import utc_now
from gridrun.trial import Trial
from trainer import Runtime, TrainConfig, files
from trainer.metrics import Epoch, Result
from trainer.origins import Origin
from trainer.sources import sources

_STOP_POLL_SECONDS = 0.25
_HELD_POLL_SECONDS = 5.0
_STEP_SECONDS = 2.0
"""How often a trial says how far it is within an epoch."""
_METER_SECONDS = 60.0
"""How often counters of energy are read: some start again after half an hour."""
_NOTE_SECONDS = 1.0
"""How often the last finished epoch is noted in the store, for estimates of what is left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What all trials of a launch share. It is sent to every worker."""

    results: Path
    runtime: Runtime
    code: Provenance
    stop_file: Path
    """While this file exists, trials save their checkpoints and stop."""
    driver_pid: int = field(default_factory=os.getpid)
    driver_kernel: str = field(default_factory=kernel)
    """Kernel that the launch runs on; a process id means nothing on another one."""
    checkpoints: str | None = None
    """Directory or URI that checkpoints are also copied to and fetched from (`CheckpointCopies`)."""

    @property
    def drain_file(self) -> Path:
        """While this file exists, no trial starts; running ones carry on."""
        return self.stop_file.with_suffix(".drain")

    @property
    def is_closed(self) -> bool:
        """Whether no trial may start."""
        return files.is_there(self.stop_file) or files.is_there(self.drain_file)


class ClaimLost(Exception):
    """Another process has taken over the trial, because this one showed no sign of life for too long."""


class ReportError(Exception):
    """A listener raised the error that this holds, say for a full disk. The trial is not at fault."""


def run_trial(
    trial: Trial,
    setup: Setup,
    on_epoch: Callable[[Epoch], None],
    store: TrialStore | None = None,
    retry: Retry | None = None,
    parent: str | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Outcome:
    """Train a trial and store its record, unless it has ended or another process is training it.

    An error in the trial becomes a `failed` record, and the caller carries on with the next trial.

    Args:
        on_epoch: called after each epoch. What it raises ends the trial without a record and is raised here.
        store: the store of `setup.results`, opened here if None.
        retry: the end to replace, if the trial has ended before.
        parent: id of the trial whose state it starts from; None: it starts anew.
        on_step: called every few seconds within an epoch, with the number of finished epochs and the part of
            the next one that is done.
    """
    from trainer.loop import Interrupted

    store = store or Store(setup.results)
    if setup.is_closed:
        return "interrupted"
    with store.lock(trial.trial_id) as claim:
        if not claim:
            return "busy"
        if status := store.ended(trial.trial_id, retry.ended_at if retry else None):
            return status
        try:
            record = _train(trial, setup, store, claim, on_epoch, retry, parent, on_step)
            if not claim.held():
                return "busy"
            if record.status == "failed" and _launch_is_dead(setup):
                return "interrupted"  # the death of the launch may be why it failed
            store.add(record)
        except Interrupted:
            return "interrupted"
        except ClaimLost:
            return "busy"
        except ReportError as error:
            raise error.args[0] from None
        keeps_state = setup.runtime.keep_state and record.status == "done"
        if record.status != "failed" and not keeps_state:  # a retry of a failed trial resumes from there
            store.drop_checkpoint(trial.trial_id)
            if setup.checkpoints:
                checkpoint_copies.copies_at(setup.checkpoints).drop(trial.trial_id)
        return record.status


def _train(
    trial: Trial,
    setup: Setup,
    store: TrialStore,
    claim: Claim,
    on_epoch: Callable[[Epoch], None],
    retry: Retry | None,
    parent: str | None,
    on_step: Callable[[int, float], None] | None,
) -> Record:
    """Train a trial and return its record, a `failed` one if the trial raises an error."""
    from trainer.loop import Interrupted, train

    weights_path = store.weights_path(trial.trial_id)
    checkpoint = store.checkpoint(trial.trial_id)
    files.refresh_directory(checkpoint.parent)  # NFS may not show yet what another machine wrote there
    store.drop_weights(trial.trial_id)  # a worker that was killed before it wrote the record leaves them
    should_stop = _make_should_stop(setup.stop_file, claim)
    epochs: list[Epoch] = []
    noted_at = told_at = metered_at = time.monotonic()
    meter = energy.Meter([])

    def stepped(step: int) -> None:
        nonlocal told_at, metered_at
        if time.monotonic() - metered_at >= _METER_SECONDS:
            metered_at = time.monotonic()
            meter.update()
        if on_step and time.monotonic() - told_at >= _STEP_SECONDS:
            told_at = time.monotonic()
            epoch, steps = divmod(step, trial.config.steps_per_epoch)
            try:
                on_step(epoch, steps / trial.config.steps_per_epoch)
            except Exception as error:
                raise ReportError(error) from error

    runtime = replace(
        setup.runtime,
        checkpoint=checkpoint,
        weights_path=weights_path,
        trial_id=trial.trial_id,
        on_step=stepped,
        should_stop=should_stop,
        start_from=store.checkpoint(parent) if parent else None,
    )
    on_gpu = runtime.device.startswith("cuda")
    code = replace(setup.code, gpu_share=runtime.gpu_share if on_gpu else None)
    fields: dict[str, Any] = {
        "started_at": utc_now(),
        "provenance": code,
        "attempts": retry.attempts + 1 if retry else 1,
    }

    def report(epoch: Epoch) -> None:
        nonlocal noted_at, told_at
        told_at = time.monotonic()
        epochs.append(epoch)
        if time.monotonic() - noted_at >= _NOTE_SECONDS:
            noted_at = time.monotonic()
            store.note_epoch(trial.trial_id, epoch.epoch)
        try:
            on_epoch(epoch)
        except Exception as error:
            raise ReportError(error) from error

    try:
        parts = sources(trial.config)
        made = provenance.of_machine(code, runtime.device, runtime.threads, parts)
        origin = Origin(commit=made.commit, dirty=made.dirty, host=made.host, sources=parts)
        fields["provenance"], runtime = made, replace(runtime, origin=origin)
        if place := setup.checkpoints:
            for each in filter(None, (trial.trial_id, parent)):
                checkpoint_copies.fetch(place, each, store.checkpoint(each), _make_sleep(should_stop))
            keep = checkpoint_copies.copies_at(place).keep
            runtime = replace(runtime, on_saved=partial(keep, trial.trial_id, checkpoint))
        if not parent:  # else it goes on from what another trial has taken
            config, share = trial.config, runtime.gpu_share
            meter = energy.start(checkpoint, runtime.device, config.num_gpus, share, runtime.threads)
            runtime = replace(runtime, on_saved=_both(meter.keep, runtime.on_saved))
        result = train(trial.config, seed=trial.seed, report=report, runtime=runtime)
    except (Interrupted, ClaimLost, ReportError):
        raise
    except Exception as error:
        fields |= {"epochs": tuple(epochs), "epochs_trained": len(epochs)}
        text = str(error).strip().splitlines()
        reason = ": ".join([type(error).__name__, *text[:1]])
        return failed_record(trial, kind_of(error), reason, traceback=traceback.format_exc(), **fields)
    if runtime.keep_state:
        store.note_epoch(trial.trial_id, len(result.epochs))
    kept = runtime.keep_checkpoint if weights_path.exists() else None
    fields["energy_kwh"] = meter.kwh(resumed=result.resumes > 0)
    return _record(trial, result, checkpoint=kept, **fields)


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call


def _make_should_stop(stop_file: Path, claim: Claim) -> Callable[[], bool]:
    """Return a function that says whether to stop, cheap enough to call at every step.

    It raises ClaimLost if another process has taken over the trial.
    """
    asked_at = checked_at = time.monotonic()
    answer = files.is_there(stop_file)

    def should_stop() -> bool:
        nonlocal asked_at, checked_at, answer
        if not answer and (now := time.monotonic()) - asked_at >= _STOP_POLL_SECONDS:
            asked_at, answer = now, files.is_there(stop_file)
            if now - checked_at >= _HELD_POLL_SECONDS:
                checked_at = now
                if not claim.held():
                    raise ClaimLost
        return answer

    return should_stop


def _make_sleep(should_stop: Callable[[], bool]) -> Callable[[float], None]:
    """Return a sleep, in seconds, that raises Interrupted as soon as the trial is told to stop."""
    from trainer.loop import Interrupted

    def sleep(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if should_stop():
                raise Interrupted
            time.sleep(_STOP_POLL_SECONDS)

    return sleep


def _launch_is_dead(setup: Setup) -> bool:
    """Return whether the process of the launch is gone; False if it runs on another machine."""
    if setup.driver_kernel != kernel():
        return False
    try:
        os.kill(setup.driver_pid, 0)
    except OSError as error:  # PermissionError: it lives, and belongs to another user
        return isinstance(error, ProcessLookupError)
    return False


def _macs(config: TrainConfig) -> int | None:
    """Return the multiply-accumulates of one image, or None if the network needs real numbers to run."""
    from trainer.models.count import count_macs, on_meta

    spec = config.dataset.spec
    try:
        return count_macs(on_meta(config.model, spec), spec)
    except Exception:  # the trial is done, whatever this raises
        return None


def failed_record(trial: Trial, failure: Failure, reason: str, **fields: Any) -> Record:
    """Return the record of a trial that an error has stopped."""
    fields = {"ended_at": utc_now(), **fields}
    return Record(**identity_of(trial), status="failed", failure=failure, error=reason, **fields)


def _record(trial: Trial, result: Result, **fields: Any) -> Record:
    """Return the record of a trial that has trained to its end, or until it diverged."""
    last, best = result.epochs[-1], result.best
    diverged = result.status == "diverged"
    return Record(
        **identity_of(trial),
        **fields,
        status=result.status,
        test_error=last.test_error,
        test_loss=last.test_loss,
        top5_error=last.top5_error,
        best_test_error=best.test_error if best else None,
        best_epoch=best.epoch if best else None,
        train_loss=last.train_loss,
        train_error=last.train_error,
        epochs_trained=len(result.epochs),
        train_seconds=result.train_seconds,
        time_to_train_seconds=result.time_to_train_seconds,
        images_per_second=result.images_per_second,
        peak_memory_mib=result.peak_memory_mib,
        num_params=result.num_params,
        macs=_macs(trial.config),
        resumes=result.resumes,
        compiled=result.compiled,
        ended_at=utc_now(),
        notes="; ".join(result.notes) or None,
        error=f"non-finite loss in epoch {last.epoch}" if diverged else None,
        failure="divergence" if diverged else None,
        epochs=result.epochs,
    )


def identity_of(trial: Trial) -> dict[str, Any]:
    """Return the fields of a record that say which trial it is of."""
    return {
        "trial_id": trial.trial_id,
        "config_id": trial.config_id,
        "seed": trial.seed,
        "config": trial.config.flat(),
        "config_json": json.dumps(trial.config.canonical(), sort_keys=True),
    }
