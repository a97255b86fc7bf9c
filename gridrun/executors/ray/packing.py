"""Measure on Ray how much of a GPU trials take."""

from __future__ import annotations

import contextlib
from typing import Any

from gridrun.plan.packing import Load
from trainer import Runtime, TrainConfig


def measure(config: TrainConfig, runtime: Runtime, number: int) -> Load | None:
    """Run the first steps of `number` trials at once on one GPU.

    Return None if they fail, usually for lack of memory (other errors will show in the trials' own records),
    or if no machine has a GPU and enough CPUs.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    needed = {"GPU": 1, "CPU": runtime.threads * number}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(has.get(name, 0) >= least for name, least in needed.items()) for has in machines):
        return None  # Ray would wait for such a machine for ever
    one_gpu = placement_group([needed])
    prober: Any = ray.remote(_ResourceProber)
    share = prober.options(
        num_gpus=1 / number,
        num_cpus=runtime.threads,
        scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=one_gpu),
    )
    try:
        trials = [share.remote(config, runtime) for _ in range(number)]
        taken = ray.get([trial.taken.remote() for trial in trials])  # waits until all are ready
        rates = ray.get([trial.images_per_second.remote() for trial in trials])
    except ray.exceptions.RayError:
        return None
    finally:
        with contextlib.suppress(Exception):
            remove_placement_group(one_gpu)  # ends the processes in it
    return Load(max(memory for memory, _ in taken), taken[0][1], sum(rates))


class _ResourceProber:
    """A `ResourceProbe` in its own process, so that its memory is freed afterwards."""

    def __init__(self, config: TrainConfig, runtime: Runtime) -> None:
        from trainer.resource_probe import ResourceProbe

        self._probe = ResourceProbe(config, runtime)

    def taken(self) -> tuple[int, int]:
        return self._probe.memory_bytes, self._probe.total_bytes

    def images_per_second(self) -> float:
        return self._probe.images_per_second()
