"""Grid files: rows, seeds, tables and the errors of each."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridrun.errors import GridError
from gridrun.grid import Grid, Published, load_grid
from gridrun.plan import make_plan
from trainer import TrainConfig

BASE = "base: {dataset: cifar10, model: {name: resnet_preact, depth: 20}, epochs: 200}\n"

EXAMPLE = """\
name: linear_scaling
title: Linear scaling rule for learning rate
base: {dataset: cifar10, model: {name: resnet_preact, depth: 20}, epochs: 200}
axes:
  - schedule: [cosine, multistep]
  - zip:
      batch_size: [4096, 2048, 128]
      lr: [3.2, 1.6, 0.1]
exclude: [{schedule: multistep, batch_size: 4096}]
extra: [{batch_size: 8, lr: 0.006125}]
derive: {schedule.milestones: [0.5 * epochs, 0.75 * epochs]}
seeds: 3
tables:
  - id: linear_scaling_cosine
    where: {schedule: cosine}
    columns: [model, batch_size, lr, schedule, epochs, test_error, train_time]
    published: {file: published.csv}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def load(folder: Path, text: str, overrides: dict[str, Any] | None = None, **others: str) -> Grid:
    for name, content in {**others, "g_yaml": text}.items():
        path = folder / name.replace("__", "/").replace("_yaml", ".yaml").replace("_csv", ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return load_grid(folder / "g.yaml", overrides)


def dump(folder: Path, content: Any) -> Grid:
    return load(folder, yaml.safe_dump(content, sort_keys=False))


def options(grid: Grid, *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(row.config.flat().get(key) for key in keys) for row in grid.rows]


def refused(folder: Path, text: str, **others: str) -> str:
    with pytest.raises(GridError) as caught:
        load(folder, text, **others)
    return str(caught.value).removeprefix(f"{folder}/")


# --- rows --------------------------------------------------------------------------------------


def test_the_whole_example(folder):
    grid = load(folder, EXAMPLE, published_csv="batch_size,test_error,train_time,runs\n4096,10.57,22m,1\n")
    assert (grid.name, grid.title, grid.seeds) == (
        "linear_scaling",
        "Linear scaling rule for learning rate",
        (0, 1, 2),
    )
    assert options(grid, "schedule", "batch_size", "lr", "schedule.milestones") == [
        ("cosine", 4096, 3.2, None),
        ("cosine", 2048, 1.6, None),
        ("cosine", 128, 0.1, None),
        ("multistep", 2048, 1.6, [100.0, 150.0]),
        ("multistep", 128, 0.1, [100.0, 150.0]),
        ("cosine", 8, 0.006125, None),
    ]
    assert [row.line for row in grid.rows] == [7, 7, 7, 7, 7, 10]
    assert len(grid.trials) == len({trial.trial_id for trial in grid.trials}) == 18
    assert [(trial.config, trial.seed) for trial in grid.trials[:4]] == [
        *((grid.rows[0].config, seed) for seed in range(3)),
        (grid.rows[1].config, 0),
    ]
    (table,) = grid.tables
    assert (table.id, table.title) == ("linear_scaling_cosine", grid.title)
    assert table.columns == ("model", "batch_size", "lr", "schedule", "epochs", "test_error", "train_time")
    assert table.rows == tuple(grid.rows[index] for index in (0, 1, 2, 5))
    assert table.published == {
        grid.rows[0].config_id: Published({"test_error": 10.57, "train_time": "22m"}, 1, None)
    }


def test_a_grid_without_axes_is_one_row_and_one_table(folder):
    grid = load(folder, BASE)
    assert (grid.name, grid.title, grid.description, grid.seeds) == ("g", "g", "", (0,))
    assert [row.config for row in grid.rows] == [
        TrainConfig.from_dict(
            {"dataset": "cifar10", "model": {"name": "resnet_preact", "depth": 20}, "epochs": 200}
        )
    ]
    (table,) = grid.tables
    assert (table.id, table.rows, table.columns) == ("g", grid.rows, ("test_error", "train_time"))


def test_axes_as_a_mapping_multiply_in_the_order_written(folder):
    grid = load(folder, BASE + "axes: {lr: [0.2, 0.1], batch_size: [64, 128]}\n")
    assert options(grid, "lr", "batch_size") == [(0.2, 64), (0.2, 128), (0.1, 64), (0.1, 128)]
    same = load(folder, BASE + "axes: [{lr: [0.2, 0.1]}, {batch_size: [64, 128]}]\n")
    assert same.rows == grid.rows


def test_cases_carry_names_and_published_values(folder):
    grid = load(
        folder,
        BASE
        + """\
axes:
- cases:
  - {name: plain, published: {test_error: 7, runs: 3, note: mean}}
  - name: wide
    model: {name: resnet, depth: 56}
    augmentation.random_crop.padding: 2
""",
    )
    assert [row.name for row in grid.rows] == ["plain", "wide"]
    assert [row.line for row in grid.rows] == [4, 5]
    assert options(grid, "model", "model.depth", "augmentation.random_crop.padding") == [
        ("resnet_preact", 20, None),
        ("resnet", 56, 2),
    ]
    assert grid.rows[0].published == Published({"test_error": 7.0}, 3, "mean")
    assert grid.tables[0].published == {grid.rows[0].config_id: grid.rows[0].published}
    assert grid.tables[0].columns[0] == "name"


def test_later_settings_win_and_dotted_keys_change_one_option(folder):
    grid = load(
        folder,
        """\
base:
  dataset: cifar10
  epochs: 10
  model: {name: resnet_preact, depth: 20, initial_channels: 32}
  schedule.min_factor: 0.5
  augmentation: {random_crop: true}
  warmup: linear
axes:
- model.depth: [56]
  warmup.epochs: [2]
- epochs: [20]
- epochs: [30, 40]
- augmentation.horizontal_flip: [true]
""",
    )
    keys = (
        "epochs",
        "model.depth",
        "model.initial_channels",
        "schedule",
        "schedule.min_factor",
        "warmup.epochs",
    )
    assert options(grid, *keys) == [(epochs, 56, 32, "cosine", 0.5, 2.0) for epochs in (30, 40)]
    assert options(grid, "augmentation.random_crop", "augmentation.horizontal_flip") == [(True, True)] * 2
    replaced = load(folder, BASE + "axes: [{model: [{name: resnet, depth: 110}]}]\n")
    assert options(replaced, "model", "model.depth") == [("resnet", 110)]
    renamed = load(folder, BASE + "extra: [{model.name: resnet}]\n")
    assert options(renamed, "model", "model.depth") == [("resnet_preact", 20), ("resnet", 20)]


def test_derive(folder):
    grid = load(
        folder,
        BASE
        + """\
axes:
- cases:
  - {batch_size: 256}
  - {batch_size: 512, lr: 3}
  - {schedule: multistep}
  - {schedule: {name: multistep, gamma: 0.2}, epochs: 100}
  - {schedule: {name: multistep, milestones: [7]}}
derive:
  lr: 0.1 * batch_size / 128
  weight_decay: lr / 1000
  schedule.milestones: [0.5 * epochs, epochs - model.depth]
""",
    )
    assert options(grid, "lr", "weight_decay", "schedule.milestones") == [
        (0.2, 0.0002, None),
        (3.0, 0.003, None),
        (0.1, 0.0001, [100.0, 180.0]),
        (0.1, 0.0001, [50.0, 80.0]),
        (0.1, 0.0001, [7.0]),
    ]
    over_base = load(folder, BASE + "derive: {epochs: 2 ** 4, lr: epochs / 100, batch_size: 64}\n")
    assert options(over_base, "epochs", "lr", "batch_size") == [(16, 0.16, 64)]


def test_exclude_drops_rows_that_could_not_be_trained(folder):
    grid = load(
        folder,
        """\
base: {model: {name: resnet, depth: 20}, epochs: 10}
axes: {dataset: [digits, cifar10], batch_size: [64, 4096]}
exclude: [{dataset: digits, batch_size: [4096, 8192]}]
""",
    )
    assert options(grid, "dataset", "batch_size") == [("digits", 64), ("cifar10", 64), ("cifar10", 4096)]


@pytest.mark.parametrize(
    "pick",
    [
        "{lr: 1.0e-1, schedule: cosine}",
        "{optimizer.momentum: 0.9, name: first}",
        "{augmentation.random_crop: false}",
        "{augmentation.random_crop: false, warmup: null}",
        "{model.preact_stage: [true, true, true], name: third}",
        "{augmentation.random_crop.padding: [3, 5], name: first}",
    ],
)
def test_exclude_and_where_see_defaults(folder, pick):
    cases = """\
- cases:
  - {name: first, augmentation.random_crop.padding: 3}
  - {name: second, augmentation: {random_crop: true}, lr: 0.2}
  - {name: third, schedule: constant}
"""
    names = [row.name for row in load(folder, BASE + f"axes:\n{cases}").rows]
    kept = [row.name for row in load(folder, BASE + f"axes:\n{cases}exclude: [{pick}]\n").rows]
    (table,) = load(folder, BASE + f"axes:\n{cases}tables: [{{where: {pick}}}]\n").tables
    shown = [row.name for row in table.rows]
    assert len(shown) == 1
    assert sorted(kept + shown) == sorted(names)


def test_seeds(folder):
    assert load(folder, BASE + "seeds: [3, 1]\n").seeds == (3, 1)
    grid = load(folder, BASE + "seeds: 2\n")
    assert grid.seeds == (0, 1)
    more = load_grid(grid.path, seeds=5)
    assert {trial.trial_id for trial in grid.trials} < {trial.trial_id for trial in more.trials}
    assert load_grid(grid.path, seeds=[7]).seeds == (7,)
    for wrong in (0, -1, [], [1, 1], [-1], True):
        with pytest.raises(GridError, match="--seeds"):
            load_grid(grid.path, seeds=wrong)


OWN_SEEDS = (
    BASE
    + """\
axes:
  - cases:
      - {lr: 0.1}
      - {lr: 0.2, seeds: 1}
      - {lr: 0.3, seeds: [7, 5, 6]}
extra: [{lr: 0.4, seeds: 4}]
seeds: 2
"""
)


def test_rows_may_have_seeds_of_their_own(folder):
    grid = load(folder, OWN_SEEDS)
    assert grid.seeds == (0, 1)
    assert [row.seeds for row in grid.rows] == [(0, 1), (0,), (7, 5, 6), (0, 1, 2, 3)]
    assert [trial.seed for trial in grid.trials] == [0, 1, 0, 7, 5, 6, 0, 1, 2, 3]
    in_order = [(trial.config.lr, trial.seed) for trial in make_plan([grid], {}).trials]
    assert in_order == [
        *[(0.1, 0), (0.2, 0), (0.3, 7), (0.4, 0)],
        *[(0.1, 1), (0.3, 5), (0.4, 1)],
        *[(0.3, 6), (0.4, 2)],
        (0.4, 3),
    ]


def test_seeds_of_a_row_are_no_part_of_its_ids_nor_of_its_columns(folder):
    ids = {row.config_id for row in load(folder, OWN_SEEDS).rows}
    plain = re.sub(r", seeds: (\d|\[.*?\])", "", OWN_SEEDS)
    assert "seeds: 1" not in plain
    assert {row.config_id for row in load(folder, plain).rows} == ids
    assert load(folder, OWN_SEEDS).tables[0].columns == ("lr", "test_error", "train_time")


def test_the_command_line_s_seeds_are_those_of_every_row(folder):
    grid = load_grid(load(folder, OWN_SEEDS).path, seeds=2)
    assert {row.seeds for row in (*grid.rows, *grid.tables[0].rows)} == {(0, 1)}
    assert len(grid.trials) == 8


def test_a_zip_and_the_last_axis_that_says_so_set_seeds(folder):
    axes = "axes:\n- zip: {lr: [0.1, 0.2], seeds: [3, [9]]}\n- cases: [{epochs: 1}, {epochs: 2, seeds: 1}]\n"
    grid = load(folder, BASE + axes)
    assert [row.seeds for row in grid.rows] == [(0, 1, 2), (0,), (9,), (0,)]


def test_a_table_may_pick_rows_by_their_number_of_runs(folder):
    tables = "tables:\n- {id: a, where: {seeds: 1}}\n- {id: b, where: {seeds: [2, 3], lr: [0.1, 0.2, 0.3]}}\n"
    once, more = load(folder, OWN_SEEDS + tables).tables
    assert [row.config.lr for row in once.rows] == [0.2]
    assert [row.config.lr for row in more.rows] == [0.1, 0.3]


def test_overrides_win_over_everything(folder):
    text = BASE + (
        "axes: [{schedule: [multistep, cosine]}]\n"
        "derive: {schedule.milestones: [epochs / 2], lr: 9, batch_size: 64}\n"
    )
    grid = load(folder, text, {"epochs": 4, "lr": 0.5, "model.depth": 56})
    assert options(grid, "schedule.milestones", "lr", "epochs", "model.depth", "batch_size") == [
        ([2.0], 0.5, 4, 56, 64),
        (None, 0.5, 4, 56, 64),
    ]


def test_includes_come_first(folder):
    grid = load(
        folder,
        "include: [parts/a.yaml, b.yaml]\nbase: {epochs: 5}\nderive: {lr: epochs / 10}\n",
        parts__a_yaml="include: ../c.yaml\nbase: {epochs: 7, batch_size: 32}\nseeds: 4\n"
        "derive: {lr: 1, weight_decay: lr}\n",
        b_yaml="base: {batch_size: 64}\n",
        c_yaml="base: {model: {name: resnet, depth: 20}, dataset: cifar10, epochs: 9}\nseeds: 2\n",
    )
    assert options(grid, "epochs", "batch_size", "lr") == [(5, 64, 0.5)]
    assert grid.seeds == (0, 1, 2, 3)


def test_a_grid_below_grids_may_include_its_siblings(folder):
    grids = folder / "grids"
    for directory in ("_base", "sub"):
        (grids / directory).mkdir(parents=True)
    (grids / "_base" / "x.yaml").write_text(BASE)
    (grids / "sub" / "g.yaml").write_text("include: ../_base/x.yaml\n")
    assert len(load_grid(grids / "sub" / "g.yaml").rows) == 1
    (grids / "sub" / "g.yaml").write_text("include: ../../g.yaml\n")
    with pytest.raises(GridError, match=r"stays within grids/"):
        load_grid(grids / "sub" / "g.yaml")
    (folder / "outside.yaml").write_text(BASE)
    (grids / "sub" / "link.yaml").symlink_to(folder / "outside.yaml")
    (grids / "sub" / "g.yaml").write_text("include: link.yaml\n")
    with pytest.raises(GridError, match=r"stays within grids/"):
        load_grid(grids / "sub" / "g.yaml")


# --- tables ------------------------------------------------------------------------------------


def test_default_columns_tell_the_rows_apart(folder):
    def columns(text: str) -> tuple[str, ...]:
        (table,) = load(folder, text).tables
        assert table.columns[-2:] == ("test_error", "train_time")
        return table.columns[:-2]

    assert columns(BASE + "axes: {lr: [0.1, 0.2], batch_size: [64, 128]}\n") == ("batch_size", "lr")
    assert columns(BASE + "axes: {model.depth: [20, 56], schedule: [cosine, constant]}\n") == (
        "model",
        "schedule",
    )
    assert columns(BASE + "axes: {model.preact_stage: [[true, true, true], [true, false, false]]}\n") == (
        "model",
    )
    assert columns(
        BASE + "extra: [{augmentation: {random_crop: true}}, {warmup: {name: linear, epochs: 5}}]\n"
    ) == (
        "warmup",
        "augmentation.random_crop",
    )


def test_tables_share_rows(folder):
    grid = load(
        folder,
        BASE
        + """\
axes: {lr: [0.1, 0.2], schedule: [cosine, constant]}
extra: [{lr: 5, name: odd, published: {test_error: 9.9, train_time: 1h26m}}]
tables:
- {id: all, title: All of them, columns: [name, lr, test_error]}
- id: cosine
  where: {schedule: cosine, lr: [0.1, 5]}
  published:
  - {lr: 0.1, test_error: 5, runs: 5}
  - {name: odd, test_error: 10, note: a note}
""",
    )
    everything, cosine = grid.tables
    assert (everything.title, everything.rows) == ("All of them", grid.rows)
    odd = grid.rows[-1]
    assert everything.published == {odd.config_id: Published({"test_error": 9.9, "train_time": "1h26m"})}
    assert cosine.title == "g"
    assert cosine.published == {
        cosine.rows[0].config_id: Published({"test_error": 5.0}, 5),
        odd.config_id: Published({"test_error": 10.0, "train_time": "1h26m"}, None, "a note"),
    }


# --- errors ------------------------------------------------------------------------------------

AXES = "axes:\n- lr: [0.1, 0.2]\n- schedule: [cosine, constant]\n"
TABLES = AXES + "tables:\n- "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # of the file as a whole
        ("", "g.yaml:1: is empty"),
        ("- 1\n", "g.yaml:1: must be a mapping, got a list"),
        ("bse: {}\n", "g.yaml:1: bse: unknown key. Did you mean 'base'?"),
        (BASE + "base: {}\n", "g.yaml:2: base: appears twice (first on line 1)"),
        (BASE + "name: a/b\n", "g.yaml:2: name: may hold letters, digits, `_`, `-` and `.` only, got 'a/b'"),
        (BASE + "name: ..\n", "g.yaml:2: name: may hold letters"),
        (BASE + "title: 5\n", "g.yaml:2: title: must be text, got 5; quote it to mean text"),
        (BASE + "description: ' '\n", "g.yaml:2: description: must not be blank"),
        # settings
        ("base: 3\n", "g.yaml:1: base: must be a mapping of options to values, got 3"),
        ("base:\naxes: {lr: [1]}\n", "g.yaml:1: base: must be a mapping of options to values, got nothing"),
        (BASE + "extra: [{epoch: 3}]\n", "g.yaml:2: extra[0].epoch: unknown option. Did you mean 'epochs'?"),
        (BASE + "extra: [{milestones: [3]}]\n", "unknown option. Did you mean 'schedule.milestones'?"),
        (
            BASE + "extra: [{model.dept: 3}]\n",
            "extra[0].model.dept: unknown option. Did you mean 'model.depth'?",
        ),
        (BASE + "extra: [{lr.x: 3}]\n", "g.yaml:2: extra[0].lr.x: unknown option."),
        (
            BASE + "extra: [{zzzzz: 3}]\n",
            "zzzzz: unknown option. Choose from: augmentation, average, batch_size,",
        ),
        ("base:\n  epochs: 9\n", "g.yaml:1: model: is required"),
        ("base:\n  model:\n    name: resnet\n  epochs: 9\n", "g.yaml:2: base.model.depth: is required"),
        (
            "base:\n  model:\n    name: resnett\n  epochs: 9\n",
            "g.yaml:2: base.model: unknown model 'resnett'. Did you",
        ),
        (
            "base:\n  epochs: 9\n  model:\n    name: resnet\n    dept: 20\n",
            "g.yaml:5: base.model.dept: unknown option. Did you mean 'depth'?",
        ),
        (
            "base:\n  model: {name: resnet, depth: 20}\n  epochs: 1e3\n",
            "g.yaml:3: base.epochs: must be a number, got the text '1e3'",
        ),
        (
            BASE + "axes:\n- lr:\n  - 0.1\n  - 1e-3\n",
            "g.yaml:5: axes[0].lr: must be a number, got the text '1e-3'",
        ),
        (
            BASE + "axes:\n- zip: {lr: [1], batch_size: [-4]}\n",
            "g.yaml:3: axes[0].zip.batch_size: must be > 0",
        ),
        (
            BASE + "axes:\n- cases:\n  - {lr: 1}\n  - {lr: no}\n",
            "g.yaml:5: axes[0].cases[1].lr: must be a number, got false",
        ),
        (BASE + "extra: [{model.name: resnett}]\n", "g.yaml:2: extra[0].model.name: unknown model 'resnett'"),
        (
            BASE + "extra: [{warmup.epochs: 5}]\n",
            "extra[0].warmup.epochs: there is no warmup to set it in; set `warmup` first",
        ),
        (
            BASE + "extra: [{model: resnet, model.depth: 5}]\n",
            "extra[0].model.depth: `model` is set here too",
        ),
        (
            BASE + "extra: [{augmentation: {mixupp: true}}]\n",
            "g.yaml:2: extra[0].augmentation.mixupp: unknown augmentation",
        ),
        (BASE + "axes: {seed: [0, 1]}\n", "g.yaml:2: axes.seed: seeds are not an option"),
        (
            "base:\n  model: {name: resnet, depth: 20}\n  epochs: 9\n  schedule.min_factor: 0.1\n"
            "axes: {schedule: [cosine, constant]}\n",
            "g.yaml:4: base.schedule.min_factor: has no effect: an axis replaces the whole of `schedule`",
        ),
        # axes
        (BASE + "axes: 3\n", "g.yaml:2: axes: must be a list of axes, got 3"),
        (BASE + "axes: []\n", "g.yaml:2: axes: must be a list of axes, got an empty one"),
        (BASE + "axes: [{}]\n", "g.yaml:2: axes[0]: is empty"),
        (BASE + "axes:\n- lr: []\n", "g.yaml:3: axes[0].lr: must be a list of values, got an empty one"),
        (BASE + "axes:\n- lr: 0.1\n", "g.yaml:3: axes[0].lr: must be a list of values, got 0.1"),
        (
            BASE + "axes:\n- lr:\n  - 1\n  - 1.0\n",
            "g.yaml:5: axes[0].lr: 1.0 appears twice (first on line 4)",
        ),
        (
            BASE + "axes:\n- lr: [1]\n- zip: {lr: [1, 2], batch_size: [1]}\n",
            "g.yaml:4: axes[1].zip: its lists must have the same length; lr has 2, batch_size has 1",
        ),
        (BASE + "axes: [{zip: {}}]\n", "g.yaml:2: axes[0].zip: is empty"),
        (BASE + "axes: [{cases: [{}]}]\n", "g.yaml:2: axes[0].cases[0]: is empty"),
        (
            BASE + "axes: [{cases: [{name: 20, lr: 1}]}]\n",
            "g.yaml:2: axes[0].cases[0].name: must be text, got 20",
        ),
        (
            BASE + "extra:\n- {lr: 0.2}\n- {batch_size: 128, lr: 0.1}\n",
            "g.yaml:4: extra[1]: the row (batch size 128, lr 0.1) is made twice: line 1 (base)",
        ),
        (
            BASE + "extra:\n- {lr: 1, warmup: null}\n- {lr: 1}\n",
            "g.yaml:4: extra[1]: the row (lr 1) is made twice: line 3 (lr 1, no warmup)",
        ),
        # exclude
        (BASE + AXES + "exclude:\n- {lr: 0.3}\n", "g.yaml:6: exclude[0]: matches no row"),
        (
            BASE + AXES + "exclude:\n- {schedul: cosine}\n",
            "g.yaml:6: exclude[0].schedul: unknown option. Did you mean 'schedule'?",
        ),
        (BASE + AXES + "exclude:\n- {}\n", "g.yaml:6: exclude[0]: must name an option"),
        (
            BASE + AXES + "exclude:\n- {schedule: {name: cosine}}\n",
            "g.yaml:6: exclude[0].schedule: must be a value",
        ),
        (BASE + "exclude: [{lr: 0.1}]\n", "g.yaml:1: every row is excluded"),
        # derive
        (
            BASE + "derive: {milestones: 5}\n",
            "g.yaml:2: derive.milestones: unknown option. Did you mean 'schedule.milestones'?",
        ),
        (
            BASE + "derive: {schedule.milestones: [5]}\n",
            "g.yaml:2: derive.schedule.milestones: no row has this option",
        ),
        (
            BASE + "derive:\n  lr: 0.1 * batchsize\n",
            "g.yaml:3: derive.lr: unknown name 'batchsize'. Did you mean 'batch_size'?",
        ),
        (BASE + "derive: {lr: __import__('os').system('true')}\n", "g.yaml:2: derive.lr: "),
        (BASE + "derive: {lr: 1 +}\n", "g.yaml:2: derive.lr: '1 +' is not arithmetic"),
        (
            BASE + "derive: {lr: true}\n",
            "g.yaml:2: derive.lr: must be an expression, a number or a list of them, got true",
        ),
        (BASE + "derive: {lr: 1 / 0}\n", "g.yaml:2: derive.lr: '1 / 0' divides by zero"),
        (
            BASE + "derive: {batch_size: epochs / 3}\n",
            "g.yaml:2: derive.batch_size: must be a whole number, got 66.66",
        ),
        (BASE + "derive: {lr: schedule}\n", "g.yaml:2: derive.lr: `schedule` is not a number: 'cosine'"),
        (
            BASE + "derive: {lr: weight_decay}\nextra: [{weight_decay: 1e-4}]\n",
            "`weight_decay` is the text '1e-4' (write 0.0001)",
        ),
        # seeds
        (
            BASE + "seeds: 0\n",
            "g.yaml:2: seeds: must be a count >= 1, a list of whole numbers or auto, got 0",
        ),
        (
            BASE + "seeds: []\n",
            "g.yaml:2: seeds: must be a count >= 1, a list of whole numbers or auto, got an empty one",
        ),
        (BASE + "seeds: yes\n", "g.yaml:2: seeds: must be a count >= 1"),
        (BASE + "seeds:\n- 1\n- 1\n", "g.yaml:4: seeds[1]: the seed 1 appears twice"),
        (BASE + "seeds: [-1]\n", "g.yaml:2: seeds[0]: must be a whole number >= 0, got -1"),
        (
            BASE + "seeds: 1000000000\n",
            "g.yaml:2: seeds: 1,000,000,000 seeds are more than 1,000,000 trials",
        ),
        (
            BASE + "axes: [{lr: [0.1, 0.2]}]\nseeds: 500001\n",
            "g.yaml:3: seeds: asks for 1,000,002 trials of 2 rows; the most is 1,000,000",
        ),
        (
            BASE + "axes:\n- cases: [{lr: 0.1, seeds: 0}]\n",
            "g.yaml:3: axes[0].cases[0].seeds: must be a count >= 1, a list of whole numbers or auto, got 0",
        ),
        (BASE + "axes:\n- cases: [{seeds: 3}]\n", "g.yaml:3: axes[0].cases[0]: is empty"),
        (BASE + "axes: [{zip: {seeds: [1, 2]}}]\n", "axes[0].zip: needs an option beside `seeds`"),
        (BASE + "axes: [{seeds: [1, 2]}]\n", "axes[0].seeds: seeds are not an option"),
        (
            BASE + "tables: [{published: [{seeds: 1, test_error: 3}]}]\n",
            "seeds: is neither an option nor a metric",
        ),
        # include
        (BASE + "include: no.yaml\n", "g.yaml:2: include: no such file: 'no.yaml'."),
        (
            BASE + "include:\n- one.yam\n",
            "g.yaml:3: include[0]: no such file: 'one.yam'. Did you mean 'one.yaml'?",
        ),
        (BASE + "include: /etc/hostname\n", "g.yaml:2: include: '/etc/hostname' must be a relative path"),
        (
            BASE + "include: ../g.yaml\n",
            "g.yaml:2: include: '../g.yaml' must be a relative path that stays within",
        ),
        (BASE + 'include: "a\\0b"\n', "g.yaml:2: include: no such file"),
        (
            BASE + "include: one.yaml\n",
            "one.yaml:1: axes: is not allowed in an included file; only base, derive,",
        ),
        (BASE + "include: two.yaml\n", "two.yaml:1: base.epochz: unknown option. Did you mean 'epochs'?"),
        # published values
        (
            BASE + "extra: [{lr: 1, published: {test_eror: 3}}]\n",
            "extra[0].published.test_eror: unknown key. Did you mean 'test_error'?",
        ),
        (
            BASE + "extra: [{lr: 1, published: {runs: 3}}]\n",
            "extra[0].published: must give a metric, one of test_error,",
        ),
        (
            BASE + "extra: [{lr: 1, published: {test_error: 3, runs: 0}}]\n",
            "published.runs: must be a whole number >= 1, got 0",
        ),
        (
            BASE + "extra: [{lr: 1, published: {test_error: 300}}]\n",
            "published.test_error: must be in 0..100, percent, got 300",
        ),
        (
            BASE + "extra: [{lr: 1, published: {test_error: good}}]\n",
            "published.test_error: must be a number, or text",
        ),
        (
            BASE + "axes:\n- cases: [{lr: 1, published: {test_error: 3}}]\n- batch_size: [1, 2]\n",
            "g.yaml:3: axes[0].cases[0]: published values belong to one row",
        ),
        # tables
        (
            BASE + TABLES + "{colums: [lr]}\n",
            "g.yaml:6: tables[0].colums: unknown key. Did you mean 'columns'?",
        ),
        (
            BASE + TABLES + "{columns: []}\n",
            "g.yaml:6: tables[0].columns: must be a list of column names, got an empty one",
        ),
        (
            BASE + TABLES + "{columns: [test_err]}\n",
            "g.yaml:6: tables[0].columns[0]: unknown column 'test_err'. Did you mean 'test_error'?",
        ),
        (
            BASE + TABLES + "{columns: [augmentation.random_crop]}\n",
            "unknown column 'augmentation.random_crop'.",
        ),
        (BASE + TABLES + "{columns: [lr, lr]}\n", "tables[0].columns[1]: the column 'lr' appears twice"),
        (
            BASE + TABLES + "{columns: [lr, seed]}\n",
            "tables[0].columns[1]: a table's row covers all its seeds",
        ),
        (BASE + TABLES + "{where: {lr: 7}}\n", "g.yaml:6: tables[0].where: matches no row"),
        (
            BASE + TABLES + "{where: {lrr: 7}}\n",
            "g.yaml:6: tables[0].where.lrr: unknown option. Did you mean 'lr'?",
        ),
        (
            BASE + TABLES + "{id: a}\n- {}\n",
            "g.yaml:7: tables[1]: needs an `id`, as there are several tables",
        ),
        (BASE + TABLES + "{id: a}\n- {id: a}\n", "g.yaml:7: tables[1]: the id 'a' is taken by another table"),
        (
            BASE + TABLES + "{published: [{lr: 0.1, test_error: 3}]}\n",
            "tables[0].published[0]: must pick one row of the table by its options, picks 2",
        ),
        (
            BASE + TABLES + "{published: [{lr: 9, test_error: 3}]}\n",
            "tables[0].published[0]: must pick one row of the table by its options, picks 0",
        ),
        (
            BASE + TABLES + "{published: [{test_erorr: 3}]}\n",
            "test_erorr: is neither an option nor a metric. Did you mean 'test_error'?",
        ),
        (
            BASE + TABLES + "{published: {}}\n",
            "tables[0].published: must be a list of entries, or {file: a CSV file}",
        ),
        (
            BASE + "tables: [{published: [{lr: 0.1, test_error: 3}, {test_error: 4}]}]\n",
            "g.yaml:2: tables[0].published[1]: test_error of this row is published twice in the table",
        ),
        (BASE + "tables: [{published: {file: p.csv}}]\n", "p.csv:2: must pick one row of the table"),
        (
            BASE + "tables: [{published: {file: ../p.csv}}]\n",
            "g.yaml:2: tables[0].published.file: '../p.csv' must be",
        ),
    ],
)
def test_errors_name_file_line_and_key(folder, text, message):
    said = refused(
        folder,
        text,
        one_yaml="axes: {lr: [1]}\n",
        two_yaml="base: {epochz: 3}\n",
        p_csv="lr,test_error\n9,4\n",
    )
    assert (
        said.startswith(message) if message.startswith(("g.yaml", "one", "two", "p.csv")) else message in said
    )


def test_cycles_name_both_files(folder):
    said = refused(folder, "include: a.yaml\n", a_yaml="base: {}\ninclude: [g.yaml]\n")
    assert said.startswith("a.yaml:2: include[0]: ")
    assert "a.yaml and" in said
    assert said.endswith("g.yaml include each other")


def test_includes_that_double_end(folder):
    parts = {f"p{i}_yaml": f"include: [p{i + 1}.yaml, p{i + 1}.yaml]\n" for i in range(30)}
    said = refused(folder, "include: p0.yaml\n", **parts, p30_yaml="base: {}\n")
    assert "more than 100 files are included" in said


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("", "p.csv:1: is empty"),
        ("lr,lr,test_error\n", "p.csv:1: lr: appears twice in the header"),
        ("lr,,test_error\n", "p.csv:1: column 2 needs a plain name, got ''"),
        ("lr,test_error\n0.1,5,6\n", "p.csv:2: has 3 cells, the header 2"),
        ('lr,test_error\n"0.1\n', "p.csv:2: not CSV: "),
        ("lr,test_error\n\n0.1,-5\n", "p.csv:3: test_error: must be >= 0, got -5"),
        (
            "lr,test_eror\n0.1,5\n",
            "p.csv:2: test_eror: is neither an option nor a metric. Did you mean 'test_error'?",
        ),
        ("lr,test_error,runs\n0.1,5,two\n", "p.csv:2: runs: must be a whole number >= 1, got 'two'"),
    ],
)
def test_errors_in_csv_name_its_line(folder, csv, message):
    assert refused(folder, BASE + "tables: [{published: {file: p.csv}}]\n", p_csv=csv).startswith(message)


def test_csv_cells(folder):
    grid = load(
        folder,
        BASE + "axes: [{cases: [{name: '20', model.add_last_bn: true}, {name: b, lr: 0.5}, {name: c}]}]\n"
        "extra: [{epochs: 7}]\ntables: [{published: {file: p.csv}}]\n",
        p_csv="name,model.add_last_bn,lr,epochs,test_error,train_time,note\n"
        "20,TRUE,,,4.5,95 min,2019\n"
        "b,,5e-1,,~3.75,,\n"
        " ,false,,7, 3 ,12,\n",
    )
    first, second, _, extra = grid.rows
    assert grid.tables[0].published == {
        first.config_id: Published({"test_error": 4.5, "train_time": "95 min"}, None, "2019"),
        second.config_id: Published({"test_error": "~3.75"}),
        extra.config_id: Published({"test_error": 3.0, "train_time": 12.0}),
    }


def test_errors_of_overrides(folder):
    with pytest.raises(GridError, match=r"^--set: epoch: unknown option. Did you mean 'epochs'\?"):
        load(folder, BASE, {"epoch": 3})
    with pytest.raises(GridError, match=r"^--set: lr: must be a number"):
        load(folder, BASE + "axes: {lr: [1, 2]}\n", {"lr": "fast"})
    with pytest.raises(GridError, match=r"\(lr 2\) becomes the same as \(lr 1\), with --set lr"):
        load(folder, BASE + "axes: {lr: [1, 2]}\n", {"lr": 1})


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(GridError, match=r"g\.yaml: no such file\.$"):
        load_grid(tmp_path / "g.yaml")
    (tmp_path / "gg.yaml").mkdir()
    with pytest.raises(GridError, match=r"g\.yaml: no such file\.$"):
        load_grid(tmp_path / "g.yaml")
    (tmp_path / "grid.yaml").write_text(BASE)
    with pytest.raises(GridError, match=r"g\.yaml: no such file\. Did you mean 'grid\.yaml'\?"):
        load_grid(tmp_path / "g.yaml")
    with pytest.raises(GridError, match="cannot be read"):
        load_grid("a\0b")


def test_too_many_rows_are_refused_before_they_are_made(folder):
    axis = ", ".join(str(value) for value in range(1, 101))
    said = refused(
        folder,
        BASE + f"axes: {{lr: [{axis}], epochs: [{axis}], batch_size: [{axis}], weight_decay: [{axis}]}}\n",
    )
    assert said == "g.yaml:1: asks for 100,000,000 rows; the most is 1,000,000"


# --- properties --------------------------------------------------------------------------------

VALUES: dict[str, list[Any]] = {
    "lr": [0.1, 0.2, 0.3],
    "batch_size": [64, 128],
    "weight_decay": [0.0, 1.0e-4, 5.0e-4],
    "schedule": ["cosine", "constant", {"name": "multistep", "milestones": [5]}],
    "model.depth": [20, 32],
    "augmentation.random_crop": [True, False],
    "precision": ["fp32", "mixed_bf16"],
}
START = {"dataset": "cifar10", "model": {"name": "resnet_preact", "depth": 20}, "epochs": 10}
few = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

axes_of_a_grid = (
    st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=4)
    .flatmap(
        lambda keys: st.tuples(
            *(
                st.tuples(
                    st.just(key), st.lists(st.sampled_from(range(len(VALUES[key]))), min_size=1, unique=True)
                )
                for key in keys
            )
        )
    )
    .map(lambda axes: [{key: [VALUES[key][index] for index in indexes]} for key, indexes in axes])
)


def ids(grid: Grid) -> set[str]:
    return {trial.trial_id for trial in grid.trials}


@few
@given(axes=axes_of_a_grid, random=st.randoms(use_true_random=False))
def test_order_never_changes_what_is_trained(folder, axes, random):
    def shuffled(items):
        items = list(items)
        random.shuffle(items)
        return items

    content = {"base": START, **({"axes": axes} if axes else {}), "seeds": 2}
    other = {"base": dict(shuffled(START.items())), "seeds": [1, 0]}
    if axes:
        other["axes"] = shuffled({key: shuffled(values)} for axis in axes for key, values in axis.items())
    expected = ids(dump(folder, content))
    assert ids(dump(folder, dict(shuffled(other.items())))) == expected


@few
@given(axes=axes_of_a_grid.filter(len), random=st.randoms(use_true_random=False))
def test_rows_written_out_as_cases_are_the_same_trials(folder, axes, random):
    keys = [key for axis in axes for key in axis]
    product = itertools.product(*(values for axis in axes for values in axis.values()))
    cases = [dict(zip(keys, values, strict=True)) for values in product]
    as_axes = dump(folder, {"base": START, "axes": axes})
    as_cases = dump(folder, {"base": START, "axes": [{"cases": cases}]})
    assert [row.config for row in as_axes.rows] == [row.config for row in as_cases.rows]
    random.shuffle(cases)
    assert ids(dump(folder, {"base": START, "axes": [{"cases": cases}]})) == ids(as_axes)


@few
@given(axes=axes_of_a_grid, data=st.data())
def test_the_count_is_product_minus_excluded_plus_extra(folder, axes, data):
    choices = {key: values for axis in axes for key, values in axis.items()}
    plain = {key: values for key, values in choices.items() if key != "schedule"}
    excluded = {key: data.draw(st.sampled_from(values)) for key, values in plain.items()}
    size = 1
    for values in choices.values():
        size *= len(values)
    num_excluded = len(choices.get("schedule", [0])) if excluded else 0
    extra = [
        {"lr": lr, "epochs": 11} for lr in data.draw(st.lists(st.integers(1, 9), unique=True, max_size=3))
    ]
    content = {"base": START, "axes": axes, "exclude": [excluded], "extra": extra}
    content = {key: value for key, value in content.items() if value not in ([], [{}])}
    expected = size - num_excluded + len(extra)
    if expected == 0:
        with pytest.raises(GridError, match="every row is excluded"):
            dump(folder, content)
        return
    grid = dump(folder, content)
    assert len(grid.rows) == expected
    assert len({row.config_id for row in grid.rows}) == expected


@few
@given(
    st.dictionaries(
        st.sampled_from(["lr", "weight_decay", "schedule.min_factor"]),
        st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=6, unique=True),
        min_size=1,
    )
)
def test_different_values_never_collide(folder, axes):
    grid = dump(folder, {"base": START, "axes": axes, "seeds": 2})
    size = 2
    for values in axes.values():
        size *= len(values)
    assert len(ids(grid)) == size


KEYS = [
    *(
        "base",
        "axes",
        "extra",
        "exclude",
        "derive",
        "seeds",
        "tables",
        "include",
        "name",
        "title",
        "zip",
        "cases",
    ),
    *(
        "lr",
        "model",
        "model.depth",
        "schedule",
        "schedule.milestones",
        "augmentation",
        "warmup.epochs",
        "depth",
    ),
    *("columns", "where", "published", "file", "id", "test_error", "runs", "note", "random_crop"),
]
structures = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats(-2, 2)
    | st.sampled_from([*KEYS, "resnet", "cosine", "multistep", "0.5 * epochs", "1h26m", "cifar10", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS[:10]), structures, max_size=4), st.booleans())
def test_any_structure_is_read_or_refused(folder, content, with_base):
    if with_base:
        content = {**content, "base": START}
    with contextlib.suppress(GridError):
        assert dump(folder, content).trials


def test_reading_a_grid_imports_neither_torch_nor_ray_nor_pandas(folder):
    load(folder, EXAMPLE, published_csv="batch_size,test_error\n4096,10.57\n")
    script = (
        f"import sys; from gridrun.grid import load_grid; load_grid({str(folder / 'g.yaml')!r});"
        "print(sorted({'torch', 'ray', 'pandas'} & set(sys.modules)))"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# --- numbers for derived options ----------------------------------------------------------------

LET = """\
base:
  dataset: cifar10
  model: {name: resnet_preact, depth: 20}
  epochs: 10
  let: {lr: 8, weight_decay: 0.02}
axes:
  - cases:
      - {name: as it is}
      - {name: gentle, let.lr: 4}
      - {name: large, batch_size: 256}
derive: {lr: let.lr * batch_size / 1024, weight_decay: let.weight_decay / let.lr}
"""


def test_named_numbers_make_options_and_are_no_part_of_a_config(folder):
    grid = load(folder, LET)
    assert [(row.config.lr, row.config.weight_decay) for row in grid.rows] == [
        (1.0, 0.0025),
        (0.5, 0.005),
        (2.0, 0.0025),
    ]
    plain = {"dataset": "cifar10", "model": {"name": "resnet_preact", "depth": 20}, "epochs": 10}
    assert grid.rows[0].config == TrainConfig.from_dict(plain | {"lr": 1.0, "weight_decay": 0.0025})


def test_named_numbers_can_be_set_from_outside(folder):
    grid = load(folder, LET.replace("gentle, let.lr: 4", "long, epochs: 20"), {"let.lr": 4})
    assert [row.config.lr for row in grid.rows] == [0.5, 0.5, 1.0]
    assert grid.rows[0].config.weight_decay == 0.005


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "let.lr: 4",
            "let.ls: 4",
            "g.yaml:9: axes[0].cases[1].let.ls: no `derive` uses 'let.ls'. Did you mean 'let.lr'?",
        ),
        ("let.lr: 4", "let.lr: fast", "g.yaml:9: axes[0].cases[1].let.lr: must be a number, got 'fast'"),
        (
            "{lr: 8, ",
            "{lr: 8, a-b: 1, ",
            "g.yaml:5: base.let.a-b: a name under `let` has letters, digits and _ only",
        ),
        ("{lr: 8, ", "{", "g.yaml:11: derive.lr: `let.lr` is not set"),
    ],
)
def test_a_named_number_that_does_nothing_is_an_error(folder, old, new, said):
    assert refused(folder, LET.replace(old, new)) == said
