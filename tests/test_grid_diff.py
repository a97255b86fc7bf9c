"""What differs between grids, a grid and its past, and trials."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import cli
from gridrun.grid import load_grid
from gridrun.grid.diff import diff_grids
from gridrun.store import Store
from gridrun.store.records import Provenance, Record
from gridrun.sweep.worker import identity_of
from gridrun.trial import Trial

BASE = """
title: Rates
base: {model: {name: resnet_preact, depth: 8}, epochs: 2, weight_decay: 1.0e-4}
axes: [{lr: [0.1, 0.2]}, {batch_size: [32, 64]}]
seeds: 2
tables: [{id: rates, columns: [lr, test_error], published: [{lr: 0.1, batch_size: 32, test_error: 4.0}]}]
"""


def write(tmp_path: Path, name: str, *changes: tuple[str, str]) -> Path:
    text = BASE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "grids" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def gridrun(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["diff", *map(str, arguments)])


def store_of(tmp_path: Path, trials: list[Trial], **fields: object) -> Store:
    store = Store(tmp_path / "results")
    store.create()
    for trial in trials:
        when = "2026-01-01T00:00:00.000+00:00"
        store.add(Record(**identity_of(trial), status="done", test_error=0.05, ended_at=when, **fields))  # type: ignore[arg-type]
    return store


def test_a_changed_option_is_told_once_for_all_its_rows(tmp_path: Path) -> None:
    old = write(tmp_path, "old")
    new = write(tmp_path, "new", ("1.0e-4", "5.0e-4"))
    store = store_of(tmp_path, list(load_grid(old).trials[:3]))
    done = gridrun(old, new, "--results", store.root)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[2:] == [
        "weight_decay: 1e-4 -> 5e-4",
        "  in 4 rows, with other ids",
        "without effect on ids:",
        "  name: old -> new",
        "8 trials with a new id: 8 to train",
        "8 trials no longer asked for: 3 done, 5 not trained",
    ]


def test_rows_that_stay_keep_their_ids(tmp_path: Path) -> None:
    old = write(tmp_path, "old")
    new = write(tmp_path, "new", ("[0.1, 0.2]", "[0.1, 0.4]"), ("seeds: 2", "seeds: 3"), ("4.0}", "4.5}"))
    found = diff_grids(load_grid(old), load_grid(new))
    (changed,) = found.changed
    assert dict(changed.options) == {"lr": (0.2, 0.4), "seeds": ((0, 1), (0, 1, 2))}
    assert [(row.config.batch_size, then.config.batch_size) for row, then in changed.rows] == [
        (32, 32),
        (64, 64),
    ]
    assert [(row.seeds, then.seeds) for row, then in found.same] == 2 * [((0, 1), (0, 1, 2))]
    assert [len(ids) for ids in (found.kept_ids, found.old_ids, found.new_ids)] == [4, 4, 8]
    first = found.same[0][0].config_id
    assert found.others[f"tables.rates.published[{first}].test_error"] == (4.0, 4.5)


def test_rows_without_a_counterpart_are_listed(tmp_path: Path) -> None:
    old, new = write(tmp_path, "old"), write(tmp_path, "new", ("[0.1, 0.2]", "[0.1, 0.2, 0.3]"))
    done = gridrun(old, new, "--results", tmp_path)
    assert [line[0] for line in done.stdout.splitlines()[2:4]] == ["+", "+"]
    assert "batch size 32, lr 0.3" in done.stdout.splitlines()[2]
    assert "4 trials with a new id: 4 to train" in done.stdout
    back = json.loads(gridrun(new, old, "--json", "--results", tmp_path).stdout)
    assert (len(back["removed"]), back["added"], len(back["ids"]["same"])) == (2, [], 8)


def test_equal_grids_do_not_differ(tmp_path: Path) -> None:
    path = write(tmp_path, "same")
    assert gridrun(path, path, "--results", tmp_path).stdout.endswith("nothing differs\n")


def test_options_of_rows_change_both(tmp_path: Path) -> None:
    old = write(tmp_path, "old")
    new = write(tmp_path, "new", ("[0.1, 0.2]", "[0.1, 0.4]"), ("name: resnet", "name: resnet"))
    done = gridrun(old, new, "--where", "lr=0.1", "--results", tmp_path)
    assert "4 trials with the same id" in done.stdout
    assert "new id" not in done.stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with a grid of three commits: a base, an included file, another rate."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"GIT_AUTHOR_NAME": "a", "GIT_COMMITTER_NAME": "a", "EMAIL": "a@b.c"}.items():
        monkeypatch.setenv(name, value)

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    path = write(tmp_path, "study")
    git("add", ".")
    git("commit", "-qm", "first")
    common = tmp_path / "grids" / "_base" / "common.yaml"
    common.parent.mkdir()
    common.write_text("base: {weight_decay: 5.0e-4}\n")
    path.write_text("include: _base/common.yaml" + BASE.replace(", weight_decay: 1.0e-4", ""))
    git("add", ".")
    git("commit", "-qm", "second")
    common.write_text("base: {weight_decay: 1.0e-3}\n")
    return Path("grids/study.yaml")


def test_a_grid_and_its_past(repository: Path, tmp_path: Path) -> None:
    results = ["--results", tmp_path / "results"]
    lines = gridrun(repository, "HEAD", *results).stdout.splitlines()
    assert lines[0].startswith("--- grids/study.yaml at HEAD (")
    assert lines[1:4] == [
        "+++ grids/study.yaml",
        "weight_decay: 5e-4 -> 0.001",
        "  in 4 rows, with other ids",
    ]
    between = gridrun(f"HEAD~1:{repository}", f"HEAD:{repository}", *results)
    assert "weight_decay: 1e-4 -> 5e-4" in between.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grids/study.yaml", "nowhere"], "nowhere:grids/study.yaml: git knows no such revision"),
        (["grids/study.yaml", "--", "--output=x"], "git knows no such revision"),
        (
            ["HEAD:grids/stdy.yaml", "grids/study.yaml"],
            "HEAD:grids/stdy.yaml: no such file. Did you mean 'study.yaml'?",
        ),
        (["grids/study.yaml", "grids/stdy.yaml"], "no such file"),
        (["abcd", "grids/study.yaml"], "'abcd' is no grid file"),
    ],
)
def test_mistakes_are_named(repository: Path, arguments: list[str], message: str) -> None:
    done = gridrun(*arguments[:1], *arguments[1:])
    assert done.exit_code == 2
    assert message in done.stderr
    assert "/tmp" not in done.stderr


def test_an_old_grid_that_is_not_valid_is_named_with_its_revision(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "grids" / "study.yaml").write_text("base: {lr: x}\n")
    subprocess.run(["git", "commit", "-qam", "broken"], check=True, capture_output=True)
    done = gridrun("HEAD:grids/study.yaml", "HEAD~1:grids/study.yaml")
    assert done.exit_code == 2
    assert "HEAD:grids/study.yaml:1: base" in done.stderr


def test_two_trials(tmp_path: Path) -> None:
    grid = load_grid(write(tmp_path, "old"))
    first, second, third = grid.trials[0], grid.trials[1], grid.trials[2]
    store = store_of(
        tmp_path, [first, second], provenance=Provenance(commit="a", sources='{"trainer/x": "1"}')
    )
    store_of(tmp_path, [third], provenance=Provenance(commit="b", sources='{"trainer/x": "2"}'))
    lines = gridrun(first.trial_id, third.trial_id[:12], "--results", store.root).stdout.splitlines()
    assert lines == [
        f"--- {first.trial_id}  done: test error 5.00 %",
        f"+++ {third.trial_id}  done: test error 5.00 %",
        "batch_size: 32 -> 64",
        f"config {first.config_id} -> {third.config_id}: rows of their own",
        "without effect on ids:",
        "  commit: a -> b",
        "  source files: trainer/x",
    ]
    seeds = gridrun(first.trial_id, second.trial_id, "--results", store.root).stdout
    assert f"seed: 0 -> 1\nthe same config {first.config_id}: two seeds of one row\n" in seeds
    assert gridrun(first.trial_id, first.trial_id, "--results", store.root).stdout.endswith(
        "the same trial\n"
    )
    options = json.loads(gridrun(first.trial_id, third.trial_id, "--json", "--results", store.root).stdout)
    assert options["options"] == {"batch_size": [32, 64]}


def test_trials_that_hold_images_out_and_what_is_switched_off(tmp_path: Path) -> None:
    plain = load_grid(write(tmp_path, "plain")).trials[0]
    cut = "epochs: 2, val_size: 100, augmentation: {cutout: {size: 8}}"
    other = load_grid(write(tmp_path, "cut", ("epochs: 2", cut))).trials[0]
    store = store_of(tmp_path, [plain, other])
    lines = gridrun(plain.trial_id, other.trial_id, "--results", store.root).stdout.splitlines()
    assert lines[:2] == [
        f"--- {plain.trial_id}  done: test error 5.00 %",
        f"+++ {other.trial_id}  done: validation error 5.00 %",
    ]
    assert "augmentation.cutout: off -> on" in lines
    assert "augmentation.cutout.size: (no such option) -> 8" in lines


def test_what_has_no_effect_on_ids_is_json_too(tmp_path: Path) -> None:
    old = write(tmp_path, "old")
    more = "headers: {lr: LR}, compare: {by: lr, to: 0.1}, spread: std, mark_best: true, "
    new = write(
        tmp_path,
        "new",
        (
            "title: Rates",
            "title: Speeds\ngpus_per_trial: 0.5\nprofiles: {short: {set: {epochs: 1}}}\n"
            "compile: auto\nskip_hopeless: true\nplots: [{id: drawn, kind: line, x: lr, y: test_error}]",
        ),
        ("{id: rates, ", "{id: other, columns: [lr]}, {id: rates, " + more),
        ("test_error: 4.0", "test_error: 5.0"),
    )
    shown = gridrun(old, new, "--results", tmp_path).stdout
    assert "  tables.rates.compare: none -> lr 0.1\n" in shown
    others = json.loads(gridrun(old, new, "--json", "--results", tmp_path).stdout)["others"]
    assert others["tables.rates.compare"] == [None, "lr 0.1"]
    assert others["tables.rates.headers"] == [{}, {"lr": "LR"}]
    assert others["tables.other"] == [None, True]
    assert others["gpus_per_trial"] == [None, 0.5]
    assert (others["compile"], others["skip_hopeless"]) == (["off", "auto"], [False, True])
    assert others["plots.drawn"] == [None, True]
    plot = ("title: Rates", "title: Rates\nplots: [{id: drawn, kind: line, x: lr, y: train_loss}]")
    told = gridrun(new, write(tmp_path, "third", plot), "--results", tmp_path)
    assert "  plots.drawn.y: test_error -> train_loss\n" in told.stdout
    assert [values for key, values in others.items() if "published" in key] == [[4.0, 5.0]]
