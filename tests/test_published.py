"""The grids hold every published table, cell by cell as it was printed."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from all_grids import GRIDS

from gridrun.grid import Grid, TableSpec, load_grid
from gridrun.metrics import METRICS, format_column, header_of
from gridrun.tables.build import build_table
from gridrun.tables.csv import to_csv
from gridrun.tables.model import Cell, Line, Table
from gridrun.tables.render import text_columns, to_json, to_markdown, to_text
from trainer import TrainConfig
from trainer.models._residual import NARROW_FIRST_STAGE
from trainer.optimizers._groups import parameter_groups

ROOT = Path(__file__).parent.parent
PUBLISHED = Path(__file__).parent / "published"


def published(source: str) -> Any:
    return json.loads((PUBLISHED / f"{source}.json").read_text())


TABLES = {table["id"]: table for table in published("pytorch_image_classification")["tables"]}


@cache
def specs() -> dict[str, tuple[Grid, TableSpec]]:
    """Return every table of every grid by its id."""
    grids = [load_grid(path) for path in GRIDS]
    found = [(spec.id, (grid, spec)) for grid in grids for spec in grid.tables]
    assert len(dict(found)) == len(found), "two grids have a table of the same id"
    return dict(found)


def empty(name: str) -> Table:
    """Return a table before anything has run."""
    return build_table(specs()[name][1], {})


def plain(header: str) -> str:
    """Drop what a header says of runs, units and footnotes, in either form: `(1 run)` and `, 1 run`."""
    return re.sub(r"( \((%|1 run|median of \d+ runs)\)|, (1 run|median of \d+ runs)|\*)+$", "", header)


def as_ours(printed: str) -> str:
    """Write a printed header as tables do, in small letters: with its unit, then what its numbers are of."""
    words, _, of = re.fullmatch(r"(.*?)(?: \(%\))?( \((.*)\))?\*?", printed.replace("#G", "# of G")).groups()  # type: ignore[union-attr]
    return f"{words}{' (%)' if words.endswith('Error') else ''}{f', {of}' if of else ''}".casefold()


def header(table: Table, column: str) -> str:
    return METRICS[column].header if column in METRICS else table.headers.get(column, header_of(column))


def is_same(printed: str, column: str, value: Any) -> bool:
    """Tell whether a config column shows what is printed: numbers as numbers, all else to the letter."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(printed) == value
    shown = value if column == "name" else format_column(column, value)
    return printed == shown.removesuffix(NARROW_FIRST_STAGE)  # which the source does not say of its network


def test_there_are_45_tables() -> None:
    assert len(TABLES) == 45
    assert sum(len(TABLES[name]["rows"]) for name in TABLES) == 362
    assert TABLES.keys() <= specs().keys()


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_the_published_ones(name: str) -> None:
    table = empty(name)
    printed = [plain(as_ours(header)) for header in TABLES[name]["columns"]]
    assert [plain(header(table, column).casefold()) for column in table.columns] == printed


BESIDE = ("Published", "Difference", "Verdict")
"""Columns that stand beside ours; the published tables have none such."""


@pytest.mark.parametrize("name", TABLES)
def test_headers_read_as_published(name: str) -> None:
    table = empty(name)
    shown = [column.header for column in text_columns(table) if not column.header.startswith(BESIDE)]
    printed = list(map(as_ours, TABLES[name]["columns"]))
    if table.runs is None:  # then each cell says its runs
        printed = [header.replace(", median of 3 runs", ", median") for header in printed]
    assert [header.casefold() for header in shown] == printed


@pytest.mark.parametrize("name", TABLES)
def test_published_values_have_a_source(name: str) -> None:
    (said,) = [note for note in empty(name).notes if note.startswith("published values: ")]
    assert "pytorch_image_classification" in said


@pytest.mark.parametrize("name", TABLES)
def test_cells_are_the_published_ones(name: str) -> None:
    table = empty(name)
    for line, printed in zip(table.lines, TABLES[name]["rows"], strict=True):
        for column, text in zip(table.columns, printed, strict=True):
            if column in METRICS:
                assert (line.cells[column].published_text or "") == text
            else:
                assert is_same(text, column, line.options[column]), (text, column, line.options[column])


@pytest.mark.parametrize("name", TABLES)
def test_numbers_of_runs_are_the_published_ones(name: str) -> None:
    table = empty(name)
    (title,) = [title for title in TABLES[name]["columns"] if re.match(r"Test Error \(.*runs?\)$", title)]
    usual = int(re.findall(r"\d+", title)[0])
    for line in table.lines:
        error = line.cells["test_error"]
        assert len(line.trials) == runs_of(error, usual)
        for cell in line.cells.values():
            if cell.published_text:
                assert cell.published_runs == runs_of(error, usual)


def runs_of(error: Cell, usual: int) -> int:
    return 1 if (error.published_text or "").endswith("(1 run)") else usual


@pytest.mark.parametrize("name", TABLES)
def test_tables_render_before_anything_has_run(name: str) -> None:
    table = empty(name)
    for render in (to_markdown, to_text, to_csv):
        text = render(table)
        for line in table.lines:
            for column in table.columns:
                value = line.options.get(column)
                if isinstance(value, str) and render is to_text:
                    assert " ".join(format_column(column, value).split()) in text
    assert len(json.loads(to_json([table]))[0]["lines"]) == len(TABLES[name]["rows"])
    assert any("not" in note for note in table.notes)  # not run yet, or not trained here


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.name)
def test_every_config_is_read_back_as_it_is(path: Path) -> None:
    for row in load_grid(path).rows:
        assert TrainConfig.from_dict(row.config.canonical()) == row.config


NAMED = {
    "label_smoothing": (r"label smoothing \(epsilon=([\d.]+)\)", 0.0),
    "augmentation.cutout.size": (r"(?<!-)Cutout *(\d*)", 16),
    "augmentation.dual_cutout.alpha": (r"Dual-Cutout.*\(alpha=([\d.]+)\)", 0.1),
    "augmentation.mixup.alpha": (r"(?i)mixup(?: \(alpha=([\d.]+)\))?", 1.0),
    "augmentation.ricap.beta": (r"RICAP \(beta=([\d.]+)\)", 0.3),
    "augmentation.random_erasing": (r"RandomErasing()", 1),
}
"""Options that the names of rows speak of: the words, and what they mean without a number."""


@pytest.mark.parametrize("name", [name for name in TABLES if "name" in specs()[name][1].columns])
def test_names_of_rows_are_true(name: str) -> None:
    for row in specs()[name][1].rows:
        said = row.name or ""
        flat = row.config.flat()
        for key, (words, usual) in NAMED.items():
            found = re.search(words, said)
            value = float(found.group(1) or usual) if found else 0.0
            assert flat.get(key, 0.0) == value, (said, key)
        assert flat.get("augmentation.random_crop", False) == (
            "RICAP" not in said or "w/ random crop" in said
        )
        assert flat.get("model.remove_first_relu", False) == ("w/o 1st ReLU" in said)
        assert flat.get("model.add_last_bn", False) == ("w/ last BN" in said)
        if name != "residual_units" and "PyramidNet" not in said:
            assert said.startswith(row.config.model.label.removesuffix(" (S-S-I)"))


DEFAULTS = {
    "optimizer": "SGD",
    "precision": "FP32",
    "ghost batch size": "N/A",
    "weight decay": "1e-4",
    "weight decay on BN": "yes",
}


def recipe(name: str, printed: list[str]) -> tuple[str, ...]:
    """Return what a row of the learning-rate studies says of its config, what goes without saying too."""
    said = DEFAULTS | dict(zip(TABLES[name]["columns"], printed, strict=True))
    return tuple(said[key] for key in sorted(said) if not key.startswith(("Test Error", "Training Time")))


def test_rows_that_recur_are_the_same_trials() -> None:
    ids: dict[tuple[str, ...], set[str]] = {}
    recipes: dict[str, set[tuple[str, ...]]] = {}
    for name in TABLES:
        if "initial lr" in TABLES[name]["columns"]:
            for line, printed in zip(empty(name).lines, TABLES[name]["rows"], strict=True):
                ids.setdefault(recipe(name, printed), set()).add(line.config_id)
                recipes.setdefault(line.config_id, set()).add(recipe(name, printed))
    assert all(len(same) == 1 for same in ids.values())
    assert all(len(same) == 1 for same in recipes.values())


def test_a_published_row_is_trained_once_however_many_tables_have_it() -> None:
    lines: list[Line] = [line for name in TABLES for line in empty(name).lines]
    # Of 244 rows of the learning-rate studies 166 differ, all 118 others do, and one of those is in both.
    assert len({line.config_id for line in lines}) == 166 + 118 - 1


SPEED_RUNS = {
    "ResNet-9 baseline": "0, 1. baseline",
    "ResNet-9, bag of tricks, no TTA": "9. EMA, lr floor",
    "ResNet-9, bag of tricks + flip TTA": "10. mirrored test images, no Cutout",
    "airbench94": "airbench94",
    "airbench94, compiled": "airbench94",  # the same trial: compilation changes no result
    "airbench94, Muon": "airbench94, Muon",
    "airbench95": "airbench95",
    "airbench96": "airbench96",
    "airbench96, faster": "airbench96, faster",
    "ResNet-18, standard": "ResNet-18, standard",
}
"""The row that trains each published system of the speed runs."""


def test_every_published_speed_run_is_a_row_with_trials() -> None:
    tables = [empty(name) for name in ("airbench", "resnet9_ladder")]
    lines = {line.name: line for table in tables for line in table.lines}
    rows = published("fast_cifar")["rows"]
    assert len(rows) == 11
    for system, _, epochs, _, gpu, runs, accuracy in rows:
        line = lines[SPEED_RUNS[system]]
        error, said = line.cells["test_error"], line.options["paper"]
        assert line.trials
        assert line.options["epochs"] == float(epochs)
        assert error.published == pytest.approx(1 - float(accuracy.split()[0]) / 100)
        assert runs == "-" or error.published_runs == int(runs)
        assert gpu in said or gpu == "V100", "the header names the V100"


def test_times_of_speed_runs_stand_apart_from_ours() -> None:
    table = {line.name: line for line in empty("airbench").lines}
    ladder = {line.name: line for line in empty("resnet9_ladder").lines}
    times = [(system, time, gpu) for system, _, _, time, gpu, *_ in published("fast_cifar")["rows"]]
    for system, time, gpu in times:
        line = (table | ladder)[SPEED_RUNS[system]]
        said = f"{time} s ({gpu})" if line.name in table else f"{time.split()[0]} s"
        assert said in line.options["paper"]
        assert line.cells["time_to_train"].published is None


TORCH_RESNETS = {table["id"]: table for table in published("torch_resnets")["tables"]}
BLOCKS = {
    "reference (ReLU, BN before add)": (True, "before_add"),
    "no ReLU, BN before add": (False, "before_add"),
    "ReLU, BN after add": (True, "after_add"),
    "no ReLU, BN after add": (False, "after_add"),
}
"""Whether a block ends in ReLU, and where its last BN is."""
SOLVERS = {
    "SGD, Nesterov momentum": "sgd",
    "RMSprop": "rmsprop",
    "Adadelta": "adadelta",
    "Adagrad": "adagrad",
}
MOMENTA = {
    "momentum 1": 1,
    "momentum 0.01": 0.01,
    "momentum 0.1 (original)": 0.1,
    "dynamic, reset every epoch": "dynamic",
}


def errors_of(table: str, key: Any) -> dict[Any, tuple[str, ...]]:
    """Return the published texts of each row of a grid's table, by what `key` says of its options."""
    found = {}
    for line in empty(table).lines:
        assert line.trials
        found[key(line.options)] = line.cells["test_error"].published_text
    return found


def test_the_torch_study_has_45_rows_in_8_tables() -> None:
    assert [len(table["rows"]) for table in TORCH_RESNETS.values()] == [5, 4, 4, 8, 9, 4, 4, 7]


def test_depths_are_the_published_ones() -> None:
    lines = empty("torch_resnets_depth").lines
    found = [[line.name, line.cells["test_error"].published_text, line.options["paper"]] for line in lines]
    assert found == TORCH_RESNETS["depth"]["rows"]


@pytest.mark.parametrize("depth", [20, 110])
def test_blocks_are_the_published_ones(depth: int) -> None:
    found = errors_of(f"torch_resnets_blocks_{depth}", lambda o: (o["model.last_relu"], o["model.last_bn"]))
    assert found == {BLOCKS[block]: error for block, error in TORCH_RESNETS[f"blocks_{depth}"]["rows"]}


@pytest.mark.parametrize("depth", [20, 110])
def test_solvers_are_the_published_ones(depth: int) -> None:
    found = errors_of(f"torch_resnets_solvers_{depth}", lambda o: (o["optimizer"], o["lr"]))
    expected = {}
    for solver, error in TORCH_RESNETS[f"solvers_{depth}"]["rows"]:
        name, _, rate = solver.partition(", lr ")
        name = name.removesuffix(", rho 0.3")
        expected[SOLVERS[name], float(rate or 1)] = error  # Adadelta has no rate, which is 1
    assert found == expected


def test_momenta_of_batch_normalisation_are_the_published_ones() -> None:
    found = errors_of("torch_resnets_bn_momentum", lambda o: o["bn_momentum"])
    assert found == {MOMENTA[said]: error for said, error in TORCH_RESNETS["bn_momentum"]["rows"]}


def test_imagenet_s_errors_are_the_published_ones() -> None:
    found = [
        [
            line.name,
            *(line.cells[key].published_text for key in ("test_error", "top5_error")),
            line.options["paper"],
        ]
        for line in empty("torch_resnets_imagenet").lines
    ]
    rows = TORCH_RESNETS["imagenet"]["rows"]
    assert found == [[name, one, top5, f"{ten} and {ten_top5}"] for name, one, top5, ten, ten_top5 in rows]


def test_imagenet_s_blocks_are_the_published_ones() -> None:
    found = errors_of(
        "torch_resnets_imagenet_blocks",
        lambda o: (f"ResNet-{o['model.depth']}", o["model.last_bn"], o["model.stride_in"]),
    )
    places = {"after conv": "before_add", "after add": "after_add"}
    rows = TORCH_RESNETS["imagenet_variants"]["rows"]
    assert found == {(name, places[place], stride): error for name, place, stride, error in rows}


STEPS = {
    "1 baseline, one loader process": "1. baseline",
    "2 larger batch": "2, 3. larger batch, fast batch norms",
    "3 fast batch norms": "2, 3. larger batch, fast batch norms",  # the same trial, faster
    "3 cutout, 30 epochs": "3. Cutout, 30 epochs",
    "3": "3. batch size 768",
    "4 backbone (shortcuts alone)": "4. shortcuts alone",
    "4 repeated BN-ReLU removed": "4. repeated BN-ReLU removed",
    "4 3x3 convolutions, stride 2": "4. 3x3 convolutions of stride 2",
    "4 3x3 stride 1, max pool 2": "4. 3x3 convolutions of stride 1, max-pool",
    "4 widths 64/128/256/512, global max pool": "4. last layer twice as wide, global max-pool",
    "4 BN scale 1 at the start, classifier x 0.125": "4. BN scales start at 1, logits x 0.125",
    "4 double width": "4. twice as wide, 60 epochs",
    "4 extra convolution in each layer, cutout 12": "4. one more convolution a layer, Cutout 12, 60 epochs",
    "4 residuals in layers 1 and 3, 20 epochs": "4. residuals in layers 1 and 3",
    "4 the same, 24 epochs": "4. the same, 24 epochs",
}
"""The row that trains each published step."""


def test_every_step_to_resnet9_is_a_row_as_published() -> None:
    lines = {line.name: line for line in empty("resnet9_build_up").lines}
    rows = {row.config_id: row.config for row in specs()["resnet9_build_up"][1].rows}
    steps = published("resnet9_build_up")["rows"]
    assert len(steps) == 15
    assert {STEPS[step] for step, *_ in steps} == set(lines)
    for step, schedule, batch_size, accuracy, time in steps:
        line = lines[STEPS[step]]
        config = rows[line.config_id]
        assert config.batch_size == int(batch_size)
        assert line.cells["test_error"].published == pytest.approx(1 - float(accuracy) / 100)
        said = line.options["paper"]
        assert said.startswith(f"{accuracy} %")
        assert all(f" {seconds} s" in said for seconds in re.findall(r"\d+", time))
        for knot in schedule.split(", "):
            epoch, lr = map(float, knot.split(":"))
            assert config.lr_at(round(epoch * config.steps_per_epoch)) == pytest.approx(
                lr, rel=1e-9, abs=1e-12
            )
        assert config.epochs == epoch
    assert all(line.trials for line in lines.values())


def test_the_last_step_is_the_first_of_the_ladder() -> None:
    (*_, last), (first, *_) = empty("resnet9_build_up").lines, empty("resnet9_ladder").lines
    assert last.config_id == first.config_id


def test_what_decays_without_decay_of_batch_normalisation() -> None:
    """Rows keep their ids and decay convolutions; a profile decays what the source decayed at the time."""
    path = ROOT / "grids" / "no_wd_on_bn.yaml"
    first = next(row for row in load_grid(path).rows if row.config.no_weight_decay_on_bn)
    assert (first.config_id, first.config.decayed) == ("2025b97d00f007ae", ("conv",))
    then = load_grid(path, profile="all_but_bn")
    assert len(then.rows) == 15
    assert {row.config.decayed for row in then.rows} == {("conv", "linear", "other")}

    network = first.config.model.build(first.config.dataset.spec)
    total = sum(p.numel() for p in network.parameters())
    shares = [
        sum(p.numel() for p in parameter_groups(network, row.config)[0].params) / total
        for row in (first, then.rows[0])
    ]
    today = 3 * 3 * 3 * 16 + 16 * 32 + 32 * 64  # the first convolution, and two shortcuts of 1 x 1
    said = path.read_text().partition(f"of this network's {total:,} parameters")[2].partition("\nname:")[0]
    assert re.findall(r"[0-9.]+ %", said) == [f"{100 * share:.1f} %" for share in (*shares, today / total)]
