"""Energy: what counters count, and nothing where nobody has measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import cli
from gridrun import energy
from gridrun.energy import Counter, Meter
from gridrun.metrics import METRICS
from gridrun.plan.energy import expected_kwh
from gridrun.resources import Hardware
from gridrun.store import Store
from gridrun.store.records import Provenance, Record
from gridrun.sweep.worker import Setup, run_trial
from gridrun.text import format_amount
from gridrun.trial import Trial
from tests.tiny import config
from trainer import Runtime
from trainer.loop import Interrupted


class Device:
    """A device that has taken some joules."""

    def __init__(self, joules: float = 0.0) -> None:
        self.joules = joules

    def read(self) -> float:
        return self.joules


def meter_of(*devices: Device, wraps_at: float | None = None, **options: Any) -> Meter:
    return Meter([Counter(device.read, wraps_at) for device in devices], **options)


def test_counters_are_added_up() -> None:
    first, second = Device(100.0), Device(5.0)
    meter = meter_of(first, second)
    first.joules, second.joules = 100.0 + 3.6e6, 5.0 + 1.8e6
    assert meter.kwh(resumed=False) == pytest.approx(1.5)


def test_a_counter_that_starts_again_is_followed_and_one_that_may_not_gives_nothing() -> None:
    device = Device(900.0)
    meter = meter_of(device, wraps_at=1000.0)
    for device.joules in (50.0, 800.0, 100.0):  # 150, 750 and 300 more
        meter.update()
    assert meter.kwh(resumed=False) == pytest.approx(1200 / 3.6e6)
    broken = meter_of(device)
    device.joules = 0.0
    assert broken.kwh(resumed=False) is None


def test_without_a_counter_or_after_an_error_there_is_no_number() -> None:
    assert Meter([]).kwh(resumed=False) is None
    device = Device()
    meter = meter_of(device)
    device.read = lambda: 1 / 0  # type: ignore[method-assign]
    meter.counters = [Counter(device.read)]
    assert meter.kwh(resumed=False) is None


def test_what_an_interrupted_trial_took_is_kept_beside_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, checkpoint = Device(), tmp_path / "a.pt"
    monkeypatch.setattr(energy, "rapl_counters", lambda: [Counter(device.read)])
    monkeypatch.setattr("os.cpu_count", lambda: 2)

    def start(threads: int = 2) -> Meter:
        return energy.start(checkpoint, "cpu", 1, 1.0, threads)

    first = start()
    device.joules = 1000.0
    first.keep()
    checkpoint.touch()
    second = start()
    device.joules = 1500.0
    assert second.kwh(resumed=True) == pytest.approx(1500 / 3.6e6)
    assert second.kwh(resumed=False) == pytest.approx(500 / 3.6e6), "the checkpoint could not be used"
    (tmp_path / "a.pt.energy").unlink()
    assert start().kwh(resumed=True) is None, "nobody knows what was before"
    assert start(threads=1).kwh(resumed=False) is None, "others may run on the other core"


def zone(root: Path, name: str, kind: str, microjoules: int) -> Path:
    path = root / name
    path.mkdir(parents=True)
    for file, text in {
        "name": kind,
        "energy_uj": microjoules,
        "max_energy_range_uj": 262_143_000_000,
    }.items():
        (path / file).write_text(f"{text}\n")
    return path


def test_rapl_counts_packages_alone(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 2_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 3_000_000)
    zone(tmp_path, "intel-rapl:2", "psys", 9_000_000)
    found = energy.rapl_counters(tmp_path)
    assert [(counter.read(), counter.wraps_at) for counter in found] == [(2.0, 262_143.0), (3.0, 262_143.0)]
    (first / "energy_uj").unlink()  # as unreadable as it is for all but root
    assert energy.rapl_counters(tmp_path) == []
    assert energy.rapl_counters(tmp_path / "none") == []


def test_nvml_counts_the_trial_s_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"GPU-a": 5000, "GPU-b": 7000, "GPU-c": 9000}
    library = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=taken.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    uuids = ["b", "c"]  # CUDA_VISIBLE_DEVICES hides the first
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda i: SimpleNamespace(uuid=uuids[i]))
    assert [counter.read() for counter in energy.nvml_counters("cuda", 2)] == [7.0, 9.0]
    assert [counter.read() for counter in energy.nvml_counters("cuda:1", 1)] == [9.0]
    taken.pop("GPU-c")  # an old GPU, or a part of one
    assert energy.nvml_counters("cuda", 2) == []
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert energy.nvml_counters("cuda", 1) == []


def setup_of(tmp_path: Path, cache_dir: Path, **runtime: Any) -> Setup:
    Store(tmp_path / "results").create()
    return Setup(
        results=tmp_path / "results",
        runtime=Runtime(cache_dir=cache_dir, data_dir=tmp_path, **runtime),
        code=Provenance(),
        stop_file=tmp_path / "stop",
    )


def test_records_have_what_was_measured_also_over_an_interruption(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, trial = Device(), Trial(config(epochs=3), 0)

    def read() -> float:
        device.joules += 1.0
        return device.joules

    monkeypatch.setattr(energy, "rapl_counters", lambda: [Counter(read)])
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    setup = setup_of(tmp_path, cache_dir, checkpoint_seconds=0.0)
    store = Store(setup.results)

    def stop(_: object) -> None:
        setup.stop_file.touch()
        raise Interrupted

    assert run_trial(trial, setup, lambda epoch: None, store) == "done"
    whole = store.records()[trial.trial_id].energy_kwh
    assert whole is not None
    assert whole * 3.6e6 >= 1
    assert not list((setup.results / ".work" / "checkpoints").iterdir())
    monkeypatch.setattr(energy, "rapl_counters", list)
    other = Trial(config(epochs=3), 1)
    assert run_trial(other, setup, lambda epoch: None, store) == "done"
    assert store.records()[other.trial_id].energy_kwh is None


def gpu_record(**fields: Any) -> Record:
    made = Provenance(gpu="H100", gpu_share=1.0, device="cuda")
    values = {
        "config": {"num_gpus": 2},
        "train_seconds": 1800.0,
        "provenance": made,
        "ended_at": "",
        **fields,
    }
    ids = {"trial_id": "0" * 16, "config_id": "1" * 16, "seed": 0, "status": "done", "config_json": "{}"}
    return Record(**{**ids, **values})


def test_gpu_hours_are_those_of_the_steps() -> None:
    hours = METRICS["gpu_hours"].value_of
    assert hours(gpu_record()) == 1.0  # half an hour on two
    quarter = Provenance(gpu="H100", gpu_share=0.25)
    assert hours(gpu_record(config={"num_gpus": 1}, provenance=quarter)) == 0.125
    assert hours(gpu_record(provenance=Provenance(cpu="x"))) is None
    assert hours(gpu_record(train_seconds=None)) is None


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (0.00123456, "0.00123"), (0.125, "0.125"), (12.34, "12.3"), (99.96, "100"), (1234.5, "1,234")],
)
def test_amounts_have_three_digits(amount: float, text: str) -> None:
    assert format_amount(amount) == text


def past(
    config_id: str, kwh: float | None, minutes: int, gpu: str = "H100", resumes: int = 0
) -> dict[str, Any]:
    return {
        "config_id": config_id,
        "status": "done",
        "energy_kwh": kwh,
        "gpu": gpu,
        "gpu_share": 1.0,
        "cpu": "x",
        "device": "cuda",
        "threads": 1,
        "resumes": resumes,
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": f"2026-01-01T00:{minutes:02}:00+00:00",
    }


def test_expected_energy_is_power_times_time_where_power_was_measured() -> None:
    known, other = Trial(config(), 0), Trial(config(lr=0.2), 0)
    left = {known.trial_id: 3600.0, other.trial_id: 1800.0}
    here = Hardware("H100", is_gpu=True)
    rows = [
        *(past(known.config_id, 0.1, 15), past("f" * 16, 0.3, 30)),  # 0.4 and 0.6 kW
        *(past("f" * 16, None, 30), past("f" * 16, 9.0, 30, gpu="A100"), past("f" * 16, 9.0, 30, resumes=1)),
    ]
    assert expected_kwh([known, other], left, rows, here) == pytest.approx(0.4 + 0.5 * 0.5)
    assert expected_kwh([known], left, rows[2:], here) is None


def test_plan_says_what_it_costs(tmp_path: Path) -> None:
    grid = tmp_path / "grids" / "a.yaml"
    grid.parent.mkdir()
    grid.write_text("base: {model: {name: resnet_preact, depth: 8}, epochs: 1}\nseeds: 4\n")
    from gridrun.grid import load_grid
    from gridrun.sweep.worker import identity_of

    first, *_ = load_grid(grid).trials
    store = Store(tmp_path / "results")
    store.create()
    made = Provenance(gpu="H100", gpu_share=1.0, device="cuda")
    when = {"started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:30:00+00:00"}
    store.add(
        Record(
            **identity_of(first), **when, status="done", test_error=0.1, train_seconds=1800.0, provenance=made
        )
    )
    arguments = ["plan", str(grid), "--results", str(store.root), "--gpus", "1", "--price-per-hour", "2.5"]
    shown = CliRunner().invoke(cli.main, arguments)
    assert shown.exit_code == 0, shown.output
    assert "\ncosts 3.75 at 2.5 for a GPU-hour\n" in shown.output  # three trials of half an hour
    assert "kWh" not in shown.output
    estimate = json.loads(CliRunner().invoke(cli.main, [*arguments, "--json"]).stdout)["estimate"]
    assert (estimate["price"], estimate["kwh"]) == (3.75, None)
