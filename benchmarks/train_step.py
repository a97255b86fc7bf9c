"""A training step against the bare network, and against a plain loop; and evaluation against a forward pass.

    python benchmarks/train_step.py [--device cuda] [--threads 1 2] [--batch-sizes 32 128 1024]
                                    [--precisions fp32 mixed_bf16] [--rounds 5] [--compile] [--profile]

ResNet-preact-20 on random grey images of 28x28 pixels. In turn, within one process:

    bare        forward, backward and the optimiser's step on one prepared batch, channels_last
    compiled    the same after torch.compile (--compile)
    ours        the trainer's whole step: batch, crop, flip, normalisation, loss, optimiser, totals; with
                --compile a second time, compiled
    plain       `baseline.py`: torchvision's transforms on PIL images, a DataLoader with two workers
    forward     a forward pass of an evaluation batch, in inference mode
    evaluation  the trainer's test, whole, for each of its images

Each figure is the median over the rounds of the time of some steps; a ratio is the median of the rounds' own
ratios, with its least and greatest, because what else runs on a machine changes more slowly than a round.
On a CPU that others use, `--cpu-time` with one thread says more; the plain loop has processes of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from trainer import Runtime, TrainConfig, parallel
from trainer.datasets import DatasetOptions, DataSpec, Images
from trainer.evaluation import EVAL_BATCH_SIZE
from trainer.loop import Run
from trainer.precision import autocast, like_weights, set_matmul_precision

SIZE, MEAN, STD = 28, 0.5, 0.3
EPOCH = 64
PROFILED = 200
"""Steps."""
PREFETCHED = 4
"""Batches that the plain loop's two processes load ahead."""
IMAGES_LOADED = 4000.0
"""Images a second that they load at least."""
_DTYPES = {"mixed_bf16": torch.bfloat16, "mixed_fp16": torch.float16}
Step = Callable[[], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise(DatasetOptions):
    """Random images. Not registered."""

    name: ClassVar[str] = "noise"
    kind: ClassVar[str] = "dataset"
    num_train: int
    num_test: int = EVAL_BATCH_SIZE

    @property
    def spec(self) -> DataSpec:
        return DataSpec(
            num_classes=10,
            channels=1,
            image_size=SIZE,
            num_train=self.num_train,
            num_test=self.num_test,
            mean=(MEAN,),
            std=(STD,),
        )

    def decode(self, data_dir: Path, work_dir: Path) -> Images:
        rng, n = np.random.default_rng(0), self.num_train
        x = rng.integers(0, 256, (n + self.num_test, 1, SIZE, SIZE), dtype=np.uint8)
        y = rng.integers(0, 10, n + self.num_test)
        return Images(x[:n], y[:n], x[n:], y[n:])


def config(precision: str, batch_size: int) -> TrainConfig:
    """Return a config of `EPOCH` steps an epoch: an order for each is drawn, and copied to the device."""
    options = {
        "model": {"name": "resnet_preact", "depth": 20},
        "epochs": 1,
        "batch_size": batch_size,
        "precision": precision,
        "augmentation": {"random_crop": True, "horizontal_flip": True},
    }
    return dataclasses.replace(TrainConfig.from_dict(options), dataset=Noise(num_train=EPOCH * batch_size))


def ours(run: Run) -> Step:
    """Return the trainer's step, on the next batch of its data."""

    def batches() -> Iterator[Any]:
        size = run.config.batch_size
        starts = [place * size for place in range(run.config.steps_per_epoch)]
        while True:
            with contextlib.closing(run.data.batches(0, starts)) as found:
                yield from found

    endless = batches()

    def step() -> None:
        run.learner.model.train()
        run.learner.step = 0  # the schedule must not end
        run.learner.train_step(*next(endless), 0)

    return step


def bare(run: Run, compiled: bool = False) -> Step:
    """Return a step of an equal network and optimiser on one batch that is ready."""
    options, device = run.config, run.device
    model = options.model.build(options.dataset.spec).to(device, memory_format=torch.channels_last).train()
    network: Any = torch.compile(model) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=options.precision == "mixed_fp16")
    images = torch.randn(options.batch_size, 1, SIZE, SIZE, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (options.batch_size,), device=device)

    def step() -> None:
        with autocast(options.precision, device):
            logits = network(images)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(F.cross_entropy(logits.float(), labels)).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def plain(run: Run) -> Step:
    """Return the step of the plain loop."""
    from benchmarks.baseline import Pictures, PlainLoop

    options = run.config
    images = options.dataset.decode(Path(), Path())
    assert isinstance(images, Images)
    pictures = Pictures(images.train_x[:, 0], images.train_y, MEAN, STD)
    model = options.model.build(options.dataset.spec)
    return PlainLoop(model, pictures, options.batch_size, run.device, _DTYPES.get(options.precision)).step


def forward(run: Run) -> Step:
    """Return a forward pass of as many images as the test set has."""
    model = run.learner.model
    images = torch.randn(EVAL_BATCH_SIZE, 1, SIZE, SIZE, device=run.device)
    images = images.to(memory_format=torch.channels_last)

    def step() -> None:
        model.eval()
        with torch.inference_mode(), autocast(run.config.precision, run.device):
            model(like_weights(images, model))

    return step


def seconds_of(
    step: Step, number: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return how long a number of steps takes."""
    started = clock()
    for _ in range(number):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def where_the_rest_goes(run: Run, number: int) -> dict[str, float]:
    """Return the milliseconds of the parts of our step that a bare step lacks."""
    pixels, targets, places = next(iter(run.data.batches(0, [0])))

    def take() -> None:
        next(iter(run.data.batches(0, [0])))

    def augment() -> None:
        run.data.pipeline.batch(pixels, targets, run.learner.generator, places, 0)

    parts = {"order and gather": take, "crop, flip, normalise": augment}
    return {name: 1000 * seconds_of(part, number, run.device) / number for name, part in parts.items()}


def measure(precision: str, batch_size: int, arguments: argparse.Namespace, cache: Path) -> None:
    """Measure one precision and batch size, and print a row of each comparison."""
    device = torch.device(arguments.device)
    runtime = Runtime(device=arguments.device, threads=torch.get_num_threads(), cache_dir=cache)
    run = Run(config(precision, batch_size), 0, runtime, parallel.Group())
    set_matmul_precision(run.config.precision)
    steps: dict[str, Step] = {"bare": bare(run), "ours": ours(run)}
    if not arguments.cpu_time:
        steps["plain"] = plain(run)
    if arguments.compile:
        steps["compiled"] = bare(run, compiled=True)
        compiled = Run(run.config, 0, dataclasses.replace(runtime, compile="on"), parallel.Group())
        steps["ours compiled"] = ours(compiled)
    tests: dict[str, Step] = {"forward": forward(run), "evaluation": run.test}
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    number = max(1, round(arguments.images / batch_size))
    found: dict[str, list[float]] = {name: [] for name in (*steps, *tests)}
    for name, step in (steps | tests).items():
        seconds_of(step, 2 if name in steps else 1, device)
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            if name == "plain":  # what its processes loaded while others were timed does not count
                seconds_of(step, PREFETCHED, device)
            found[name].append(seconds_of(step, number, device, clock) / (number * batch_size))
            if name == "plain":  # its processes load ahead again before others are timed
                time.sleep(PREFETCHED * batch_size / IMAGES_LOADED)
        for name, step in tests.items():
            found[name].append(seconds_of(step, 1, device, clock) / EVAL_BATCH_SIZE)
    rates = {name: 1 / statistics.median(values) for name, values in found.items()}
    rest = where_the_rest_goes(run, number)
    best = min((name for name in steps if name in ("bare", "compiled")), key=lambda name: -rates[name])
    cells = [
        precision,
        str(torch.get_num_threads()),
        str(batch_size),
        f"{rates['ours']:,.0f}",
        ratio(found["bare"], found["ours"]),
        f"{ratio(found[best], found['ours'])}; compiled {ratio(found[best], found['ours compiled'])}"
        if arguments.compile
        else "",
        "" if arguments.cpu_time else ratio(found["plain"], found["ours"]),
        ratio(found["forward"], found["evaluation"]),
        ", ".join(f"{name} {value:.1f} ms" for name, value in rest.items())
        + (f"; {idle_share(run)}" if arguments.profile else ""),
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def idle_share(run: Run) -> str:
    """Return the part of some steps in which the device computes nothing, by the profiler; "" for a CPU."""
    if run.device.type != "cuda":
        return ""
    step = ours(run)
    seconds_of(step, 2, run.device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        seconds = seconds_of(step, PROFILED, run.device)
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or []
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    ]
    return f"idle {1 - covered(spans) / (1e6 * seconds):.0%}"


def covered(spans: list[tuple[float, float]]) -> float:
    """Return the length of what some spans cover together."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return total


def ratio(slower: list[float], faster: list[float]) -> str:
    """Return the median, the least and the greatest of the rounds' ratios."""
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128, 1024])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "mixed_bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1024, help="images a loop trains on in a round")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds; no plain loop")
    parser.add_argument("--profile", action="store_true", help="how long a GPU is idle (needs one)")
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, {arguments.device}, "
        f"{arguments.rounds} rounds of {arguments.images} images"
    )
    print(
        "| precision | threads | batch | ours, images/s | of bare | of best bare | of plain | of forward "
        "| beside the network |"
    )
    print("| --- " * 9 + "|")
    with tempfile.TemporaryDirectory() as cache:
        for threads, precision, size in itertools.product(
            arguments.threads, arguments.precisions, arguments.batch_sizes
        ):
            torch.set_num_threads(threads)
            measure(precision, size, arguments, Path(cache))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))  # for `benchmarks.baseline`
    main()
