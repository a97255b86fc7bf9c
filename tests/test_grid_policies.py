"""Schedule files of augmentation policies: the published ones, bad ones, logs, and grids that name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cli
from gridrun.errors import GridError
from gridrun.grid import load_grid, lone_trial
from gridrun.grid.policy_schedules import import_log, read_schedule, write_schedule
from trainer.augmentations.policy.schedules import to_vector

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "grids" / "pba" / "schedules"
GRID = """
base: {model: {name: resnet, depth: 8}, dataset: cifar10, epochs: 10}
"""


@pytest.fixture
def grids(tmp_path: Path) -> Path:
    """Return a directory of grids with a schedule in `schedules/one.yaml`."""
    folder = tmp_path / "grids"
    (folder / "schedules").mkdir(parents=True)
    write(folder / "schedules" / "one.yaml", 'schedule:\n  - [3, ""]\n  - [7, "Invert .5 0"]\n')
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def schedules(folder: Path, text: str, **options: Any) -> list[Any]:
    """Return the schedule of each row of a grid that has one."""
    grid = load_grid(write(folder / "grid.yaml", GRID + text), **options)
    return [row.config.augmentation[0].schedule for row in grid.rows if row.config.augmentation]


ONE = ((3, ""), (7, "Invert 0.5 0"))


@pytest.mark.parametrize(
    ("name", "segments", "means", "last"),
    [
        (
            "rcifar10",
            [12, 22, 20, 20, 1, 6, 3, 27, 6, 21, 6, 9, 7, 17, 6, 12, 5],
            [
                *((0, 0), (1.1, 1.5), (1.83, 2.33), (2.1, 3.1), (2.63, 2.87), (3.27, 3.4), (4.17, 3.47)),
                *((4.37, 3.93), (4.53, 4.37), (4.67, 4.73), (4.73, 5.1), (4.67, 4.7), (4.67, 4.67)),
                *((5.03, 5.17), (5.5, 5.47), (5.27, 5.13), (4.97, 4.97)),
            ],
            "Rotate 0 6, Rotate 0.2 7, TranslateX 0.6 6, TranslateX 0.8 6, TranslateY 1 0",
        ),
        (
            "rsvhn",
            [9, 15, 6, 8, 7, 24, 6, 25, 4, 4, 39, 6, 6, 1],
            [
                *((0, 0), (0.97, 1.03), (2.1, 2.5), (3.07, 4.17), (3.0, 4.83), (4.07, 4.37), (4.83, 4.37)),
                *((5.23, 5.33), (5.1, 5.47), (5.47, 4.93), (5.63, 4.37), (5.7, 3.93), (5.43, 4.57)),
                (6.4, 4.43),
            ],
            "Rotate 0.8 2, Rotate 0.9 1, TranslateX 0.9 0, TranslateX 1 1, TranslateY 1 0",
        ),
    ],
)
def test_the_published_schedules(name, segments, means, last):
    schedule = read_schedule(SHIPPED / f"{name}.yaml")
    assert [epochs for epochs, _ in schedule] == segments
    vectors = [to_vector(policy) for _, policy in schedule]
    found = [number for vector in vectors for number in (sum(vector[::2]) / 30, sum(vector[1::2]) / 30)]
    assert found == pytest.approx([number for pair in means for number in pair], abs=0.0051)
    assert schedule[-1][1].startswith(last)


def test_what_is_written_reads_the_same(tmp_path):
    schedule = (*read_schedule(SHIPPED / "rsvhn.yaml"), (3, "random"), (1, ""))
    path = write(tmp_path / "again.yaml", text := write_schedule(schedule, "where it is from"))
    assert read_schedule(path) == schedule
    assert text.startswith("# where it is from\nepochs: 164\n")
    assert write_schedule(schedule, "where it\nis\tfrom") == text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[1, 2]", "must be a mapping, got a list"),
        ("epochs: 3", "schedule: is required"),
        ("schedul: []", ":1: schedul: unknown key. Did you mean 'schedule'?"),
        ("schedule: []", ":1: schedule: must be a list of [epochs, policy], got an empty one"),
        ("schedule:\n- [1]", ":2: schedule[0]: must be [epochs, policy], got a list"),
        ("schedule:\n- [1, '']\n- [0, '']", ":3: schedule[1][0]: must be a whole number >= 1, got 0"),
        (
            "schedule:\n- [1, '']\n- - 2\n  - Rotate 1 2, Colour 1 2",
            ":4: schedule[1][1]: unknown operation 'Colour'. Did you mean 'Color'?",
        ),
        ("schedule:\n- [1, 7]", ":2: schedule[0][1]: must be a policy"),
        ("schedule:\n- [999999, '']\n- [2, '']", ":1: schedule: is longer than 1000000 epochs"),
        ("epochs: 9\nschedule:\n- [8, '']", ":1: epochs: is 9, but the policies last 8 epochs"),
        ("schedule: !!python/object/apply:os.system ['false']", ":1: unknown tag"),
        ("schedule: &a [*a]", ":1: the alias *a is inside the value it names"),
        ("schedule: [1, ''", "not YAML"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, message):
    path = write(tmp_path / "bad.yaml", text)
    with pytest.raises(GridError) as caught:
        read_schedule(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_log_is_imported_or_refused_with_its_line(tmp_path):
    rotate = [[tenths, 1, *[0] * 58] for tenths in range(3)]
    rows = [["1", "0", 4, 3, rotate[0], rotate[1]], ["2", "1", 8, 9, rotate[1], rotate[2]]]
    path = write(tmp_path / "pbt_policy_2.txt", "\n".join(map(json.dumps, rows)))
    assert import_log(path, 12) == ((3, "Rotate 0 1"), (6, "Rotate 0.1 1"), (3, "Rotate 0.2 1"))
    with pytest.raises(GridError, match=r"pbt_policy_2\.txt:2: the end of the search, 8 is before 9"):
        import_log(path, 8)
    with pytest.raises(GridError, match=r"_2\.tx: no such file\. Did you mean 'pbt_policy_2\.txt'\?"):
        import_log(tmp_path / "pbt_policy_2.tx", 8)
    with pytest.raises(GridError, match=r"_2\.txt: a search has at most 1000000 epochs, got 1000001"):
        import_log(path, 1_000_001)


@pytest.mark.parametrize(
    "text",
    [
        "extra:\n- {augmentation.policy.schedule: schedules/one.yaml}",
        "extra:\n- {augmentation: {policy: {schedule: schedules/one.yaml}}}",
        "extra:\n- augmentation.policy: {schedule: schedules/one.yaml}",
        "axes:\n- augmentation.policy.schedule: [schedules/one.yaml]",
        "axes:\n- zip: {augmentation.policy.schedule: [schedules/one.yaml], lr: [0.1]}",
        "axes:\n- cases: [{name: one, augmentation.policy.schedule: schedules/one.yaml}]",
        "extra:\n- {augmentation.policy.schedule: [[3, ''], [7, 'Invert 0.50 0']]}",
    ],
)
def test_a_grid_names_a_schedule_file_and_has_what_it_says(grids, text):
    assert schedules(grids, text) == [ONE]


def test_names_and_schedules_written_out_are_one_axis(grids):
    text = "axes:\n- augmentation.policy.schedule: [schedules/one.yaml, [[1, random]], [[1, ''], [2, '']]]"
    assert schedules(grids, text) == [ONE, ((1, "random"),), ((1, ""), (2, ""))]


def test_rows_are_picked_by_the_name_of_the_file(grids):
    text = "axes:\n- augmentation.policy.schedule: [schedules/one.yaml, [[1, random]]]\n"
    text += "exclude:\n- {augmentation.policy.schedule: schedules/one.yaml}"
    assert schedules(grids, text) == [((1, "random"),)]


def test_an_included_file_names_schedules_beside_itself(grids):
    (grids / "_base").mkdir()
    write(grids / "_base" / "policy.yaml", "base: {augmentation.policy.schedule: ../schedules/one.yaml}")
    assert schedules(grids, "include: _base/policy.yaml") == [ONE]


def test_the_learning_rate_schedule_is_another_one(grids):
    grid = load_grid(write(grids / "grid.yaml", GRID + "axes:\n- schedule: [cosine, constant]"))
    assert [row.config.schedule.name for row in grid.rows] == ["cosine", "constant"]


def test_ids_are_by_content(grids):
    one = "extra:\n- {augmentation.policy.schedule: schedules/one.yaml}"
    two = "extra:\n- {augmentation.policy.schedule: [[3, ''], [7, 'Invert 0.5 0']]}"
    ids = []
    for text in (one, two):
        grid = load_grid(write(grids / "grid.yaml", GRID + text))
        ids.append(grid.rows[-1].trials[0].trial_id)
    assert ids[0] == ids[1]


def test_the_command_line_names_a_file_from_where_it_is_typed(grids, monkeypatch):
    from gridrun.grid.sources import parse_overrides

    monkeypatch.chdir(grids.parent)
    setting = "augmentation.policy.schedule=grids/schedules/one.yaml"
    assert schedules(grids, "", overrides=parse_overrides([setting])) == [ONE]
    trial = lone_trial(["model=resnet", "model.depth=8", "dataset=cifar10", "epochs=1", setting])
    assert trial.rows[0].config.augmentation[0].schedule == ONE


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("../secret.yaml", "must be a relative path that stays within grids/"),
        ("/etc/passwd", "must be a relative path that stays within grids/"),
        ("schedules/on.yaml", "no such file: 'schedules/on.yaml'. Did you mean 'one.yaml'?"),
    ],
)
def test_a_grid_reads_no_file_that_it_may_not(grids, value, message):
    write(grids.parent / "secret.yaml", "schedule: [[1, '']]")
    with pytest.raises(GridError) as caught:
        schedules(grids, f"extra:\n- {{augmentation.policy.schedule: {value}}}")
    assert "grid.yaml:4: extra[0].augmentation.policy.schedule: " in str(caught.value)
    assert message in str(caught.value)


def test_a_long_schedule_is_described_in_short(grids):
    from gridrun.grid.describe import describe

    def described(schedule: list[Any]) -> str:
        extra = f"extra:\n- {{augmentation.policy.schedule: {schedule}}}"
        return describe(load_grid(write(grids / "grid.yaml", GRID + extra)).rows[-1].trials[0])

    assert "policy (schedule 9 parts, " in described([[1, "Rotate 0.1 2"]] * 9)
    assert "policy (schedule 1, random)" in described([[1, "random"]])


# --- the command -------------------------------------------------------------------------------------


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["schedule", *arguments])


def test_the_command_turns_a_log_into_a_file(tmp_path):
    row = ["1", "0", 4, 3, [0] * 60, [2, 5, *[0] * 58]]
    log = write(tmp_path / "pbt_policy_1.txt", json.dumps(row) + "\n")
    done = run(str(log), "--epochs", "8")
    assert done.exit_code == 0
    path = write(tmp_path / "schedule.yaml", done.output)
    assert read_schedule(path) == ((3, ""), (5, "Rotate 0.2 5"))
    assert run(str(path)).output.splitlines()[1:] == done.output.splitlines()[1:]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("log.txt", [], "log.txt is a log; say with --epochs how long its search was"),
        ("log.txt", ["--epochs", "0"], "0 is not in the range"),
        ("log.txt", ["--epochs", "9"], "log.txt:1: is neither JSON nor a list as Python writes it"),
        ("one.yaml", ["--epochs", "9"], "--epochs goes with a log"),
        ("no.yaml", [], "no.yaml: no such file"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, name, arguments, message):
    write(tmp_path / "log.txt", "garbage")
    write(tmp_path / "one.yaml", "schedule: [[1, '']]")
    done = run(str(tmp_path / name), *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
