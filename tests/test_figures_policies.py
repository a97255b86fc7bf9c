"""Figures of schedules and searches, and sheets of images under a policy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import cli
from gridrun.figures.draw import is_current, save
from gridrun.figures.policies import LineageFigure, ScheduleFigure, best_path, schedule_figure, search_figures
from gridrun.figures.sheet import sheet_figure
from gridrun.store.lineage import LineageRow
from trainer.augmentations.policy import Policy
from trainer.augmentations.policy.preview import previews
from trainer.augmentations.policy.schedules import OPERATIONS

SCHEDULES = Path(__file__).parent.parent / "grids" / "pba" / "schedules"


def gridrun(*args: object) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args])


def row(round: int, member: int, error: float | None, came_from: int | None, policy: str = "") -> LineageRow:
    """Return a segment of two epochs, named by its round and member."""
    return LineageRow(
        search_id="s",
        name="small",
        round=round,
        member=member,
        seed=member,
        first_epoch=2 * round - 1,
        last_epoch=2 * round,
        trial_id=f"{round}-{member}",
        parent_id=None if came_from is None else f"{round - 1}-{came_from}",
        donor=came_from if came_from not in (None, member) else None,
        policy=policy,
        val_error=error,
    )


LINEAGE = [
    row(1, 0, 0.5, None),
    row(1, 1, 0.6, None),
    row(2, 0, 0.4, 0),
    row(2, 1, 0.3, 0, "Rotate 1 9"),
    row(3, 0, 0.35, 0),
    row(3, 1, 0.2, 1, "Rotate 1 9"),
]


class TestSchedule:
    def test_stacks_are_means_of_two_entries(self) -> None:
        figure = schedule_figure("f", "F", ((2, ""), (3, "Rotate 0.3 6, Rotate 0.1 4, Invert 0.8 9")))
        assert figure
        assert figure.starts == (1, 3)
        assert figure.epochs == 5
        probability, share, level = (dict(zip(OPERATIONS, s.layers, strict=True)) for s in figure.stacks)
        assert probability["Rotate"] == (0, 0.2)
        assert probability["Invert"] == (0, 0.4)
        assert share["Rotate"] == (0, pytest.approx(100 / 3))  # of 0.2 + 0.4
        assert share["Invert"] == (0, pytest.approx(200 / 3))
        assert level["Rotate"] == (0, 5)
        assert level["Invert"] == (0, 0)  # it has no level, whatever the schedule says

    def test_a_random_policy_has_no_figure(self) -> None:
        assert schedule_figure("f", "F", ((2, ""), (3, "random"))) is None

    def test_the_published_one_is_drawn(self, tmp_path: Path) -> None:
        path = tmp_path / "figures" / "rcifar10.svg"
        assert gridrun("schedule", SCHEDULES / "rcifar10.yaml", "--plot", path).output == f"{path}\n"
        assert "TranslateY" in path.read_text()

    def test_the_file_must_have_a_known_format(self, tmp_path: Path) -> None:
        result = gridrun("schedule", SCHEDULES / "rcifar10.yaml", "--plot", tmp_path / "a.pgn")
        assert result.exit_code == 2
        assert "unknown format 'pgn'. Did you mean 'png'?" in result.output


class TestSearch:
    def test_the_best_path_follows_the_weights(self) -> None:
        assert [one.trial_id for one in best_path(LINEAGE)] == ["1-0", "2-1", "3-1"]

    def test_the_last_round_that_has_ended_counts(self) -> None:
        unfinished = [*LINEAGE[:4], row(3, 0, None, 0), row(3, 1, None, 1)]
        assert [one.trial_id for one in best_path(unfinished)] == ["1-0", "2-1"]

    def test_nothing_before_the_first_round_has_ended(self) -> None:
        assert list(search_figures("small", "Small", [row(1, 0, None, None)])) == []

    def test_figures_show_schedule_and_lineage(self, tmp_path: Path) -> None:
        schedule, lineage = search_figures("small", "Small", LINEAGE)
        assert isinstance(schedule, ScheduleFigure)
        assert isinstance(lineage, LineageFigure)
        assert schedule.starts == (1, 3)  # the same policy in rounds 2 and 3 is one piece
        assert schedule.title == "Small: schedule of member 1, validation error 20.00 %, after 6 epochs"
        assert "1 time a member went on" in lineage.notes[1]
        for figure in (schedule, lineage):
            path = tmp_path / f"{figure.id}.svg"
            save(figure, path)
            assert is_current(path, figure)
            assert not is_current(path, dataclasses.replace(figure, title="Other"))

    def test_a_search_that_has_not_begun_is_said(self, tmp_path: Path) -> None:
        grid = SCHEDULES.parent / "search_rcifar10.yaml"
        result = gridrun("plot", grid, "--results", tmp_path / "none", "--out", tmp_path)
        assert result.exit_code == 2
        assert "the first round of this search has not ended yet" in result.output


class TestSheet:
    IMAGE = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    FILL = (0.5, 0.25, 0.0)

    def test_no_policy_leaves_the_image(self) -> None:
        for one in previews(Policy(schedule=((3, ""),)), self.IMAGE, self.FILL, 2, 4):
            assert one.operations == ()
            np.testing.assert_array_equal(one.image, self.IMAGE.transpose(1, 2, 0))

    def test_operations_are_those_of_the_image(self) -> None:
        policy = Policy(schedule=((1, ""), (1, "TranslateX 1 3")))
        made = previews(policy, self.IMAGE, self.FILL, 1, 32)
        assert {one.operations for one in made} == {(), (("TranslateX", 3),), (("TranslateX", -3),)}
        for (_, value), image in ((one.operations[0], one.image) for one in made if one.operations):
            shifted, filled = (np.s_[:, :-3], np.s_[:, -3:]) if value > 0 else (np.s_[:, 3:], np.s_[:, :3])
            source = np.s_[:, 3:] if value > 0 else np.s_[:, :-3]
            np.testing.assert_array_equal(image[shifted], self.IMAGE.transpose(1, 2, 0)[source])
            assert (image[filled] == [128, 64, 0]).all()

    def test_the_digest_is_of_the_pixels(self) -> None:
        made = {1: previews(Policy(schedule=((1, "Rotate 1 9"),)), self.IMAGE, self.FILL, 0, 2)}
        one = sheet_figure("s", "S", self.IMAGE.transpose(1, 2, 0), made, ())
        other = sheet_figure("s", "S", 255 - self.IMAGE.transpose(1, 2, 0), made, ())
        assert one.digest != other.digest

    def test_command(self, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
        file, path = SCHEDULES / "rcifar10.yaml", tmp_path / "sheet.svg"
        options = ("--dataset", "digits", "--image", 5, "--at", "20,200")
        result = gridrun("schedule", file, "--sheet", path, *options)
        assert result.output == f"{path}\n"
        assert "epoch 200" in path.read_text()

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            (("--at", "0"), "--at 0: the schedule has epochs 1 to 200"),
            (("--at", "1,x"), "--at 1,x: must be epochs, such as 20,80,140"),
            (("--dataset", "digit"), "Did you mean 'digits'?"),
            (("--dataset", "digits", "--image", "99999"), "training images, the first is 0"),
        ],
    )
    def test_bad_input(
        self,
        options: tuple[str, ...],
        problem: str,
        tmp_path: Path,
        cache_dir: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("GRIDRUN_CACHE", str(cache_dir))
        result = gridrun("schedule", SCHEDULES / "rcifar10.yaml", "--sheet", tmp_path / "s.png", *options)
        assert result.exit_code == 2
        assert problem in result.output
