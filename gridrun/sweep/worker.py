"""One trial in this process, from claim to record: what every executor runs."""

from __future__ import annotations

import contextlib
import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gridrun.store import Store, checkpoint_copies
from gridrun.store.leases import Claim, kernel
from gridrun.store.records import Failure, Record
from gridrun.store.trial_store import TrialStore
from gridrun.sweep import provenance
from gridrun.sweep.events import Outcome, Retry, Setup, now
from gridrun.sweep.retries import kind_of
from gridrun.trial import Trial
from trainer import Runtime, TrainConfig, files
from trainer.metrics import Epoch, Result

if TYPE_CHECKING:
    from typing import Any


_STOP_POLL_SECONDS = 0.25
_NOTE_SECONDS = 1.0
"""How often the last finished epoch is noted, for estimates of what is left."""
_HELD_POLL_SECONDS = 5.0


def run_trial(
    trial: Trial,
    setup: Setup,
    on_epoch: Callable[[Epoch], None],
    store: TrialStore | None = None,
    retry: Retry | None = None,
) -> Outcome:
    """Train `trial` unless it has ended or is being trained elsewhere, and keep its record.

    Whatever goes wrong inside the trial becomes a `failed` record; the caller goes on. `store` is
    that of `setup.results` unless given. What `on_epoch` raises is no fault of the trial, and ends it
    without a record.
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
            record = _train(trial, setup, store, claim, on_epoch, retry)
            _check_held(claim)
            if record.status == "failed" and _orphaned(setup):
                return "interrupted"  # what fails after its launch was killed may fail for that
            store.add(record)
        except Interrupted:
            return "interrupted"
        except Superseded:
            return "busy"
        except ReportError as error:
            raise error.why from None
        if record.status != "failed":  # that one may be tried again from there
            store.drop_checkpoint(trial.trial_id)
            if setup.checkpoints:
                checkpoint_copies.copies_at(setup.checkpoints).drop(trial.trial_id)
        return record.status


class Superseded(Exception):
    """This process was silent for so long that another has taken over its trial."""


class ReportError(Exception):
    """Who was told of an epoch could not take it: its disk is full, say, or its terminal gone."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.why = why


def _check_held(claim: Claim) -> None:
    if not claim.held():
        raise Superseded


def _orphaned(setup: Setup) -> bool:
    """Return whether the launch is dead, as far as can be told from here."""
    if setup.driver_kernel != kernel():
        return False
    try:
        os.kill(setup.driver_pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _train(
    trial: Trial,
    setup: Setup,
    store: TrialStore,
    claim: Claim,
    on_epoch: Callable[[Epoch], None],
    retry: Retry | None,
) -> Record:
    from trainer.loop import Interrupted, train

    checkpoint = store.checkpoint(trial.trial_id)
    files.refresh_directory(checkpoint.parent)  # of a machine that this trial is taken over from
    runtime = replace(
        setup.runtime,
        checkpoint=checkpoint,
        weights_path=store.weights_path(trial.trial_id),
        trial_id=trial.trial_id,
        should_stop=_poll(setup.stop_file, claim),
    )
    store.drop_weights(trial.trial_id)  # of a worker that was killed before its record was written
    started_at, seen = now(), []
    noted_at = time.monotonic()

    def report(epoch: Epoch) -> None:
        nonlocal noted_at
        seen.append(epoch)
        if time.monotonic() - noted_at >= _NOTE_SECONDS:
            noted_at = time.monotonic()
            store.note_epoch(trial.trial_id, epoch.epoch)
        try:
            on_epoch(epoch)
        except Exception as error:
            raise ReportError(error) from error

    code = replace(setup.code, gpu_share=runtime.gpu_share if runtime.device.startswith("cuda") else None)
    about = {"started_at": started_at, "provenance": code, "attempts": retry.attempts + 1 if retry else 1}
    try:
        about["provenance"] = provenance.of_machine(code, runtime.device, runtime.threads)
        if setup.checkpoints:
            assert runtime.checkpoint
            place = setup.checkpoints
            checkpoint_copies.fetch(place, trial.trial_id, runtime.checkpoint, _pause(runtime.should_stop))
            keep = checkpoint_copies.copies_at(place).keep
            runtime = replace(runtime, on_saved=partial(keep, trial.trial_id, runtime.checkpoint))
        result = train(trial.config, seed=trial.seed, report=report, runtime=runtime)
    except (Interrupted, Superseded, ReportError):
        raise
    except Exception as error:
        failed_in = {"epochs": tuple(seen), "epochs_trained": len(seen)}
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
        shown = {"traceback": traceback.format_exc(), **failed_in, **about}
        return failed(trial, kind_of(error), reason, **shown)
    return _record(trial, result, checkpoint=_kept(runtime), **about)


def _kept(runtime: Runtime) -> str | None:
    """Return which weights the trial has kept, once their file's name is on disk."""
    if runtime.weights_path is None or not runtime.weights_path.exists():
        return None
    with contextlib.suppress(OSError):  # a power cut may take them then, but nothing the record
        files.sync(runtime.weights_path.parent)
    return runtime.keep_checkpoint


def _macs(config: TrainConfig) -> int | None:
    """Return the multiply-accumulates for one image, None of a network that needs real numbers."""
    from trainer.evaluation import on_meta
    from trainer.models.count import count_macs

    spec = config.dataset.spec
    try:
        return count_macs(on_meta(config.model, spec), spec)
    except Exception:  # whatever it is, the trial is done
        return None


def failed(trial: Trial, failure: Failure, reason: str, **fields: Any) -> Record:
    """Return the record of a trial that was stopped by an error."""
    about = {"ended_at": now(), **fields}
    return Record(**_identity(trial), status="failed", failure=failure, error=reason, **about)


def _record(trial: Trial, result: Result, **fields: Any) -> Record:
    last, best = result.epochs[-1], result.best
    diverged = result.status == "diverged"
    return Record(
        **_identity(trial),
        **fields,
        status=result.status,
        test_error=last.test_error,
        test_loss=last.test_loss,
        best_test_error=best.test_error if best else None,
        best_epoch=best.epoch if best else None,
        train_loss=last.train_loss,
        train_error=last.train_error,
        epochs_trained=len(result.epochs),
        train_seconds=result.train_seconds,
        images_per_second=result.images_per_second,
        peak_memory_mib=result.peak_memory_mib,
        num_params=result.num_params,
        macs=_macs(trial.config),
        resumes=result.resumes,
        ended_at=now(),
        notes="; ".join(result.notes) or None,
        error=f"non-finite loss in epoch {last.epoch}" if diverged else None,
        failure="divergence" if diverged else None,
        epochs=result.epochs,
    )


def _identity(trial: Trial) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "config_id": trial.config_id,
        "seed": trial.seed,
        "config": trial.config.flat(),
        "config_json": json.dumps(trial.config.canonical(), sort_keys=True),
    }


def trial_of(config_json: str, seed: int) -> Trial:
    """Return the trial behind a stored row."""
    return Trial(TrainConfig.from_dict(json.loads(config_json)), seed)


def _poll(stop_file: Path, claim: Claim) -> Callable[[], bool]:
    """Return a question cheap enough to ask at every step; it raises Superseded where that is the answer."""
    asked_at = held_at = time.monotonic()
    answer = files.is_there(stop_file)

    def should_stop() -> bool:
        nonlocal asked_at, held_at, answer
        if not answer and (now := time.monotonic()) - asked_at >= _STOP_POLL_SECONDS:
            asked_at, answer = now, files.is_there(stop_file)
            if now - held_at >= _HELD_POLL_SECONDS:
                held_at = now
                _check_held(claim)
        return answer

    return should_stop


def _pause(should_stop: Callable[[], bool]) -> Callable[[float], None]:
    """Return a sleep that a trial which is asked to stop wakes from, and leaves."""
    from trainer.loop import Interrupted

    def pause(seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if should_stop():
                raise Interrupted
            time.sleep(min(left, _STOP_POLL_SECONDS))

    return pause
