"""Ray Tune as a dispatcher: it asks for a trial's id when there is room, and starts the trial there.

Trials on several GPUs go first, those on most before all, and no others meanwhile: beside smaller
trials a large one might wait for ever for its GPUs to be free at once.

Nothing of Tune's own is kept or read back: no logging, no checkpoints, no restoring. What it
does is place trials on CPUs and GPUs and reuse warm workers. `ray_session` starts, or joins, and ends
the Ray that it runs on, `ray_lineup` gives it the trials; on a cluster `ray_away` runs those whose
machine does not see the results. Only files called so import ray.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gridrun.errors import LaunchError, StoreError
from gridrun.executors.ray import packing
from gridrun.executors.ray.remote_store import Address, close_home, close_turn, open_home
from gridrun.executors.ray.session import RaySession
from gridrun.executors.ray.trackers import Trackers
from gridrun.plan.packing import Load, Packer, Share
from gridrun.resources import Capacity, GpusPerTrial, is_share
from gridrun.sweep.events import Ended, Event, Lost, PackingChosen, Progress, Started, Warned
from gridrun.sweep.executor import Executor
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.retries import kind_of_death, reason_of_death
from gridrun.sweep.worker import Setup
from gridrun.trial import Trial
from trainer import Runtime, TrainConfig
from trainer.metrics import Epoch

STOP_SECONDS = 15.0
"""How long trials that were asked to stop may take to save their checkpoints."""
_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What the sweep may use of this machine, and what a trial takes. None: what there is."""

    cpus: int | None = None
    gpus: int | None = None
    gpus_per_trial: GpusPerTrial | None = None
    """Of a trial on one GPU; one with `num_gpus` above 1 takes so many, whole."""
    cpus_per_trial: int = 1
    """Times `num_gpus`."""

    def __post_init__(self) -> None:
        share = self.gpus_per_trial
        if share is not None and not is_share(share):
            raise LaunchError(f"--gpus-per-trial must be a part of a GPU or a whole number, got {share:g}")


class RayTuneExecutor(Executor):
    """Runs trials side by side on a Ray of our own, closed to everyone without its token.

    With an `address`, on the Ray that runs there.
    """

    def __init__(
        self, resources: Resources, trackers: Trackers | None = None, address: str | None = None
    ) -> None:
        if address and (resources.cpus is not None or resources.gpus is not None):
            raise LaunchError("--cpus and --gpus do not go with --address: what a cluster has, it has")
        self.resources = resources
        self.address = address
        self.trackers = trackers or Trackers()
        self._session = RaySession()
        self._packer = Packer(resources.gpus_per_trial, resources.cpus_per_trial)
        self._known_shares: dict[tuple[str, float | None], Share] = {}  # by config id
        self._home: Address | None = None

    def close(self) -> None:
        if self._home:
            close_home(self._home)
        self._home = None
        self._session.close()

    def _begin(self, setup: Setup) -> None:
        if self.address:
            self._session.join(self.address)
            self._home = open_home(setup)
        else:
            self._session.start(cpus=self.resources.cpus, gpus=self.resources.gpus)

    @property
    def slots(self) -> int:
        _, gpus = self._found()
        share = self.resources.gpus_per_trial
        gpu = float(gpus > 0) if share is None or share == "auto" else share
        return self._slots(Share(gpu, self.resources.cpus_per_trial))

    def _found(self) -> tuple[float, float]:
        """Return the CPUs and GPUs that Ray has."""
        import ray

        found = ray.cluster_resources()
        return found.get("CPU", 0.0), found.get("GPU", 0.0)

    def _slots(self, share: Share) -> int:
        """Return how many trials with such a share run side by side."""
        cpus, gpus = map(int, self._found())
        return Capacity(cpus=cpus, gpus=gpus, gpus_per_trial=share.gpu, cpus_per_trial=share.cpu).slots()

    def _shares(
        self, turns: Iterable[QueuedTrial], setup: Setup, on_event: Callable[[Event], None]
    ) -> dict[Share, Trial]:
        """Return what trials take, the largest share first, and one that takes so much."""
        shares: dict[Share, Trial] = {}
        for turn in turns:
            fitted, trial = len(self._packer.fitted), turn.trial
            share = self._share(turn, setup.runtime)
            shares.setdefault(share, trial)
            if len(self._packer.fitted) > fitted:
                on_event(PackingChosen(trial.config, round(1 / share.gpu)))
            if setup.is_closed:
                break
        return {share: shares[share] for share in sorted(shares, reverse=True)}

    def _share(self, turn: QueuedTrial, runtime: Runtime) -> Share:
        """Return what a trial takes, which may have to be measured."""
        given = turn.retry.gpu_share if turn.retry else None
        key = turn.trial.config_id, given
        if key not in self._known_shares:
            measure = functools.partial(self._measure, turn.trial.config, runtime)
            self._known_shares[key] = self._packer.share(turn.trial.config, *self._found(), measure, given)
        return self._known_shares[key]

    def _measure(self, config: TrainConfig, runtime: Runtime, number: int) -> Load | None:
        threads = self.resources.cpus_per_trial
        runtime = replace(runtime, device="cuda", threads=threads, gpu_share=1 / number)
        return packing.measure(config, runtime, number)

    def run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        if self._session.directory is None:
            self._begin(setup)
        try:
            self._run(trial_queue, setup, on_event)
        except BaseException:
            trial_queue.close()  # what is out is never settled: Tune's thread would wait for it for ever
            raise
        finally:
            if self._home:
                close_turn(self._home)

    def _run(self, trial_queue: TrialQueue, setup: Setup, on_event: Callable[[Event], None]) -> None:
        turns = trial_queue.left
        shares = self._shares(turns, setup, on_event)
        for share, one in shares.items():
            self._check_room(share, one.config.num_gpus)
        trials = {turn.trial.trial_id: turn.trial for turn in turns}
        events: queue.SimpleQueue[Event | StoreError] = queue.SimpleQueue()
        failure: list[BaseException] = []
        stop = threading.Event()

        def fit() -> None:
            try:
                for share in shares:
                    if not setup.is_closed:
                        self._fit(trial_queue, trials, share, setup, events, stop)
            except BaseException as error:  # handed to the caller's thread
                failure.append(error)

        # Tune takes over signals when it runs in the main thread; there they are ours.
        thread = threading.Thread(target=fit, name="ray-tune", daemon=True)
        thread.start()
        running: set[str] = set()
        told: set[str] = set()
        closed = False
        stopping_since: float | None = None
        while thread.is_alive() or not events.empty():
            with contextlib.suppress(queue.Empty):
                event = events.get(timeout=0.1)
                if isinstance(event, StoreError):
                    raise event
                match event:
                    case Started(trial) | Progress(trial):
                        running.add(trial.trial_id)
                    case Ended(trial) | Lost(trial):
                        running.discard(trial.trial_id)
                if not (closed and _is_turned_away(event, told)):
                    if isinstance(event, Started):
                        told.add(event.trial.trial_id)
                    on_event(event)
                    if isinstance(event, (Ended, Lost)):
                        told.discard(event.trial.trial_id)
                        trial_queue.task_done(event.trial)  # who is turned away stays out: it is left to do
            if died := self._session.dead():
                raise LaunchError(
                    f"Ray's {died} has died, nothing is lost; give the same command again to go on"
                )
            if closed := setup.is_closed:
                trial_queue.close()
            if stopping_since is None and setup.stop_file.exists():
                stopping_since = time.monotonic()
            if (closed and not running and events.empty()) or (
                stopping_since and time.monotonic() - stopping_since > STOP_SECONDS
            ):
                stop.set()  # what Tune still holds has not been started, or its worker is dead
                thread.join(STOP_SECONDS)
                return
        if failure:
            raise LaunchError(f"Ray Tune gave up: {failure[0]}") from failure[0]

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
        trials: Mapping[str, Trial],
        share: Share,
        setup: Setup,
        events: queue.SimpleQueue[Event | StoreError],
        stop: threading.Event,
    ) -> None:
        """Have Tune run trials that all take the same, as workers that are used again must."""
        _make_deaths_alike()
        from ray import tune

        from gridrun.executors.ray.search import InOrder, at_hand, make_search
        from gridrun.executors.ray.worker import TrialWorker

        assert self._session.directory
        tracking = self.trackers.start(
            trials, self._session.directory / "trackers", lambda text: events.put(Warned(text))
        )
        slots, ahead = self._slots(share), 1 if self.address else 0
        self._session.environment.update(TUNE_MAX_PENDING_TRIALS_PG=str(slots + 1))
        runtime = replace(
            setup.runtime,
            device="cuda" if share.gpu else "cpu",
            gpu_share=share.gpu or 1.0,
            threads=self.resources.cpus_per_trial,
        )
        worker: Any = tune.with_resources(
            tune.with_parameters(
                TrialWorker,
                trials=dict(trials),
                setup=replace(setup, runtime=runtime),
                progress_seconds=0.0 if self.trackers else _PROGRESS_SECONDS,
                home=self._home,
            ),
            asdict(share),
        )

        def fits(turn: QueuedTrial) -> bool:
            return self._share(turn, runtime) == share

        tuner = tune.Tuner(
            worker,
            tune_config=tune.TuneConfig(
                search_alg=make_search(trial_queue, fits, slots, ahead),
                scheduler=InOrder(),
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(self._session.directory / "tune"),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                callbacks=[_callback(trials, events), *tracking],
                stop=_stopper(stop),
            ),
        )
        with at_hand(worker):
            tuner.fit()


def _make_deaths_alike() -> None:
    """Have Tune take a worker that Ray ended for lack of memory, or lost with its machine, for a dead one.

    Up to Ray 2.60 it knows neither error, and gives up the whole sweep.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError

    usual = RayActorManager._actor_task_failed
    if hasattr(usual, "__wrapped__"):
        return

    @functools.wraps(usual)
    def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, (OutOfMemoryError, NodeDiedError)):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        usual(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = failed  # type: ignore[method-assign]


def _is_turned_away(event: Event, told: Collection[str]) -> bool:
    """Return whether an event is of a trial that Tune turns to although no more may start."""
    match event:
        case Started():
            return True
        case Ended(trial, "interrupted"):
            return trial.trial_id not in told
        case _:
            return False


def _callback(by_id: Mapping[str, Trial], events: queue.SimpleQueue[Event | StoreError]) -> Any:
    """Return the Tune callback that turns what it is told into our events."""
    from ray import tune

    class Forward(tune.Callback):
        def __init__(self, emit: Callable[[Any, Callable[[Trial], Event | StoreError]], None]) -> None:
            self.emit = emit
            self.ended: set[str] = set()
            self.lacking: set[str] = set()

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles its callbacks to restore them one day; we never do

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self.emit(trial, Started)

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            epoch = Epoch(**result["at"]) if result["at"] else None
            if "problem" in result:
                self.emit(trial, lambda _: StoreError(result["problem"]))
            elif "outcome" in result:
                self.ended.add(trial.trial_id)  # of this turn alone
                if (lack := result.get("lack")) and lack not in self.lacking:
                    self.lacking.add(lack)
                    text = f"{lack} Its trials go to other machines; it is asked again every minute."
                    self.emit(trial, lambda _: Warned(text))
                self.emit(trial, lambda own: Ended(own, result["outcome"], epoch))
            elif epoch:
                self.emit(trial, lambda own: Progress(own, epoch, result["place"]))

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            if trial.trial_id in self.ended:
                return  # its worker was of no more use
            text = ""
            with contextlib.suppress(OSError, TypeError):  # get_error reads a copy that is made later
                text = Path(trial.error_file).read_text().strip()
            reason = f"its worker died or could not start: {reason_of_death(text)}".removesuffix(": ")
            self.emit(trial, lambda own: Lost(own, kind_of_death(text), reason))

    def emit(trial: Any, event_of: Callable[[Trial], Event | StoreError]) -> None:
        events.put(event_of(by_id[trial.config["trial_id"]]))

    return Forward(emit)


def _stopper(stop: threading.Event) -> Any:
    """Return what makes Tune end once `stop` is set, whatever it still holds."""
    from ray import tune

    class Stop(tune.Stopper):
        def __init__(self, asked: Callable[[], bool]) -> None:
            self.asked = asked

        def __getstate__(self) -> dict[str, Any]:
            return {}  # as above

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return self.asked()

    return Stop(stop.is_set)
