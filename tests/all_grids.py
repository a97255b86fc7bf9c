"""The grid files of this project."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent / "grids"
SEARCHES = sorted(ROOT.glob("pba/search_*.yaml"))
"""They have one base and no rows."""
GRIDS = sorted({*ROOT.glob("*.yaml"), *ROOT.glob("pba/*.yaml")} - {*SEARCHES})
