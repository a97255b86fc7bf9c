"""Take the docs' screenshots of the report page anew, from the stored results: `python docs/screenshots.py`.

Needs Debian's chromium. Look at the pictures before you commit them.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from gridrun.grid import load_grid
from gridrun.report.data import make_report
from gridrun.report.page import to_html
from gridrun.store import Store

ROOT = Path(__file__).parent.parent
RESULTS = Path("results/readme")
WIDTH = 1200


def tables(page: Page) -> None:
    """Select four rows, with their curves on a logarithmic axis."""
    page.wait_for_selector(".tabulator-row")
    for row in (2, 4, 10, 16):
        page.evaluate(f"select([...state.selected, {row - 1}])")
    page.check("#curve-log-y")


def searches(page: Page) -> None:
    """Show the lineage and the schedule of a search."""
    page.wait_for_selector("#search-table-0 .tabulator-row")


SHOTS = {
    "report_light": ("grids/quickstart.yaml", "light", tables),
    "report_dark": ("grids/quickstart.yaml", "dark", tables),
    "report_search": ("grids/pba/search_small_1.yaml", "light", searches),
}


def main() -> None:
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as directory:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--disable-gpu"], chromium_sandbox=False
        )
        for name, (grid, scheme, arrange) in SHOTS.items():
            report = make_report([load_grid(ROOT / grid)], Store(ROOT / RESULTS), results=RESULTS)
            report.data["grids"][0]["path"] = grid
            path = Path(directory) / f"{name}.html"
            path.write_text(to_html(report), encoding="utf-8")
            page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
            page.goto(path.as_uri())
            arrange(page)
            height = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": WIDTH, "height": height})  # all charts come into view
            page.wait_for_timeout(2000)
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
                ROOT / f"docs/images/{name}.png", optimize=True
            )
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
