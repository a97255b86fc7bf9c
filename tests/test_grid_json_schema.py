"""The JSON Schema of grid files accepts what `load_grid` accepts, and an editor completes by it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import any_config
import pytest
import yaml
from all_grids import GRIDS, ROOT, SEARCHES
from hypothesis import given, settings
from jsonschema import Draft7Validator
from language_server import LanguageServer

from gridrun.commands.schema import schema_text
from gridrun.errors import GridError
from gridrun.grid import load_grid

SCHEMA = json.loads(schema_text())
VALIDATOR = Draft7Validator(SCHEMA)
FILES = [*GRIDS, *SEARCHES, *sorted(ROOT.glob("_base/*.yaml"))]
MODELINE = "# yaml-language-server: $schema=schema.json\n"
BASE = "base: {model: {name: resnet_preact, depth: 8}, epochs: 2}\n"
BROKEN = {
    "a key of the file": BASE + "axis: [{lr: [0.1]}]",
    "an option": "base: {model: {name: resnet_preact, depth: 8}, epoch: 2}",
    "an option of a model": "base: {model: {name: resnet_preact, dept: 8}, epochs: 2}",
    "an option of another model": "base: {model: {name: resnet, depth: 8, widening_factor: 2}, epochs: 2}",
    "a model": "base: {model: resnet_preakt, epochs: 2}",
    "text for a number": "base: {model: {name: resnet_preact, depth: 8}, epochs: two}",
    "a part of a whole number": "base: {model: {name: resnet_preact, depth: 8.5}, epochs: 2}",
    "null for a number": BASE + "axes: [{batch_size: [32, null]}]",
    "a choice": BASE + "axes: [{precision: [fp32, fp8]}]",
    "an augmentation": BASE + "axes: [{augmentation.cut_out: [true, false]}]",
    "an option of an augmentation": BASE + "axes: [{augmentation.cutout: [{sice: 4}]}]",
    "a number for an augmentation": BASE + "axes: [{augmentation.cutout: [4]}]",
    "an axis without a list": BASE + "axes: [{lr: 0.1}]",
    "an axis that repeats": BASE + "axes: [{lr: [0.1, 0.1]}]",
    "an option of a zip": BASE + "axes: [{zip: {lr: [0.1], batchsize: [32]}}]",
    "an option of a case": BASE + "axes: [{cases: [{name: one, lrr: 0.1}]}]",
    "a published value of a case": BASE + "axes: [{cases: [{name: one, published: {test_err: 3}}]}]",
    "a number under let": BASE + "axes: [{cases: [{let.rate: fast, lr: 0.2}]}]",
    "what is derived": BASE + "derive: {learning_rate: 0.1 * batch_size}",
    "what is excluded": BASE + "axes: [{lr: [0.1, 0.2]}]\nexclude: [{lrs: 0.1}]",
    "no seed": BASE + "seeds: 0",
    "a seed twice": BASE + "seeds: [1, 1]",
    "a column": BASE + "tables: [{columns: [lr, tst_error]}]",
    "a key of a table": BASE + "tables: [{column: [lr]}]",
    "the spread": BASE + "tables: [{spread: minmaks}]",
    "a published entry": BASE + "tables: [{published: [{lrr: 0.1, test_error: 3}]}]",
    "a kind of figure": BASE + "plots: [{kind: pie}]",
    "the metric of a figure": BASE + "plots: [{kind: bars, y: tst_error}]",
    "a key of a figure": BASE + "plots: [{logx: true}]",
    "a key of a profile": BASE + "profiles: {small: {sets: {epochs: 1}}}",
    "an empty profile": BASE + "profiles: {small: {}}",
    "a scale": BASE + "profiles: {small: {scale: {epoch: 1}}}",
    "a key of a search": BASE + "search: {populations: 4}",
    "weights to keep": BASE + "keep_checkpoint: all",
    "whether to compile": BASE + "compile: maybe",
}


def problems(text: str) -> list[str]:
    """Return what the schema refuses."""
    return [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))]


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)


def test_every_grid_here_is_valid() -> None:
    assert {path.name: found for path in FILES if (found := problems(path.read_text()))} == {}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_refused_by_the_schema_and_by_the_reader(what: str, tmp_path: Path) -> None:
    assert problems(BROKEN[what])
    (path := tmp_path / "grid.yaml").write_text(BROKEN[what])
    with pytest.raises(GridError):
        load_grid(path)


@settings(max_examples=25)
@given(any_config.configs())
def test_every_config_can_be_written(config: dict[str, Any]) -> None:
    assert list(VALIDATOR.iter_errors({"base": config})) == []


def test_settings_may_be_written_in_parts() -> None:
    text = """
    base: {model: {depth: 8}, schedule.min_factor: 0, augmentation: {cutout: false}, epochs: 2}
    axes:
      - model.name: [resnet, resnet_preact]
      - augmentation.cutout: [false, {size: 4}]
      - {warmup: [null, {name: linear, epochs: 1}]}
    """
    assert problems(text) == []


def test_every_key_has_a_shape() -> None:
    definitions = SCHEMA["definitions"]
    mappings = [SCHEMA, *(definitions[name] for name in ("axis", "case", "plot", "profile", "search"))]
    for shape in (*mappings, definitions["table"]["else"]):
        assert [key for key, inside in shape["properties"].items() if set(inside) <= {"description"}] == []


def test_every_key_has_a_meaning_and_options_have_their_defaults() -> None:
    assert all(shape["description"] for shape in SCHEMA["properties"].values())
    options = SCHEMA["definitions"]["settings"]["properties"]
    assert options["batch_size"] == {
        "type": "integer",
        "description": "Images per step on each GPU. An incomplete last batch of an epoch is dropped.",
        "default": 128,
    }
    assert options["precision"]["enum"][0] == options["precision"]["default"] == "fp32"


# --- a real language server --------------------------------------------------------------------

PACKAGE = "yaml-language-server@2.0.0"
SETTINGS = {"yaml": {"validate": True, "completion": True, "hover": True, "schemaStore": {"enable": False}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageServer]:
    """Yield the language server that editors use, fresh from the npm registry."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("needs node and npm, to run yaml-language-server")
    place = tmp_path_factory.mktemp("npm")
    install = [
        "npm",
        "install",
        "--prefix",
        str(place),
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        PACKAGE,
    ]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr[-300:]}")
    program = place / "node_modules/yaml-language-server/bin/yaml-language-server"
    with LanguageServer(["node", str(program), "--stdio"]) as server:
        server.configure(SETTINGS)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "schema.json").write_text(schema_text())
    return tmp_path


@pytest.mark.slow
def test_an_editor_finds_nothing_wrong_with_any_grid_here(server: LanguageServer, folder: Path) -> None:
    found = {
        path.name: server.problems(folder / f"{number}.yaml", MODELINE + path.read_text())
        for number, path in enumerate(FILES)
    }
    assert {name: problems for name, problems in found.items() if problems} == {}


@pytest.mark.slow
def test_an_editor_marks_what_is_broken(server: LanguageServer, folder: Path) -> None:
    unmarked = [
        what
        for number, (what, text) in enumerate(BROKEN.items())
        if not server.problems(folder / f"{number}.yaml", MODELINE + text)
    ]
    assert unmarked == []
    (problem,) = server.problems(folder / "one.yaml", f"{MODELINE}{BASE}axes:\n  - lrr: [0.1]\n")
    assert problem == "4: Property lrr is not allowed."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ba|", ["base", "axes", "seeds"]),
        ("base:\n  model: |", ["resnet_preact", "wrn"]),
        ("base:\n  model:\n    name: wrn\n    |", ["depth", "widening_factor"]),
        ("base:\n  augmentation:\n    |", ["cutout", "mixup"]),
        ("base:\n  augmentation:\n    cutout:\n      |", ["size", "inside"]),
        ("axes:\n  - |", ["lr", "schedule", "cases", "zip", "model.depth"]),
        ("axes:\n  - schedule: [|]", ["cosine", "multistep"]),
        ("tables:\n  - columns: [|]", ["test_error", "model", "lr"]),
        ("plots:\n  - kind: |", ["line", "curves", "bars"]),
        ("profiles:\n  small:\n    |", ["set", "scale"]),
        ("search:\n  |", ["population", "interval"]),
        ("keep_checkpoint: |", ["last", "best", "none"]),
    ],
)
def test_an_editor_completes(server: LanguageServer, folder: Path, text: str, wanted: list[str]) -> None:
    offered = server.completions(folder / "grid.yaml", f"{MODELINE}{text}\n")
    assert not set(wanted) - set(offered)
    if "name: wrn" in text:
        assert "cardinality" not in offered, "an option of another model"


@pytest.mark.slow
def test_an_editor_says_what_an_option_means(server: LanguageServer, folder: Path) -> None:
    assert "Peak learning rate" in server.hover(folder / "grid.yaml", f"{MODELINE}base:\n  l|r: 0.1\n")
