"""`table --readme` on files that are not as plain as usual."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import by_hand
import pytest
from click.testing import CliRunner, Result

import cli
from gridrun.grid import load_grid
from gridrun.store import Store

GRID = """
title: {title}
base: {{dataset: digits, model: {{name: resnet_preact, depth: 8}}, epochs: 1}}
axes: [{{batch_size: [128, 256]}}]
"""
MARKER = "<!-- gridrun table small.yaml --results results -->\n"
FIGURE = "<!-- gridrun plot small.yaml --results results --out . --format svg -->\n"
END = "<!-- end -->\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(GRID.format(title="A small grid"))
    (tmp_path / "results").mkdir()
    (tmp_path / "README.md").write_text(f"# Mine\n\n{MARKER}old\n{END}")
    return tmp_path


def update(name: str = "README.md", *options: str) -> Result:
    return CliRunner().invoke(cli.main, ["table", "--readme", name, *options])


def test_a_link_stays_a_link_and_its_file_is_rewritten(place: Path) -> None:
    (place / "real.md").write_text((place / "README.md").read_text())
    (place / "README.md").unlink()
    (place / "README.md").symlink_to("real.md")
    assert update().exit_code == 0
    assert (place / "README.md").readlink() == Path("real.md")
    assert "### A small grid" in (place / "real.md").read_text()
    assert sorted(path.name for path in place.iterdir()) == ["README.md", "real.md", "results", "small.yaml"]


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o755])
def test_mode_and_owner_stay(place: Path, mode: int) -> None:
    readme = place / "README.md"
    readme.chmod(mode)
    if os.geteuid() == 0:
        os.chown(readme, 12, 34)
    before = readme.stat()
    assert update().exit_code == 0
    after = readme.stat()
    assert stat.S_IMODE(after.st_mode) == mode
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert "### A small grid" in readme.read_text()


def test_where_the_owner_cannot_be_kept_by_replacing_the_file_is_written_in_place(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("trainer.files.os.chown", refuse)
    before = (place / "README.md").stat().st_ino
    assert update().exit_code == 0
    assert (place / "README.md").stat().st_ino == before
    assert "### A small grid" in (place / "README.md").read_text()
    assert not list(place.glob(".*"))


def test_a_file_that_is_read_only_stays_as_it_is(place: Path) -> None:
    readme = place / "README.md"
    before = readme.read_text()
    readme.chmod(0o444)
    result = update()
    assert result.exit_code == 2
    assert result.stderr == "Error: README.md: cannot be written (Permission denied)\n"
    assert readme.read_text() == before
    assert update("README.md", "--check").exit_code == 1, "reading it is fine"


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_an_error_at_once(place: Path, make) -> None:  # type: ignore[no-untyped-def]
    (place / "README.md").unlink()
    make(place / "README.md")
    result = update()
    assert (result.exit_code, result.stderr) == (2, "Error: README.md: is not a regular file\n")


@pytest.mark.parametrize(
    "title",
    [
        '"Two\\nlines"',
        '"a\\n<!-- end -->\\nb"',
        "'<!-- end -->'",
        "'<!-- gridrun table other.yaml --results results -->'",
        '"\\n<!-- gridrun table other.yaml --results results -->\\n"',
        "'](x) ![y'",
    ],
)
def test_no_title_spoils_the_file(place: Path, title: str) -> None:
    readme = place / "README.md"
    (place / "small.yaml").write_text(GRID.format(title=title))
    store = Store(place / "results")
    store.create()
    for row in load_grid(place / "small.yaml").rows:
        store.add(by_hand.record(row, 0, test_error=0.1))
    text = f"before\n\n{MARKER}{END}\nbetween\n\n{FIGURE}{END}\nafter\n"
    readme.write_text(text)
    assert update().exit_code == 0
    once = readme.read_text()
    assert update().exit_code == 0
    assert readme.read_text() == once, "a second time changes nothing"
    lines = once.splitlines()
    own = ["before", "<!-- end -->", "between", "<!-- end -->", "after"]
    assert [line for line in lines if line in own] == own
    assert sum(line.startswith("### ") for line in lines) == 1
    assert sum(line.startswith("![") for line in lines) == 1


@pytest.mark.parametrize("piece", [MARKER, "<!-- gridrun table ", "<!-- gridrun table x", END, MARKER[:-1]])
def test_the_time_is_linear_in_the_length(place: Path, piece: str) -> None:
    (place / "README.md").write_text(f"# Mine\n{piece * 20_000}\n")
    start = time.process_time()
    result = update()
    assert time.process_time() - start < 5, "some 0.1 s; quadratic, it is minutes"
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: README.md"), result.stderr[:100]
