"""`gridrun init` and `gridrun schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import cli
from gridrun.grid import load_grid


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_starter_is_a_grid_that_an_editor_knows() -> None:
    result = run("init", "grids/large_batches.yaml")
    assert result.exit_code == 0, result.output
    assert result.output == "grids/large_batches.yaml: written. Now: gridrun plan grids/large_batches.yaml\n"
    path = Path("grids/large_batches.yaml")
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n# ")
    assert json.loads(Path("grids/schema.json").read_text())["title"] == "A grid file of gridrun"
    grid = load_grid(path)
    assert grid.title == "Large batches"
    assert len(grid.trials) == 12
    assert run("plan", str(path)).exit_code == 0


def test_what_the_comments_of_the_starter_offer_works() -> None:
    run("init", "grids/one.yaml")
    lines = Path("grids/one.yaml").read_text().splitlines()
    code = [line for line in lines[5:] if not line.startswith("# - ") and not line.startswith("#     - ")]
    Path("grids/all.yaml").write_text("\n".join(line.removeprefix("# ") for line in code))
    grid = load_grid("grids/all.yaml")
    assert (len(grid.rows), grid.profiles, len(grid.plots)) == (3, ("quick",), 1)


def test_nothing_is_overwritten_but_an_older_schema() -> None:
    Path("grids").mkdir()
    Path("grids/mine.yaml").write_text("base: {}")
    result = run("init", "grids/mine.yaml")
    assert (result.exit_code, Path("grids/mine.yaml").read_text()) == (2, "base: {}")
    assert "is there already" in result.output
    assert not Path("grids/schema.json").exists()

    Path("grids/schema.json").write_text('{"title": "A schema of somebody else"}')
    result = run("init", "grids/new.yaml")
    assert result.exit_code == 2
    assert "grids/schema.json: is another file" in result.output
    assert not Path("grids/new.yaml").exists()

    Path("grids/schema.json").write_text('{"title": "A grid file of gridrun"}')
    assert run("init", "grids/new.yaml").exit_code == 0
    assert "definitions" in json.loads(Path("grids/schema.json").read_text())


def test_a_grid_file_needs_its_suffix() -> None:
    result = run("init", "grids/new.yml")
    assert (result.exit_code, result.output) == (2, "Error: grids/new.yml: the name must end in .yaml\n")


@pytest.mark.parametrize("name", ["2024", "null", "true", "1e3", "a.b"])
def test_whatever_the_grid_is_called_plan_reads_it(name: str) -> None:
    assert run("init", f"{name}.yaml").exit_code == 0
    assert load_grid(f"{name}.yaml").title == name.capitalize()


@pytest.mark.parametrize("name", ["my study", "lr: sweep", ".hidden", "ä"])
def test_a_name_that_plan_refuses_is_refused(name: str) -> None:
    result = run("init", f"{name}.yaml")
    assert result.exit_code == 2
    assert "may hold letters, digits" in result.output
    assert not list(Path().iterdir())


def test_the_schema_is_printed_or_written() -> None:
    printed = run("schema")
    assert json.loads(printed.stdout)["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert run("schema", "-o", "new/schema.json").exit_code == 0
    assert Path("new/schema.json").read_text() == printed.stdout
    Path("notes.txt").write_text("mine")
    assert run("schema", "-o", "notes.txt").exit_code == 2
    assert Path("notes.txt").read_text() == "mine"


def folder_of_images(root: Path) -> Path:
    """Make ten black training images of one class, ten white ones of the other, and one test image each."""
    from PIL import Image

    for split, number in (("train", 10), ("val", 1)):
        for name, grey in (("black", 0), ("white", 255)):
            (folder := root / split / name).mkdir(parents=True)
            for index in range(number):
                Image.new("RGB", (12, 16), (grey, grey, 0)).save(folder / f"{index}.png")
    return root


def test_own_images_are_counted_and_measured() -> None:
    images = folder_of_images(Path("data/image_folder/two colours"))
    result = run("init", "grids/own.yaml", "--images", str(images), "--image-size", "8")
    assert result.exit_code == 0, result.output
    assert "ln -s" not in result.output
    (config, *_) = {row.config for row in load_grid("grids/own.yaml").rows}
    spec = config.dataset.spec
    assert (spec.num_classes, spec.image_size, spec.num_train, spec.num_test) == (2, 8, 20, 2)
    assert spec.mean == (0.5, 0.5, 0.0)
    assert spec.std == (0.5, 0.5, 0.0001), "no channel is divided by 0"
    decoded = config.dataset.decode(Path("data"), Path())
    assert decoded.train_x.shape == (20, 3, 8, 8)


def test_images_elsewhere_are_described_with_the_way_to_where_trials_look() -> None:
    images = folder_of_images(Path("elsewhere"))
    result = run("init", "grids/own.yaml", "--images", str(images))
    assert f"ln -s {images.resolve()} data/image_folder/" in result.output


def test_a_folder_without_images_is_refused() -> None:
    Path("empty/train").mkdir(parents=True)
    result = run("init", "grids/own.yaml", "--images", "empty")
    assert (result.exit_code, Path("grids").exists()) == (2, False)
    assert "needs the folders train and test (or val)" in result.output
    Path("empty/test").mkdir()
    assert "needs two folders with images or more" in run("init", "--images", "empty").output
    assert run("init", "--image-size", "8").exit_code == 2
