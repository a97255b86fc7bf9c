"""Measure on Ray what trials take side by side."""

from __future__ import annotations

import contextlib
from typing import Any

from gridrun.plan.packing import Load
from trainer import Runtime, TrainConfig


def measure(config: TrainConfig, runtime: Runtime, number: int) -> Load | None:
    """Run the first steps of `number` trials at once on one GPU, or on the CPUs of one machine.

    Return None if they fail, usually for lack of memory (other errors will show in the trials' own records),
    or if no machine has enough CPUs, and a GPU if `runtime` wants one.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    gpus = 1 if runtime.device != "cpu" else 0
    needed = {"GPU": gpus, "CPU": runtime.threads * number} if gpus else {"CPU": runtime.threads * number}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(has.get(name, 0) >= least for name, least in needed.items()) for has in machines):
        return None  # Ray would wait for such a machine for ever
    place = placement_group([needed])
    prober: Any = ray.remote(_ResourceProber)
    share = prober.options(
        num_gpus=gpus / number,
        num_cpus=runtime.threads,
        scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=place),
    )
    try:
        trials = [share.remote(config, runtime) for _ in range(number)]
        taken = ray.get([trial.taken.remote() for trial in trials])  # waits until all are ready
        rates = ray.get([trial.images_per_second.remote() for trial in trials])
    except ray.exceptions.RayError:
        return None
    finally:
        with contextlib.suppress(Exception):
            remove_placement_group(place)  # ends the processes in it
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
