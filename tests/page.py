"""A store for the report page: a grid with hostile names, trials of every status, a search."""

from __future__ import annotations

import math
from pathlib import Path

from gridrun.grid import Grid, load_grid
from gridrun.store import Store
from gridrun.store.lineage import LineageRow
from gridrun.store.records import Provenance, Record
from gridrun.trial import Trial
from trainer.metrics import Epoch

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">{{title}}"
GRID = r"""
title: "Batch size & rate </script><img src=x onerror=\"document.title='owned'\">{{title}}"
source: "A paper <b>of</b> 1998"
base: {model: {name: resnet_preact, depth: 8}, dataset: digits, epochs: 4}
axes:
  - lr: [0.001, 0.01, 0.1, 1]
  - zip:
      batch_size: [32, 64, 128]
      weight_decay: [0.001, 0.002, 0.003]
seeds: 3
tables:
  - id: rates
    columns: [model, batch_size, lr, test_error, train_time]
    headers: {lr: "rate <i onmouseover=\"document.title='owned'\">"}
    published: [{batch_size: 32, lr: 0.1, test_error: 3.5, runs: 5}]
"""
CASES = r"""
title: Names that want to be markup
base: {model: {name: resnet_preact, depth: 8}, dataset: digits, epochs: 4}
axes:
  - cases:
      - {name: "</script><img src=x onerror=\"document.title='owned'\">{{title}}", lr: 0.1}
      - {name: "=cmd|' /C calc'!A0, \"quoted\"", lr: 0.2}
      - {name: 'a|b `c` $d$ [e](javascript:alert(1)) \n {b}', lr: 0.3}
      - {name: "{a} {b} {c|d}", lr: 0.4}
seeds: 2
tables: [{columns: [name, lr, test_error]}]
"""


def write_grids(directory: Path) -> list[Grid]:
    """Write the two grid files and load them."""
    found = []
    for name, text in (("rates", GRID), ("cases", CASES)):
        path = directory / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        found.append(load_grid(path))
    return found


def error_of(trial: Trial) -> float:
    """Return an error that falls with the logarithm of the rate, and differs a little by seed."""
    config = trial.config
    return round(
        0.04 - 0.01 * math.log10(config.lr) / 3 + config.batch_size / 1e5 + 0.001 * (trial.seed - 1), 6
    )


def record(trial: Trial, number: int, status: str = "done") -> Record:
    """Return the record of a trial of four epochs that began `number` minutes after midnight."""
    error = error_of(trial)
    curve = tuple(
        Epoch(
            epoch=epoch,
            lr=trial.config.lr / epoch,
            train_loss=2.0 / epoch,
            train_error=error / 2 + 0.5 / epoch**2,
            test_loss=None if epoch == 2 else 2.5 / epoch,
            test_error=error + 0.4 / epoch - 0.1,
            train_seconds=9.0,
        )
        for epoch in range(1, 5)
    )
    is_done = status == "done"
    return Record(
        trial_id=trial.trial_id,
        config_id=trial.config_id,
        seed=trial.seed,
        status=status,  # type: ignore[arg-type]
        config=trial.config.flat(),
        config_json="{}",
        started_at=f"2026-01-01T{number // 60:02d}:{number % 60:02d}:00+00:00",
        ended_at=f"2026-01-01T{number // 60:02d}:{number % 60:02d}:50+00:00",
        test_error=error if is_done else None,
        train_loss=0.5 if is_done else None,
        train_seconds=36.0,
        epochs_trained=4,
        num_params=1234,
        failure=None if is_done else "exception" if status == "failed" else "divergence",
        error=None if is_done else f"ValueError: {HOSTILE}",
        traceback=None if is_done else f"Traceback:\n  File <x>\nValueError: {HOSTILE}",
        provenance=Provenance(host="node-1", cpu="A CPU", device="cpu", threads=1, commit="a" * 40),
        epochs=() if status == "failed" else curve,
    )


def fill(store: Store, grids: list[Grid]) -> None:
    """Add all trials but the last of each grid; one has failed, one has diverged."""
    store.create()
    number = 0
    for grid in grids:
        for trial in grid.trials[:-1]:
            status = {3: "failed", 7: "diverged"}.get(number, "done") if grid.name == "rates" else "done"
            store.add(record(trial, number, status))
            number += 1
    store.compact(now=True)


def lineage(search_id: str) -> list[LineageRow]:
    """Return two rounds of three members; in the second, member 2 goes on from member 0."""
    rows = []
    for number in (1, 2):
        for member in range(3):
            donor = 0 if (number, member) == (2, 2) else None
            parent = member if donor is None else donor
            rows.append(
                LineageRow(
                    search_id=search_id,
                    name="search",
                    round=number,
                    member=member,
                    seed=member,
                    first_epoch=3 * number - 2,
                    last_epoch=3 * number,
                    trial_id=f"{10 * number + member:016x}",
                    parent_id=f"{10 + parent:016x}" if number > 1 else None,
                    donor=donor,
                    policy=f"[[posterize, 0.{member}, 3]] {HOSTILE}",
                    val_error=0.3 - 0.05 * number + 0.01 * member if donor is None else 0.15,
                )
            )
    return rows
