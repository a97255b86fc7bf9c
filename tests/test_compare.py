"""`gridrun compare`: rows, grids, stores and commits against each other, also image by image."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from scipy import stats

from cli import main
from gridrun import evaluation
from gridrun.errors import StoreError
from gridrun.grid import load_grid
from gridrun.paired import paired, read_predictions
from gridrun.store import Store
from gridrun.store.records import Provenance, Record
from gridrun.trial import Trial
from gridrun.verdicts import median_variance
from trainer.evaluation import Evaluation

GRID = """
base: {model: {name: resnet, depth: DEPTH}, dataset: cifar10, epochs: 1}
axes: {lr: [0.1, 0.2]}
seeds: 3
"""


def grid_file(folder: Path, name: str, depth: int) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(GRID.replace("DEPTH", str(depth)))
    return path


def fill(store: Store, grid: Path, *errors: float, commit: str = "a" * 40) -> list[Trial]:
    """Add three runs for each row, 0.1 points apart around its error."""
    store.create()
    trials = []
    for row, error in zip(load_grid(grid).rows, errors, strict=True):
        for trial, shift in zip(row.trials, (-0.001, 0.0, 0.001), strict=True):
            trials.append(trial)
            store.add(record(trial, error + shift, commit))
    return trials


def record(trial: Trial, error: float, commit: str) -> Record:
    return Record(
        trial_id=trial.trial_id,
        config_id=trial.config_id,
        seed=trial.seed,
        status="done",
        config=trial.config.flat(),
        config_json=json.dumps(trial.config.canonical()),
        ended_at=f"2026-01-01T00:00:0{trial.seed}.000+00:00",
        provenance=Provenance(commit=commit),
        test_error=error,
    )


def run(*arguments: Any, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def filled(tmp_path: Path) -> SimpleNamespace:
    store, small, large = (
        Store(tmp_path / "one"),
        grid_file(tmp_path, "small", 8),
        grid_file(tmp_path, "large", 14),
    )
    trials = fill(store, small, 0.10, 0.12), fill(store, large, 0.08, 0.1201)
    return SimpleNamespace(store=store, small=small, large=large, trials=trials, folder=tmp_path)


def test_two_rows_by_the_beginning_of_their_ids(filled: SimpleNamespace) -> None:
    first, second = filled.trials[0][0], filled.trials[1][0]
    output = run(first.config_id[:8], second.trial_id[:8], "--results", filled.store.root)
    assert "model.depth: depth 8 | depth 14" in output
    assert output.count(" | ") == 1, "nothing else differs"
    assert "10.00 (3 runs)  8.00 (3 runs)" in output
    assert output.splitlines()[-1].endswith("worse")
    found = json.loads(run(first.config_id, second.config_id, "--results", filled.store.root, "--json"))
    (pair,) = found["pairs"]
    assert pair["difference"] == pytest.approx(0.02)
    # phi of two rows with variance 1e-6 each: (1e-6 / 9e-6 + 1e-6 / 7.36e-6) / 2; t of 4 degrees: 2.776
    phi = (1 / 9 + 1 / 7.36) / 2
    width = 2.776 * np.sqrt(phi * 0.4487 * (0.09 + 0.0736) / 10_000)
    assert pair["half_width"] == pytest.approx(width, rel=1e-3)


def test_two_grids_row_by_row(filled: SimpleNamespace) -> None:
    lines = run(filled.small, filled.large, "--results", filled.store.root).splitlines()
    assert [line.split("  ")[0] for line in lines[4:6]] == ["lr 0.1", "lr 0.2"]
    assert lines[4].endswith("worse")
    assert "-0.01 ±" in lines[5]
    assert "- 1 of 2 differ if all are looked at together (Holm, 5 %)" in lines


CASES = """
base: {model: {name: resnet, depth: DEPTH}, dataset: cifar10, epochs: 1}
axes: [{cases: [ROWS]}]
seeds: 3
"""


def compared_cases(folder: Path, *sides: tuple[str, tuple[float, ...]]) -> list[tuple[str, float]]:
    """Return of two grids of cases what names each pair of rows, and the difference in points."""
    store, grids = Store(folder / "results"), []
    for depth, (rows, errors) in zip((8, 14), sides, strict=True):
        grids.append(folder / f"{depth}.yaml")
        grids[-1].write_text(CASES.replace("DEPTH", str(depth)).replace("ROWS", rows))
        fill(store, grids[-1], *errors)
    pairs = json.loads(run(*grids, "--results", store.root, "--json"))["pairs"]
    return [(pair["about"], round(100 * pair["difference"], 6)) for pair in pairs]


def test_rows_of_two_grids_with_names_belong_together_by_name(tmp_path: Path) -> None:
    first = "{name: plain, lr: 0.1}, {name: hot, lr: 0.2}", (0.10, 0.12)
    second = "{name: hot, lr: 0.4}, {name: plain, lr: 0.3}", (0.08, 0.13)
    assert compared_cases(tmp_path, first, second) == [("plain", -3), ("hot", 4)]


def test_rows_of_which_only_some_have_names_belong_together_by_what_varies_too(tmp_path: Path) -> None:
    rows = "{name: plain, lr: 0.1}, {lr: 0.2}, {lr: 0.3}"
    found = compared_cases(tmp_path, (rows, (0.1, 0.12, 0.14)), (rows, (0.11, 0.14, 0.17)))
    assert found == [("plain", -1), ("lr 0.2", -2), ("lr 0.3", -3)]


def test_rows_of_two_grids_belong_together_by_their_networks(tmp_path: Path) -> None:
    first = "{model.depth: 8, lr: 0.1}, {model.depth: 20, lr: 0.1}", (0.10, 0.12)
    second = "{model.depth: 20, lr: 0.2}, {model.depth: 8, lr: 0.2}", (0.11, 0.14)
    assert [points for _, points in compared_cases(tmp_path, first, second)] == [-4, 1]


def test_what_both_grids_vary_tells_networks_apart_and_not_what_one_of_them_has_else(tmp_path: Path) -> None:
    first = "{model.depth: 8}, {model.depth: 20}", (0.10, 0.12)
    wider = "{model: {name: resnet_preact, depth: 20, initial_channels: 32}}"
    second = f"{wider}, {wider.replace('20', '8')}", (0.11, 0.14)
    found = compared_cases(tmp_path, first, second)
    assert found == [("depth 8", -4), ("depth 20", 1)]


def test_a_pair_is_not_named_by_options_that_its_rows_do_not_have(tmp_path: Path) -> None:
    rows = "{augmentation.cutout: false}, {augmentation.cutout: {size: 4}}"
    (without, _), (with_, _) = compared_cases(tmp_path, (rows, (0.1, 0.12)), (rows, (0.11, 0.14)))
    assert "cutout" not in without
    assert "cutout size 4" in with_


def test_grids_of_which_one_varies_more_are_refused(filled: SimpleNamespace) -> None:
    """Which of the rows with lr 0.1 is the other grid's?"""
    wide = filled.folder / "wide.yaml"
    wide.write_text(filled.small.read_text().replace("0.2]", "0.2], model.depth: [8, 14]"))
    for sides in ((filled.small, wide), (wide, filled.small)):
        problem = run(*sides, "--results", filled.store.root, code=2)
        assert "what varies in both does not tell their rows apart" in problem


def test_the_beginning_of_several_commits_is_refused(filled: SimpleNamespace) -> None:
    anew = record(Trial(filled.trials[0][0].config, 3), 0.1, "a" * 39 + "b")
    filled.store.add(anew)
    problem = run("aaaa", "a" * 39 + "b", "--results", filled.store.root, code=2)
    assert "several rows or commits begin with 'aaaa'" in problem


def test_rows_of_which_a_seed_is_missing(filled: SimpleNamespace) -> None:
    filled.large.write_text(filled.large.read_text().replace("seeds: 3", "seeds: 4"))
    lines = run(filled.small, filled.large, "--results", filled.store.root).splitlines()
    assert "10.00 (3 runs)" in lines[4]
    assert "8.00 (3 runs)" in lines[4]


def test_rows_without_runs_on_one_side_are_left_out(filled: SimpleNamespace) -> None:
    for grid in (filled.small, filled.large):
        grid.write_text(grid.read_text().replace("0.2]", "0.2, 0.3, 0.4]"))
    for grid, place in ((filled.small, 2), (filled.large, 3)):
        for trial in load_grid(grid).rows[place].trials:
            filled.store.add(record(trial, 0.2, "a" * 40))
    found = json.loads(run(filled.small, filled.large, "--results", filled.store.root, "--json"))
    assert (len(found["pairs"]), found["only"]) == (2, [2, 2])


def test_trials_that_diverged_or_failed_are_no_runs(filled: SimpleNamespace) -> None:
    first, second = (trials[0] for trials in filled.trials)
    for seed, status in ((3, "diverged"), (4, "failed")):
        lost = record(Trial(first.config, seed), 0.9, "a" * 40)
        filled.store.add(replace(lost, status=status))
    ids = first.config_id, second.config_id
    (pair,) = json.loads(run(*ids, "--results", filled.store.root, "--json"))["pairs"]
    assert (pair["runs"], pair["medians"]) == ([3, 3], [0.1, 0.08])


def test_rows_of_too_few_runs_are_judged_by_the_spread_of_their_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    store.create()
    grids = grid_file(tmp_path, "small", 8), grid_file(tmp_path, "large", 14)
    rows = [row for grid in grids for row in load_grid(grid).rows]
    for row, error in ((rows[0], 0.10), (rows[2], 0.08)):
        store.add(record(row.trials[0], error, "a" * 40))
    compared = rows[0].config_id, rows[2].config_id, "--results", store.root, "--json"
    (pair,) = json.loads(run(*compared))["pairs"]
    assert (pair["runs"], pair["verdict"], pair["half_width"], pair["is_told"]) == ([1, 1], None, None, None)
    for row, n in ((rows[1], 3), (rows[3], 2)):
        for trial, error in zip(row.trials[:n], (0.199, 0.200, 0.201), strict=False):
            store.add(record(trial, error, "a" * 40))
    (pair,) = json.loads(run(*compared))["pairs"]
    assert pair["verdict"] is None, "three degrees of freedom are too few"
    store.add(record(rows[3].trials[2], 0.201, "a" * 40))
    (pair,) = json.loads(run(*compared))["pairs"]
    phi = 1e-6 / (0.2 * 0.8 / 10_000)  # 2.776 is t of 4 degrees, of two rows with 2 each
    width = 2.776 * np.sqrt(phi * (0.10 * 0.90 + 0.08 * 0.92) / 10_000)
    assert pair["half_width"] == pytest.approx(width, rel=1e-3)
    assert pair["is_told"] is not None


def test_a_row_that_has_not_learnt_gets_no_verdict_and_the_others_do(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    grids = grid_file(tmp_path, "small", 8), grid_file(tmp_path, "large", 14)
    fill(store, grids[0], 0.10, 0.12)
    fill(store, grids[1], 0.85, 0.1201)
    guessing, learnt = json.loads(run(*grids, "--results", store.root, "--json"))["pairs"]
    assert guessing["difference"] == pytest.approx(-0.75)
    assert (guessing["verdict"], guessing["half_width"], guessing["is_told"]) == (None, None, None)
    assert (learnt["verdict"], learnt["is_told"]) == ("open", False)


def test_an_open_verdict_says_how_many_more_seeds_would_settle_it(filled: SimpleNamespace) -> None:
    told, open_ = json.loads(run(filled.small, filled.large, "--results", filled.store.root, "--json"))[
        "pairs"
    ]
    assert (told["verdict"], told["more_seeds"], open_["verdict"]) == ("worse", None, "open")
    errors = np.array([0.10, 0.12, 0.08, 0.1201])
    phi = np.mean(1e-6 / (errors * (1 - errors) / 10_000))
    of_one = sum(phi * error * (1 - error) / 10_000 for error in (0.12, 0.1201))
    settling = (
        more
        for more in range(1, 100)
        if stats.t.ppf(0.975, 8 + 2 * more) * np.sqrt(of_one * median_variance(3 + more)) + 0.0001 <= 0.002
    )
    assert open_["more_seeds"] == next(settling)


def test_runs_without_the_metric_are_left_out(tmp_path: Path) -> None:
    store, grids = (
        Store(tmp_path / "results"),
        [grid_file(tmp_path, name, len(name)) for name in ("a" * 8, "b" * 14)],
    )
    store.create()
    for grid in grids:
        for trial in load_grid(grid).trials:
            top5 = 0.01 * (1 + trial.seed) if trial.seed else None
            store.add(replace(record(trial, 0.1, "a" * 40), top5_error=top5))
    found = json.loads(run(*grids, "--results", store.root, "--metric", "top5_error", "--json"))
    assert [(pair["runs"], pair["medians"]) for pair in found["pairs"]] == [([2, 2], [0.025, 0.025])] * 2


def test_two_stores_by_config(filled: SimpleNamespace) -> None:
    other = Store(filled.folder / "two")
    fill(other, filled.small, 0.10, 0.14)
    output = run(filled.store.root, other.root)
    assert "- 2 rows of A alone" in output
    assert "- 3 trials with exactly the same error in both" in output
    assert output.splitlines()[5].endswith("better")
    found = json.loads(run(filled.store.root, other.root, "--json"))
    assert found["only"] == [2, 0]
    same, changed = found["pairs"]
    assert (same["runs"], same["medians"], same["same_runs"]) == ([3, 3], [0.1, 0.1], 3)
    assert (changed["runs"], changed["medians"], changed["same_runs"]) == ([3, 3], [0.12, 0.14], 0)
    assert (same["p_value"], same["is_told"], changed["is_told"]) == (1, False, True)
    assert changed["difference"] == pytest.approx(-0.02)
    backwards = json.loads(run(other.root, filled.store.root, "--json"))
    assert backwards["only"] == [0, 2]
    assert [pair["verdict"] for pair in backwards["pairs"]] == ["open", "worse"]


def test_the_spread_of_errors_is_that_on_the_same_images(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for name, depth, errors in (("small", 8, (0.10, 0.40)), ("large", 14, (0.08, 0.42))):
        text = GRID.replace("DEPTH", str(depth)).replace(", dataset: cifar10", "")
        (tmp_path / f"{name}.yaml").write_text(text.replace("lr: [0.1, 0.2]", "dataset: [cifar10, cifar100]"))
        fill(store, tmp_path / f"{name}.yaml", *errors)
    arguments = tmp_path / "small.yaml", tmp_path / "large.yaml", "--results", store.root, "--json"
    phi = (1 / 9 + 1 / 7.36) / 2  # as for two rows alone: 2.776 is t of their 4 degrees
    width = 2.776 * np.sqrt(phi * 0.4487 * (0.09 + 0.0736) / 10_000)
    assert json.loads(run(*arguments))["pairs"][0]["half_width"] == pytest.approx(width, rel=1e-3)


def test_errors_on_other_images_get_no_verdict(filled: SimpleNamespace) -> None:
    cifar100 = filled.folder / "cifar100.yaml"
    cifar100.write_text(GRID.replace("DEPTH", "8").replace("cifar10,", "cifar100,"))
    fill(filled.store, cifar100, 0.40, 0.42)
    ids = filled.trials[0][0].config_id, load_grid(cifar100).rows[0].config_id
    (pair,) = json.loads(run(*ids, "--results", filled.store.root, "--json"))["pairs"]
    assert pair["difference"] == pytest.approx(-0.3)
    assert (pair["verdict"], pair["half_width"], pair["p_value"]) == (None, None, None)


def test_an_id_is_known_by_four_digits_and_not_by_three(filled: SimpleNamespace) -> None:
    first, second = (trials[0].config_id for trials in filled.trials)
    assert "depth 8 | depth 14" in run(first[:4], second[:4], "--results", filled.store.root)
    problem = "not the beginning of an id or a commit (at least 4 hex digits)"
    assert problem in run(first[:3], second[:3], "--results", filled.store.root, code=2)


def test_two_commits_also_of_trials_that_were_trained_anew(filled: SimpleNamespace) -> None:
    store, trials = filled.store, filled.trials[0][:3]
    store.compact(now=True)
    store.forget([trial.trial_id for trial in trials])
    for trial, error in zip(trials, (0.13, 0.131, 0.129), strict=True):
        store.add(record(trial, error, "b" * 40))
    output = run("aaaa", "bbbb", "--results", store.root)
    assert "10.00 (3 runs)  13.00 (3 runs)" in output
    assert "- 3 rows of A alone" in output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("small.yaml", "one"), "small.yaml is a grid"),
        (("nothing.yaml", "small.yaml"), "nothing.yaml"),
        (("abc", "abd"), "is no grid file, no directory"),
        (("noise", "plain"), "`gridrun why TABLE ROW` shows the id of a row"),
        (("00000000", "11111111"), "no row, trial or commit of it begins with '00000000'"),
    ],
)
def test_what_cannot_be_compared_is_named(
    filled: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, str], problem: str
) -> None:
    monkeypatch.chdir(filled.folder)
    assert problem in run(*arguments, "--results", "one", code=2)


def test_a_row_is_not_compared_with_itself(filled: SimpleNamespace) -> None:
    trial = filled.trials[0][0]
    problem = run(trial.config_id, trial.trial_id, "--results", filled.store.root, code=2)
    assert f"{trial.config_id} and {trial.trial_id} are of the same row" in problem


# --- image by image ------------------------------------------------------------------------------


def save(path: Path, trial_id: str, predictions: np.ndarray) -> None:
    """Write the predictions of a trial for images of class 0."""
    made = Evaluation(np.zeros(len(predictions), np.int64), np.eye(2, dtype=np.float32)[predictions], 0.1)
    checkpoint = SimpleNamespace(trial_id=trial_id)
    report = evaluation.Report(path=path, checkpoint=checkpoint, on="test set of digits", evaluation=made)  # type: ignore[arg-type]
    path.parent.mkdir(exist_ok=True)
    evaluation.save_predictions(report, path)


def test_one_seed_is_compared_over_images_by_hand() -> None:
    """Of 8 images, 3 are wrong in the first alone and 1 in the second alone: mean 2 / 8.

    Differences 1, 1, 1, -1, 0, 0, 0, 0 have variance (4 - 8 x 1/16) / 7 = 0.5, so the standard error is 0.25;
    t(0.975, 7) = 2.3646.
    """
    first, second = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool), np.array([0, 0, 0, 1, 1, 0, 0, 0], bool)
    found = paired([first], [second])
    assert (found.difference, found.only_first, found.only_second) == (0.25, 3, 1)
    assert found.half_width == pytest.approx(2.364624 * 0.25, rel=1e-5)
    assert found.half_width_seeds is None


def test_seeds_and_images_are_both_drawn_at_random() -> None:
    """Simulate both: the interval covers a true difference of 0 in nineteen of twenty cases."""
    random = np.random.default_rng(0)
    missed, cases, images, seeds = 0, 300, 300, 4
    for _ in range(cases):
        hardness = random.beta(0.5, 4, images)
        skew = random.normal(0, 0.05, images)  # images that suit one of the networks
        shift = random.normal(0, 0.02, (2, seeds, 1))  # seeds that are good or bad as a whole
        p = np.clip(np.stack([hardness + skew, hardness - skew])[:, None, :] + shift, 0, 1)
        wrong = random.random(p.shape) < p
        found = paired(list(wrong[0]), list(wrong[1]))
        missed += abs(found.difference) > found.half_width
    assert missed / cases == pytest.approx(0.05, abs=0.035)


@pytest.mark.parametrize(("first", "second"), [([], []), ([np.ones(3)], []), ([np.ones(3)], [np.ones(4)])])
def test_rows_that_do_not_pair_are_refused(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="same"):
        paired(first, second)


def test_kept_predictions_of_the_same_seeds_are_compared(filled: SimpleNamespace) -> None:
    first, second = filled.trials[0][:2], filled.trials[1][1:3]  # seeds 0 and 1; 1 and 2
    for trial, wrong in zip(
        (*first, *second), ([0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]), strict=True
    ):
        save(
            filled.store.root / "predictions" / f"{trial.seed}-{trial.trial_id}.parquet",
            trial.trial_id,
            np.array(wrong),
        )
    output = run(first[0].config_id, second[0].config_id, "--results", filled.store.root)
    assert "mean difference over 1 seed and 4 images of both: +25.00 ± 79.56" in output  # t 3.182 x 0.5 / 2
    assert "wrong in A alone: 1; in B alone: 0" in output
    ids = [row[0].config_id for row in (first, second)]
    arguments = ["compare", *ids, "--results", str(filled.store.root), "--predictions", "prediction"]
    mistyped = CliRunner().invoke(main, arguments)
    assert mistyped.exit_code == 2
    assert "--predictions prediction: there is no such directory" in mistyped.output


def test_files_that_are_no_predictions_are_left_out_and_damaged_ones_refused(tmp_path: Path) -> None:
    save(tmp_path / "good.parquet", "a" * 16, np.array([0, 1]))
    pq.write_table(pa.table({"index": [0]}), tmp_path / "other.parquet")
    assert list(read_predictions(tmp_path)) == ["a" * 16]
    assert read_predictions(tmp_path / "nowhere") == {}
    table = pq.read_table(tmp_path / "good.parquet")
    pq.write_table(table.drop_columns(["label"]), tmp_path / "zz.parquet")
    with pytest.raises(StoreError, match=r"zz\.parquet: cannot be read"):
        read_predictions(tmp_path)
    (tmp_path / "zz.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(StoreError, match=r"zz\.parquet: cannot be read"):
        read_predictions(tmp_path)
