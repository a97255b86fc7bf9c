"""The report page in a real headless Chromium: what readers click, type, drag and copy."""

from __future__ import annotations

import csv
import io
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe_playwright_python
import page as made
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from gridrun.report.data import make_report
from gridrun.report.page import to_html
from gridrun.report.serve import LiveReport, Server
from gridrun.store import Store
from gridrun.store.launches import LaunchState, Running
from gridrun.tables.build import tables_of
from gridrun.tables.latex import to_latex
from gridrun.tables.render import to_markdown

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium")
FLAGS = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=False)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with two grids, their store and their page."""
    directory = tmp_path_factory.mktemp("browser")
    grids, store = made.write_grids(directory), Store(directory / "results")
    made.fill(store, grids)
    report = make_report(grids, store, results=Path("results"))
    (directory / "report.html").write_text(to_html(report), encoding="utf-8")
    return directory


def opened(browser: Browser, directory: Path, wait_for: str = ".tabulator-row", **context: Any) -> Page:
    """Open the page; what goes wrong in it fails the test that calls `problems`."""
    own = browser.new_context(viewport={"width": 1280, "height": 900}, **context)
    own.grant_permissions(["clipboard-read", "clipboard-write"])
    own.set_default_timeout(10_000)
    page = own.new_page()
    found: list[str] = []
    page.on("console", lambda message: found.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:", "blob:")) or found.append(request.url),
    )
    page.problems = found  # type: ignore[attr-defined]
    page.goto((directory / "report.html").as_uri())
    page.wait_for_selector(wait_for)
    return page


@pytest.fixture(scope="module")
def shared(browser: Browser, directory: Path) -> Iterator[Page]:
    page = opened(browser, directory)
    yield page
    page.context.close()


@pytest.fixture
def page(shared: Page) -> Page:
    """Return the page as it opens, but for the scroll position."""
    shared.evaluate("chooseTab($('tab-tables')); $('table-choice').value = 0; chooseTable(0); clearBrushes()")
    settled(shared, "grid.getRows().length === 12 && grid.getDataCount('active') === 12")
    return shared


def column(page: Page, header: str) -> list[str]:
    """Return the cells of a column as the reader sees them, from top to bottom."""
    return page.evaluate(  # type: ignore[no-any-return]
        """header => {
            const { field } = shown().columns.find((column) => column.title.startsWith(header));
            const cells = document.querySelectorAll(`#table .tabulator-row [tabulator-field=${field}]`);
            return [...cells].map((cell) => cell.textContent.trim());
        }""",
        header,
    )


def header(page: Page, text: str) -> Any:
    return page.locator("#table .tabulator-col", has_text=text).first


def selected(page: Page) -> list[int]:
    return page.evaluate("[...state.selected].sort((a, b) => a - b)")  # type: ignore[no-any-return]


def settled(page: Page, what: str) -> None:
    """Wait until an expression is true. Playwright's own way evaluates text, which the policy forbids."""
    end = time.monotonic() + 10
    while not page.evaluate(f"Boolean({what})"):
        assert time.monotonic() < end, what
        page.wait_for_timeout(20)


def seen(page: Page, chart: str) -> None:
    """Scroll to a chart of rows and wait until it is drawn."""
    page.locator(f"[data-chart={chart}]").scroll_into_view_if_needed()
    settled(page, f"charts.has('{chart}') && !stale.has('{chart}')")


# --- tables --------------------------------------------------------------------------------------


def test_clicks_on_a_header_sort_by_number_and_blanks_come_last(page: Page) -> None:
    before = column(page, "Test Error")
    assert len(before) == 12
    header(page, "Test Error").locator(".tabulator-col-title").click()
    assert column(page, "Test Error") == sorted(before, key=lambda text: float(text.split(" ")[0]))
    header(page, "Published").locator(".tabulator-col-title").click()
    assert [text[:4] for text in column(page, "Published")] == ["3.50"] + [""] * 11
    header(page, "Published").locator(".tabulator-col-title").click()
    assert [text[:4] for text in column(page, "Published")] == ["3.50"] + [""] * 11


FILTERS = {
    "=0.1": ["0.1"] * 3,
    ">0.05": ["0.1"] * 3 + ["1"] * 3,
    "0.01..0.1": ["0.01"] * 3 + ["0.1"] * 3,
    "=1, =0.001": ["0.001"] * 3 + ["1"] * 3,
    "2": [],
}


def test_filters_take_comparisons_ranges_and_texts(page: Page) -> None:
    for text, rates in FILTERS.items():
        header(page, "rate").locator("input").press_sequentially(text)
        settled(page, f"grid.getDataCount('active') === {len(rates)}")
        assert column(page, "rate") == rates
        assert page.locator("#row-count").inner_text().startswith(f"{len(rates)} of 12 rows")
        page.click("#clear-filters")
        settled(page, "grid.getDataCount('active') === 12")


def test_hidden_columns_can_be_shown_and_filtered_and_shown_ones_hidden(page: Page) -> None:
    page.click("#columns summary")
    labels = page.locator("#column-list label")
    labels.filter(has_text="Weight Decay").locator("input").check()
    labels.filter(has_text="batch size").locator("input").uncheck()
    page.keyboard.press("Escape")
    assert not page.locator("#column-list").is_visible()
    assert not header(page, "batch size").is_visible()
    header(page, "weight").locator("input").press_sequentially(">=0.002")
    settled(page, "grid.getDataCount('active') === 8")
    assert set(column(page, "Weight Decay")) == {"0.002", "0.003"}


def test_find_looks_in_every_column(page: Page) -> None:
    page.fill("#find", "3.50")
    settled(page, "grid.getDataCount('active') === 1")
    page.fill("#find", "no such text")
    page.wait_for_selector("text=No row passes the filters")


def test_hovering_shows_the_runs_behind_a_number(page: Page) -> None:
    cells = page.locator("#table .tabulator-row").first.locator(".tabulator-cell")
    cells.filter(has_text="5.03").hover()
    assert page.locator(".hover").inner_text() == "3 of 3 runs, 4.93 to 5.13, std 0.10: 4.93, 5.03, 5.13"
    page.mouse.move(0, 0)


def copied(page: Page, which: str) -> str:
    page.click("#copy summary")
    page.click(f"[data-copy={which}]")
    page.wait_for_selector(".toast")
    return page.evaluate("navigator.clipboard.readText()")  # type: ignore[no-any-return]


def words(text: str) -> list[str]:
    """Return a table's words, without what pads its columns."""
    return re.sub(r"-+(:?)(?= \|)", r"-\1", text).split()


@pytest.mark.parametrize("table", [0, 1])
def test_copies_are_the_tables_that_the_command_line_prints(page: Page, directory: Path, table: int) -> None:
    page.select_option("#table-choice", str(table))
    settled(
        page, f"grid && shown() === DATA.tables[{table}] && grid.getRows().length === shown().labels.length"
    )
    grids = [made.load_grid(directory / f"{name}.yaml") for name in ("rates", "cases")]
    ours = tables_of(grids, Store(directory / "results"))[table]
    assert words(copied(page, "markdown")) == words(to_markdown(ours))
    latex, lines = copied(page, "latex"), re.compile(r"    (.*) \\\\$", re.MULTILINE)
    bodies = [re.sub(r"(?s).*\\midrule|\\bottomrule.*", "", text) for text in (latex, to_latex(ours))]
    assert lines.findall(bodies[0]) == lines.findall(bodies[1]) != []
    rows = list(csv.reader(io.StringIO(copied(page, "csv"))))
    assert len(rows) == 1 + len(ours.lines)
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows[1:] for cell in row if re.match(r"[=@]|[+-](?!\d)", cell)]


def test_a_copy_has_the_rows_and_columns_in_view(page: Page) -> None:
    header(page, "rate").locator("input").press_sequentially("=1")
    settled(page, "grid.getDataCount('active') === 3")
    page.evaluate("grid.hideColumn('c0')")
    rows = list(csv.reader(io.StringIO(copied(page, "csv"))))
    assert rows[0][0] == "Batch Size"
    assert [row[:2] for row in rows[1:]] == [["32", "1"], ["64", "1"], ["128", "1"]]


# --- rows: selection, charts and details -----------------------------------------------------------


def curves(page: Page) -> dict[str, Any]:
    """Return the lines of the curves with a name and a solid stroke: the medians."""
    seen(page, "curves")
    return page.evaluate(  # type: ignore[no-any-return]
        """() => Object.fromEntries(charts.get('curves').chart.getOption().series
            .filter((one) => one.lineStyle.width === 2).map((one) => [one.name.split(':')[0], one.data]))"""
    )


def test_selected_rows_have_their_curves_and_nothing_is_smoothed_before_asked(page: Page) -> None:
    for name in ("Select row 1", "Select row 12"):
        page.get_by_label(name, exact=True).check()
    assert selected(page) == [0, 11]
    settled(page, "document.querySelector('#curve-hint').textContent.startsWith('2 selected rows')")
    found = curves(page)
    assert set(found) == {"1", "12"}
    # medians of the seeds of row 1: 5.032 + 40 / epoch - 10; the quantum is 30 / 65,534
    expected = [5.032 + 40 / epoch - 10 for epoch in (1, 2, 3, 4)]
    assert [value for _, value in found["1"]] == pytest.approx(expected, abs=1e-3)
    band = page.evaluate("charts.get('curves').chart.getOption().series.filter((one) => one.stack).length")
    assert band == 4  # of each row a lowest line, and the band above it
    page.fill("#curve-smooth", "0.5")
    smooth = [value for _, value in curves(page)["1"]]
    assert smooth[1] == pytest.approx((expected[0] * 0.25 + expected[1] * 0.5) / 0.75, abs=1e-3)
    page.fill("#curve-smooth", "0")
    page.check("#curve-log-y")
    axis = page.evaluate("charts.get('curves').chart.getOption().yAxis[0].type")
    assert axis == "log"
    page.uncheck("#curve-log-y")
    page.check("#only-selected")
    settled(page, "grid.getDataCount('active') === 2")
    page.click("#clear")
    settled(page, "grid.getDataCount('active') === 12")


def test_an_epoch_that_was_not_tested_is_a_gap_and_a_diverged_run_is_dotted(page: Page) -> None:
    page.evaluate("select([2])")  # its first seed has diverged
    page.select_option("#curve-metric", label="Test loss (nats)")
    settled(page, "document.querySelector('#curve-hint').textContent.startsWith('1 selected')")
    settled(page, "charts.get('curves').chart.getOption().yAxis[0].name === 'Test loss (nats)'")
    assert [epoch for epoch, _ in curves(page)["3"]] == [1, 3, 4]
    dotted = page.evaluate(
        "charts.get('curves').chart.getOption().series"
        ".filter((one) => one.lineStyle.type === 'dotted').length"
    )
    assert dotted == 1
    page.select_option("#curve-metric", index=0)


def drag(page: Page, chart: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over a chart; positions are fractions of its width and height."""
    page.locator(chart).scroll_into_view_if_needed()
    box = page.locator(chart).bounding_box()
    assert box
    for place, act in ((start, page.mouse.down), (end, page.mouse.up)):
        page.mouse.move(box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"], steps=5)
        act()


def test_brushing_the_scatter_selects_rows_of_the_table(page: Page) -> None:
    seen(page, "scatter")
    page.select_option(
        "#scatter-x", label=page.evaluate("shown().columns.find((one) => one.title.startsWith('rate')).title")
    )
    settled(page, "charts.get('scatter').chart.getOption().xAxis[0].type === 'log'")
    page.wait_for_timeout(100)
    drag(page, "#scatter", (0.62, 0.2), (0.99, 0.85))
    settled(page, "state.selected.size > 0")
    rates = page.evaluate("[...state.selected].map((id) => DATA.tables[0].texts[2][id])")
    assert set(rates) <= {"0.1", "1"}
    assert page.is_checked("#only-selected")
    settled(page, "grid.getDataCount('active') === state.selected.size")
    page.click("#clear")
    settled(page, "state.selected.size === 0 && grid.getDataCount('active') === 12")


def test_brushing_an_axis_selects_rows_and_the_table_filters_what_is_drawn(page: Page) -> None:
    seen(page, "parallel")
    page.wait_for_timeout(100)
    x = page.evaluate(
        "charts.get('parallel').chart.getModel().getComponent('parallel').coordinateSystem"
        ".getAxisLayout('dim1').position[0] / $('parallel').clientWidth"
    )
    drag(page, "#parallel", (x, 0.25), (x, 0.5))
    settled(page, "state.selected.size > 0")
    assert {page.evaluate("(id) => valueOf(axes[1], id)", id_) for id_ in selected(page)} == {0.1}
    assert len(column(page, "rate")) == 3
    page.click("#clear")
    header(page, "rate").locator("input").press_sequentially("=1")
    settled(page, "grid.getDataCount('active') === 3 && stale.has('parallel')")
    seen(page, "parallel")
    settled(page, "charts.get('parallel').chart.getOption().series[0].data.length === 3")
    settled(page, "charts.get('scatter').chart.getOption().series[0].data.length === 3")


def test_many_rows_are_drawn_as_a_sample_and_the_page_says_so(page: Page) -> None:
    page.evaluate("DATA.charts.max_lines = 5; drawParallel()")
    assert "5 lines of 12 rows are drawn" in page.locator("#parallel-hint").inner_text()
    assert page.evaluate("charts.get('parallel').chart.getOption().series[0].data.length") == 5
    page.evaluate("DATA.charts.max_lines = 1000")


def test_a_row_opens_with_its_trials_and_the_commands_that_train_it_again(page: Page) -> None:
    page.get_by_label("Open row 2", exact=True).click()
    dialog = page.locator("#dialog")
    dialog.get_by_text("gridrun launch").first.wait_for()
    assert dialog.locator("tbody tr").count() == 3
    assert "median of 5.06, 5.16" in dialog.inner_text()
    dialog.locator("details summary").click()
    assert made.HOSTILE in dialog.locator("details pre").inner_text()
    dialog.locator(".command button").first.click()
    page.wait_for_selector(".toast")
    assert page.evaluate("navigator.clipboard.readText()").startswith("gridrun launch ")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_timeline_failures_and_provenance(page: Page) -> None:
    page.click("#tab-timeline")
    settled(page, "charts.has('timeline')")
    bars = page.evaluate(
        "charts.get('timeline').chart.getOption().series.map((one) => [one.name, one.data.length])"
    )
    assert bars == [["training", 40], ["beside training", 40], ["diverged", 1], ["failed", 1]]
    assert page.locator("#lanes tbody tr").count() == 1
    page.click("#tab-failures")
    page.locator("#failure-table .opener").first.click()
    page.get_by_text("Open its row").wait_for()  # the closed dialog has what it showed last
    assert made.HOSTILE in page.locator("#dialog pre").inner_text()
    page.get_by_text("Open its row").click()
    page.locator("#dialog tbody tr").first.wait_for()
    page.click("#dialog-close")
    page.click("#tab-provenance")
    assert "aaaaaaaaaa" in page.locator("#view-provenance").inner_text()


def test_a_search_is_drawn_with_the_way_of_its_best_member(browser: Browser, tmp_path: Path) -> None:
    grid = made.load_grid(Path(__file__).parent.parent / "grids" / "pba" / "search_rcifar10.yaml")
    assert grid.search
    store = Store(tmp_path / "results")
    store.create()
    store.write_lineage(grid.search.search_id, made.lineage(grid.search.search_id))
    text = to_html(make_report([grid], store, results=Path("results")))
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    page = opened(browser, tmp_path, wait_for="#search-table-0 .tabulator-row")
    assert page.locator("#view-searches h2").inner_text() == grid.title
    lines, dots = page.evaluate(
        "charts.get('search-0').chart.getOption().series.map((one) => one.data.map((each) =>"
        " [each.lineStyle?.width, each.value || each.coords.flat()]))"
    )
    assert [link for width, link in lines if width == 4] == [[1, 0, 2, 2]]
    assert [value for _, value in dots] == [
        *([1, 0, 25], [1, 1, 26], [1, 2, 27]),
        *([2, 0, 20], [2, 1, 21], [2, 2, 15]),
    ]
    assert page.problems == []  # type: ignore[attr-defined]
    page.context.close()


def test_the_schedule_of_a_search_is_drawn_in_three_panels(browser: Browser, tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    grid = made.load_grid(root / "grids" / "pba" / "search_small_1.yaml")
    text = to_html(make_report([grid], Store(root / "results/readme"), results=Path("results")))
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    page = opened(browser, tmp_path, wait_for="#search-table-0 .tabulator-row")
    assert serious_findings(page) == []
    assert "schedule of member" in page.locator("#view-searches h3").inner_text()
    series = page.evaluate(
        "charts.get('schedule-0').chart.getOption().series.map((one) => [one.name, one.stack, one.data])"
    )
    assert len(series) == 3 * 15
    shares = [data for _, panel, data in series if panel == "panel 1"]
    sums = [sum(share for _, share in piece) for piece in zip(*shares, strict=True)]
    assert set(map(round, sums)) <= {0, 100}  # 0: no operation at all
    assert 100 in map(round, sums)
    assert shares[0][-1][0] == 31  # 30 epochs, and the edge after them
    assert page.problems == []  # type: ignore[attr-defined]
    page.context.close()


# --- keyboard, themes, small screens, names --------------------------------------------------------


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    page.locator("#tab-tables").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#view-timeline").is_visible()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.id") == "tab-tables"
    header(page, "Test Error").locator(".tabulator-col-title").focus()
    page.keyboard.press("Enter")
    first = column(page, "Test Error")
    assert first == sorted(first, key=lambda text: float(text.split(" ")[0]))
    page.keyboard.press("Enter")
    assert column(page, "Test Error") == first[::-1]
    page.get_by_label("Select row 3", exact=True).focus()
    page.keyboard.press("Space")
    assert selected(page) == [2]
    page.get_by_label("Open row 3", exact=True).focus()
    page.keyboard.press("Enter")
    page.locator("#dialog[open]").wait_for()
    page.keyboard.press("Escape")
    seen = set()
    page.locator("#theme").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"table-choice", "find", "only-selected", "curve-metric", "scatter-x"} <= seen


def serious_findings(page: Page) -> list[tuple[str, str, list[str]]]:
    """Return what axe-core finds serious or critical: rule, help, and the elements."""
    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(f"{axe}; null")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((all) => all.violations)")
    return [
        (one["id"], one["help"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 1280), ("dark", 400), pytest.param("dark", 1280, marks=pytest.mark.slow)],
)
def test_accessible_in_every_theme_and_width(
    browser: Browser, directory: Path, scheme: Any, width: int
) -> None:
    page = opened(browser, directory, color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    seen(page, "parallel")
    for tab in ("tables", "timeline", "failures", "provenance"):
        page.click(f"#tab-{tab}")
        assert serious_findings(page) == [], tab
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != background
    assert page.problems == []  # type: ignore[attr-defined]
    page.context.close()


def test_no_name_becomes_markup_or_code(shared: Page, page: Page) -> None:
    """Last of those that share the page: nothing went wrong in it, and nothing was asked of any host."""
    page.evaluate("chooseTable(1); $('table-choice').value = 1")
    settled(page, "grid.getRows().length === 4")
    for row in range(4):
        page.get_by_label(f"Open row {row + 1}", exact=True).click()
        page.locator("#dialog[open] tbody").wait_for()
        page.keyboard.press("Escape")
    assert made.HOSTILE in page.locator("#table").inner_text()
    seen(page, "curves")
    box = page.locator("#curves").bounding_box()
    assert box
    page.locator("#curves").scroll_into_view_if_needed()
    page.locator("#curves").hover()
    page.wait_for_timeout(200)
    assert page.evaluate("document.querySelectorAll('img, b, i').length") == 0
    assert page.title() == "2 studies"
    assert shared.problems == []  # type: ignore[attr-defined]


# --- a sweep that runs ---------------------------------------------------------------------------


def test_a_served_page_takes_in_what_is_new_and_keeps_what_the_reader_chose(
    browser: Browser, tmp_path: Path
) -> None:
    grids, store = made.write_grids(tmp_path), Store(tmp_path / "results")
    store.create()
    for number, trial in enumerate(grids[0].trials[:6]):
        store.add(made.record(trial, number))
    live = LiveReport(lambda: make_report(grids, store, results=Path("results")), store.version)
    with Server(live) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        found: list[str] = []
        page.on("console", lambda message: found.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: found.append(str(error)))
        page.goto(server.address)
        page.wait_for_selector(".tabulator-row")
        header(page, "batch size").locator("input").press_sequentially("<100")
        settled(page, "grid.getDataCount('active') === 8")
        page.get_by_label("Select row 2", exact=True).check()
        seen(page, "curves")
        running = Running(trial_id=grids[0].trials[12].trial_id, about="the 13th", epochs=4, epoch=3)
        state = LaunchState(started_at="2026-01-01T00:00:00+00:00", total=36, ended=6, running=(running,))
        store.launches.write("one", state)
        for number, trial in enumerate(grids[0].trials[6:12]):
            store.add(made.record(trial, number + 6))
        store.compact(now=True)
        live._not_before = 0.0  # do not wait to spare the CPU: a silent launch counts as dead after 15 s
        page.get_by_text("epoch 3 of 4").wait_for(timeout=15_000)
        settled(page, "grid.getDataCount('active') === 8 && state.selected.size === 1")
        errors = column(page, "Test Error")
        assert len([text for text in errors if text]) == 3  # rows 1, 2 and 4; 3 is filtered out
        assert page.get_by_label("Select row 2", exact=True).is_checked()
        page.get_by_label("Open row 4", exact=True).click()
        page.locator("#dialog[open] tbody tr").first.wait_for()
        page.keyboard.press("Escape")
        assert found == []
        server.shutdown()
    page.locator("body.stale").wait_for(timeout=15_000)
    assert len(column(page, "Test Error")) == 8
    context.close()
