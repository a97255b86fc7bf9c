"""Trials on machines of a cluster that do not see the results directory.

A worker that sees it uses it as any other process does. One that does not uses `RemoteStore`, which asks
`StoreActor`, an actor on the launch's machine, for claims, what has ended, records and whether to stop.
Checkpoints stay on the worker's machine, in its cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gridrun.resources import default_cache_dir, default_data_dir
from gridrun.store import Store
from gridrun.store.leases import Claim
from gridrun.store.records import Record, Status
from gridrun.sweep.events import Outcome
from gridrun.sweep.retries import Retry
from gridrun.sweep.worker import ClaimLost, Setup, run_trial
from gridrun.trial import Trial
from trainer import Runtime, files
from trainer.metrics import Epoch

_STOP_POLL_SECONDS = 1.0
_MARKER = "home-"
"""How the names of marker locks begin, in stores of all versions."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """How a worker finds the launch's results directory, or the actor that answers for it."""

    marker_lock: str
    """Name of a lock that the launch holds: a worker that sees it sees the results directory."""
    actor: Any
    """Handle of the `StoreActor`."""


def start_store_actor(setup: Setup) -> StoreAddress:
    """Start `StoreActor` on this machine."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "scheduling_strategy": here, "max_restarts": -1, "max_task_retries": 3}
    marker_lock = f"{_MARKER}{secrets.token_hex(8)}"
    store_actor: Any = ray.remote(StoreActor).options(**options).remote(setup, marker_lock)
    _call(store_actor.is_stopping)  # when this returns, the actor holds the marker lock
    return StoreAddress(marker_lock, store_actor)


def call_if_alive(method: Any) -> None:
    """Call a method of the actor that releases locks. If it is gone, its locks end by themselves."""
    with contextlib.suppress(Exception):
        _call(method)


def run_anywhere(
    store_address: StoreAddress,
    trial: Trial,
    setup: Setup,
    on_epoch: Callable[[Epoch], None],
    retry: Retry | None = None,
    parent: str | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Outcome:
    """Run a trial on whatever machine of a cluster this is."""
    setup = replace(setup, runtime=_with_local_directories(setup.runtime))
    if Store(setup.results).has_lock(store_address.marker_lock):
        return run_trial(trial, setup, on_epoch, retry=retry, parent=parent, on_step=on_step)
    if _call(store_address.actor.is_closed):
        return "interrupted"
    name = hashlib.sha256(f"{setup.code.host}:{setup.results}".encode()).hexdigest()[:16]
    directory = setup.runtime.cache_dir / "away" / name  # for all trials of this results directory
    scratch = Store(directory)
    scratch.create()
    with _stop_file(scratch, store_address.actor) as stop_file:
        setup = replace(setup, results=scratch.root, stop_file=stop_file)
        remote = RemoteStore(scratch, store_address.actor)
        return run_trial(trial, setup, on_epoch, remote, retry, parent, on_step)


def missing_data(trial: Trial, setup: Setup) -> str | None:
    """Get a trial's data set and initial weights ready on this machine; return why that fails, or None."""
    from trainer import data
    from trainer.datasets import DataError

    runtime = _with_local_directories(setup.runtime)
    try:
        data.load(trial.config.dataset, runtime.data_dir, runtime.cache_dir)
        if weights := trial.config.init_from:
            weights.available(trial.config.model, runtime.data_dir, runtime.cache_dir)
    except DataError as error:
        return str(error)
    return None


def wait_unless_closed(store_address: StoreAddress, seconds: float) -> None:
    """Wait that long, or until the launch starts no more trials."""
    end = time.monotonic() + seconds
    with contextlib.suppress(Exception):  # the actor is gone
        while time.monotonic() < end and not _call(store_address.actor.is_closed):
            time.sleep(_STOP_POLL_SECONDS)


def _with_local_directories(runtime: Runtime) -> Runtime:
    """Use the launch's data and cache directories where this machine has them, else this machine's own."""
    return replace(
        runtime,
        data_dir=runtime.data_dir if _is_directory(runtime.data_dir) else default_data_dir(),
        cache_dir=runtime.cache_dir if _is_directory(runtime.cache_dir) else default_cache_dir(),
    )


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # it lies in another user's home, say, and may not be looked at
        return False


@contextlib.contextmanager
def _stop_file(scratch: Store, store_actor: Any) -> Iterator[Path]:
    """Yield a path that comes to exist soon after the launch's own stop file."""
    path, ended = scratch.launches.stop_path(secrets.token_hex(8)), threading.Event()

    def watch() -> None:
        while not ended.wait(_STOP_POLL_SECONDS):
            with contextlib.suppress(Exception):  # the actor is being restarted, or the launch is over
                if _call(store_actor.is_stopping):
                    files.touch(path)
                    return

    watcher = threading.Thread(target=watch, name="stop", daemon=True)
    watcher.start()
    try:
        yield path
    finally:
        ended.set()
        watcher.join()
        path.unlink(missing_ok=True)


def _call(method: Any, *arguments: Any) -> Any:
    """Call a method of an actor and return its answer."""
    import ray

    return ray.get(method.remote(*arguments))


class StoreActor:
    """Answers for the results directory of one launch to workers that do not see it.

    A worker that claims a trial gets a token. It is no longer valid once another worker of the launch claims
    that trial, because the first one is dead or cut off.
    """

    def __init__(self, setup: Setup, marker_lock: str) -> None:
        self._store = Store(setup.results)
        self._store.clear_locks(_MARKER)  # of launches that were killed
        self._setup = setup
        self._held: dict[str, tuple[Claim, contextlib.ExitStack]] = {}
        self._tokens: dict[str, str] = {}
        self._marker = contextlib.ExitStack()
        self._marker.enter_context(self._store.lock(marker_lock))

    def is_stopping(self) -> bool:
        """Return whether the launch wants its trials to stop."""
        return self._setup.stop_file.exists()

    def is_closed(self) -> bool:
        """Return whether the launch starts no more trials."""
        return self._setup.is_closed

    def claim(self, trial_id: str) -> str | None:
        """Claim a trial; return the token, None if another launch has the trial."""
        if trial_id not in self._held:
            stack = contextlib.ExitStack()
            claim = stack.enter_context(self._store.lock(trial_id))
            if claim is None:
                return None
            self._held[trial_id] = claim, stack
        self._tokens[trial_id] = secrets.token_hex(8)
        return self._tokens[trial_id]

    def is_held(self, trial_id: str, token: str) -> bool:
        """Return whether a claim is still valid."""
        return self._tokens.get(trial_id) == token and self._held[trial_id][0].held()

    def release(self, trial_id: str, token: str) -> None:
        """Release a trial."""
        if self._tokens.get(trial_id) == token:
            del self._tokens[trial_id]
            self._held.pop(trial_id)[1].close()

    def close(self) -> None:
        """Release all trials and the marker lock."""
        self.release_all()
        self._marker.close()

    def release_all(self) -> None:
        """Release all trials, also those of dead workers."""
        for trial_id, token in list(self._tokens.items()):
            self.release(trial_id, token)

    def ended(self, trial_id: str, but_not_at: str | None) -> Status | None:
        """Do what `Store.ended` does."""
        return self._store.ended(trial_id, but_not_at)

    def add(self, record_json: str, token: str, weights: bytes | None) -> bool:
        """Keep a record and the trial's weights; return False if the claim is no longer valid."""
        record = Record.from_json(record_json)
        if not self.is_held(record.trial_id, token):
            return False
        if weights is not None:
            try:
                self._store.put_weights(record.trial_id, weights)
            except OSError as error:
                record = record.without_weights(error)
        self._store.add(record)
        return True


class RemoteStore:
    """A `TrialStore`: working files stay in a scratch store here, claims and records go to `StoreActor`."""

    def __init__(self, scratch: Store, store_actor: Any) -> None:
        self._scratch, self._store_actor, self._token = scratch, store_actor, ""
        self.checkpoint, self.drop_checkpoint = scratch.checkpoint, scratch.drop_checkpoint
        self.weights_path, self.drop_weights = scratch.weights_path, scratch.drop_weights
        self.note_epoch = scratch.note_epoch

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[Claim | None]:
        """Claim a trial on this machine and in the results directory; yield None if another has it."""
        with self._scratch.lock(name) as local_claim:
            token = _call(self._store_actor.claim, name) if local_claim else None
            if token is None:
                yield None
                return
            self._token = token
            try:
                yield RemoteClaim(lambda: bool(_call(self._store_actor.is_held, name, token)))
            finally:
                with contextlib.suppress(Exception):  # the actor is gone, and all its claims with it
                    _call(self._store_actor.release, name, token)

    def ended(self, trial_id: str, but_not_at: str | None = None) -> Status | None:
        status: Status | None = _call(self._store_actor.ended, trial_id, but_not_at)
        return status

    def add(self, record: Record) -> None:
        """Send a record and the weights that it names; when this returns they are on disk.

        Raises:
            ClaimLost: another worker has the trial by now.
        """
        path = self.weights_path(record.trial_id)
        try:
            weights = path.read_bytes() if record.checkpoint else None
        except OSError as error:
            record, weights = record.without_weights(error), None
        taken = _call(self._store_actor.add, record.to_json(), self._token, weights)
        path.unlink(missing_ok=True)
        if not taken:
            raise ClaimLost


class RemoteClaim(Claim):
    """A claim that `StoreActor` holds for a worker on another machine."""

    def __init__(self, is_held: Callable[[], bool]) -> None:
        self._is_held = is_held

    def held(self) -> bool:
        """Ask the actor; without an answer the claim counts as lost."""
        try:
            return self._is_held()
        except Exception:
            return False
