"""A session with Ray, of our own or joined: its settings, its token, its directory, and their end."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gridrun import resources
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
_ROOT = Path(__file__).parents[2]
_ANSWER_SECONDS = 10.0
"""How long a Ray that is to be joined may take to answer."""


class RaySession:
    """Ray, from start or joining to the end: closed to everyone without its token."""

    def __init__(self) -> None:
        self.directory: Path | None = None
        """The session's own; None before the start and after the end."""
        self.environment = _Environment()
        self._lock: FileLock | None = None

    def start(self, *, cpus: int | None, gpus: int | None) -> None:
        """Start Ray. Its ports listen on all interfaces, so a random token closes them.

        Raises:
            LaunchError: torch can use fewer GPUs than `gpus`, or Ray does not start.
        """
        _check_gpus(gpus)
        if gpus is None:
            gpus = resources.num_parts() or None  # Ray itself counts whole ones
        self.directory, self._lock = _new_directory()
        self.environment.update(
            _ENVIRONMENT,
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=secrets.token_hex(32),
            PYTHONPATH=os.pathsep.join(path for path in sys.path if path),  # workers import what we can
        )
        import ray

        _forget_token()
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
        _silence()

    def join(self, address: str) -> None:
        """Join the Ray that runs at `address`. Our code goes along; results and data do not.

        Raises:
            LaunchError: no Ray answers there, or not to us.
        """
        _check_ray_answers(address)
        self.directory, self._lock = _new_directory()
        self.environment.update(_ENVIRONMENT, RAY_AUTH_MODE=os.environ.get("RAY_AUTH_MODE", "token"))
        import ray

        _forget_token()
        try:
            _check_token(address)
            with _own_signals():
                ray.init(
                    address=address,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=True,
                    runtime_env={
                        "py_modules": [str(_ROOT / package) for package in ("gridrun", "trainer")],
                        "excludes": ["__pycache__"],
                        "env_vars": _ENVIRONMENT,
                    },
                )
        except Exception as error:
            self.close()
            if isinstance(error, LaunchError):
                raise
            raise LaunchError(f"--address {address}: cannot join the Ray there: {error}") from error
        _silence()

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
        _forget_token()


def _silence() -> None:
    """Keep Ray from printing what goes wrong, on stdout too: here it becomes an event."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    from ray._private import worker

    printing: Any = worker
    printing.print_to_stdstream = lambda *_, **__: None


def _check_ray_answers(address: str) -> None:
    """Refuse an address where no Ray is; Ray itself would wait for a minute and then end this process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise LaunchError(f"--address {address}: must be HOST:PORT, as `ray start --head` was given it")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS) as probe:
            probe.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS)  # what gRPC begins with
            answer = probe.recv(len(_SETTINGS))
    except (OSError, OverflowError) as error:
        raise LaunchError(f"--address {address}: nothing answers there ({error})") from None
    if answer[3:4] != _SETTINGS[3:4]:
        raise LaunchError(f"--address {address}: what answers there is no Ray")


_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""An empty SETTINGS frame of HTTP/2 (RFC 9113)."""


def _check_token(address: str) -> None:
    """Ask the Ray at `address` for its name, to be told at once if the token is wrong or missing."""
    from ray.exceptions import AuthenticationError

    try:
        problem = "there is no token here, or it cannot be read"
        _raylet().AuthenticationTokenLoader.instance().has_token()
        problem = "the Ray there refuses the token"
        _raylet().GcsClient(address=address)
    except AuthenticationError:
        raise LaunchError(
            f"--address {address}: {problem}. Set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file, to that "
            "of the cluster (docs/cluster.md)"
        ) from None


def _forget_token() -> None:
    """Have Ray look for the token anew; it does so once a process."""
    _raylet().AuthenticationTokenLoader.instance().reset_cache()


def _raylet() -> Any:
    """Return Ray's inner module; what is asked of it here is not to be had by any other way."""
    import ray

    return ray._raylet


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


def _check_gpus(wanted: int | None) -> None:
    """Refuse GPUs that torch cannot use; Ray would believe in them. None: all that there are."""
    if wanted:
        resources.check_gpus(wanted)
    here = resources.gpu_names() if wanted is None else []
    if not here:
        return
    found, why = resources.torch_gpus()
    if not found:
        why = f" ({why})" if why else ""
        raise LaunchError(f"torch cannot use this machine's {here[0]}{why}; --gpus 0 trains on CPUs")


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
