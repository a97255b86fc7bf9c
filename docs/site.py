"""Build the docs as a site; a link that leads nowhere is an error: `make docs`, `python docs/site.py DIR`.

The site has the tree of the repository. So a relative link holds in both, also one to a grid or a source
file, and a page has one form. The result opens from disk.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONFIG = """\
[project]
site_name = "gridrun"
site_description = "Grids of image-classification experiments, and the table for your paper or README."
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false
nav = [
  { "gridrun" = "README.md" },
  { "Tutorial" = "docs/tutorial.md" },
  { "How to" = [
    { "Which page" = "docs/how_to.md" },
    { "Daily use" = "docs/guide.md" },
    { "Grid files" = "docs/grids.md" },
    { "Several machines" = "docs/cluster.md" },
    { "Slurm" = "docs/slurm.md" },
    { "Contributing" = "CONTRIBUTING.md" },
  ] },
  { "Reference" = [
    { "Options of trials" = "docs/options.md" },
    { "Commands and columns" = "docs/reference.md" },
    { "Statistics" = "docs/statistics.md" },
    { "Changes" = "CHANGELOG.md" },
  ] },
  { "Background" = [
    { "Design" = "docs/design.md" },
    { "Results" = "docs/results.md" },
    { "Benchmarks" = "docs/benchmarks.md" },
    { "What did not work" = "docs/log.md" },
  ] },
]

[project.theme]
font = false  # nothing is loaded from another host
features = ["content.code.copy", "navigation.footer", "navigation.sections", "navigation.top"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"

[project.markdown_extensions]
tables = {}
toc.permalink = true
pymdownx.highlight = {}
pymdownx.superfences = {}
"""
LINK = re.compile(r"\]\(([^)#\s]+)")


def build(out: Path, root: Path = ROOT) -> bool:
    """Build the site of the repository at `root` in `out`/site; return whether every link leads somewhere."""
    pages = out / "pages"
    for old in (pages, out / "site"):
        shutil.rmtree(old, ignore_errors=True)
    missing = []
    for page in [*root.glob("*.md"), *(root / "docs").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        targets = [page.parent / target for target in LINK.findall(text) if "://" not in target]
        for source in (page, *targets):
            if source.is_file():
                copy = pages / source.resolve().relative_to(root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
            elif not source.is_dir() and source.suffix != ".md":  # zensical names pages, with their line
                missing.append(f"{page.relative_to(root)}: {source.name}: no such file")
    (out / "zensical.toml").write_text(CONFIG, encoding="utf-8")
    built = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=out, check=False)
    sys.stderr.writelines(f"{line}\n" for line in missing)
    return built.returncode == 0 and not missing


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/docs").absolute()
    place.mkdir(parents=True, exist_ok=True)
    if not build(place):
        raise SystemExit("a link leads nowhere, see above")
    sys.stdout.write(f"{place}/site/index.html\n")
