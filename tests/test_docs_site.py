"""The docs as a site: every page is there, and a broken link is an error."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_of_docs", ROOT / "docs/site.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_page_is_built_and_reachable_and_nothing_is_loaded_from_elsewhere(
    site: ModuleType, tmp_path: Path
) -> None:
    assert site.build(tmp_path)
    pages = tmp_path / "site"
    for page in (ROOT / "docs").glob("*.md"):
        assert (pages / "docs" / f"{page.stem}.html").is_file()
        assert f'"docs/{page.name}"' in site.CONFIG
    assert (pages / "docs/figures/live.svg").is_file()
    assert "googleapis" not in (pages / "index.html").read_text()


@pytest.mark.parametrize(
    ("link", "leads_somewhere"),
    [
        ("[x](a.md#own-data) [y](../trainer/file.py)", True),
        ("[x](a.md#no-such-key)", False),
        ("[x](no_such_page.md)", False),
        ("[x](../trainer/no_such_file.py)", False),
    ],
)
def test_a_broken_link_is_an_error(
    site: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str, leads_somewhere: bool
) -> None:
    monkeypatch.setattr(site, "CONFIG", '[project]\nsite_name = "x"\ndocs_dir = "pages"\n')
    root = tmp_path / "project"
    pages = {
        "README.md": "# R\n\n[B](docs/b.md)\n",
        "docs/a.md": "# A\n\n## Own data\n",
        "trainer/file.py": "",
    }
    for name, text in {**pages, "docs/b.md": f"# B\n\nSee {link}.\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    out = tmp_path / "out"
    out.mkdir()
    assert site.build(out, root) == leads_somewhere
