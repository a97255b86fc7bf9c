"""Start a Ray or join one: its settings, its token, its directory, and how it ends."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gridrun import resources
from gridrun.errors import LaunchError
from gridrun.executors.ray import watcher
from gridrun.executors.ray.processes import ended_at_once, essential_processes, has_ended

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else a thread that outlives our Ray would start another
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",  # Ray then ends a driver that cannot reach its GCS
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "30",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
}
_TOKEN = secrets.token_hex(32)
"""One for the life of this process: Ray reads the token once a process."""
_ANSWER_SECONDS = 10.0
"""How long a Ray that is to be joined may take to answer."""


class RaySession:
    """A running Ray that only processes with its token can use."""

    def __init__(self) -> None:
        self.directory: Path | None = None
        """For the files of this session; None while none is open."""
        self._lock: FileLock | None = None
        self._variables: dict[str, str | None] = {}  # environment variables before this session set them
        self._processes: dict[int, str] = {}
        self._watcher: subprocess.Popen[bytes] | None = None
        self._stdout: _OneThreadOnly | None = None

    def start(self, *, cpus: int | None, gpus: int | None) -> None:
        """Start Ray. Its ports listen on all interfaces, so a random token closes them.

        Raises:
            LaunchError: torch can use fewer GPUs than `gpus`, or Ray does not start.
        """
        _check_gpus(gpus)
        if gpus is None:
            gpus = resources.num_parts() or None  # by default Ray counts whole GPUs, not their MIG parts
        python_path = os.pathsep.join(path for path in sys.path if path)  # for the workers
        directory = self._open(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=_TOKEN, PYTHONPATH=python_path)
        self._watcher = watcher.start(directory)
        with _inherited_by_ray(directory.parent), _importing_tune():
            self._init(
                directory,
                "Ray does not start here",
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                include_dashboard=False,
                object_store_memory=256 * 2**20,
                _temp_dir=str(directory / "ray"),
            )

    def join(self, address: str) -> None:
        """Join the Ray that runs at `address`, and send it our code; results and data stay where they are.

        Raises:
            LaunchError: no Ray answers there, or it refuses our token.
        """
        mode = os.environ.get("RAY_AUTH_MODE", "token")
        _check_ray_answers(address)
        _check_token(address, mode)
        directory = self._open(RAY_AUTH_MODE=mode)
        runtime_env = {
            "py_modules": [str(Path(__file__).parents[3] / package) for package in ("gridrun", "trainer")],
            "excludes": ["__pycache__"],
            "env_vars": _ENVIRONMENT,
        }
        problem = f"--address {address}: cannot join the Ray there"
        self._init(directory, problem, address=address, runtime_env=runtime_env)

    def _open(self, **variables: str) -> Path:
        """Make the directory and set environment variables, before ray is imported and reads them."""
        self.directory, self._lock = _new_directory()
        self.set_variables(**_ENVIRONMENT, **variables)
        return self.directory

    def _init(self, directory: Path, problem: str, **options: Any) -> None:
        """Call `ray.init`; if it fails, say that this is the problem."""
        import ray

        try:
            with _own_signals():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **options)
        except Exception as error:
            self.close()
            raise LaunchError(f"{problem}: {error}") from error
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        self._stdout = _OneThreadOnly(sys.stdout)
        sys.stdout = self._stdout
        self._processes = essential_processes(directory)

    def set_variables(self, **values: str) -> None:
        """Set environment variables, such as Ray's and Tune's settings, until `close`."""
        for name, value in values.items():
            self._variables.setdefault(name, os.environ.get(name))
            os.environ[name] = value

    def dead_process(self) -> str | None:
        """Return the name of a process of our Ray that has died, if Ray cannot do without it."""
        return next((name for pid, name in self._processes.items() if has_ended(pid)), None)

    def close(self) -> None:
        """Stop Ray, if it runs, and remove its files."""
        if self.directory is None:
            return
        import ray

        died = self.dead_process()
        with (
            contextlib.suppress(Exception),
            contextlib.redirect_stdout(io.StringIO()),  # Ray prints what it held back, as of dead nodes
            ended_at_once(self.directory, self._processes),
        ):
            ray.shutdown()
        if self._stdout and sys.stdout is self._stdout and not died:  # else Ray may yet print about that
            sys.stdout = self._stdout.stream
        self._stdout, self._processes = None, {}
        if self._watcher:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None
        shutil.rmtree(self.directory, ignore_errors=True)
        if self._lock:
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)
        self.directory = self._lock = None
        for name, value in self._variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._variables.clear()


class _OneThreadOnly:
    """A standard output that drops what other threads write: Ray prints errors that we report as events."""

    def __init__(self, stream: Any) -> None:
        self.stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        written: int = self.stream.write(text) if threading.get_ident() == self._thread else len(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _check_ray_answers(address: str) -> None:
    """Refuse an address where no Ray runs; `ray.init` would wait for a minute and then end this process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise LaunchError(f"--address {address}: must be HOST:PORT, as printed by `ray start --head`")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS) as probe:
            probe.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS)  # how a gRPC connection begins
            answer = probe.recv(len(_SETTINGS))
    except (OSError, OverflowError) as error:
        raise LaunchError(f"--address {address}: nothing answers there ({error})") from None
    if answer[3:4] != _SETTINGS[3:4]:
        raise LaunchError(f"--address {address}: what answers there is not Ray")


_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""An empty SETTINGS frame of HTTP/2 (RFC 9113)."""


def _check_token(address: str, mode: str) -> None:
    """Ask the Ray at `address` for its status; `ray.init` would take 20 s to find that the token is wrong."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    command = [shutil.which("ray", path=places) or "ray", "status", "--address", address]
    environment = {**os.environ, **_ENVIRONMENT, "RAY_AUTH_MODE": mode}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment
    )
    if done.returncode:
        raise LaunchError(
            f"--address {address}: the Ray there refuses the token, or there is no token here. Set "
            "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file, to that of the cluster (docs/cluster.md)"
        )


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Restore the signal handlers that Ray replaces when it starts."""
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in ours.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _inherited_by_ray(directory: Path) -> Iterator[None]:
    """Change to `directory` and block SIGTERM and SIGHUP; processes started inside the block inherit both.

    Workers look for modules in `directory`, which must outlive them: after a kill they run on for seconds.
    `timeout`, a batch system or a closed terminal signals every process of a launch. Ray and its workers
    must outlive that while trials save their checkpoints; the launch ends them. Ray itself blocks SIGINT.
    """
    place = Path.cwd()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(place)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextlib.contextmanager
def _importing_tune() -> Iterator[None]:
    """Import Ray Tune in a thread meanwhile: it takes a second, in which this process would only wait."""
    import ray  # noqa: F401  # first, and whole: Ray's settings are set by now

    importer = threading.Thread(target=importlib.import_module, args=("ray.tune",), daemon=True)
    importer.start()
    try:
        yield
    finally:
        importer.join()


def _check_gpus(wanted: int | None) -> None:
    """Refuse GPUs that torch cannot use; Ray would not notice. None stands for all that there are."""
    if wanted:
        resources.check_gpus(wanted)
    elif wanted is None and (here := resources.gpu_names()):
        found, why = resources.torch_gpus()
        if not found:
            why = f" ({why})" if why else ""
            raise LaunchError(f"torch cannot use this machine's {here[0]}{why}; --gpus 0 trains on CPUs")


def _new_directory() -> tuple[Path, FileLock]:
    """Make a directory for one Ray session, and remove those whose driver is dead.

    Its path is short because the paths of Ray's sockets in it are limited to 107 bytes.
    """
    parent = Path(tempfile.gettempdir()) / f"gridrun-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    about = parent.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise LaunchError(
            f"{parent} must be a directory that you own and others cannot enter; remove it or set TMPDIR"
        )
    ours = re.compile(r"[0-9a-f]{8}")
    for old in parent.iterdir():
        if not ours.fullmatch(name := old.name.removesuffix(".lock")):
            continue
        with contextlib.suppress(Timeout), FileLock(parent / f"{name}.lock", timeout=0) as lock:
            shutil.rmtree(parent / name, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)
    directory = parent / secrets.token_hex(4)
    lock = FileLock(f"{directory}.lock")
    lock.acquire()
    directory.mkdir()
    return directory, lock
