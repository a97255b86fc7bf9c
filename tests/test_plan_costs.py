"""Estimates of trials, against numbers computed by hand."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gridrun.plan.costs import PAST_COLUMNS, Cost, Costs, speed_key
from gridrun.resources import ANOTHER_GPU, HARDWARE_KEYS, Hardware, hardware_of
from gridrun.store import Store
from gridrun.trial import Trial, config_id, config_of
from trainer import TrainConfig

ROOT = Path(__file__).parent.parent
CPU = Hardware("Xeon, 1 thread", is_gpu=False)
GPU = Hardware("H200", is_gpu=True)


def config(**options: Any) -> TrainConfig:
    base = {"model": {"name": "resnet_preact", "depth": 8}, "epochs": 10, "dataset": "cifar10"}
    return TrainConfig.from_dict(base | options)


def past(one: TrainConfig, seconds: float, **more: Any) -> dict[str, Any]:
    row = {
        "trial_id": "0" * 16,
        "config_id": config_id(one),
        "config_json": json.dumps(one.canonical()),
        "status": "done",
        "started_at": None,
        "ended_at": "2026-01-01T00:00:00+00:00",
        "resumes": 0,
        "train_seconds": seconds,
        "energy_kwh": None,
        "macs": 1,
        "gpu": None,
        "cpu": "Xeon",
        "device": "cpu",
        "threads": 1,
        "gpu_share": None,
    }
    assert row.keys() == set(PAST_COLUMNS)
    return row | more


def of(costs: Costs, one: TrainConfig) -> Cost:
    return costs.of(one, config_id(one))


def test_the_same_config_takes_the_median_of_what_it_took() -> None:
    one = config()
    costs = Costs([past(one, seconds) for seconds in (9.0, 1.0, 2.0)], CPU)
    assert of(costs, one) == Cost(2.0, "same")
    assert costs.trust == "from 3 trials of this store on Xeon, 1 thread"


def test_the_same_network_is_scaled_by_images() -> None:
    costs = Costs([past(config(), 100.0)], CPU)
    assert of(costs, config(epochs=30, lr=0.2, schedule="constant")) == Cost(pytest.approx(300.0), "network")
    assert of(costs, config(train_size=5000)).amount == pytest.approx(100.0 * (5000 // 128) / (50000 // 128))


def test_another_network_is_scaled_by_macs_if_only_one_trial_is_done() -> None:
    small, large = config(), config(model={"name": "resnet_preact", "depth": 56})
    costs = Costs([past(small, 100.0)], CPU)
    spec = small.dataset.spec
    ratio = (large.model.macs(spec) or 0) / (small.model.macs(spec) or 1)
    # A guess: three times either way, and further by the fourth root of how much larger the network is.
    assert of(costs, large) == Cost(pytest.approx(100.0 * ratio), "fitted", pytest.approx(3 * ratio**0.25))
    assert [of(costs, one).rests_on for one in (small, config(epochs=3), large)] == [
        "measured",
        "scaled",
        "guessed",
    ]
    assert Cost(1.0, "same", 1.5).rests_on == "guessed"
    # Twice the GPUs and the same batch on each: half the time.
    assert of(costs, config(num_gpus=2)).amount == pytest.approx(50.0, rel=0.01)
    # 1 + 32 / 32 over 1 + 32 / 128, for the same images.
    smaller = config(batch_size=32)
    assert of(costs, smaller).amount == pytest.approx(
        100.0 * 1.6 * smaller.num_images / small.num_images, rel=1e-6
    )


def test_the_fit_learns_the_cost_of_batches() -> None:
    """A machine on which the batch size makes no difference, and small networks gain nothing."""
    networks = [{"name": "resnet_preact", "depth": depth} for depth in (8, 14, 20, 32, 44, 56)]
    known = [config(model=model, batch_size=size) for model in networks for size in (8, 32, 128, 512)]
    costs = Costs([past(one, one.num_images * 1e-3) for one in known], CPU)
    new = config(model={"name": "resnet_preact", "depth": 26}, batch_size=64)
    found = of(costs, new)
    assert found.amount == pytest.approx(new.num_images * 1e-3, rel=0.1)
    assert found.rests_on == "guessed"


def test_two_networks_teach_what_macs_cost_and_the_nearest_how_sure_that_is() -> None:
    """Ridge regression by hand. The larger network has e^L times the MACs and takes as long an image.

    In logarithms MACs lie at -L/2 and L/2. The prior says a slope of 1, the times say 0. The ridge of 1 holds
    it at 1 - (L^2 / 2) / (L^2 / 2 + 1).
    """
    small, large, other = (config(model={"name": "resnet_preact", "depth": depth}) for depth in (8, 32, 56))
    macs = [one.model.macs(one.dataset.spec) or 0 for one in (small, large, other)]
    costs = Costs([past(small, 100.0), past(large, 100.0)], CPU)
    apart = math.log(macs[1] / macs[0])
    slope = 1 / (apart**2 / 2 + 1)
    from_middle = math.log(macs[2] / math.sqrt(macs[0] * macs[1]))
    factor = 3 * (macs[2] / macs[1]) ** 0.25
    amount = 100 * math.exp(slope * from_middle)
    assert of(costs, other) == Cost(pytest.approx(amount), "fitted", pytest.approx(factor))
    assert amount < 100 * macs[2] / macs[1], "less than in proportion to the nearest"
    bf16 = config(model={"name": "resnet_preact", "depth": 56}, precision="mixed_bf16")
    assert of(costs, bf16).amount == pytest.approx(amount), "nothing says what a precision costs"
    elsewhere = Costs([past(small, 100.0), past(large, 100.0)], Hardware("Epyc, 1 thread", is_gpu=False))
    assert of(elsewhere, other).factor == pytest.approx(3 * factor)


def test_running_trials_give_estimates_before_any_has_ended() -> None:
    small, large = config(), config(model={"name": "resnet_preact", "depth": 56})
    costs = Costs([], CPU, {Trial(small, 0): 80.0})
    assert not costs.is_relative
    assert of(costs, small) == Cost(80.0, "same")
    assert of(costs, config(epochs=20)) == Cost(pytest.approx(160.0), "network")
    assert of(costs, large).basis == "fitted"
    more = Costs([past(small, 100.0)], CPU, {Trial(small, 1): 80.0, Trial(large, 0): 700.0})
    assert of(more, small) == Cost(90.0, "same")
    assert of(more, large) == Cost(700.0, "same")
    assert more.num_past == 1, "these are no trials of the store yet"


def test_without_done_trials_costs_only_tell_long_from_short() -> None:
    costs = Costs([], CPU)
    assert costs.is_relative
    assert "relative only" in costs.trust
    plain = of(costs, config())
    assert plain.basis == "macs"
    assert of(costs, config(epochs=20)).amount == pytest.approx(2 * plain.amount)
    assert of(costs, config(model={"name": "resnet_preact", "depth": 20})).amount > 2 * plain.amount
    assert of(costs, config(batch_size=8)).amount > plain.amount
    assert of(costs, config(num_gpus=2)).amount < plain.amount
    one, two, small = (config(train_size=25600, **more) for more in ({}, {"num_gpus": 2}, {"batch_size": 32}))
    assert one.num_images == two.num_images == small.num_images
    assert of(costs, two).amount == of(costs, one).amount / 2
    assert of(costs, small).amount == pytest.approx(of(costs, one).amount * (1 + 32 / 32) / (1 + 32 / 128))


def test_only_done_trials_of_the_same_hardware_count() -> None:
    one = config()
    gpu = {"gpu": "H200", "device": "cuda"}
    rows = [past(one, 100.0), past(one, 120.0), past(one, 3.0, **gpu)]
    assert of(Costs(rows, GPU), one).amount == 3.0
    assert of(Costs(rows, CPU), one).amount == 110.0
    other = Costs(rows, Hardware("V100", is_gpu=True))
    assert of(other, one) == Cost(3.0, "same", 3.0), "a GPU stands for a GPU, as a guess"
    assert of(other, one).rests_on == "guessed"
    assert other.trust == "from 1 trial of this store on H200, none on V100"


def test_hardware_that_is_not_known_is_stood_in_for_by_that_of_most_timed_trials() -> None:
    one = config()
    on = {name: {"gpu": name, "device": "cuda"} for name in ("H200", "V100", "A100")}
    rows = [past(one, 3.0, **on["H200"]), *(past(one, seconds, **on["V100"]) for seconds in (8.0, 9.0, 10.0))]
    untimed = [past(one, 0.0, train_seconds=None, **on["A100"]) for _ in range(5)]
    costs = {name: Costs([*rows, *untimed], Hardware(name, is_gpu=True)) for name in ("H200", "T4")}
    assert of(costs["H200"], one) == Cost(3.0, "same"), "its own, though it has fewer"
    assert of(costs["T4"], one) == Cost(9.0, "same", 3.0)
    assert costs["T4"].trust == "from 3 trials of this store on V100, none on T4"


def test_cpus_say_nothing_about_gpus() -> None:
    one = config()
    costs = Costs([past(one, 100.0)], GPU)
    assert costs.is_relative
    assert costs.trust == "relative only: no past trials on a GPU"
    assert of(costs, one).basis == "macs"
    elsewhere = Costs([past(one, 3.0, gpu="H200", device="cuda")], Hardware(ANOTHER_GPU, is_gpu=True))
    assert of(elsewhere, one) == Cost(3.0, "same"), "a GPU without a name here is the one that was measured"


def on_a_busy_machine(row: dict[str, Any]) -> bool:
    """Return whether other programs took most of the machine meanwhile: in the small searches."""
    return config_of(row["config_json"]).train_size == 1000


def test_nine_of_ten_guesses_hold_for_the_recorded_trials() -> None:
    """Each network of results/readme is guessed from the others of its machine, and from any single one.

    The machine is the one of most records. Others have a few, of one recipe in two precisions.
    """
    rows = Store(ROOT / "results" / "readme").rows(columns=PAST_COLUMNS).values()
    rows = [
        row for row in rows if row["status"] == "done" and not row["resumes"] and not on_a_busy_machine(row)
    ]
    machines = Counter(hardware_of(*map(row.get, HARDWARE_KEYS)) for row in rows)
    ((hardware, _),) = machines.most_common(1)
    rows = [row for row in rows if hardware_of(*map(row.get, HARDWARE_KEYS)) == hardware]
    of_network: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        of_network.setdefault(speed_key(config_of(row["config_json"])), []).append(row)
    from_one: list[bool] = []
    from_all: list[bool] = []
    for key, own in of_network.items():
        others = [row for other, found in of_network.items() if other != key for row in found]
        from_one += holding(Costs(own, hardware), others)
        from_all += holding(Costs(others, hardware), own)
    assert len(from_all) > 200
    assert statistics.mean(from_all) >= 0.9
    assert statistics.mean(from_one) >= 0.9


def holding(costs: Costs, rows: list[dict[str, Any]]) -> list[bool]:
    """Return for each recorded trial whether the time it took lies in the range of its guess."""
    found = []
    for row in rows:
        cost = costs.of(config_of(row["config_json"]), row["config_id"])
        assert cost.basis == "fitted"
        took = datetime.fromisoformat(row["ended_at"]) - datetime.fromisoformat(row["started_at"])
        found.append(cost.amount / cost.factor <= took.total_seconds() <= cost.amount * cost.factor)
    return found


def test_rows_without_a_time_or_a_known_config_are_left_out() -> None:
    one = config()
    rows = [
        past(one, 5.0, status="failed"),
        past(one, 5.0, status="diverged"),
        past(one, float("nan")),
        past(one, float("inf")),
        past(one, 0.0),
        past(one, 5.0, train_seconds=None),
    ]
    assert Costs(rows, CPU).is_relative
    assert of(Costs([past(one, 0.25)], CPU), one) == Cost(0.25, "same"), "short, but a time"
    gone = past(one, 7.0, config_id="f" * 16, config_json='{"model": {"name": "of_long_ago"}}')
    costs = Costs([gone, past(one, 5.0)], CPU)
    assert of(costs, config(epochs=20)).amount == pytest.approx(10.0)


def test_evaluation_and_loading_count_but_not_the_import_of_torch() -> None:
    one = config()

    def took(seconds: float) -> dict[str, Any]:
        return past(
            one, 10.0, started_at="2026-01-01T00:00:00+00:00", ended_at=f"2026-01-01T00:00:{seconds:02}+00:00"
        )

    assert of(Costs([took(12), took(12), took(40)], CPU), one).amount == pytest.approx(12.0)
    put_back = {**took(12), "started_at": "2026-01-01T00:00:20+00:00"}
    assert of(Costs([put_back], CPU), one).amount == 10.0, "the clock was put back"
    odd = {**took(12), "started_at": "yesterday"}
    assert of(Costs([odd], CPU), one).amount == 10.0
    resumed = {**took(59), "resumes": 1}
    assert of(Costs([took(12), resumed], CPU), one).amount == pytest.approx(12.0)


def test_records_give_the_macs_of_a_network_that_cannot_compute_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.models.resnet_preact import ResNetPreactOptions

    monkeypatch.setattr(ResNetPreactOptions, "macs", lambda self, data: None)
    small, large = config(), config(model={"name": "resnet_preact", "depth": 14})
    costs = Costs([past(small, 10.0, macs=100), past(large, 20.0, macs=200)], CPU)
    # The record of this network, though none of this batch size.
    wider = of(costs, config(model={"name": "resnet_preact", "depth": 14}, batch_size=256))
    assert wider.factor == pytest.approx(3.0), "a network of this size was measured"
    assert wider.amount == pytest.approx(20.0 * (1 + 32 / 256) / (1 + 32 / 128))
    # No record has this network: the median of all records.
    assert of(costs, config(model={"name": "resnet_preact", "depth": 20})).amount == pytest.approx(
        10.0, rel=0.2
    )


def test_networks_of_which_nobody_knows_the_macs_teach_nothing_about_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainer.models.resnet_preact import ResNetPreactOptions

    monkeypatch.setattr(ResNetPreactOptions, "macs", lambda self, data: None)
    known, unknown, running, new = (
        config(model={"name": "resnet_preact", "depth": depth}) for depth in (8, 14, 20, 26)
    )
    rows = [past(known, 10.0, macs=100), past(unknown, 99.0, macs=None)]
    costs = Costs(rows, CPU, {Trial(running, 0): 99.0})
    assert of(costs, new) == Cost(pytest.approx(10.0), "fitted", pytest.approx(3.0))
    alone = Costs([past(unknown, 99.0, macs=None)], CPU)
    assert of(alone, new) == Cost(pytest.approx(99.0), "fitted", pytest.approx(3.0))


def test_hardware_by_hand() -> None:
    assert hardware_of(*map(past(config(), 1.0).get, HARDWARE_KEYS)) == CPU
    assert hardware_of("H200", None, "Xeon", "cuda:0", 1) == GPU
    assert hardware_of("H200", None, "Xeon", "cpu", 2).name == "Xeon, 2 threads"
    assert hardware_of("H200", 0.25, None, "cuda:0", None) == Hardware("0.25 of a H200", is_gpu=True)
    assert hardware_of(float("nan"), None, None, None, float("nan")).name == "unknown"


def test_a_stored_config_is_read_once() -> None:
    text = json.dumps(config().canonical())
    assert config_of(text) == config()
    assert config_of(text) is config_of(text)
