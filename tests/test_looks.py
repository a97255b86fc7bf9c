"""`seeds: auto` and `skip_hopeless`: what the records ask for, through plan, launch, resume and status."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import main
from gridrun import verdicts
from gridrun.errors import GridError
from gridrun.grid import Grid, load_grid
from gridrun.grid.looks import AdaptiveSeeds
from gridrun.looks import hopeless, most_more, settle
from gridrun.plan import make_plan
from gridrun.store import Store
from gridrun.store.records import Record
from gridrun.sweep import plan_launch
from gridrun.sweep.later_seeds import with_later_seeds
from gridrun.tables.build import tables_of
from gridrun.trial import Trial
from gridrun.verdicts import Pool, Runs

GRID = """
base: {model: {name: resnet, depth: 8}, dataset: cifar10, epochs: 1}
axes: {lr: [0.1, 0.2, 0.3]}
seeds: auto
tables:
  - published:
      - {lr: 0.1, test_error: 10.0, runs: 100}
      - {lr: 0.2, test_error: 10.0, runs: 100}
"""


def grid_of(folder: Path, text: str = GRID, **options: Any) -> Grid:
    path = folder / "one.yaml"
    path.write_text(text)
    return load_grid(path, **options)


def record(trial: Trial, error: float | None, status: Any = "done") -> Record:
    return Record(
        trial_id=trial.trial_id,
        config_id=trial.config_id,
        seed=trial.seed,
        status=status,
        config=trial.config.flat(),
        config_json=json.dumps(trial.config.canonical()),
        ended_at=f"2026-01-01T00:00:{trial.seed:02}.000+00:00",
        test_error=error,
    )


def train(store: Store, grid: Grid, *errors: float) -> None:
    """Add what is missing: a run of each row has its error, and up to 0.15 points more or less by seed."""
    for row, error in zip(grid.rows, errors, strict=True):
        for trial in row.trials:
            if not store.end(trial.trial_id):
                store.add(record(trial, error + (-0.0015, 0.0, 0.0015)[trial.seed % 3]))


def counts(grid: Grid) -> list[int]:
    return [len(row.seeds) for row in grid.rows]


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("auto", (3, 5, 8, 12)),
        ("{}", (3, 5, 8, 12)),
        ("{min: 4, max: 20}", (4, 5, 8, 12, 20)),
        ("{max: 6}", (3, 5, 6)),
        ("{max: 2}", (2,)),
        ("{looks: [2, 4, 9]}", (2, 4, 9)),
        ("{min: 3, max: 30, looks: [10]}", (3, 10, 30)),
    ],
)
def test_looks_of_a_grid(tmp_path: Path, text: str, looks: tuple[int, ...]) -> None:
    grid = grid_of(tmp_path, GRID.replace("auto", text))
    (seeds, *_) = (row.seeds for row in grid.rows)
    assert isinstance(seeds, AdaptiveSeeds)
    assert seeds.looks == looks
    assert counts(grid) == [looks[0]] * 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("always", "a list of whole numbers or auto, got 'always'"),
        ("{min: 5, max: 4}", "min (5) is above max (4)"),
        ("{looks: [5, 3]}", "must be increasing"),
        ("{max: 8, looks: [3, 9]}", "must be between min (3) and max (8)"),
        ("{max: 5000}", "more than 1,000"),
        ("{most: 5}", "unknown key"),
    ],
)
def test_looks_that_cannot_be_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(GridError, match=r"one\.yaml:4.*seeds") as caught:
        grid_of(tmp_path, GRID.replace("auto", text))
    assert problem in str(caught.value)


def test_the_looks_spend_five_percent_together() -> None:
    looks = (3, 5, 8, 12)
    spent = [1 - AdaptiveSeeds(looks, n).confidence for n in looks]
    assert spent == pytest.approx([0.05 * 3 / 12, 0.05 * 2 / 12, 0.05 * 3 / 12, 0.05 * 4 / 12])
    assert AdaptiveSeeds(looks, 4).confidence == AdaptiveSeeds(looks, 5).confidence, "on the way to a look"


def test_ids_are_those_of_a_fixed_number(tmp_path: Path) -> None:
    auto, fixed = grid_of(tmp_path), grid_of(tmp_path, GRID.replace("auto", "3"))
    assert [t.trial_id for t in auto.trials] == [t.trial_id for t in fixed.trials]
    assert counts(grid_of(tmp_path, seeds=7)) == [7, 7, 7]
    assert not most_more([grid_of(tmp_path, seeds=7)])
    assert most_more([auto]) == 27


def test_rows_get_seeds_while_their_verdict_is_open(tmp_path: Path) -> None:
    """Row 0 is open to the end, row 1 is far worse, row 2 has nothing to be compared with."""
    store, grid = Store(tmp_path / "results"), grid_of(tmp_path)
    store.create()
    found = []
    for _ in range(5):
        (settled,) = settle([grid], store)
        found.append(counts(settled))
        train(store, settled, 0.101, 0.15, 0.2)
    assert found == [[3, 3, 3], [5, 3, 3], [8, 3, 3], [12, 3, 3], [12, 3, 3]]
    (settled,) = settle([grid], store)
    (table,) = tables_of([settled], store)
    first, second, _ = (line.cells["test_error"] for line in table.lines)
    assert (first.n, first.verdict, second.n, second.verdict) == (12, "open", 3, "worse")
    assert any(note.startswith("seeds: auto: a row got more seeds while") for note in table.notes)
    assert any("3 5 8 12" in note for note in table.notes)


def test_a_look_that_has_begun_is_completed_and_an_incomplete_one_decides_nothing(tmp_path: Path) -> None:
    store, grid = Store(tmp_path / "results"), grid_of(tmp_path)
    store.create()
    (row, *_) = grid.rows
    for trial in row.trials[:2]:
        store.add(record(trial, 0.1))
    assert counts(settle([grid], store)[0]) == [3, 3, 3]
    store.add(record(Trial(row.config, 3), 0.5))  # decided or not: its look has begun
    assert counts(settle([grid], store)[0]) == [5, 3, 3]


def test_a_row_that_is_open_gets_seeds_also_if_another_has_all(tmp_path: Path) -> None:
    store, grid = Store(tmp_path / "results"), grid_of(tmp_path)
    store.create()
    for row, n in zip(grid.rows, (12, 3, 0), strict=True):
        for seed in range(n):
            store.add(record(Trial(row.config, seed), 0.101 + (-0.0015, 0.0, 0.0015)[seed % 3]))
    assert counts(settle([grid], store)[0]) == [12, 5, 3]


def test_grids_with_and_without_fixed_seeds_are_settled_side_by_side(tmp_path: Path) -> None:
    store, auto = Store(tmp_path / "results"), grid_of(tmp_path)
    fixed = grid_of(tmp_path, GRID.replace("auto", "2"))
    store.create()
    train(store, auto, 0.101, 0.15, 0.2)
    first, second = settle([fixed, auto], store)
    assert first is fixed
    assert counts(second) == [5, 3, 3]


def test_a_launch_looks_when_all_seeds_of_a_row_have_ended(tmp_path: Path) -> None:
    store, grid = Store(tmp_path / "results"), grid_of(tmp_path)
    store.create()
    errors = {row.config_id: error for row, error in zip(grid.rows, (0.101, 0.15, 0.2), strict=True)}

    def end(trial: Trial) -> None:
        spread = (-0.0015, 0.0, 0.0015)[trial.seed % 3]
        store.add(record(trial, errors[trial.config_id] + spread))

    more = with_later_seeds([grid], store, make_plan([grid], {}), lambda trial: ())
    found = []
    for trial in grid.trials:
        end(trial)
        found.append([each.trial for each in more(trial)])
    assert [len(later) for later in found] == [0, 0, 2, 0, 0, 0, 0, 0, 0]  # row 0 is open
    assert found[2] == [Trial(grid.rows[0].config, seed) for seed in (3, 4)]
    end(found[2][1])  # by another launch, which does not tell
    end(found[2][0])
    assert len(list(more(found[2][0]))) == 3


def test_a_comparison_gives_seeds_to_both_rows(tmp_path: Path) -> None:
    text = GRID.partition("tables")[0] + "compare: {by: lr, to: 0.1}"
    store, grid = Store(tmp_path / "results"), grid_of(tmp_path, text)
    store.create()
    train(store, grid, 0.1, 0.1015, 0.2)
    assert counts(settle([grid], store)[0]) == [5, 5, 3]
    store = Store(tmp_path / "other")
    store.create()
    train(store, grid, 0.1, 0.15, 0.2)
    assert counts(settle([grid], store)[0]) == [3, 3, 3]


def test_far_off_rows_go_last(tmp_path: Path) -> None:
    text = GRID.replace("auto", "3") + "skip_hopeless: true"
    store, grid = Store(tmp_path / "results"), grid_of(tmp_path, text)
    store.create()
    # published 10 %, the binomial sigma of the difference is 0.42 points: 10.5 % is not far off, 20 % is
    for row, error in zip(grid.rows, (0.2, 0.105, 0.11), strict=True):
        store.add(record(row.trials[0], error))
    (far, *_) = grid.rows
    assert hopeless([grid], store) == set(far.trial_ids[1:])
    assert not hopeless([grid_of(tmp_path, GRID)], store)
    from gridrun.commands._sweep_options import SweepOptions
    from gridrun.plan import forecast_from

    options = SweepOptions(cpus=1, gpus=0).resolve([grid])
    plan = plan_launch([grid], store, options)
    order = forecast_from(store, plan, plan.to_start, options.capacity).trials
    assert [trial.trial_id for trial in order[-2:]] == list(far.trial_ids[1:])


def test_far_off_is_five_sigmas_of_the_difference(tmp_path: Path) -> None:
    """Against 10 %, 5 sqrt((0.09 + p (1 - p)) / 10,000) is 0.02221 for p = 0.1222 and for p = 0.1223."""
    text = GRID.replace("auto", "3") + "skip_hopeless: true"
    store, grid = Store(tmp_path / "results"), grid_of(tmp_path, text)
    store.create()
    near, far, best = grid.rows
    for row, error in ((near, 0.1222), (far, 0.1223), (best, 0.05)):
        store.add(record(row.trials[0], error))
    assert hopeless([grid], store) == set(far.trial_ids[1:])


def test_rows_of_which_none_has_learnt_are_all_hopeless(tmp_path: Path) -> None:
    text = GRID.partition("tables")[0].replace("auto", "2") + "skip_hopeless: true"
    store, grid = Store(tmp_path / "results"), grid_of(tmp_path, text)
    store.create()
    first, second, _ = grid.rows  # the third has not run
    for row in (first, second):
        store.add(record(row.trials[0], 0.9))
    assert hopeless([grid], store) == {first.trial_ids[1], second.trial_ids[1]}


def test_diverged_and_guessing_rows_are_hopeless(tmp_path: Path) -> None:
    text = GRID.partition("tables")[0].replace("auto", "2") + "skip_hopeless: true"
    store, grid = Store(tmp_path / "results"), grid_of(tmp_path, text)
    store.create()
    first, second, third = grid.rows
    store.add(record(first.trials[0], 0.1))
    store.add(record(second.trials[0], 0.9))
    store.add(record(third.trials[0], None, "diverged"))
    assert hopeless([grid], store) == {second.trial_ids[1], third.trial_ids[1]}


def test_a_first_seed_without_any_error_is_not_hopeless(tmp_path: Path) -> None:
    """Against 0 %, 0.1 % is 3.2 binomial sigmas of 10,000 images off, and 1 % is 10."""
    text = GRID.partition("tables")[0].replace("auto", "2") + "skip_hopeless: true"
    store, grid = Store(tmp_path / "results"), grid_of(tmp_path, text)
    store.create()
    for row, error in zip(grid.rows, (0.0, 0.001, 0.01), strict=True):
        store.add(record(row.trials[0], error))
    assert hopeless([grid], store) == {grid.rows[2].trial_ids[1]}


def test_a_launch_trains_later_seeds_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits, one epoch: 2 seeds cannot tell two rates apart, so there are later looks."""
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text(
        "base: {model: {name: resnet_preact, depth: 8, initial_channels: 8}, dataset: digits, epochs: 2}\n"
        "axes: {lr: [0.1, 0.11]}\n"
        "seeds: {min: 2, max: 4, looks: [2, 3, 4]}\n"
        "compare: {by: lr, to: 0.1}\n"
    )
    run = lambda *arguments: CliRunner().invoke(main, arguments)  # noqa: E731
    plan = run("plan", "one.yaml", "--gpus", "0")
    assert "4 missing" in plan.output
    assert "seeds: auto: up to 4 more trials" in plan.output
    launched = run("launch", "one.yaml", "--executor", "serial", "--gpus", "0")
    assert launched.exit_code == 0, launched.output
    (settled,) = settle([load_grid("one.yaml")], Store("results"))
    assert counts(settled)[0] == counts(settled)[1] > 2
    assert {Store("results").ended(t.trial_id) for t in settled.trials} == {"done"}
    again = run("plan", "one.yaml", "--gpus", "0")
    assert f"{sum(counts(settled))} trials: {sum(counts(settled))} done" in again.output
    assert "missing" not in run("status", "one.yaml").output
    assert "no longer" not in again.output


def simulated(draw: random.Random, shift: float, looks: tuple[int, ...]) -> tuple[str, int]:
    """Return the verdict on one row and the seeds it took; the spread is known from 40 degrees of freedom."""
    error, published = 0.06, 30
    sigma = Pool(0.31, 1, 1, 1.0).sigma(error, 10_000)
    theirs = draw.gauss(error - shift * sigma, sigma * verdicts.median_variance(published) ** 0.5)
    phi = 0.31 * sum(draw.gauss(0, 1) ** 2 for _ in range(40)) / 40
    errors: list[float] = []
    for n in looks:
        errors += [draw.gauss(error, sigma) for _ in range(n - len(errors))]
        runs = Runs(tuple(errors), 10_000, 10)
        found = verdicts.compare(runs, theirs, verdicts.median_variance(published), Pool(phi, 40, 20, 1.0))
        verdict = found.verdict(0.0, AdaptiveSeeds(looks, n).confidence)
        if verdict != "open":
            break
    return verdict, n


def test_adaptive_seeds_are_wrong_in_at_most_five_percent_and_take_fewer() -> None:
    draw, looks, rows = random.Random(7), (3, 5, 8, 12), 2000
    same = [simulated(draw, 0.0, looks) for _ in range(rows)]
    wrong = sum(verdict != "open" for verdict, _ in same) / rows
    assert 0.015 < wrong <= 0.05
    other = [simulated(draw, 2.0, looks) for _ in range(rows)]
    assert sum(verdict == "worse" for verdict, _ in other) / rows > 0.95
    assert sum(n for _, n in other) / rows < 6
