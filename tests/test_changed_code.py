"""Trials that were trained with other source files than today's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from by_hand import H200, Spec, build, record, row
from click.testing import CliRunner
from tiny import config

import cli
from gridrun.changed_code import changed_sources, is_of_today, source_notes
from gridrun.store import Store
from trainer import TrainConfig, sources
from trainer.sources import sources as sources_of

GRID = """
base: {dataset: digits, model: {name: resnet_preact, depth: 8, initial_channels: 4}, train_size: 32,
       batch_size: 32, epochs: 1}
seeds: 2
"""


def test_a_config_names_its_parts_and_what_they_build_on() -> None:
    augmentation = {"cutout": True, "mixup": {"alpha": 1}}
    model = {"name": "se_resnet_preact", "depth": 20}
    found = sources_of(TrainConfig.from_dict({"model": model, "epochs": 2, "augmentation": augmentation}))
    parts = ("models/se_resnet_preact", "schedules/cosine", "optimizers/sgd", "augmentations/cutout")
    assert {f"trainer/{part}" for part in parts} < set(found)
    assert not {"trainer/models", "trainer/augmentations", "trainer/registry"} & set(found)
    assert all(len(digest) == 12 for digest in found.values())


def test_helpers_that_several_parts_import_are_named_too() -> None:
    found = sources_of(
        TrainConfig.from_dict(
            {"model": {"name": "resnet_preact", "depth": 20}, "epochs": 2, "augmentation": {"cutout": True}}
        )
    )
    assert {"trainer/models/_layers", "trainer/models/_macs", "trainer/augmentations/_boxes"} < set(found)
    assert "trainer/models/_whitening" not in found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"augmentation": {"randaugment": True}}, "augmentations/policy/operations"),
        ({"augmentation": {"dual_cutout": True}}, "augmentations/cutout"),
        ({"model": {"name": "resnext", "depth": 29}}, "models/resnet/network"),
        ({"ema_decay": 0.9}, "averages/ema"),
    ],
)
def test_what_a_part_takes_from_another_is_named(options: dict[str, Any], expected: str) -> None:
    config = {"model": {"name": "resnet_preact", "depth": 20}, "epochs": 2, **options}
    found = sources_of(TrainConfig.from_dict(config))
    assert f"trainer/{expected}" in found
    assert not {name for name in found if name.startswith("trainer/data/") or name.count("/") < 2}


def test_an_edit_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "part"
    (package / "inside").mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1")
    (package / "inside" / "network.py").write_text("relu")
    monkeypatch.setattr(sources, "_places", lambda cls: frozenset({("part", package)}))
    before = sources_of(config())["part"]
    assert sources_of(config())["part"] == before
    (package / "inside" / "network.py").write_text("tanh")
    after = sources_of(config())["part"]
    assert after != before
    (package / "notes.txt").write_text("no code")
    assert sources_of(config())["part"] == after


@pytest.mark.parametrize(
    "recorded", [None, "", "[]", "{", "null", '{"trainer/schedules/cosine": 5}', "[" * 5000]
)
def test_a_record_that_says_nothing_is_no_finding(recorded: str | None) -> None:
    assert changed_sources(sources_of(config()), recorded) == []


def test_a_part_is_of_today_if_its_record_has_todays_digest() -> None:
    now = sources_of(config())
    path, *_ = sorted(now)
    assert is_of_today(path, config(), json.dumps(now))
    assert not is_of_today(path, config(), json.dumps({**now, path: "0" * 12}))
    assert not is_of_today(path, config(), None), "nothing is known of it"


def test_notes_count_trials() -> None:
    now = sources_of(config())
    path = min(now)
    other = json.dumps({**now, path: "0" * 12, "trainer/models/gone": "1" * 12})
    trials = [(config(), json.dumps(now)), (config(), other), (config(), other), (config(), None)]
    assert list(source_notes(trials)) == [f"2 of 4 trials trained with another {path} than today's"]


def test_a_table_says_so() -> None:
    one = row()
    then = replace(H200, sources=json.dumps({"trainer/schedules/cosine": "0" * 12}))
    found = [record(one, 0, test_error=0.1), record(one, 1, test_error=0.1, provenance=then)]
    assert "1 of 2 trials trained with another trainer/schedules/cosine than today's" in (
        build(Spec((one,)), range(2), *found).notes
    )


def test_a_launch_records_them_and_a_plan_compares(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    (tmp_path / "grid.yaml").write_text(GRID)
    options = [str(tmp_path / "grid.yaml"), "--results", str(tmp_path / "results")]
    run = CliRunner().invoke(cli.main, ["launch", *options, "--executor", "serial"])
    assert run.exit_code == 0, run.output
    rows = Store(tmp_path / "results").rows()
    assert {"trainer/models/resnet_preact", "trainer/datasets/digits"} < set(
        json.loads(next(iter(rows.values()))["sources"])
    )
    assert "trained with another" not in CliRunner().invoke(cli.main, ["plan", *options]).output
    today = sources.digest_of_source
    monkeypatch.setattr(
        "gridrun.changed_code.digest_of_source",
        lambda path: "0" * 12 if path.name == "resnet_preact" else today(path),
    )
    told = CliRunner().invoke(cli.main, ["plan", *options])
    assert told.exit_code == 0
    assert (
        "Note: 2 of 2 trials trained with another trainer/models/resnet_preact than today's." in told.output
    )
