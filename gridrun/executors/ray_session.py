"""A Ray of our own: its settings, its token, its directory, and the end of all three."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import secrets
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from gridrun.errors import LaunchError

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else a thread that outlives our Ray starts one of its own
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",  # a driver whose Ray is dead ends so soon, not after 60
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "30",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
}


@functools.cache
def _token() -> str:
    """Return this process's token. Ray reads it once a process, so that a second session has to keep it."""
    return secrets.token_hex(32)


class RaySession:
    """Ray, from start to end: closed to everyone without its token."""

    def __init__(self) -> None:
        self.directory: Path | None = None
        """The session's own; None before the start and after the end."""
        self.environment = _Environment()
        self._lock: FileLock | None = None

    def start(self, *, cpus: int | None, gpus: int | None) -> None:
        """Start Ray. Its ports listen on all interfaces, so a random token closes them.

        Raises:
            LaunchError: there are fewer GPUs than `gpus`, or Ray does not start.
        """
        _check_gpus(gpus or 0)
        self.directory, self._lock = _new_directory()
        self.environment.update(
            _ENVIRONMENT,
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=_token(),
            PYTHONPATH=os.pathsep.join(path for path in sys.path if path),  # workers import what we can
        )
        import ray

        try:
            with _own_signals(), _deaf_children(), _working_in(self.directory.parent):
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    num_gpus=gpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=True,
                    object_store_memory=256 * 2**20,
                    _temp_dir=str(self.directory / "ray"),
                )
        except Exception as error:
            self.close()
            raise LaunchError(f"Ray does not start here: {error}") from error
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # what goes wrong becomes an event

    def dead(self) -> str | None:
        """Return which of Ray's own processes has died, if it is one that Ray cannot do without."""
        from ray._private import worker

        node = worker._global_node
        died: set[str] = {kind for kind, _ in node.dead_processes()} if node else set()
        return next((kind for kind in ("gcs_server", "raylet") if kind in died), None)

    def close(self) -> None:
        """Stop Ray and remove what it left; nothing where it does not run."""
        if self.directory is None:
            return
        import ray

        with contextlib.suppress(Exception):
            ray.shutdown()
        shutil.rmtree(self.directory, ignore_errors=True)
        if self._lock:
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)
        self.directory = self._lock = None
        self.environment.restore()


class _Environment:
    """Environment variables set for a while; Ray and Tune take many of their settings from there."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}

    def update(self, values: Mapping[str, str] | None = None, **more: str) -> None:
        """Set variables, remembering what they were."""
        for name, value in {**(values or {}), **more}.items():
            self._before.setdefault(name, os.environ.get(name))
            os.environ[name] = value

    def restore(self) -> None:
        """Put everything back."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before.clear()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Give back the handlers that Ray replaces while it starts."""
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in ours.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Have processes that are started meanwhile, and theirs, not hear what ends a whole group of them.

    `timeout`, a batch system or a closed terminal tell every process of a launch to end. Only the launch
    itself may: Ray and its workers are needed while the trials save their checkpoints. Ray does so for
    SIGINT.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _working_in(directory: Path) -> Iterator[None]:
    """Work in `directory` for a while: Ray's workers stay, and look for modules, where it was started.

    It must outlive them: a worker of a killed launch goes on for some seconds.
    """
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def _check_gpus(wanted: int) -> None:
    """Refuse GPUs that are not there; Ray would believe in them."""
    if wanted:
        import torch

        if (found := torch.cuda.device_count()) < wanted:
            raise LaunchError(f"--gpus {wanted}: torch finds {found} on this machine")


def _new_directory() -> tuple[Path, FileLock]:
    """Make a directory for one Ray session and clear those whose driver is dead.

    Its path is short: the names of Ray's sockets in it are limited to 107 bytes.
    """
    parent = Path(tempfile.gettempdir()) / f"gridrun-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    about = parent.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise LaunchError(
            f"{parent} must be a directory of your own, closed to others; remove it or set TMPDIR"
        )
    ours = re.compile(r"[0-9a-f]{8}")
    for old in parent.iterdir():
        if ours.fullmatch(old.name.removesuffix(".lock")):
            _clear(old.with_suffix(""))
    directory = parent / secrets.token_hex(4)
    lock = FileLock(f"{directory}.lock")
    lock.acquire()
    directory.mkdir()
    return directory, lock


def _clear(directory: Path) -> None:
    """Remove the directory of a Ray session, unless its driver lives."""
    lock = FileLock(f"{directory}.lock")
    with contextlib.suppress(Timeout):
        lock.acquire(timeout=0)
        shutil.rmtree(directory, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
