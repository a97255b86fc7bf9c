"""Trials on several GPUs, here with processes on CPU: the same mathematics, no rank left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import tiny
import torch
import torch.distributed as dist
from forks import SpawnContext
from hypothesis import given
from hypothesis import strategies as st
from tiny import TinyNet, figures
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gridrun.errors import LaunchError
from gridrun.executors.ray.tune import RayTuneExecutor
from gridrun.store import Store
from gridrun.store.records import Provenance
from gridrun.sweep.events import Ended, Event, Started
from gridrun.sweep.queue import QueuedTrial, TrialQueue
from gridrun.sweep.worker import Setup
from gridrun.trial import Trial
from trainer import ConfigError, Runtime, TrainConfig, parallel, train
from trainer.augmentations.horizontal_flip import HorizontalFlip
from trainer.augmentations.random_crop import RandomCrop
from trainer.loop import Interrupted
from trainer.parallel import ParallelError

if TYPE_CHECKING:
    from trainer.datasets import DataSpec
    from trainer.metrics import Epoch, Result

pytestmark = pytest.mark.long
TESTS = Path(__file__).parent
SOON_SECONDS = 30.0  # on a busy machine; waiting for a rank that is gone would take 10 minutes


@dataclass(frozen=True, kw_only=True, slots=True)
class FailingNet(TinyNet):
    """Fails on every rank but the first, when built or in its third step."""

    name: ClassVar[str] = "failing_net"
    how: str = "build"

    def build(self, data: DataSpec) -> nn.Module:
        model = TinyNet.build(self, data)
        if not multiprocessing.parent_process():
            return model
        if self.how == "build":
            raise ArithmeticError("no such network\nand a second line")
        steps = itertools.count()

        def fail(*_: Any) -> None:
            if next(steps) == 2:
                if self.how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise ArithmeticError("no such step")

        model.register_forward_pre_hook(fail)
        return model


class NotedDropout(nn.Module):
    """Dropout that adds a line with its mask to a file of its rank."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.functional.dropout(torch.ones_like(x), 0.5, self.training)
        if self.training:
            with Path(self.folder, str(torch.distributed.get_rank())).open("a") as file:
                file.write((mask > 0).numpy().tobytes().hex() + "\n")
        return x * mask


@dataclass(frozen=True, kw_only=True, slots=True)
class DropoutNet(TinyNet):
    """Notes the masks of its dropout."""

    name: ClassVar[str] = "dropout_net"
    folder: str = ""

    def build(self, data: DataSpec) -> nn.Module:
        model = TinyNet.build(self, data)
        assert isinstance(model, nn.Sequential)
        model[3] = NotedDropout(self.folder)
        return model


@pytest.fixture
def runtime(cache_dir: Path) -> Runtime:
    return Runtime(cache_dir=cache_dir, checkpoint_seconds=math.inf)


def fork_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork ranks from a process that has imported torch, which takes each of them seconds otherwise."""
    monkeypatch.setattr(parallel, "multiprocessing", SimpleNamespace(get_context=lambda _: SpawnContext()))


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    fork_ranks(monkeypatch)


def nobody_is_left() -> bool:
    return not multiprocessing.active_children() and not torch.distributed.is_initialized()


def losses(result: Result) -> list[float | None]:
    return [loss for epoch in result.epochs for loss in (epoch.train_loss, epoch.test_loss)]


# --- what a config says ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_gpus": 0}, "num_gpus: must be > 0, got 0"),
        ({"sync_bn": True}, "sync_bn: has no effect without num_gpus > 1"),
        (
            {"num_gpus": 4},
            "batch_size: 8 on each of 4 GPUs is larger than the training set of tiny_images (26 images)",
        ),
    ],
)
def test_a_config_that_cannot_be_trained_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny.config(**options)
    assert str(caught.value) == message


@given(batch_size=st.integers(1, 26), num_gpus=st.integers(1, 26))
def test_a_step_takes_the_batches_of_all_gpus(batch_size: int, num_gpus: int) -> None:
    if batch_size * num_gpus > 26:
        with pytest.raises(ConfigError, match="batch_size: "):
            tiny.config(batch_size=batch_size, num_gpus=num_gpus)
        return
    many, one = tiny.config(batch_size=batch_size, num_gpus=num_gpus), tiny.config(batch_size=batch_size)
    whole = tiny.config(batch_size=batch_size * num_gpus)
    assert many.steps_per_epoch == whole.steps_per_epoch == 26 // (batch_size * num_gpus)
    assert (Trial(many, 0).trial_id == Trial(one, 0).trial_id) == (num_gpus == 1)


def test_the_defaults_keep_every_id() -> None:
    plain: dict[str, Any] = {"model": {"name": "resnet", "depth": 20}, "epochs": 1}
    written = TrainConfig.from_dict({**plain, "num_gpus": 1, "sync_bn": False})
    assert written.canonical() == TrainConfig.from_dict(plain).canonical()


def test_too_few_gpus_are_an_error_at_once(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ParallelError, match=r"^num_gpus: 2 but 1 CUDA device is visible$"):
        train(tiny.config(num_gpus=2), seed=0, runtime=dataclasses.replace(runtime, device="cuda"))
    assert nobody_is_left()


# --- the same mathematics ----------------------------------------------------------------------


def listening() -> set[str]:
    """Return the addresses this process listens on, as the kernel writes them."""
    own = set()
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            own.add(str(handle.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/self/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.add(fields[1].split(":")[0])
    return found


def test_two_ranks_are_one_with_synchronised_batch_norm_alone(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to: set[str] = set()

    def report(epoch: Epoch) -> None:
        if sys.platform == "linux":
            open_to.update(listening())

    together = tiny.config(batch_size=4, num_gpus=2, sync_bn=True, ema_decay=0.5, gradient_clip=1.0)
    alone = dataclasses.replace(together, batch_size=8, num_gpus=1, sync_bn=False)
    apart = dataclasses.replace(together, sync_bn=False)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    two = train(together, seed=0, report=report, runtime=runtime)
    assert nobody_is_left()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    assert "NCCL_SOCKET_IFNAME" not in os.environ
    assert open_to == ({"0100007F"} if sys.platform == "linux" else set()), "127.0.0.1"
    one = train(alone, seed=0, runtime=runtime)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert [epoch.train_error for epoch in two.epochs] == [epoch.train_error for epoch in one.epochs]
    assert [epoch.lr for epoch in two.epochs] == [epoch.lr for epoch in one.epochs]
    assert (two.num_images, two.num_params) == (one.num_images, one.num_params)
    fork_ranks(monkeypatch)
    unsynchronised = train(apart, seed=0, runtime=runtime)
    assert losses(unsynchronised) != pytest.approx(losses(one), rel=1e-3)


@pytest.mark.usefixtures("forked")
def test_ranks_and_parts_of_a_batch_both_are_ghost_batches(runtime: Runtime) -> None:
    """Running statistics, and test losses with them, are those of the first rank's parts."""
    both = train(tiny.config(batch_size=4, num_gpus=2, subdivision=2), seed=0, runtime=runtime)
    parts = train(tiny.config(batch_size=8, subdivision=4), seed=0, runtime=runtime)
    expected = [epoch.train_loss for epoch in parts.epochs]
    assert [epoch.train_loss for epoch in both.epochs] == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("forked")
def test_resumed_in_an_epoch_three_ranks_end_bit_identical(runtime: Runtime, tmp_path: Path) -> None:
    config = tiny.config(
        batch_size=4,
        num_gpus=3,
        model=TinyNet(channels=37, dropout=0.5),
        augmentation=(RandomCrop(padding=1), HorizontalFlip()),
        subdivision=2,
        ema_decay=0.5,
        precision="mixed_fp16",
    )
    whole = train(config, seed=0, runtime=runtime)
    asked = itertools.count()
    kept = dataclasses.replace(runtime, checkpoint=tmp_path / "trial.ckpt")
    with pytest.raises(Interrupted):
        train(
            config, seed=0, runtime=dataclasses.replace(kept, should_stop=lambda: next(asked) >= 3)
        )  # before the second step of the second epoch
    assert nobody_is_left()
    resumed = train(config, seed=0, runtime=kept)
    assert figures(resumed) == figures(whole)
    assert (resumed.resumes, resumed.notes) == (1, ())


@pytest.mark.usefixtures("forked")
def test_ranks_draw_dropout_masks_of_their_own_also_after_an_interruption(
    runtime: Runtime, tmp_path: Path
) -> None:
    configs = []
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
        configs.append(tiny.config(batch_size=8, num_gpus=2, model=DropoutNet(folder=str(tmp_path / name))))
    whole, interrupted = configs
    result = train(whole, seed=0, runtime=runtime)
    asked = itertools.count()
    kept = dataclasses.replace(runtime, checkpoint=tmp_path / "trial.ckpt")
    with pytest.raises(Interrupted):
        train(interrupted, seed=0, runtime=dataclasses.replace(kept, should_stop=lambda: next(asked) >= 1))
    assert figures(train(interrupted, seed=0, runtime=kept)) == figures(result)
    first, second = ((tmp_path / "whole" / rank).read_text().split() for rank in ("0", "1"))
    assert len({*first, *second}) == 2 * whole.total_steps == 6, "no mask twice, on no rank"
    for rank, masks in (("0", first), ("1", second)):
        assert (tmp_path / "resumed" / rank).read_text().split() == masks


@pytest.mark.gpu
def test_two_gpus_are_one_with_synchronised_batch_norm(runtime: Runtime) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    runtime = dataclasses.replace(runtime, device="cuda")
    two = train(tiny.config(batch_size=4, num_gpus=2, sync_bn=True), seed=0, runtime=runtime)
    one = train(tiny.config(batch_size=8), seed=0, runtime=runtime)
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)


@pytest.mark.gpu
def test_gpu_gradients_go_through_nccl(tmp_path: Path) -> None:
    """With one rank, for machines with one GPU."""
    config = tiny.config()
    device, kind = torch.device("cuda", 0), config.dataset.spec
    torch.cuda.set_device(device)
    alone = config.model.build(kind).to(device)
    images = torch.randn(4, kind.channels, kind.image_size, kind.image_size, device=device)
    dist.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1, device_id=device
    )
    try:
        network = DistributedDataParallel(alone, device_ids=[0], gradient_as_bucket_view=True)
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            network(images).square().mean().backward()
            torch.cuda.synchronize()
            found = [parameter.grad.clone() for parameter in alone.parameters() if parameter.grad is not None]
            alone.zero_grad(set_to_none=True)
            alone(images).square().mean().backward()
    finally:
        dist.destroy_process_group()
    expected = [parameter.grad for parameter in alone.parameters()]
    assert len(found) == len(expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


# --- failures ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("build", "rank 1: ArithmeticError: no such network"),
        ("step", "rank 1: ArithmeticError: no such step"),
        ("kill", "rank 1 was killed by SIGKILL"),
    ],
)
def test_a_rank_that_fails_ends_the_trial_with_its_error(how: str, message: str, runtime: Runtime) -> None:
    started = time.monotonic()
    with pytest.raises(ParallelError) as caught:
        train(tiny.config(num_gpus=2, model=FailingNet(how=how)), seed=0, runtime=runtime)
    assert str(caught.value).splitlines()[0] == message
    assert ("in build" in str(caught.value)) == (how == "build"), "the other process's traceback"
    assert time.monotonic() - started < SOON_SECONDS
    assert nobody_is_left()


@pytest.mark.usefixtures("forked")
def test_an_error_of_the_first_rank_stays_its_own(runtime: Runtime) -> None:
    def report(epoch: Epoch) -> None:
        raise ArithmeticError("no room for an epoch")

    with pytest.raises(ArithmeticError, match="no room for an epoch"):
        train(tiny.config(num_gpus=2), seed=0, report=report, runtime=runtime)
    assert nobody_is_left()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_no_rank_outlives_the_first(cache_dir: Path, tmp_path: Path) -> None:
    code = f"""
import multiprocessing, os, sys
from pathlib import Path
sys.path[:0] = {[str(TESTS.parent), str(TESTS)]!r}
import tiny
from trainer import Runtime, train

def report(epoch):
    if epoch.epoch == 1:
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)

runtime = Runtime(cache_dir=Path({str(cache_dir)!r}))
train(tiny.config(num_gpus=2, epochs=10**6), seed=0, report=report, runtime=runtime)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    ) as first:
        assert first.stdout
        pids = [int(pid) for pid in first.stdout.readline().split()]
        assert len(pids) == 1
        assert is_alive(pids[0])
        first.kill()
    deadline = time.monotonic() + SOON_SECONDS
    while is_alive(pids[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pids[0])
    assert not list(tmp_path.glob("ranks-*")), "nor does the ranks' directory"


# --- through Ray -------------------------------------------------------------------------------


@pytest.mark.slow
def test_ray_runs_large_trials_first_and_refuses_those_that_never_fit(
    cache_dir: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "results")
    store.create()
    setup = Setup(
        results=store.root,
        runtime=Runtime(cache_dir=cache_dir, data_dir=tmp_path),
        code=Provenance(),
        stop_file=tmp_path / "stop",
    )
    small, large = Trial(tiny.config(), 0), Trial(tiny.config(num_gpus=2), 0)
    broken = Trial(tiny.config(num_gpus=2, model=FailingNet()), 0)
    events: list[Event] = []
    with RayTuneExecutor(cpus=2, gpus=0) as executor:
        with pytest.raises(LaunchError) as caught:
            executor.run(
                TrialQueue(map(QueuedTrial, [small, Trial(tiny.config(num_gpus=3), 0)])), setup, events.append
            )
        message = "no trial with num_gpus: 3 fits: one takes 3 CPU and 0 GPU, and Ray has 2 and 0"
        assert (str(caught.value), events) == (message, [])
        executor.run(TrialQueue(map(QueuedTrial, [small, large, broken])), setup, events.append)
    assert [event.trial for event in events if isinstance(event, Started)] == [large, broken, small]
    outcomes = {event.trial: event.outcome for event in events if isinstance(event, Ended)}
    assert outcomes == {large: "done", broken: "failed", small: "done"}
    rows = store.rows()
    assert rows[large.trial_id]["num_gpus"] == 2
    assert rows[broken.trial_id]["error"] == "ParallelError: rank 1: ArithmeticError: no such network"
