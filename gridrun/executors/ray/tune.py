"""The executor that runs trials through Ray Tune, which asks for the next one when there is room.

Tune places trials on CPUs and GPUs and reuses warm workers, nothing else: its logs, checkpoints and restores
are not used. Trials that need the most GPUs run first, and smaller ones only afterwards: beside smaller
trials a large one might wait for ever for its GPUs to be free at once. Ray is imported when a sweep starts.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from gridrun.errors import LaunchError, StoreError
from gridrun.executors.ray import packing
from gridrun.executors.ray.remote_store import StoreAddress, call_if_alive, start_store_actor
from gridrun.executors.ray.session import RaySession
from gridrun.executors.ray.trackers import Trackers
from gridrun.plan.packing import Load, Packer, Share, threads_per_trial
from gridrun.resources import Capacity, CpusPerTrial, GpusPerTrial, is_share
from gridrun.sweep.events import Ended, Event, Lost, PackingChosen, Started, ThreadsChosen, Warned
from gridrun.sweep.executor import Executor
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.worker import Setup
from gridrun.trial import Trial
from trainer import Runtime

STOP_SECONDS = 15.0
"""How long trials may take to save their checkpoints after a stop."""
_TUNE_SECONDS = 5.0
"""How long Tune may take to end then; closing Ray ends it in any case."""
_PROGRESS_SECONDS = 1.0


class RayTuneExecutor(Executor):
    """Runs trials side by side on a Ray that it starts, or on the one that runs at `address`.

    Args:
        cpus: how many to use of this machine, all if None; likewise `gpus`.
        gpus_per_trial: for a trial on one GPU; a trial with `num_gpus` above 1 takes that many whole GPUs.
        cpus_per_trial: times `num_gpus`; auto: measured.
        trackers: where to log epochs to.
        every_epoch: report each epoch, though there are no trackers; else at most one a second.
        address: HOST:PORT of a Ray cluster.
    """

    def __init__(
        self,
        *,
        cpus: int | None = None,
        gpus: int | None = None,
        gpus_per_trial: GpusPerTrial | None = None,
        cpus_per_trial: CpusPerTrial = 1,
        trackers: Trackers | None = None,
        every_epoch: bool = False,
        address: str | None = None,
    ) -> None:
        if gpus_per_trial is not None and not is_share(gpus_per_trial):
            raise LaunchError(
                f"--gpus-per-trial must be a part of a GPU or a whole number, got {gpus_per_trial:g}"
            )
        if address and (cpus is not None or gpus is not None):
            raise LaunchError("--cpus and --gpus do not go with --address: a cluster says itself what it has")
        self._cpus, self._gpus = cpus, gpus
        self._cpus_per_trial = 1 if cpus_per_trial == "auto" else cpus_per_trial  # while GPUs are measured
        self._trackers = trackers or Trackers()
        self._progress_seconds = 0.0 if every_epoch or self._trackers else _PROGRESS_SECONDS
        self._address = address
        self._session = RaySession()
        self._packer = Packer(gpus_per_trial, cpus_per_trial)
        self._known_shares: dict[tuple[str, float | None], Share] = {}  # by config id and least share
        self._store_address: StoreAddress | None = None

    def close(self) -> None:
        if self._store_address:
            call_if_alive(self._store_address.actor.close)
        self._store_address = None
        self._session.close()

    def _begin(self, setup: Setup) -> None:
        if self._address:
            self._session.join(self._address)
            self._store_address = start_store_actor(setup)
        else:
            self._session.start(cpus=self._cpus, gpus=self._gpus)

    def _found(self) -> tuple[float, float]:
        """Return the CPUs and GPUs that Ray has."""
        import ray

        found = ray.cluster_resources()
        return found.get("CPU", 0.0), found.get("GPU", 0.0)

    def _machine_cpus(self) -> int:
        """Return the CPUs of the machine that has most."""
        import ray

        return max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])

    def _slots(self, share: Share) -> int:
        """Return how many trials with such a share run side by side."""
        cpus, gpus = map(int, self._found())
        return Capacity(cpus=cpus, gpus=gpus, gpus_per_trial=share.gpu, cpus_per_trial=share.cpu).slots()

    def _shares(
        self, left: Iterable[QueuedTrial], setup: Setup, on_event: Callable[[Event], None]
    ) -> dict[Share, Trial]:
        """Return what trials take, largest first, each with one trial that takes it."""
        shares: dict[Share, Trial] = {}
        left = list(left)
        for queued in left:
            fitted, threads, trial = len(self._packer.fitted), len(self._packer.threads), queued.trial
            share = self._share(queued, setup.runtime, len(left))
            shares.setdefault(share, trial)
            if len(self._packer.fitted) > fitted:
                on_event(PackingChosen(trial.config, round(1 / share.gpu)))
            if len(self._packer.threads) > threads:
                on_event(ThreadsChosen(trial.config, share.threads))
            if setup.is_closed:
                break
        return {share: shares[share] for share in sorted(shares, reverse=True)}

    def _share(self, queued: QueuedTrial, runtime: Runtime, trials: int = 1) -> Share:
        """Return what a trial takes; for `auto` this may have to be measured, with up to `trials` at once."""
        given = queued.retry.gpu_share if queued.retry else None
        config, key = queued.trial.config, (queued.trial.config_id, given)

        def measure(number: int) -> Load | None:
            threads = self._cpus_per_trial
            part = replace(runtime, device="cuda", threads=threads, gpu_share=1 / number)
            return packing.measure(config, part, number)

        def on_cpus(number: int, threads: int) -> Load | None:
            return packing.measure(config, replace(runtime, device="cpu", threads=threads), number)

        def choose_threads() -> int:
            return threads_per_trial(on_cpus, self._machine_cpus(), trials)

        if key not in self._known_shares:
            self._known_shares[key] = self._packer.share(
                config, *self._found(), measure, given, choose_threads
            )
        return self._known_shares[key]

    def run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        if self._session.directory is None:
            self._begin(setup)
        try:
            self._run(trial_queue, setup, on_event)
        except BaseException:
            trial_queue.close()  # else Tune's thread would wait for ever for trials that nobody marks as done
            raise
        finally:
            if self._store_address:
                call_if_alive(self._store_address.actor.release_all)  # of workers that died

    def _run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        left = trial_queue.left
        shares = self._shares(left, setup, on_event)
        for share, one in shares.items():
            self._check_room(share, one.config.num_gpus)
        events: queue.SimpleQueue[Event | Exception] = queue.SimpleQueue()
        stop = threading.Event()

        def fit() -> None:
            try:
                for share in shares:
                    if not setup.is_closed:
                        self._fit(trial_queue, share, setup, events, stop)
            except BaseException as error:
                gave_up = LaunchError(f"Ray Tune gave up: {error}")
                gave_up.__cause__ = error
                events.put(gave_up)

        # Tune takes over signals when it runs in the main thread; there they are ours.
        thread = threading.Thread(target=fit, name="ray-tune", daemon=True)
        thread.start()
        running: dict[str, bool] = {}  # by trial id: whether the launch was told of its start
        closed = False
        stopping_since: float | None = None
        while thread.is_alive() or not events.empty():
            with contextlib.suppress(queue.Empty):
                event = events.get(timeout=0.1)
                if isinstance(event, Exception):
                    raise event
                match event:
                    case Started(trial):
                        running[trial.trial_id] = not closed
                        if not closed:
                            on_event(event)
                    case Ended(trial, "interrupted") if not running.get(trial.trial_id):
                        running.pop(trial.trial_id, None)  # started after closing: it stays in the queue
                    case Ended(trial) | Lost(trial):
                        running.pop(trial.trial_id, None)
                        on_event(event)
                        trial_queue.task_done(trial)
                    case _:
                        on_event(event)
            if name := self._session.dead_process():
                raise LaunchError(
                    f"Ray's {name} has died; nothing is lost, run the same command again to resume"
                )
            if closed := setup.is_closed:
                trial_queue.close()
            if stopping_since is None and setup.stop_file.exists():
                stopping_since = time.monotonic()
            too_long = stopping_since and time.monotonic() - stopping_since > STOP_SECONDS
            if running and too_long:
                on_event(
                    Warned(
                        f"{', '.join(running)}: did not stop within {STOP_SECONDS:g} s, so their workers are "
                        "killed; the next launch goes on from their last checkpoints"
                    )
                )
            if (closed and not running and events.empty()) or too_long:
                stop.set()  # what Tune still holds has not started, or its worker does not answer
                thread.join(_TUNE_SECONDS)
                return

    def _check_room(self, share: Share, num_gpus: int) -> None:
        if self._slots(share) < 1:
            cpus, gpus = self._found()
            fits = f"no trial with num_gpus: {num_gpus} fits" if num_gpus > 1 else "no trial fits"
            raise LaunchError(
                f"{fits}: one takes {share.cpu:g} CPU and {share.gpu:g} GPU, "
                f"and Ray has {cpus:g} and {gpus:g}"
            )

    def _fit(
        self,
        trial_queue: TrialQueue,
        share: Share,
        setup: Setup,
        events: queue.SimpleQueue[Event | Exception],
        stop: threading.Event,
    ) -> None:
        """Have Tune run the trials that take `share`; it reuses a worker only for the same resources."""
        from ray import tune

        from gridrun.executors.ray.search import EventCallback, QueueSearcher, StopWhen
        from gridrun.executors.ray.worker import TrialWorker

        assert self._session.directory
        slots, ahead = self._slots(share), 1 if self._address else 0
        self._session.set_variables(TUNE_MAX_PENDING_TRIALS_PG=str(slots + 1))
        runtime = replace(
            setup.runtime,
            device="cuda" if share.gpu else "cpu",
            gpu_share=share.gpu or 1.0,
            threads=share.threads,
        )
        worker: Any = tune.with_resources(
            tune.with_parameters(
                TrialWorker,
                setup=replace(setup, runtime=runtime),
                progress_seconds=self._progress_seconds,
                store_address=self._store_address,
            ),
            share.resources,
        )

        def fits(queued: QueuedTrial) -> bool:
            return self._share(queued, runtime) == share

        def emit(event: Event | StoreError) -> None:
            events.put(event)
            for tracker in trackers:
                tracker.handle(event)

        files = self._session.directory / "trackers"
        with self._trackers.start(files, lambda text: events.put(Warned(text))) as trackers:
            while True:
                searcher = QueueSearcher(trial_queue, fits, slots, ahead)
                callback = EventCallback(searcher, emit)
                tuner = tune.Tuner(
                    worker,
                    tune_config=tune.TuneConfig(
                        search_alg=searcher,
                        num_samples=-1,  # until the searcher says that it has finished
                        reuse_actors=True,
                        trial_dirname_creator=lambda trial: trial.trial_id,
                    ),
                    run_config=tune.RunConfig(
                        name="sweep",
                        storage_path=str(self._session.directory / "tune"),
                        verbose=0,
                        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                        callbacks=[callback],
                        stop=StopWhen(stop.is_set),
                    ),
                )
                try:
                    tuner.fit()
                    return
                except Exception as error:
                    if stop.is_set() or not callback.on_tune_failed(error):
                        raise
