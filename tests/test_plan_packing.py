"""How many trials share a GPU: the decision with made-up numbers, and the measurement on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny

from gridrun.executors.ray import packing, session
from gridrun.plan.packing import (
    Load,
    Packer,
    Share,
    footprint,
    past_shares,
    threads_per_trial,
    trials_per_gpu,
)
from gridrun.resources import is_share
from gridrun.store import Store
from gridrun.store.records import Provenance
from gridrun.sweep.retries import RetryPolicy, RetryState
from gridrun.sweep.worker import failed_record
from gridrun.trial import Trial
from trainer import Runtime, TrainConfig
from trainer.memory import CONTEXT_BYTES, limit, memory_fraction
from trainer.resource_probe import ResourceProbe
from trainer.schedules import schedules

GIB = 2**30


def device(
    memory_gib: float, speeds: dict[int, float], total_gib: float = 80
) -> tuple[Callable[[int], Load | None], list[int]]:
    """Return a GPU's reports on one config, speed by number of trials, and the numbers it was asked for."""
    asked: list[int] = []

    def measure(number: int) -> Load | None:
        asked.append(number)
        if number not in speeds:
            return None
        return Load(int(memory_gib * GIB), int(total_gib * GIB), speeds[number])

    return measure, asked


@pytest.mark.parametrize(
    ("memory_gib", "speeds", "most", "fitting", "asked"),
    [
        (4, {1: 1000, 2: 1900, 4: 3000, 8: 3200, 16: 9999}, 99, 4, [1, 2, 4, 8]),  # 8 gain only 7 %
        (4, {1: 1000, 2: 1050}, 99, 1, [1, 2]),  # one keeps the GPU busy
        (4, {1: 1000, 2: 1100, 4: 1100}, 99, 2, [1, 2, 4]),  # 10 % are worth it
        (30, {1: 1000, 2: 1900, 4: 3800}, 99, 2, [1, 2]),  # 0.92 * 80 GiB hold two of 30 GiB
        (36.8, {1: 1000, 2: 2000}, 99, 2, [1, 2]),  # exactly two
        (36.9, {1: 1000, 2: 2000}, 99, 1, [1]),
        (90, {1: 1000}, 99, 1, [1]),
        (1, {1: 10, 2: 20, 4: 40, 8: 80, 16: 160}, 6, 4, [1, 2, 4]),  # CPUs for six
        (1, {1: 10, 2: 20}, 99, 2, [1, 2, 4]),  # four ran out of memory
        (1, {}, 99, 1, [1]),
        (1, {1: 10, 2: 20}, 2, 2, [1, 2]),  # CPUs for two
        (1, {1: 10, 2: 20}, 1, 1, []),  # CPUs for one
    ],
)
def test_as_many_share_a_gpu_as_memory_and_throughput_allow(
    memory_gib: float, speeds: dict[int, float], most: int, fitting: int, asked: list[int]
) -> None:
    measure, numbers = device(memory_gib, speeds)
    assert trials_per_gpu(measure, most) == fitting
    assert numbers == asked


def test_a_packer_measures_configs_that_take_the_same_once() -> None:
    measure, asked = device(4, {1: 1000, 2: 1900, 4: 2000})
    packer = Packer("auto", cpus_per_trial=1)
    small = tiny.config(lr=0.1)
    assert packer.share(small, cpus=16, gpus=2, measure=measure) == Share(gpu=0.5, cpu=1)
    assert packer.share(replace(small, lr=0.2, epochs=9), 16, 2, measure) == Share(0.5, 1)
    assert asked == [1, 2, 4]
    packer.share(replace(small, batch_size=4), 16, 2, measure)
    assert asked == [1, 2, 4, 1, 2, 4], "another batch size takes other memory"


@pytest.mark.parametrize(
    ("cpus_per_trial", "cpus", "gpus", "most"),
    [(1, 4, 2, 2), (1, 8, 2, 4), (4, 8, 1, 2), (3, 8, 1, 2), ("auto", 2, 1, 2), ("auto", 8, 2, 4)],
)
def test_no_more_trials_share_a_gpu_than_its_part_of_the_cpus_can_feed(
    cpus_per_trial: Any, cpus: int, gpus: int, most: int
) -> None:
    measure, _ = device(1, {1: 10, 2: 20, 4: 40, 8: 80, 16: 160})
    share = Packer("auto", cpus_per_trial).share(tiny.config(), cpus, gpus, measure)
    assert share.gpu == 1 / most


def test_a_packer_measures_only_auto_shares_of_one_gpu() -> None:
    measure, asked = device(4, {1: 1000, 2: 2000})
    config = tiny.config()
    assert Packer("auto", 1).share(config, 16, 0, measure) == Share(0, 1), "no GPU, one thread"
    assert Packer(None, 2).share(config, 16, 4, measure) == Share(1, 2, threads=2)
    assert Packer(0.25, 1).share(config, 16, 4, measure) == Share(0.25, 1)
    assert Packer(2.0, 1).share(config, 16, 4, measure) == Share(2, 1)
    assert Packer("auto", 2).share(replace(config, num_gpus=3), 16, 4, measure) == Share(3, 6, threads=2)
    assert Packer(0.25, 1).share(replace(config, num_gpus=2), 16, 0, measure) == Share(0, 2)
    assert asked == []


@pytest.mark.parametrize(
    ("cpus", "trials", "speeds", "threads", "asked"),
    [
        (8, 99, {(8, 1): 800, (4, 2): 700}, 1, [(8, 1), (4, 2)]),  # one thread each is fastest
        (
            8,
            99,
            {(8, 1): 500, (4, 2): 800, (2, 4): 700},
            2,
            [(8, 1), (4, 2), (2, 4)],
        ),  # memory is too slow for 8
        (2, 1, {(1, 2): 150}, 2, [(1, 2)]),  # a lone trial has the machine
        (16, 3, {(3, 5): 900, (1, 16): 500}, 5, [(3, 5), (1, 16)]),
        (6, 99, {(6, 1): 1, (3, 2): 2, (1, 6): 3}, 6, [(6, 1), (3, 2), (1, 6)]),
        (4, 99, {(2, 2): 300, (1, 4): 200}, 2, [(4, 1), (2, 2), (1, 4)]),  # four fail
        (4, 99, {(4, 1): 300, (2, 2): 300, (1, 4): 400}, 1, [(4, 1), (2, 2)]),  # no faster
        (4, 99, {}, 1, [(4, 1), (2, 2), (1, 4)]),
        (1, 99, {}, 1, []),
    ],
)
def test_threads_are_those_of_the_highest_throughput(
    cpus: int,
    trials: int,
    speeds: dict[tuple[int, int], float],
    threads: int,
    asked: list[tuple[int, int]],
) -> None:
    numbers: list[tuple[int, int]] = []

    def measure(number: int, threads: int) -> Load | None:
        numbers.append((number, threads))
        speed = speeds.get((number, threads))
        return Load(GIB, 64 * GIB, speed) if speed else None

    assert threads_per_trial(measure, cpus, trials) == threads
    assert numbers == asked


def test_as_many_trials_run_side_by_side_as_fit_into_memory() -> None:
    def measure(number: int, threads: int) -> Load | None:
        return Load(10 * GIB, 64 * GIB, 100.0 * number)

    assert threads_per_trial(measure, 16, 99) == 4, "0.92 of 64 GiB hold four of 10 GiB"
    exactly = lambda number, threads: Load(46, 100, 100.0 * number)  # noqa: E731
    assert threads_per_trial(exactly, 4, 99) == 2, "0.92 of 100 bytes hold two of 46"


def test_threads_are_measured_once_for_configs_that_take_the_same() -> None:
    measure, asked = device(4, {1: 1000, 2: 2000})
    packer, config = Packer(None, "auto"), tiny.config()
    found = iter([2, 4])
    choose: Callable[[], int] = lambda: next(found)  # noqa: E731
    assert packer.share(config, 8, 0, measure, choose_threads=choose) == Share(0, 2, threads=2)
    assert packer.share(replace(config, lr=0.5), 8, 0, measure, choose_threads=choose) == Share(0, 2, 2)
    assert packer.share(replace(config, batch_size=4), 8, 0, measure, choose_threads=choose) == Share(0, 4, 4)
    assert asked == []


def test_beside_gpus_trials_share_all_cpus() -> None:
    measure, asked = device(4, {1: 1000, 2: 1900})
    config = tiny.config()
    assert Packer(None, "auto").share(config, 16, 4, measure) == Share(1, 4, threads=4)
    assert Packer(0.25, "auto").share(config, 16, 1, measure) == Share(0.25, 4, threads=4)
    assert Packer(None, "auto").share(replace(config, num_gpus=2), 16, 4, measure) == Share(2, 8, threads=4)
    assert Packer(0.1, "auto").share(config, 4, 1, measure) == Share(0.1, 1, threads=1)
    assert Packer("auto", "auto").share(config, 16, 1, measure) == Share(0.5, 8, threads=8)
    assert asked == [1, 2, 4]


def test_a_trial_that_ran_out_of_memory_gets_what_its_retry_says() -> None:
    measure, asked = device(4, {1: 1000, 2: 2000})
    assert Packer("auto", 1).share(tiny.config(), 16, 1, measure, given=0.5) == Share(0.5, 1)
    assert Packer(0.25, 1).share(tiny.config(), 16, 1, measure, given=0.5) == Share(0.5, 1)
    assert asked == []


def test_out_of_gpu_memory_halves_the_trials_per_gpu_down_to_one(tmp_path: Path) -> None:
    store, trial = Store(tmp_path), Trial(tiny.config(), 0)
    store.create()
    retry_state = RetryState(store, RetryPolicy())
    shares = []
    for share in (0.125, 0.25, 0.5, 1.0):
        store.add(
            failed_record(
                trial,
                "gpu_memory",
                "OutOfMemoryError: CUDA out of memory",
                attempts=retry_state.attempts(trial),
                provenance=Provenance(gpu_share=share),
            )
        )
        should_run = retry_state.should_run(trial)
        shares.append(retry_state.retries[trial.trial_id].gpu_share if should_run else None)
    assert shares == [0.25, 0.5, 1.0, None]
    end = store.end(trial.trial_id)
    assert end is not None
    assert end.attempts == 4


def test_a_footprint_has_only_options_that_change_a_step() -> None:
    config = tiny.config()
    multistep = schedules.get("multistep")(milestones=(1.0, 2.0))
    assert footprint(replace(config, lr=1.0, epochs=7, weight_decay=0.0, schedule=multistep)) == footprint(
        config
    )
    for change in ({"batch_size": 4}, {"precision": "mixed_bf16"}, {"model": tiny.TinyNet(channels=16)}):
        assert footprint(replace(config, **change)) != footprint(config)


def test_the_latest_share_of_a_footprint_counts_and_records_without_one_do_not() -> None:
    config = TrainConfig.from_dict({"model": {"name": "resnet_preact", "depth": 8}, "epochs": 1})

    def row(config_id: str, hour: int, **columns: object) -> dict[str, object]:
        known = {"config_id": config_id, "status": "done", "ended_at": f"2026-01-01T{hour:02}:00:00+00:00"}
        return {**known, "config_json": json.dumps(config.canonical()), "gpu": "H200", **columns}

    rows = [row("b", 2, gpu_share=0.5), row("a", 1, gpu_share=0.25), row("c", 3), row("d", 4, gpu_share=None)]
    assert past_shares(rows, ["H200"]) == past_shares(rows, []) == {footprint(config): 0.5}
    assert past_shares(rows, ["T4"]) == {}
    later = ((0.0, 0.5), (1.5, 0.5), (-0.5, 0.5), (1, 0.5), ("0.2", 0.5), (1.0, 1.0), (0.1, 0.1))
    for share, found in later:
        assert past_shares([*rows, row("e", 5, gpu_share=share)], []) == {footprint(config): found}, share
    assert past_shares([*rows, row("e", 5, gpu_share=0.1, status="failed")], []) == {footprint(config): 0.5}
    gone = row("e", 5, gpu_share=0.1, config_json="{}")
    assert past_shares([*rows, gone], []) == {footprint(config): 0.5}


@pytest.mark.parametrize(
    ("share", "ok"), [(0, True), (0.25, True), (1, True), (2, True), (1.5, False), (-1, False)]
)
def test_shares_that_ray_can_give_out(share: float, ok: bool) -> None:
    assert is_share(share) is ok


def test_the_memory_fraction_leaves_room_for_the_cuda_context() -> None:
    assert memory_fraction(1.0, 80 * GIB) == 1.0
    assert memory_fraction(2.0, 80 * GIB) == 1.0
    assert memory_fraction(0.25, 80 * GIB) == pytest.approx(0.25 - 0.5 / 80)
    assert 4 * (memory_fraction(0.25, 8 * GIB) * 8 * GIB + CONTEXT_BYTES) <= 8 * GIB
    assert memory_fraction(0.125, 2 * GIB) == 0.0625, "half of it, where that would be nothing"


def test_a_resource_probe_takes_steps_and_leaves_no_files(tmp_path: Path, cache_dir: Path) -> None:
    runtime = Runtime(cache_dir=cache_dir, data_dir=tmp_path, checkpoint=tmp_path / "checkpoint.pt")
    probe = ResourceProbe(tiny.config(), runtime)
    assert 0 < probe.memory_bytes < probe.total_bytes
    assert probe.images_per_second(0.05) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_trial_of_several_gpus_is_measured_on_one(tmp_path: Path, cache_dir: Path) -> None:
    config = tiny.config(num_gpus=2, sync_bn=True, batch_size=4)
    assert ResourceProbe(config, Runtime(cache_dir=cache_dir, data_dir=tmp_path)).images_per_second(0.01) > 0


@pytest.fixture
def one_gpu_as_far_as_ray_knows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(session, "_check_gpus", lambda wanted: None)
    ray_session = session.RaySession()
    ray_session.start(cpus=2, gpus=1)
    yield
    ray_session.close()


def test_two_trials_are_measured_at_once(
    one_gpu_as_far_as_ray_knows: None, tmp_path: Path, cache_dir: Path
) -> None:
    runtime = Runtime(cache_dir=cache_dir, data_dir=tmp_path)
    ResourceProbe(tiny.config(), runtime)  # decodes the data set
    load = packing.measure(tiny.config(), runtime, 2)
    assert load is not None
    assert 0 < load.memory_bytes < load.total_bytes
    assert load.images_per_second > 0
    assert packing.measure(tiny.config(), replace(runtime, device="nowhere"), 1) is None
    assert packing.measure(tiny.config(), replace(runtime, threads=2), 2) is None
    assert packing.measure(tiny.config(), runtime, 3) is None, "no machine has the CPUs"


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_the_limit_is_set_on_the_device_of_the_trial(
    name: str, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    limits: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * GIB))
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda *set_: limits.append(set_), raising=False)
    limit(torch.device(name), 0.25)
    limit(torch.device(name), 1.0)
    limit(torch.device("cpu"), 0.25)
    assert limits == [(0.24375, index), (1.0, index)]


@pytest.mark.gpu
def test_a_trial_is_kept_to_its_share_of_the_memory(tmp_path: Path, cache_dir: Path) -> None:
    import torch

    runtime = Runtime(cache_dir=cache_dir, data_dir=tmp_path, device="cuda", gpu_share=0.25)
    probe = ResourceProbe(tiny.config(), runtime)
    assert 0 < probe.memory_bytes < probe.total_bytes
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(probe.total_bytes // 2, dtype=torch.uint8, device="cuda")
    ResourceProbe(tiny.config(), replace(runtime, gpu_share=1.0))
    torch.empty(probe.total_bytes // 2, dtype=torch.uint8, device="cuda")
