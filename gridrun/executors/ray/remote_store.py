"""Trials on machines that do not see the results directory.

On a Ray cluster a worker may run anywhere. One that finds the launch's results directory uses it as
any other process does. One that does not asks `StoreActor`, an actor on the launch's machine, for
everything that is kept there: claims, what has ended, records, and whether to stop. Checkpoints
stay on the worker's machine, in its cache.
"""

from __future__ import annotations

import contextlib
import functools
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
_SIGN = "home-"


@dataclass(frozen=True, slots=True)
class Address:
    """How a worker finds the launch's results directory, or whoever answers for it."""

    sign: str
    """Name of a lock that the launch holds: who sees it, sees the directory."""
    home: Any
    """The actor."""


def open_home(setup: Setup) -> Address:
    """Start `StoreActor` on this machine."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = ray.remote(StoreActor).options(
        num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=3
    )
    sign = f"{_SIGN}{secrets.token_hex(8)}"
    home: Any = options.remote(setup, sign)
    ray.get(home.is_stopping.remote())  # from now on the sign can be seen
    return Address(sign, home)


def close_turn(address: Address) -> None:
    """Let go of the trials whose workers died: nothing of the launch is being trained now."""
    with contextlib.suppress(Exception):  # the cluster is gone; a lease ends by itself
        _ask(address.home.release_all)


def close_home(address: Address) -> None:
    """End `StoreActor`, before Ray ends it."""
    with contextlib.suppress(Exception):
        _ask(address.home.close)


def run_anywhere(
    address: Address,
    trial: Trial,
    setup: Setup,
    on_epoch: Callable[[Epoch], None],
    retry: Retry | None = None,
) -> Outcome:
    """Run a trial on whatever machine of a cluster this is."""
    setup = replace(setup, runtime=_local(setup.runtime))
    if Store(setup.results).has_lock(address.sign):
        return run_trial(trial, setup, on_epoch, retry=retry)
    if _ask(address.home.is_closed):
        return "interrupted"
    store = RemoteStore(_place(setup), address.home)
    store.create()
    with _stop_file(store, address.home) as stop_file:
        there = replace(setup, results=store.root, stop_file=stop_file, drain_file=None)
        return run_trial(trial, there, on_epoch, store, retry)


def lacks(trial: Trial, setup: Setup) -> str | None:
    """Prepare a trial's data set on this machine; return why that cannot be done, None if it can."""
    from trainer import data
    from trainer.datasets import DataError

    runtime = _local(setup.runtime)
    try:
        data.load(trial.config.dataset, runtime.data_dir, runtime.cache_dir)
    except DataError as error:
        return str(error)
    return None


def hold_back(address: Address, seconds: float) -> None:
    """Wait so long, or until no trial may start."""
    end = time.monotonic() + seconds
    with contextlib.suppress(Exception):  # home is gone
        while time.monotonic() < end and not _ask(address.home.is_closed):
            time.sleep(_STOP_POLL_SECONDS)


def _local(runtime: Runtime) -> Runtime:
    """Return the directories of the launch where this machine has them, else its own."""
    return replace(
        runtime,
        data_dir=runtime.data_dir if runtime.data_dir.is_dir() else default_data_dir(),
        cache_dir=runtime.cache_dir if runtime.cache_dir.is_dir() else default_cache_dir(),
    )


def _place(setup: Setup) -> Path:
    """Return where trials of one results directory keep here what they need while they train."""
    name = hashlib.sha256(f"{setup.code.host}:{setup.results}".encode()).hexdigest()[:16]
    return setup.runtime.cache_dir / "away" / name


@contextlib.contextmanager
def _stop_file(store: Store, home: Any) -> Iterator[Path]:
    """Yield a path that comes to exist soon after the launch's own stop file."""
    path, ended = store.stop_path(secrets.token_hex(8)), threading.Event()

    def watch() -> None:
        while not ended.wait(_STOP_POLL_SECONDS):
            with contextlib.suppress(Exception):  # home is being started again, or all is over
                if _ask(home.is_stopping):
                    path.touch()
                    return

    watcher = threading.Thread(target=watch, name="stop", daemon=True)
    watcher.start()
    try:
        yield path
    finally:
        ended.set()
        watcher.join()
        path.unlink(missing_ok=True)


def _ask(method: Any, *arguments: Any) -> Any:
    import ray

    return ray.get(method.remote(*arguments))


class StoreActor:
    """Answers for the results directory of one launch to its workers elsewhere.

    A worker claims a trial under a token. If another worker of the launch claims it again, the
    first one is dead or cut off, and its token is worth nothing from then on.
    """

    def __init__(self, setup: Setup, sign: str) -> None:
        self._store = Store(setup.results)
        self._store.clear_locks(_SIGN)  # of launches that were killed
        self._setup = setup
        self._held: dict[str, tuple[Claim, contextlib.ExitStack]] = {}
        self._tokens: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._store.lock(sign))
            self._sign = stack.pop_all()

    def is_stopping(self) -> bool:
        """Return whether the launch wants its trials to stop."""
        return self._setup.stop_file.exists()

    def is_closed(self) -> bool:
        """Return whether the launch wants no trial to start."""
        return self._setup.is_closed

    def claim(self, trial_id: str) -> str | None:
        """Claim a trial; return the token, None if another launch has it."""
        if trial_id not in self._held:
            with contextlib.ExitStack() as stack:
                claim = stack.enter_context(self._store.lock(trial_id))
                if claim is None:
                    return None
                self._held[trial_id] = claim, stack.pop_all()
        self._tokens[trial_id] = secrets.token_hex(8)
        return self._tokens[trial_id]

    def is_held(self, trial_id: str, token: str) -> bool:
        """Return whether a claim still stands."""
        return self._tokens.get(trial_id) == token and self._held[trial_id][0].held()

    def release(self, trial_id: str, token: str) -> None:
        """Give a trial back."""
        if self._tokens.get(trial_id) == token:
            del self._tokens[trial_id]
            self._held.pop(trial_id)[1].close()

    def close(self) -> None:
        """Leave nothing behind."""
        self.release_all()
        self._sign.close()

    def release_all(self) -> None:
        """Give back what workers hold, and what dead ones have not given back."""
        for trial_id, token in list(self._tokens.items()):
            self.release(trial_id, token)

    def ended(self, trial_id: str, but_not_at: str | None) -> Status | None:
        """Answer as `Store.ended` does."""
        return self._store.ended(trial_id, but_not_at)

    def add(self, record_json: str, token: str, weights: bytes | None) -> bool:
        """Keep a record and the trial's weights; return whether the claim stood until then."""
        record = Record.from_json(record_json)
        if not self.is_held(record.trial_id, token):
            return False
        if weights is not None:
            try:
                self._keep(self._store.weights_path(record.trial_id), weights)
            except OSError as error:
                record = record.without_weights(error)
        self._store.add(record)
        return True

    @staticmethod
    def _keep(path: Path, weights: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        with files.replacing(path) as partial:
            partial.write_bytes(weights)


class RemoteStore(Store):
    """A results directory elsewhere: claims and records go there, checkpoints stay in `root`."""

    def __init__(self, root: Path, home: Any) -> None:
        super().__init__(root)
        self._home = home
        self._token = ""

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: bool = False) -> Iterator[Claim | None]:
        """Hold a trial here and there."""
        with super().lock(name) as here:
            token = _ask(self._home.claim, name) if here else None
            if token is None:
                yield None
                return
            self._token = token
            try:
                yield RemoteClaim(functools.partial(_ask, self._home.is_held, name, token))
            finally:
                with contextlib.suppress(Exception):  # home is gone, and all its claims with it
                    _ask(self._home.release, name, token)

    def ended(self, trial_id: str, but_not_at: str | None = None) -> Status | None:
        """Ask whether a trial has ended there."""
        status: Status | None = _ask(self._home.ended, trial_id, but_not_at)
        return status

    def add(self, record: Record) -> None:
        """Send a record there, and the weights that it speaks of; when this returns they are on disk.

        Raises:
            ClaimLost: another worker has the trial by now.
        """
        path = self.weights_path(record.trial_id)
        try:
            weights = path.read_bytes() if record.checkpoint else None
        except OSError as error:
            record, weights = record.without_weights(error), None
        taken = _ask(self._home.add, record.to_json(), self._token, weights)
        path.unlink(missing_ok=True)
        if not taken:
            raise ClaimLost


class RemoteClaim(Claim):
    """What `StoreActor` holds for a worker elsewhere."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask

    def held(self) -> bool:
        """Ask home; who gets no answer holds nothing."""
        try:
            return self._ask()
        except Exception:
            return False

    def release(self) -> None:
        """Leave it to `RemoteStore.lock`."""
