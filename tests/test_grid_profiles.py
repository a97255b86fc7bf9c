"""Reduced forms of a study: `profiles` of a grid file and `--scale`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli import main
from gridrun.errors import GridError
from gridrun.grid import Grid, load_grid
from gridrun.tables.build import build_table

ROOT = Path(__file__).parent.parent
REDUCED = ("linear_scaling", "initial_lr", "lars", "regularization")

STUDY = """\
name: study
title: A study
base: {dataset: cifar10, model: {name: resnet_preact, depth: 20}, epochs: 200}
axes:
  - schedule: [cosine, multistep]
  - batch_size: [4096, 128]
derive: {schedule.milestones: [0.5 * epochs, 0.75 * epochs], lr: 0.1 * batch_size / 128}
profiles:
  small:
    set: {dataset: fashion_mnist, model.depth: 8}
    scale: {epochs: 0.05, train: 4000}
    exclude: [{batch_size: 4096}]
    seeds: 2
tables:
  - id: all
    where: {epochs: 200}
    columns: [batch_size, schedule, paper, test_error]
    published: [{batch_size: 128, schedule: cosine, test_error: 5, paper: "4.9"}]
  - id: large
    title: Large batches
    where: {batch_size: 4096}
"""
FLAT = "base: {dataset: cifar10, model: {name: resnet_preact, depth: 20}, epochs: 200}\n"


def load(folder: Path, text: str, **how: Any) -> Grid:
    path = folder / "study.yaml"
    path.write_text(text)
    return load_grid(path, **how)


def refused(folder: Path, text: str, **how: Any) -> str:
    with pytest.raises(GridError) as caught:
        load(folder, text, **how)
    return str(caught.value).removeprefix(f"{folder}/")


def options(grid: Grid, *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(row.config.flat().get(key) for key in keys) for row in grid.rows]


# --- rows --------------------------------------------------------------------------------------


def test_a_profile_sets_scales_excludes_and_reseeds(tmp_path):
    grid = load(tmp_path, STUDY, profile="small")
    keys = ("dataset", "model.depth", "epochs", "train_size", "batch_size", "lr", "schedule.milestones")
    assert options(grid, *keys) == [
        ("fashion_mnist", 8, 10, 4000, 128, 0.1, None),
        ("fashion_mnist", 8, 10, 4000, 128, 0.1, [5.0, 7.5]),
    ]
    assert grid.seeds == (0, 1)
    assert [trial.seed for trial in grid.trials] == [0, 1, 0, 1]


def test_without_asking_the_study_is_whole(tmp_path):
    grid = load(tmp_path, STUDY)
    assert options(grid, "epochs", "batch_size") == [(200, 4096), (200, 128)] * 2
    assert grid.profiles == ("small",)


def test_no_reduced_trial_is_one_of_the_study(tmp_path):
    whole, small = load(tmp_path, STUDY), load(tmp_path, STUDY, profile="small")
    assert not {t.trial_id for t in whole.trials} & {t.trial_id for t in small.trials}


def test_scale_alone_is_a_reduced_form(tmp_path):
    grid = load(tmp_path, STUDY, scale={"epochs": 0.05, "train": 5000})
    assert options(grid, "epochs", "train_size", "model.depth") == [(10, 5000, 20)] * 4
    assert grid.title == "A study (reduced: 10 epochs, 5,000 images of CIFAR-10)"


def test_scale_has_the_last_word_over_a_profile(tmp_path):
    grid = load(tmp_path, STUDY, profile="small", scale={"epochs": 3})
    assert options(grid, "epochs", "train_size", "schedule.milestones")[1] == (3, 4000, [1.5, 2.25])


def test_settings_of_the_command_line_have_the_last_word_over_those_of_a_profile(tmp_path):
    grid = load(tmp_path, STUDY, overrides={"model.depth": 14}, profile="small")
    assert options(grid, "model.depth", "dataset") == [(14, "fashion_mnist")] * 2


@pytest.mark.parametrize(
    ("base", "key", "scaled"),
    [
        ("warmup: {name: linear, epochs: 5}", "warmup.epochs", 0.25),
        ("schedule: {name: multistep, milestones: [100, 150]}", "schedule.milestones", [5.0, 7.5]),
        ("schedule: {name: sgdr, first_period: 40}", "schedule.first_period", 2.0),
        (
            "schedule: {name: piecewise_linear, knots: [[0, 0.1], [100, 1], [200, 0]]}",
            "schedule.knots",
            [[0.0, 0.1], [5.0, 1.0], [10.0, 0.0]],
        ),
    ],
)
def test_what_is_counted_in_epochs_is_scaled_with_them(tmp_path, base, key, scaled):
    ((found,),) = options(load(tmp_path, FLAT + axis(base), scale={"epochs": 0.05}), key)
    assert found == scaled or [list(pair) for pair in found] == scaled


def axis(setting: str) -> str:
    return f"axes: [{{cases: [{{{setting}}}]}}]"


def test_what_is_derived_from_the_epochs_follows_once(tmp_path):
    text = f"{FLAT}{axis('schedule: {name: sgdr}')}\nderive: {{schedule.first_period: epochs / 4}}"
    assert options(load(tmp_path, text, scale={"epochs": 20}), "schedule.first_period") == [(5.0,)]


@given(epochs=st.integers(1, 2000), factor=st.floats(0.001, 0.999))
def test_a_share_of_the_epochs_is_rounded_and_never_none(tmp_path_factory, epochs, factor):
    text = FLAT.replace("200", str(epochs))
    folder = tmp_path_factory.mktemp("files")
    wanted = max(1, round(epochs * factor))
    if wanted == epochs:
        assert "also a row of the full study" in refused(folder, text, scale={"epochs": factor})
    else:
        assert options(load(folder, text, scale={"epochs": factor}), "epochs") == [(wanted,)]


def test_a_name_with_the_models_label_says_the_reduced_model(tmp_path):
    text = FLAT + 'axes: [{cases: [{name: "ResNet-preact-20, w/o crop"}, {name: plain, lr: 1}]}]'
    grid = load(tmp_path, f"{text}\nprofiles: {{p: {{set: {{model.depth: 8}}}}}}", profile="p")
    assert [row.name for row in grid.rows] == ["ResNet-preact-8, w/o crop", "plain"]


# --- tables ------------------------------------------------------------------------------------


def test_tables_are_those_of_the_study_without_what_is_published(tmp_path):
    (table,) = load(tmp_path, STUDY, profile="small").tables
    assert table.id == "all_small"
    assert table.title == "A study (small: 10 epochs, 4,000 images of FashionMNIST)"
    assert table.columns == ("batch_size", "schedule", "test_error")
    assert (table.published, table.reported) == ({}, ())
    assert [row.config.epochs for row in table.rows] == [10, 10]
    cells = [line.cells["test_error"] for line in build_table(table, {}).lines]
    assert [cell.published_text for cell in cells] == [None, None]


def test_a_title_says_the_range_of_the_epochs(tmp_path):
    text = FLAT + "title: T\naxes: [{epochs: [200, 400]}]"
    grid = load(tmp_path, text, scale={"epochs": 0.1})
    assert grid.title == "T (reduced: 20 to 40 epochs, 50,000 images of CIFAR-10)"


# --- files -------------------------------------------------------------------------------------


def test_a_profile_of_an_included_file_is_said_further(tmp_path):
    (tmp_path / "shared.yaml").write_text(
        "profiles: {p: {set: {model.depth: 8}, scale: {epochs: 0.1, train: 100}, exclude: [{lr: 7}]}}"
    )
    text = f"include: shared.yaml\n{FLAT}axes: [{{batch_size: [64, 128]}}]\n"
    text += "profiles: {p: {scale: {train: 200}}}"
    grid = load(tmp_path, text, profile="p")
    assert options(grid, "model.depth", "epochs", "train_size") == [(8, 20, 200)] * 2


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ("{scale: {epochs: 1.5}}", "must be a factor below 1, such as 0.05, or a number of epochs, got 1.5"),
        ("{scale: {epochs: 0}}", "must be a factor below 1, such as 0.05, or a number of epochs, got 0"),
        (
            "{scale: {epochs: true}}",
            "must be a factor below 1, such as 0.05, or a number of epochs, got true",
        ),
        ("{scale: {train: 1.5}}", "or a number of training images, got 1.5"),
        ("{scale: {epoch: 3}}", "unknown key. Did you mean 'epochs'?"),
        ("{sets: {}}", "unknown key. Did you mean 'set'?"),
        ("{}", "is empty; give it one of set, scale, exclude, seeds"),
        ("{set: {model.dept: 8}}", "unknown option. Did you mean 'model.depth'?"),
        ("{set: {seed: 8}}", "seeds are not an option"),
        ("{exclude: [{batch: 8}]}", "unknown option. Did you mean 'batch_size'?"),
        ("{seeds: 0}", "must be a count >= 1"),
    ],
)
def test_a_profile_is_checked_though_nobody_asks_for_it(tmp_path, profile, problem):
    message = refused(tmp_path, f"{FLAT}profiles:\n  p: {profile}\n")
    assert message.startswith("study.yaml:3: profiles.p")
    assert problem in message


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ("{scale: {train: 4000}}", "study.yaml:6: axes[1].batch_size: 4096 is larger than the training set"),
        ("{scale: {train: 4000}}", "under the profile 'p'; a profile may `exclude` such rows"),
        ("{scale: {train: 90000}}", "scale.train: must be below the 50000 training images"),
        ("{set: {batch_size: 64}, scale: {epochs: 5}}", "becomes the same as (cosine, batch size"),
        ("{seeds: 3}", "(cosine, batch size 4096) is also a row of the full study"),
        ("{set: {batch_size: 128, lr: 0.1}}", "is also a row of the full study, under the profile 'p'"),
        ("{exclude: [{batch_size: 7}], scale: {epochs: 5}}", "profiles.p.exclude[0]: matches no row"),
        ("{exclude: [{epochs: 200}], scale: {epochs: 5}}", "every row is excluded, under the profile 'p'"),
        ("{set: {warmup.epochs: 3}}", "there is no warmup to set it in"),
    ],
)  # fmt: skip
def test_a_profile_that_does_not_fit_the_study_is_refused(tmp_path, profile, problem):
    text = STUDY[: STUDY.index("profiles:")] + f"profiles: {{p: {profile}}}\n"
    assert problem in refused(tmp_path, text, profile="p")


def test_an_unknown_profile_is_answered_with_the_nearest(tmp_path):
    assert refused(tmp_path, STUDY, profile="smal") == (
        "study.yaml: has no profile 'smal'. Did you mean 'small'?"
    )


# --- the command line --------------------------------------------------------------------------


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    return result.exit_code, result.output


def test_plan_and_table_take_a_profile_and_a_scale(tmp_path):
    load(tmp_path, STUDY)
    grid, store = tmp_path / "study.yaml", tmp_path / "results"
    assert run("plan", grid, "--results", store, "--profile", "small")[1].startswith("4 trials: 4 missing")
    code, text = run("plan", grid, "--results", store, "--scale", "epochs=0.05,train=5000")
    assert (code, text.splitlines()[0]) == (0, "4 trials: 4 missing")
    code, text = run("table", grid, "--results", store, "--profile", "small")
    assert (code, "(small: 10 epochs, 4,000 images of FashionMNIST)" in text) == (0, True)
    assert "ublished" not in text


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        (["--profile", "large"], "has no profile 'large'. Choose from: small."),
        (["--scale", "epochs"], "--scale: must be KEY=VALUE, such as epochs=0.05, got 'epochs'"),
        (["--scale", "epochs=2,epochs=3"], "--scale: epochs: is set twice"),
        (["--scale", "images=3"], "--scale: images: unknown key."),
        (["--scale", ""], "--scale: must be KEY=VALUE"),
        (["--scale", "train=4000"], "under --scale; a profile may `exclude` such rows"),
    ],
)
def test_a_mistake_is_a_message(tmp_path, how, problem):
    load(tmp_path, STUDY)
    code, text = run("plan", tmp_path / "study.yaml", *how)
    assert (code, problem in text) == (2, True), text


def test_with_no_grid_named_those_that_have_the_profile_are_meant(monkeypatch):
    monkeypatch.chdir(ROOT)
    expected = sum(len(load_grid(f"grids/{name}.yaml", profile="reduced").trials) for name in REDUCED)
    code, text = run("plan", "--profile", "reduced", "--results", "nowhere", "--json")
    assert (code, f'"asked_for": {expected}' in text) == (0, True)
    code, text = run("plan", "--profile", "reducd")
    assert (code, "Did you mean 'reduced'?" in text) == (2, True)
    assert "grids/lars.yaml, --profile reduced  " in run("list", "grids")[1]


def test_the_readmes_markers_take_a_profile(tmp_path):
    load(tmp_path, STUDY)
    readme = tmp_path / "README.md"
    readme.write_text("<!-- gridrun table study.yaml --profile small --results . -->\n<!-- end -->\n")
    assert run("table", "--readme", readme)[0] == 0
    assert "(small: 10 epochs" in readme.read_text()
    assert run("table", "--readme", readme, "--check")[0] == 0


@pytest.mark.parametrize("name", REDUCED)
def test_the_projects_reduced_studies_are_cheap(name):
    grid = load_grid(ROOT / f"grids/{name}.yaml", profile="reduced")
    for row in grid.rows:
        config = row.config
        assert config.epochs * config.num_train <= 41_000
        assert config.steps_per_epoch * config.epochs >= 20
        assert row.seeds == (0, 1, 2)


def test_a_share_of_the_images_is_of_each_rows_own(tmp_path):
    text = f"{FLAT}axes: [{{train_size: [null, 30000]}}]\n"
    assert options(load(tmp_path, text, scale={"train": 0.1}), "train_size") == [(5000,), (3000,)]
    assert "as (no train size), under --scale" in refused(tmp_path, text, scale={"train": 600})
    assert "a factor below 1, such as 0.05, or a number of training images" in refused(
        tmp_path, text, scale={"train": 1.5}
    )
