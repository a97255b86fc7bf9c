"""Data-parallel training: several processes train one trial together, each on one GPU.

Rank 0 is the calling process. It evaluates, saves checkpoints and makes decisions. It starts the other
ranks, which follow its decisions and end when it ends. Gradients are exchanged by NCCL between GPUs and by
gloo between CPUs, decisions through pipes, so that no GPU waits for them. No data leaves the machine.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others' gradients."""
_GRACE_SECONDS = 5.0
"""How long to search for the rank that caused an error, and to wait for ranks to end by themselves."""


class ParallelError(RuntimeError):
    """The ranks of a trial cannot start here, or a rank other than the first has failed."""


class Group:
    """The ranks of one trial, seen from one of them. All ranks must make the same calls in the same order."""

    def __init__(self, rank: int = 0, size: int = 1, directory: str = "", pipes: Sequence[Any] = ()) -> None:
        self.rank, self.size = rank, size
        self._directory = directory
        self._pipes: Sequence[Connection] = pipes  # rank 0: one to each other rank; others: one to rank 0

    def device(self, name: str) -> torch.device:
        """Return this rank's device, of the same kind as `name`."""
        device = torch.device(name)
        return torch.device("cuda", self.rank) if self.size > 1 and device.type == "cuda" else device

    @property
    def stream(self) -> tuple[str | int, ...]:
        """Extra names for this rank's random streams; none for the first rank."""
        return ("rank", self.rank) if self.rank else ()

    def first(self, answer: Callable[[], T]) -> T:
        """Call `answer` on rank 0 only, and return its result on every rank."""
        if self.rank:
            given: T = self._pipes[0].recv()
            return given
        found = answer()
        for pipe in self._pipes:
            pipe.send(found)
        return found

    def gather(self, value: T) -> list[T]:
        """On rank 0, return every rank's value, in rank order; on other ranks, only their own.

        Tensors must be on the CPU.
        """
        if self.rank:
            self._pipes[0].send_bytes(pickle.dumps(value))  # send would share the tensors' memory
            return [value]
        return [value, *(pickle.loads(pipe.recv_bytes()) for pipe in self._pipes)]

    def sum(self, values: Tensor) -> Tensor:
        """Add the other ranks' values to a tensor, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return `model`, wrapped so that gradients are averaged over the ranks."""
        if self.size == 1:
            return model
        device = next(model.parameters()).device
        if not dist.is_initialized():
            self._join(device)
        devices = [device.index] if device.type == "cuda" else None
        network = DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)
        if device.type == "cpu":
            network.register_comm_hook(self.size, lambda size, bucket: _average_in_order(size, bucket))
        return network

    def _join(self, device: torch.device) -> None:
        self.gather("built")  # so that nobody waits for a rank that failed to build the network
        self.first(lambda: None)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{self._directory}/store",
            rank=self.rank,
            world_size=self.size,
            timeout=TIMEOUT,
            device_id=device if device.type == "cuda" else None,
        )


def _average_in_order(size: int, bucket: Any) -> torch.futures.Future[Tensor]:
    """Average a bucket of gradients on CPU, adding them in the order of ranks.

    gloo's own order depends on the place of a gradient in its bucket, which differs in the first step of a
    process. Resumed trials would not be identical bit for bit.
    """
    parts = [torch.empty_like(bucket.buffer()) for _ in range(size)]
    gathered = dist.all_gather(parts, bucket.buffer(), async_op=True).get_future()
    averaged: torch.futures.Future[Tensor] = gathered.then(
        lambda _: functools.reduce(torch.add, parts) / size
    )
    return averaged


def unsynchronised(network: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Return a context in which each rank only accumulates gradients. `network` is from `Group.wrap`."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else contextlib.nullcontext()


# --- processes ---------------------------------------------------------------------------------


@contextlib.contextmanager
def start(size: int, device: str, follow: Callable[..., None], *arguments: Any) -> Iterator[Group]:
    """Start the ranks after the first, and yield this process's group. At the end they are stopped.

    Args:
        size: number of ranks.
        device: the kind of device they train on.
        follow: called in the others with their `Group` and `arguments`. Both are sent pickled.

    Raises:
        ParallelError: there are too few GPUs, or one of the others failed or died.
    """
    if size == 1:
        yield Group()
        return
    _check_devices(size, device)
    work = pickle.dumps((follow, arguments))
    with tempfile.TemporaryDirectory(prefix="ranks-") as directory, _loopback():
        followers = _Followers(size, directory, work)
        try:
            yield Group(0, size, directory, followers.pipes)
            if dist.is_initialized():
                dist.destroy_process_group()
            followers.join()
        except Exception as error:
            if failure := followers.failure_behind(error):
                raise failure from error
            raise
        finally:
            followers.close()
            if dist.is_initialized():
                dist.destroy_process_group()


def _check_devices(size: int, device: str) -> None:
    if torch.device(device).type != "cuda":
        return
    if (found := torch.cuda.device_count()) < size:
        devices = "device is" if found == 1 else "devices are"
        raise ParallelError(f"num_gpus: {size} but {found} CUDA {devices} visible")


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Bind the ranks' sockets to the loopback interface, so that no other machine can reach them."""
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "lo0" if sys.platform == "darwin" else "lo"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


class _Followers:
    """The processes of the ranks after the first, watched from their start."""

    def __init__(self, size: int, directory: str, work: bytes) -> None:
        self.directory = directory
        self.pipes: list[Any] = []
        self._processes: dict[int, Any] = {}
        self._failure: ParallelError | None = None
        self._failed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="ranks", daemon=True)
        context = multiprocessing.get_context("spawn")
        for rank in range(1, size):
            ours, theirs = context.Pipe()
            arguments = (rank, size, directory, theirs, work)
            process = context.Process(target=_follow, args=arguments, name=f"rank {rank}")
            process.start()
            theirs.close()  # so that the pipe closes when the process ends
            self.pipes.append(ours)
            self._processes[rank] = process
        self._watcher.start()

    def _watch(self) -> None:
        """Note the first failure, and stop rank 0 from waiting for the failed rank."""
        running = {process.sentinel: rank for rank, process in self._processes.items()}
        while running:
            for sentinel in wait(list(running)):
                rank = running.pop(sentinel)
                process = self._processes[rank]
                process.join()
                if process.exitcode and not self._failure:
                    self._failure = self._failure_of(rank, process.exitcode)
                    self._failed.set()
                    if dist.group.WORLD:  # NCCL does not notice by itself
                        dist.group.WORLD.abort()

    def _failure_of(self, rank: int, exitcode: int) -> ParallelError:
        if exitcode < 0:
            return ParallelError(f"rank {rank} was killed by {signal.Signals(-exitcode).name}")
        with contextlib.suppress(OSError):
            return ParallelError(f"rank {rank}: {_error_file(self.directory, rank).read_text()}")
        return ParallelError(f"rank {rank} ended with exit code {exitcode}")

    def failure_behind(self, error: Exception) -> ParallelError | None:
        """Return the failure of another rank that may have caused `error` here, if there is one."""
        lost = isinstance(error, (EOFError, ConnectionError))
        if lost or (isinstance(error, RuntimeError) and dist.is_initialized()):
            self._failed.wait(_GRACE_SECONDS)
            return self._failure
        return None

    def join(self) -> None:
        """Wait for the ranks to end by themselves."""
        self._watcher.join(_GRACE_SECONDS)

    def close(self) -> None:
        """Kill the ranks that have not ended."""
        for process in self._processes.values():
            process.kill()
        self._watcher.join()
        for pipe in self.pipes:
            pipe.close()


def _follow(rank: int, size: int, directory: str, pipe: Connection, work: bytes) -> None:
    """Run a rank after the first, in its own process."""
    os.setpgrp()  # only rank 0 gets Ctrl-C, and tells the others to stop
    watcher = threading.Thread(target=_end_with_first, args=(directory,), daemon=True)
    watcher.start()
    try:
        follow, arguments = pickle.loads(work)
        follow(Group(rank, size, directory, [pipe]), *arguments)
    except BaseException as error:
        watcher.join(1.0)  # if rank 0 is dead, the watcher cleans up and ends this process
        summary = traceback.format_exception_only(error)[-1]
        _error_file(directory, rank).write_text(f"{summary}\n{traceback.format_exc()}")
        os._exit(1)  # at once: the communicator's destructor could wait for the others
    if dist.is_initialized():
        dist.destroy_process_group()


def _end_with_first(directory: str) -> None:
    """End this process as soon as rank 0's has ended, even if it was killed."""
    first = multiprocessing.parent_process()
    assert first
    first.join()
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(1)


def _error_file(directory: str, rank: int) -> Path:
    return Path(directory) / f"{rank}.error"


# --- synchronised batch normalisation ----------------------------------------------------------


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Make batch normalisation use the batches of all ranks, and return the network.

    On GPUs by torch's own layers, which wait for the device once in each layer and step.
    """
    if device.type == "cuda":
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return synchronised
    for layer in list(model.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(layer, name, SyncBatchNorm2d(child))
    return model


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over all ranks on CPUs, where torch's `SyncBatchNorm` does not run.

    All ranks must have batches of the same size.

    Args:
        layer: the layer to replace; its weights are taken over and its running statistics copied.
    """

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__(
            layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
        )
        self.load_state_dict(layer.state_dict())
        self.weight, self.bias = layer.weight, layer.bias  # frozen if they are

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> the same
        if not self.training:
            return super().forward(x)
        values = x.float()
        mean = _MeanOverRanks.apply(values.mean((0, 2, 3), keepdim=True))
        centred = values - mean
        var = _MeanOverRanks.apply(centred.square().mean((0, 2, 3), keepdim=True))
        count = x.numel() // x.shape[1] * dist.get_world_size()
        self._track(mean.detach().flatten(), var.detach().flatten() * (count / (count - 1)))
        normalised: Tensor = centred * (var + self.eps).rsqrt()
        return (normalised * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)

    def _track(self, mean: Tensor, unbiased_var: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased_var.to(self.running_var.dtype), self.momentum)


class _MeanOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _MeanOverRanks.forward(ctx, grads[0])  # every rank's output depends on every rank's input
