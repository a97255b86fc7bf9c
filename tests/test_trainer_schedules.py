"""Learning rates: by hand at the moments that matter, and step by step over whole runs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trainer import TrainConfig
from trainer.schedules import schedules as registered

BASE: dict[str, Any] = {"model": {"name": "resnet", "depth": 20}, "epochs": 10, "lr": 0.4}
ODD = {"batch_size": 131}  # 11 steps an epoch
EVEN = {"batch_size": 144}  # 10 steps an epoch


def config(**options: Any) -> TrainConfig:
    return TrainConfig.from_dict(BASE | options)


def rates(config: TrainConfig) -> list[float]:
    """Return the rate of every step of a run."""
    return [config.lr_at(step) for step in range(config.epochs * config.steps_per_epoch)]


def test_constant_is_the_peak_throughout():
    assert set(rates(config(**ODD, schedule="constant"))) == {0.4}


@pytest.mark.parametrize("min_factor", [0.0, 0.001, 0.5, 1.0])
def test_cosine_by_hand(min_factor):
    run = config(**EVEN, schedule={"name": "cosine", "min_factor": min_factor})
    at = {0: 1.0, 25: 0.5 + math.sqrt(0.125), 50: 0.5, 75: 0.5 - math.sqrt(0.125), 100: 0.0}
    for step, share in at.items():  # 100 is the moment the run is over, one step after its last
        assert run.lr_at(step) == pytest.approx(0.4 * (min_factor + (1 - min_factor) * share), abs=1e-15)
    last = 0.5 * (1 + math.cos(math.pi * 0.99))
    assert rates(run)[-1] == pytest.approx(0.4 * (min_factor + (1 - min_factor) * last))


@pytest.mark.parametrize("min_factor", [0.0, 0.001, 1.0])
def test_linear_by_hand(min_factor):
    run = config(**EVEN, schedule={"name": "linear", "min_factor": min_factor})
    for step in (0, 1, 25, 99, 100):
        expected = 0.4 * (min_factor + (1 - min_factor) * (1 - step / 100))
        assert run.lr_at(step) == pytest.approx(expected, abs=1e-15)
    assert rates(run)[0] == 0.4


@pytest.mark.parametrize("options", [ODD, EVEN])
@pytest.mark.parametrize(
    ("first", "factor", "restarts"),
    [(2, 1, [2, 4, 6, 8]), (1, 2, [1, 3, 7]), (2, 1.5, [2, 5, 9.5]), (10, 1, []), (2.5, 3, [2.5])],
)
def test_sgdr_restarts_at_the_very_step(options, first, factor, restarts):
    schedule = {"name": "sgdr", "first_period": first, "period_factor": factor, "min_factor": 0.1}
    run = config(**options, schedule=schedule)
    every = rates(run)
    risen = [step for step in range(1, len(every)) if every[step] > every[step - 1]]
    assert risen == [math.ceil(restart * run.steps_per_epoch) for restart in restarts]
    for restart in restarts:
        step = restart * run.steps_per_epoch
        if step == int(step):
            assert every[int(step)] == 0.4


def test_sgdr_by_hand():
    schedule = {"name": "sgdr", "first_period": 2, "period_factor": 2, "min_factor": 0}
    run = config(**EVEN, schedule=schedule, warmup={"name": "linear", "epochs": 1, "start_factor": 0.5})
    at = {0: 0.2, 10: 0.4, 20: 0.2, 30: 0.4, 50: 0.2, 70: 0.4, 99: 0.2 * (1 + math.cos(math.pi * 29 / 80))}
    assert {step: run.lr_at(step) for step in at} == pytest.approx(at)
    just_before = 0.2 * (1 + math.cos(math.pi * 39 / 40))
    assert run.lr_at(69) == pytest.approx(just_before)


@given(
    first=st.floats(1, 10),
    factor=st.floats(1, 3),
    min_factor=st.floats(0, 1),
    batch_size=st.integers(60, 1442),
)
def test_sgdr_is_made_of_cosines(first, factor, min_factor, batch_size):
    schedule = {"name": "sgdr", "first_period": first, "period_factor": factor, "min_factor": min_factor}
    every = rates(config(batch_size=batch_size, schedule=schedule))
    lowest = 0.4 * min_factor
    assert all(lowest * (1 - 1e-12) <= rate <= 0.4 * (1 + 1e-12) for rate in every)
    whole = config(epochs=10, batch_size=batch_size, schedule={"name": "cosine", "min_factor": min_factor})
    if first == 10:
        assert every == rates(whole)
    rises = sum(after > before for before, after in itertools.pairwise(every))
    periods, at = 0, first
    while at < 10:
        periods, at = periods + 1, at + first * factor ** (periods + 1)
    assert rises <= periods


KNOTS = [[0, 0.25], [2.5, 1], [8, 0.5], [9, 0]]


def test_piecewise_linear_by_hand():
    run = config(**EVEN, schedule={"name": "piecewise_linear", "knots": KNOTS})
    at = {0: 0.25, 10: 0.55, 25: 1.0, 36: 0.9, 80: 0.5, 85: 0.25, 90: 0.0, 99: 0.0}
    assert {step: run.lr_at(step) / 0.4 for step in at} == pytest.approx(at)
    assert [run.lr_at(step) for step in (0, 25, 80, 90)] == [0.1, 0.4, 0.2, 0.0]


def test_piecewise_linear_is_constant_outside_its_knots():
    run = config(**EVEN, schedule={"name": "piecewise_linear", "knots": [[3, 0.5], [5, 0.25]]})
    assert set(rates(run)[:31]) == {0.2}
    assert set(rates(run)[50:]) == {0.1}
    single = config(**EVEN, schedule={"name": "piecewise_linear", "knots": [[3, 0.5]]})
    assert set(rates(single)) == {0.2}


def test_knots_are_lists_when_written():
    written = {"name": "piecewise_linear", "knots": [[0, 0.2], [5, 1], [10, 0]]}
    run = config(schedule=written)
    assert run.canonical()["schedule"] == written
    assert run.flat()["schedule.knots"] == [[0.0, 0.2], [5.0, 1.0], [10.0, 0.0]]
    assert TrainConfig.from_dict(yaml.safe_load(yaml.safe_dump(run.canonical()))) == run


@pytest.mark.parametrize("batch_size", [131, 144, 480, 1442])
@pytest.mark.parametrize("milestones", [[3, 7], [1, 2, 9]])
def test_a_milestone_takes_effect_at_the_first_step_of_its_epoch(batch_size, milestones):
    run = config(batch_size=batch_size, schedule={"name": "multistep", "milestones": milestones})
    for step, rate in enumerate(rates(run)):
        passed = sum(step // run.steps_per_epoch >= milestone for milestone in milestones)
        assert rate == pytest.approx(0.4 * 0.1**passed)


@given(epochs=st.integers(2, 500), steps=st.integers(1, 1442), data=st.data())
def test_a_milestone_is_exact_whatever_the_length_of_an_epoch(epochs, steps, data):
    milestone = data.draw(st.integers(1, epochs - 1))
    run = config(
        epochs=epochs,
        batch_size=1442 // steps,
        schedule={"name": "multistep", "milestones": [milestone], "gamma": 0.5},
    )
    first = milestone * run.steps_per_epoch
    assert run.lr_at(first - 1) == 0.4
    assert run.lr_at(first) == 0.2


def test_a_milestone_within_an_epoch():
    run = config(**ODD, schedule={"name": "multistep", "milestones": [2.5], "gamma": 0.5})  # 27.5 steps
    assert [run.lr_at(27), run.lr_at(28)] == [0.4, 0.2]


@pytest.mark.parametrize(("epochs", "handover"), [(2, 22), (2.5, 28), (0.01, 1)])
@pytest.mark.parametrize("name", ["linear", "exponential"])
def test_warmup_hands_over_at_its_very_step(name, epochs, handover):
    run = config(**ODD, schedule="constant", warmup={"name": name, "epochs": epochs, "start_factor": 0.1})
    assert run.lr_at(0) == pytest.approx(0.04)
    assert run.lr_at(handover - 1) < 0.4
    assert run.lr_at(handover) == 0.4


AT_ITS_PEAK: dict[str, dict[str, Any]] = {  # options with which the rate after warm-up is the peak
    "constant": {},
    "cosine": {},
    "linear": {},
    "multistep": {"milestones": [9]},
    "piecewise_linear": {"knots": [[0, 0], [2, 1], [10, 1]]},
    "sgdr": {"first_period": 1, "period_factor": 2},
}


def test_every_schedule_is_tried():
    assert sorted(AT_ITS_PEAK) == registered.names()


@pytest.mark.parametrize("name", AT_ITS_PEAK)
def test_warmup_hands_over_to_every_schedule_at_its_very_step(name):
    schedule = {"name": name, **AT_ITS_PEAK[name]}
    run = config(**ODD, schedule=schedule, warmup={"name": "linear", "epochs": 2, "start_factor": 0.1})
    assert run.lr_at(21) == pytest.approx(0.4 * (0.1 + 0.9 * 21 / 22))
    assert run.lr_at(22) == 0.4
    if name in ("cosine", "linear", "sgdr"):  # the others count from the start of the run
        alone = config(**ODD, epochs=8, schedule=schedule)
        assert [run.lr_at(22 + step) for step in range(88)] == pytest.approx(rates(alone))


def test_warmups_by_hand():
    linear = config(**EVEN, warmup={"name": "linear", "epochs": 4, "start_factor": 0.2})
    assert [linear.lr_at(step) for step in (0, 10, 20)] == pytest.approx([0.08, 0.16, 0.24])
    exponential = config(**EVEN, warmup={"name": "exponential", "epochs": 4, "start_factor": 0.0016})
    assert [exponential.lr_at(step) for step in (0, 10, 20)] == pytest.approx([0.00064, 0.0032, 0.016])
    assert config(**EVEN, warmup={"name": "linear", "epochs": 4, "start_factor": 0}).lr_at(0) == 0


def test_warmup_is_taken_out_of_the_cosine():
    run = config(**EVEN, schedule={"name": "cosine", "min_factor": 0}, warmup={"name": "linear", "epochs": 2})
    assert run.lr_at(20) == 0.4  # the whole cosine is still to come
    assert run.lr_at(60) == pytest.approx(0.2)
    assert run.lr_at(100) == pytest.approx(0, abs=1e-15)


def test_milestones_count_from_the_start_of_the_run():
    run = config(
        **EVEN, schedule={"name": "multistep", "milestones": [5]}, warmup={"name": "linear", "epochs": 2}
    )
    assert [run.lr_at(20), run.lr_at(49), run.lr_at(50)] == [0.4, 0.4, pytest.approx(0.04)]


def test_a_milestone_at_the_end_of_warmup_is_in_time():
    run = config(
        **ODD, schedule={"name": "multistep", "milestones": [2]}, warmup={"name": "linear", "epochs": 2}
    )
    assert run.lr_at(22) == pytest.approx(0.04)


schedules = st.one_of(
    st.just("constant"),
    st.builds(
        lambda n, f: {"name": n, "min_factor": f}, st.sampled_from(["cosine", "linear"]), st.floats(0, 1)
    ),
    st.builds(
        lambda m, g: {"name": "multistep", "milestones": sorted(m), "gamma": g},
        st.lists(st.floats(0.1, 3.9), unique=True, max_size=3),
        st.floats(0.01, 1),
    ),
)


@given(
    schedule=schedules,
    epochs=st.integers(4, 12),
    batch_size=st.integers(60, 1442),
    warmup_epochs=st.floats(0.01, 3.9),
    warmup=st.sampled_from(["linear", "exponential"]),
    start_factor=st.floats(1e-6, 1),
)
def test_a_rate_rises_to_the_peak_and_falls_from_it(
    schedule, epochs, batch_size, warmup_epochs, warmup, start_factor
):
    run = config(
        epochs=epochs,
        batch_size=batch_size,
        schedule=schedule,
        warmup={"name": warmup, "epochs": warmup_epochs, "start_factor": start_factor},
    )
    every = rates(run)
    handover = math.ceil(warmup_epochs * run.steps_per_epoch)
    rising, falling = every[:handover], every[handover:]
    assert all(before <= after * (1 + 1e-12) for before, after in itertools.pairwise(rising))
    assert all(before >= after for before, after in itertools.pairwise(falling))
    assert all(0 <= rate <= 0.4 * (1 + 1e-12) for rate in every)
    assert rising[0] == pytest.approx(0.4 * start_factor)


@pytest.mark.parametrize("images", [50_000, 4_096, 25_600])
def test_a_constant_warmup_ends_after_so_many_steps(images):
    """400 steps at a hundredth of the peak, then the schedule, as for the source's ResNet-110."""
    data = {"train_size": images} if images < 50_000 else {}
    each = images // 128
    run = TrainConfig.from_dict(
        {"model": {"name": "resnet", "depth": 20}, "dataset": "cifar10", "epochs": 200, "lr": 0.1, **data}
        | {"warmup": {"name": "constant", "epochs": float(f"{400 / each:.12g}"), "start_factor": 0.01}}
        | {"schedule": {"name": "multistep", "milestones": [80, 120]}}
    )
    assert {run.lr_at(step) for step in range(400)} == {0.001}
    assert run.lr_at(400) == 0.1
    assert [run.lr_at(epoch * each) for epoch in (79, 80, 120)] == pytest.approx([0.1, 0.01, 0.001])
