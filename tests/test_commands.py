"""The command line: what is printed where, and with which exit code."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import test_layering
from click.testing import CliRunner, Result

import cli
from gridrun.errors import GridrunError
from gridrun.store import Store

GRID = """
title: A small grid
base:
  model: {name: resnet_preact, depth: 8, initial_channels: 4}
  epochs: 1
axes: [{batch_size: [128, 256]}]
seeds: 2
tables:
  - columns: [batch_size, test_error, train_time]
    published: [{batch_size: 128, test_error: 50.0, runs: 3}]
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(GRID)
    return path


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
    monkeypatch.delenv("GRIDRUN_DATA", raising=False)
    monkeypatch.delenv("GRIDRUN_RESULTS", raising=False)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def ok(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def serial(grid: Path, *arguments: object) -> Result:
    return run("launch", grid, "--executor", "serial", *arguments)


def test_plan_launch_status_and_table_agree(grid: Path) -> None:
    plan = json.loads(ok("plan", grid, "--json"))
    assert (plan["trials"], plan["configs"], plan["missing"], plan["done"]) == (4, 2, 4, 0)
    assert [trial["seed"] for trial in plan["order"]] == [0, 0, 1, 1], "the first seed of every row first"

    launched = serial(grid)
    assert launched.exit_code == 0, launched.output
    assert launched.stdout.startswith("### A small grid\n")
    assert "Test Error (%), median of 2 runs" in launched.stdout
    assert "4 done of 4 trials" in launched.stderr

    assert "4 done" in ok("status", grid)
    assert json.loads(ok("status", "--json"))["done"] == 4
    assert ok("table", grid) == launched.stdout

    (table,) = json.loads(ok("table", grid, "--format", "json"))
    assert [line["options"]["batch_size"] for line in table["lines"]] == [128, 256]
    rows = list(csv.DictReader(io.StringIO(ok("table", grid, "--format", "csv"))))
    assert [row["batch_size"] for row in rows] == ["128", "256"]
    assert ok("table", grid, "--format", "latex").startswith("\\begin{table}\n")
    assert "Test Error (%), median of 2 runs, min–max" in ok("table", grid, "--spread", "minmax")
    assert ok("table", grid, "--spread", "none") == launched.stdout

    again = serial(grid)
    assert again.exit_code == 0
    assert "Nothing to do: 4 done." in again.stderr


def test_a_tag_and_the_user_are_kept_with_a_trial(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gridrun.sweep import provenance

    monkeypatch.setenv("LOGNAME", "ada")
    provenance.of_code.cache_clear()
    assert serial(grid, "--seeds", 1, "--tag", "first try").exit_code == 0
    provenance.of_code.cache_clear()
    rows = Store("results").rows().values()
    assert [(row["user"], row["tag"]) for row in rows] == [("ada", "first try")] * 2
    shown = ok("show", next(iter(rows))["trial_id"])
    assert "first try" in shown


@pytest.mark.parametrize(
    ("given", "noted"),
    [("a" * 40, ("a" * 40, False)), (f"{'a' * 40}-dirty", ("a" * 40, True)), ("", (None, None))],
)
def test_code_without_git_has_the_commit_that_the_environment_names(
    given: str, noted: tuple[str | None, bool | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gridrun.sweep import provenance

    monkeypatch.setenv("GRIDRUN_COMMIT", given)
    assert provenance._commit(tmp_path) == noted
    monkeypatch.setenv("GRIDRUN_COMMIT", "main")
    with pytest.raises(GridrunError, match=r"^GRIDRUN_COMMIT: must be the 40 digits .* got 'main'$"):
        provenance._commit(tmp_path)
    monkeypatch.setattr(provenance, "_git", lambda root, name, *_: "f" * 40 if name == "rev-parse" else "")
    assert provenance._commit(tmp_path) == ("f" * 40, False), "git knows better"


def test_dry_run_and_plan_write_nothing(grid: Path, tmp_path: Path) -> None:
    assert "4 trials: 4 missing" in ok("launch", grid, "--dry-run")
    assert "4 trials: 4 missing" in ok("plan", grid)
    for command in (["status"], ["table", grid]):
        assert "/result: no results there yet\n" in run(*command, "--results", "result").stderr
    assert "6 trials" in ok("plan", grid, "--seeds", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_only_runs_the_named_trials(grid: Path) -> None:
    first = json.loads(ok("plan", grid, "--json"))["order"][0]["trial_id"]
    launched = serial(grid, "--only", first[:8])
    assert launched.exit_code == 0
    assert "1 done, 3 missing" in launched.stderr
    assert "(1 of 2 runs)" in launched.stdout
    assert "no trial of these grids has an id that begins with 'xyz'" in refused(
        "launch", grid, "--only", "xyz", "--executor", "serial"
    )


def test_a_failed_trial_is_reported_and_can_be_retried(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer import loop

    def broken(*_: Any, **__: Any) -> None:
        raise ArithmeticError("no such\x1b[31m number")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", broken)
        launched = serial(grid)
    assert launched.exit_code == 1
    assert "4 failed" in launched.stderr
    assert "failed" in launched.stdout
    status = ok("status", grid)
    assert "failed (exception): ArithmeticError: no such" in status
    assert "\x1b" not in status

    assert serial(grid).exit_code == 1, "a failed trial is not run again without --retry"
    retried = serial(grid, "--retry")
    assert retried.exit_code == 0, retried.output
    assert "4 done of 4 trials" in retried.stderr


def test_a_trial_that_diverges_is_no_failure(grid: Path) -> None:
    launched = serial(grid, "--set", "lr=1e30", "--seeds", 1)
    assert launched.exit_code == 0
    assert "2 diverged" in launched.stderr
    assert "diverged" in launched.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lanch"], "No such command 'lanch'. Did you mean 'launch'?"),
        (["plan", "smal.yaml"], "smal.yaml: no such file. Did you mean 'small.yaml'?"),
        (["plan", "small.yaml", "--set", "lr"], "must be KEY=VALUE"),
        (["plan", "small.yaml", "--set", "lr=0"], "Error: --set: lr: must be > 0, got 0.0\n"),
        (["plan", "small.yaml", "--where", "augmentation=cutout"], "such as 'augmentation.auto_augment'."),
        (["plan", "cutout.yaml"], "cutout.yaml: no such file.\n"),
        (["export", "small.yaml", "-o", "small.yaml"], "small.yaml is there already, and is no .zip file"),
        (["report", "small.yaml", "-o", "small.yaml"], "small.yaml is there already, and is no .html or"),
        (["schema", "-o", "small.yaml"], "small.yaml is there already, and is no .json file"),
        (["plan", "small.yaml", "--set", "model.dept=20"], "Did you mean 'model.depth'?"),
        (["plan", "small.yaml", "--set", "batch_size=5000"], "larger than the training set of digits"),
        (["plan", "small.yaml", "--set", "lr=1", "--set", "lr=2"], "lr: is set twice"),
        (["plan"], "there is none under grids/ here"),
        (["launch"], "Missing argument 'GRID...'"),
        (["launch", "small.yaml", "--executor", "slurm"], "'slurm' is not one of"),
        (["launch", "small.yaml", "--checkpoints", ""], "'--checkpoints': names no place"),
        (
            ["launch", "small.yaml", "--address", "head:6379", "--budget-hours", "1"],
            "--budget-hours with --address: the estimate would be for this machine",
        ),
        (["launch", "small.yaml", "--address", ""], "'--address': names no place"),
        (["launch", "small.yaml", "--data", ""], "'--data': names no place"),
        (["status", "--results", ""], "'--results': names no place"),
        (["status", "--results", "small.yaml/results"], "small.yaml/results: Not a directory"),
        (["status", "--results", "x" * 300], "x: File name too long"),
        (["evaluate", "x" * 300], "x: cannot be read (File name too long)"),
        (["plot", "small.yaml", "--out", " "], "'--out': names no place"),
        (["table", "small.yaml", "--check"], "--check goes with --readme"),
        (["status", "--results", "small.yaml"], "is a file"),
        (["list", "planets"], "'planets' is not one of"),
    ],
)
def test_mistakes_are_named(grid: Path, arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_set_reads_a_number_with_an_exponent(grid: Path) -> None:
    assert "4 trials" in ok("plan", grid, "--set", "weight_decay=1e-3")


def test_a_grid_error_names_the_line(grid: Path) -> None:
    grid.write_text(GRID.replace("depth: 8", "depth: 9"))
    assert "small.yaml:4: base.model.depth:" in refused("plan", grid)


def test_a_damaged_store_is_named(grid: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "trials.parquet").write_text("not a table")
    for command in ("plan", "status", "table", "launch"):
        assert "trials.parquet: is damaged" in refused(command, grid)


def test_missing_data_stops_a_launch_before_it_starts(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.datasets import DataError
    from trainer.datasets.mnist import Mnist

    def nowhere(*_: Any) -> None:
        raise DataError("MNIST is not to be had: put train-images-idx3-ubyte.gz into data/MNIST/raw")

    monkeypatch.setenv("GRIDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Mnist, "decode", nowhere)
    assert "put train-images-idx3-ubyte.gz into" in refused(
        "launch", grid, "--set", "dataset=mnist", "--executor", "serial"
    ).replace("preparing data set MNIST\n", "")


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("models", "resnet_preact"),
        ("datasets", "fashion_mnist"),
        ("augmentations", "random_crop"),
        ("optimizers", "sgd"),
        ("schedules", "cosine"),
        ("warmups", "linear"),
    ],
)
def test_list_prints_the_registered_names(what: str, expected: str) -> None:
    assert any(line.startswith(f"{expected} ") for line in ok("list", what).splitlines())


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (
            "list grids",
            "grids/a.yaml  4 trials  A small grid\ngrids/c.yaml, --profile short  4 trials  Second\n",
        ),
        ("plan", "8 trials: 8 missing\n"),
        ("plan --seeds 3", "12 trials: 12 missing\n"),
        ("plan --profile short", "4 trials: 4 missing\n"),
        ("table", "### A small grid\n"),
        ("why c 1", "Second: row 1 of 2 of c, grids/c.yaml\n"),
        ("status --profile short", "4 missing; nothing is running\n"),
    ],
)
def test_a_broken_grid_does_not_hide_the_others(command: str, shown: str, tmp_path: Path) -> None:
    (tmp_path / "grids").mkdir()
    second = GRID.replace("A small grid", "Second").replace("epochs: 1", "epochs: 2")
    second += "    id: c\nprofiles: {short: {set: {epochs: 1}}}\n"
    for name, text in (("a", GRID), ("b", GRID.replace("epochs", "epoch")), ("c", second)):
        (tmp_path / "grids" / f"{name}.yaml").write_text(text)
    result = run(*command.split())
    assert result.exit_code == 2
    assert result.stdout.startswith(shown)
    problem = "Error: grids/b.yaml:5: base.epoch: unknown option. Did you mean 'epochs'?"
    assert result.stderr.count(problem) == 1
    assert problem in refused("plan", "grids/a.yaml", "grids/b.yaml"), "a named grid is not left out"


def test_hidden_files_of_editors_are_not_grids(tmp_path: Path) -> None:
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "a.yaml").write_text(GRID)
    (tmp_path / "grids" / ".#a.yaml").symlink_to("somebody@host.123:456")  # Emacs, while it is edited
    assert ok("list", "grids") == "grids/a.yaml  4 trials  A small grid\n"


def test_grids_may_lie_in_folders(tmp_path: Path) -> None:
    for place in ("a.yaml", "paper/a.yaml", "_base/a.yaml", "paper/schedules/a.yaml"):
        path = tmp_path / "grids" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GRID)
    found = [line.split()[0] for line in ok("list", "grids").splitlines()]
    assert found == ["grids/a.yaml", "grids/paper/a.yaml"]


def test_if_all_grids_are_broken_each_is_reported(tmp_path: Path) -> None:
    (tmp_path / "grids").mkdir()
    for name in "ab":
        (tmp_path / "grids" / f"{name}.yaml").write_text("axes: [")
    problems = refused("table").splitlines()
    assert [problem.partition(":")[2].partition(":")[0] for problem in problems] == [
        " grids/a.yaml",
        " grids/b.yaml",
    ]


def test_doctor_reports_on_this_machine(tmp_path: Path) -> None:
    found = {finding["what"]: finding for finding in json.loads(ok("doctor", "--json"))}
    assert found["torch"]["ok"]
    assert {"gridrun", "python", "cpus", "gpus", "cache", "results"} <= set(found)
    assert ok("doctor").startswith("ok  gridrun")


def test_readme_tables_are_rewritten_between_their_markers(grid: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(
        "before\n\n<!-- gridrun table small.yaml --results results -->\nold\n<!-- end -->\n\nafter\n"
    )
    (tmp_path / "results").mkdir()
    checked = run("table", "--readme", readme, "--check")
    assert checked.exit_code == 1
    assert "\n-old\n" in checked.stdout
    assert "\n+### A small grid\n" in checked.stdout
    assert "old" in readme.read_text()
    ok("table", "--readme", readme)
    text = readme.read_text()
    assert text.startswith(
        "before\n\n<!-- gridrun table small.yaml --results results -->\n\n### A small grid\n"
    )
    assert text.endswith("<!-- end -->\n\nafter\n")
    assert "old" not in text
    assert run("table", "--readme", readme, "--check").exit_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"no markers", "README.md: expected `<!-- gridrun table"),
        (b"a\n<!-- gridrun table small.yaml --results . -->\n", "README.md:2: expected `<!-- gridrun"),
        (
            b"a\n<!-- gridrun table small.yaml --results . --table smam -->\n<!-- end -->\n",
            "README.md:2: there is no table 'smam'. Did you mean 'small'?",
        ),
        (
            b"<!-- gridrun table small.yaml --results . --spread max -->\n<!-- end -->\n",
            "README.md:1: a marker must read GRID... --results DIR [OPTIONS]: Invalid value for '--spread'",
        ),
        (
            b"\n\n<!-- gridrun table smal.yaml --results . -->\n<!-- end -->\n",
            "smal.yaml: no such file. Did you mean 'small.yaml'?",
        ),
        (b"\xff", "README.md: is not UTF-8 text"),
        (
            b'<!-- gridrun table "small.yaml --results results -->\n<!-- end -->\n',
            "README.md:1: a quotation mark is not closed in",
        ),
        (b"<!-- gridrun table small.yaml --results no -->\n<!-- end -->\n", "no: no such results directory"),
        (
            b"<!-- gridrun table small.yaml --results . --wide -->\n<!-- end -->\n",
            "a marker must read GRID...",
        ),
    ],
)
def test_a_readme_that_cannot_be_rewritten_is_left_alone(
    grid: Path, tmp_path: Path, text: bytes, message: str
) -> None:
    readme = tmp_path / "README.md"
    readme.write_bytes(text)
    assert message in refused("table", "--readme", readme)
    assert readme.read_bytes() == text


@pytest.mark.parametrize("option", ["--results=results", "--format=latex", "--wide"])
def test_options_that_have_no_effect_on_a_readme_are_refused(grid: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "README.md").write_text("<!-- gridrun table small.yaml --results . -->\n<!-- end -->\n")
    assert "--readme takes grids and options from the markers" in refused(
        "table", "--readme", tmp_path / "README.md", option
    )


def test_a_marker_takes_one_table_and_a_spread(grid: Path, tmp_path: Path) -> None:
    assert serial(grid).exit_code == 0
    readme = tmp_path / "README.md"
    more = "  - {id: other, title: Another, columns: [batch_size, test_error]}\n"
    grid.write_text(GRID.replace("- columns", "- id: first\n    columns") + more)
    for options in ("--table other", "--table other --spread minmax"):
        readme.write_text(f"<!-- gridrun table small.yaml --results results {options} -->\n<!-- end -->\n")
        ok("table", "--readme", readme)
        assert readme.read_text().count("### ") == 1
        assert "### Another" in readme.read_text()
        assert ("min–max" in readme.read_text()) == ("minmax" in options)


def test_a_readme_keeps_its_line_endings(grid: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    readme = tmp_path / "README.md"
    readme.write_bytes(b"before\r\n<!-- gridrun table small.yaml --results results -->\r\n<!-- end -->\r\n")
    ok("table", "--readme", readme)
    text = readme.read_bytes()
    assert b"A small grid" in text
    assert text.count(b"\n") == text.count(b"\r\n")
    assert run("table", "--readme", readme, "--check").exit_code == 0


def test_models_are_listed_with_their_size() -> None:
    lines = {line.split()[0]: line for line in ok("list", "models", "--counts").splitlines()}
    assert lines["wrn"].split()[1:] == ["WRN-28-10", "36,479,194", "5,243,328,768", "32x32x3"]
    assert lines["torchvision"].split()[1:] == [
        "ResNet-50,",
        "ImageNet",
        "25,557,032",
        "4,089,184,256",
        "224x224x3",
    ]
    assert all(line.endswith("x3") for name, line in lines.items() if name != "name")
    assert "--counts goes with models" in refused("list", "datasets", "--counts")


# --- one trial ---------------------------------------------------------------------------------------

SMALL = ("model=resnet_preact", "model.depth=8", "model.initial_channels=4", "epochs=2", "seed=1")


def test_train_gives_the_same_trial_as_a_grid(grid: Path) -> None:
    trained = run("train", *SMALL)
    assert trained.exit_code == 0, trained.output
    assert "epoch 1 of 2: test error " in trained.stderr
    trial_id, status, *_ = trained.stdout.split()
    assert status == "done:"
    planned = json.loads(ok("plan", grid, "--set", "epochs=2", "--json", "--results", "elsewhere"))
    assert trial_id in {trial["trial_id"] for trial in planned["order"]}
    assert json.loads(ok("plan", grid, "--set", "epochs=2", "--json"))["done"] == 1

    again = run("train", *SMALL)
    assert again.stdout == trained.stdout
    assert again.stderr == "", "a done trial is not trained again"


def test_train_runs_a_failed_trial_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import loop

    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError("no memory left")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", broken)
        failed = run("train", *SMALL)
    assert failed.exit_code == 1
    assert "failed (host_memory, 3 attempts): MemoryError: no memory left" in failed.stdout
    assert "done: test error" in ok("train", *SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'KEY=VALUE...'"),
        (["epochs"], "train: must be KEY=VALUE"),
        (["epochs=1"], "train: model: is required"),
        (["model=resnt", "epochs=1"], "train: model: unknown model 'resnt'. Did you mean 'resnet'?"),
        (["model=resnet", "model.dept=20", "epochs=1"], "Did you mean 'model.depth'?"),
        (["model.depth=20", "model=resnet"], "there is no model to set it in; set `model` first"),
        (["model=vgg", "epochs=1", "seed=-1"], "train: seed: must be a whole number >= 0, got -1"),
        (["model=resnet", "model=wrn"], "train: model: is set twice"),
        (["model=resnet", "sed=1"], "train: sed: unknown option. Did you mean 'seed'?"),
    ],
)
def test_mistakes_in_settings_of_train_are_named(arguments: list[str], message: str) -> None:
    assert message in refused("train", *arguments)


def test_show_prints_everything_about_a_trial() -> None:
    trial_id = ok("train", *SMALL).split()[0]
    found = json.loads(ok("show", trial_id[:6], "--json"))
    assert found["trial"]["trial_id"] == trial_id
    assert found["trial"]["macs"] > found["trial"]["num_params"] > 0
    assert found["config"]["model.depth"] == 8
    assert found["provenance"]["device"] in ("cpu", "cuda")
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2]
    assert found["epochs"][-1]["test_error"] == found["trial"]["test_error"]
    text = ok("show", trial_id)
    assert f"trial_id                     {trial_id}\n" in text
    assert "config:\n  model                        resnet_preact\n" in text


def test_show_prints_a_failure_s_traceback_without_control_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainer import loop

    def broken(*_: Any, **__: Any) -> None:
        raise ArithmeticError("no such\x1b[31m number")

    monkeypatch.setattr(loop, "train", broken)
    trial_id = run("train", *SMALL).stdout.split()[0]
    text = ok("show", trial_id)
    assert "Traceback (most recent call last):\n" in text
    assert "in broken\n" in text
    assert "\x1b" not in text


def test_show_needs_exactly_one_trial(tmp_path: Path) -> None:
    ids = [ok("train", *SMALL[:-1], f"seed={seed}").split()[0] for seed in range(2)]
    assert "is the beginning of several ids: " + ", ".join(sorted(ids)) in refused("show", "")
    assert "no ended trial has an id that begins with 'xyz'" in refused("show", "xyz")
    assert "no ended trial" in refused("show", ids[0], "--results", tmp_path / "elsewhere")


def test_show_imports_nothing_heavy(tmp_path: Path) -> None:
    trial_id = ok("train", *SMALL).split()[0]
    arguments = ("show", trial_id, "--results", str(tmp_path / "results"))
    assert not test_layering.imported_by(test_layering.command(*arguments)) & set(test_layering.HEAVY)


# --- kept checkpoints --------------------------------------------------------------------------------


def test_a_grid_says_whose_weights_to_keep(grid: Path, tmp_path: Path) -> None:
    before = json.loads(ok("plan", grid, "--json"))
    grid.write_text(GRID + "keep_checkpoint: best\n")
    assert json.loads(ok("plan", grid, "--json")) == before, "keep_checkpoint is not part of an id"
    assert serial(grid).exit_code == 0
    kept = {path.stem for path in (tmp_path / "results" / "checkpoints").iterdir()}
    assert kept == {trial["trial_id"] for trial in before["order"]}
    assert {row["checkpoint"] for row in Store("results").rows().values()} == {"best"}
    trial_id = min(kept)
    found = json.loads(ok("evaluate", trial_id[:8], "--json"))
    shown = json.loads(ok("show", trial_id, "--json"))["trial"]
    assert found["trial_id"] == trial_id
    assert found["test_error"] == pytest.approx(shown["best_test_error"])

    grid.write_text(GRID + "keep_checkpoint: bets\n")
    assert "small.yaml:11: keep_checkpoint: unknown choice 'bets'. Did you mean 'best'?" in refused(
        "plan", grid
    )


def test_compiled_trials_keep_their_ids_and_say_so(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import compiling

    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")  # else a compiler runs for minutes
    before = json.loads(ok("plan", grid, "--json"))
    one = "--seeds", 1, "--where", "batch_size=256"
    grid.write_text(GRID + "compile: on\n")  # which YAML reads as true
    assert json.loads(ok("plan", grid, "--json")) == before, "compile is not part of an id"
    assert serial(grid, *one).exit_code == 0
    assert serial(grid, *one[:2], "--compile", "off").exit_code == 0
    rows = Store("results").rows().values()
    assert {row["batch_size"]: row["compiled"] for row in rows} == {256: True, 128: False}
    grid.write_text(GRID + "compile: atuo\n")
    assert "compile: unknown choice 'atuo'. Did you mean 'auto'?" in refused("plan", grid)


def test_threads_are_a_number_or_auto(grid: Path) -> None:
    assert "4 missing" in ok("plan", grid, "--cpus-per-trial", "auto")
    for text in ("0", "-1", "two", "1.5", ""):
        assert "must be auto or a whole number >= 1" in refused("plan", grid, "--cpus-per-trial", text)
    problem = refused("launch", grid, "--executor", "serial", "--cpus-per-trial", "auto")
    assert "--cpus-per-trial auto needs --executor ray" in problem


def test_done_trials_are_not_trained_again_for_their_weights(grid: Path, tmp_path: Path) -> None:
    first = serial(grid, "--seeds", 1)
    assert first.exit_code == 0, first.output
    kept = tmp_path / "results" / "checkpoints"
    assert not kept.exists()
    more = serial(grid, "--keep-checkpoint", "last")
    assert "No weights for 2 done trials: done trials are not trained again for them." in more.stderr
    assert len(list(kept.iterdir())) == 2, more.output
    bare = min(row["trial_id"] for row in Store("results").rows().values() if row["checkpoint"] is None)
    assert f"trial {bare} has kept no checkpoint" in refused("evaluate", bare)
    assert serial(grid).stderr == "Nothing to do: 4 done.\n", "nobody asked for weights"


def test_the_command_line_overrides_what_grids_say(grid: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(GRID + "keep_checkpoint: last\n")
    problem = refused("launch", grid, other, "--executor", "serial")
    assert "keep_checkpoint: " in problem
    assert "let --keep-checkpoint decide" in problem
    assert run("launch", grid, other, "--executor", "serial", "--keep-checkpoint", "none").exit_code == 0
    assert not (tmp_path / "results" / "checkpoints").exists()


def test_epochs_are_written_for_tensorboard_once(grid: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="it comes with Ray Tune")
    assert serial(grid, "--tensorboard", "events").exit_code == 0
    written = sorted((tmp_path / "events").glob("small/*/events.out.tfevents.*"))
    ids = set(Store("results").rows())
    assert {path.parent.name.split("__")[-1] for path in written} == {trial_id[:8] for trial_id in ids}
    assert all("seed-" in path.parent.name for path in written)
    assert b"test_error" in written[0].read_bytes()
    assert serial(grid, "--tensorboard", "events").exit_code == 0
    assert sorted((tmp_path / "events").rglob("*.*")) == written, "and nothing else is left there"


def test_an_unwritable_tensorboard_directory_is_reported_before_any_trial(grid: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="it comes with Ray Tune")
    (tmp_path / "file").touch()
    problem = refused("launch", grid, "--executor", "serial", "--tensorboard", "file/events")
    assert "'--tensorboard': file/events: Not a directory" in problem
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("option", ["--budget-hours", "--checkpoint-seconds"])
def test_nan_hours_or_seconds_are_refused(grid: Path, option: str) -> None:
    assert "must be a number >= 0, got nan" in refused("launch", grid, option, "nan")


def test_a_launch_with_nothing_to_do_tidies_up_after_a_killed_one(grid: Path, tmp_path: Path) -> None:
    from gridrun.store import Store

    serial(grid)
    store = Store("results")
    rows = store.rows()
    (store.root / "trials.parquet").unlink()
    (store.root / "epochs.parquet").unlink()
    from gridrun.store.records import Provenance, Record

    for trial_id, row in rows.items():
        own = {key: row[key] for key in ("config_id", "seed", "status", "config_json", "ended_at")}
        store.add(Record(trial_id=trial_id, config={}, provenance=Provenance(), **own))
    assert "Nothing to do: 4 done." in serial(grid).stderr
    assert (store.root / "trials.parquet").exists()
    assert not list(store.root.glob(".work/ended/*"))


def test_a_dry_run_respects_only(grid: Path) -> None:
    first = json.loads(ok("plan", grid, "--json"))["order"][0]["trial_id"]
    assert ok("launch", grid, "--dry-run", "--only", first).startswith("1 trial: 1 missing")
    assert "an id that begins with ''" in refused("launch", grid, "--dry-run", "--only", "")


@pytest.mark.parametrize("command", ["launch", "plan"])
@pytest.mark.parametrize("share", ["nan", "1.5", "inf", "-1", "half"])
def test_an_impossible_share_of_a_gpu_is_refused(grid: Path, command: str, share: str) -> None:
    problem = f"a part of a GPU or a whole number, got {share!r}"
    assert problem in refused(command, grid, "--gpus-per-trial", share)


def test_derived_numbers_are_those_a_person_would_write(grid: Path) -> None:
    grid.write_text(
        GRID.replace("[128, 256]", "[384]")
        .replace("batch_size: 128,", "lr: 0.3,")
        .replace("seeds: 2", "derive: {lr: 0.1 * batch_size / 128}")
    )
    (table,) = json.loads(ok("table", grid, "--format", "json"))
    assert table["lines"]


@pytest.mark.parametrize(
    "command",
    [
        ["launch", "small.yaml"],
        ["launch", "small.yaml", "--executor", "serial"],
        ["train", "model=resnet_preact", "model.depth=8", "epochs=1"],
        ["evaluate", "small.yaml"],
    ],
)
def test_missing_gpus_are_refused(grid: Path, command: list[str]) -> None:
    import torch

    wanted = torch.cuda.device_count() + 1
    assert f"--gpus {wanted}: torch finds {wanted - 1}" in refused(*command, "--gpus", wanted)
