"""The report page of a large sweep: size of the file, and how long a reader waits in a headless Chromium.

    python benchmarks/report.py [--trials 10000] [--epochs 200] [--seeds 4] [--runs 5] [--keep DIR]

Makes up a store with curves like those of a training (an exponential fall, a plateau and noise), writes the
page, opens it and measures in the page: until the table can be used and the first screen is drawn; a filter
typed into a header; the curves of 20 rows, unpacked for the first time and again; other charts.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from gridrun.grid import Grid, load_grid
from gridrun.report.data import make_report
from gridrun.report.page import to_html
from gridrun.store import Store, parquet
from gridrun.store.records import EPOCH_TYPES, TRIAL_TYPES, Record
from gridrun.sweep import provenance, worker
from gridrun.trial import Trial
from trainer import files
from trainer.metrics import Epoch

GRID = """
title: A large sweep
base: {{model: {{name: resnet_preact, depth: 8}}, dataset: digits, epochs: {epochs}}}
axes:
  - lr: [{lrs}]
  - weight_decay: [{decays}]
  - schedule: [cosine, constant]
  - batch_size: [32, 64, 128, 256, 512]
seeds: {seeds}
tables: [{{columns: [lr, weight_decay, schedule, batch_size, test_error, train_time]}}]
"""
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)
CHUNK = 1000


def write_grid(path: Path, trials: int, epochs: int, seeds: int) -> Grid:
    side = round((trials / seeds / 10) ** 0.5)
    lrs = ", ".join(f"{0.001 * 1.2**i:.6g}" for i in range(side))
    decays = ", ".join(f"{0.00001 * (i + 1):.5f}" for i in range(round(trials / seeds / 10 / side)))
    path.write_text(GRID.format(epochs=epochs, lrs=lrs, decays=decays, seeds=seeds))
    return load_grid(path)


def record(trial: Trial, number: int, epochs: int, code: Any) -> Record:
    """Return what a trial leaves whose error falls to a plateau, with the noise of a small test set."""
    draw = np.random.default_rng(int(trial.trial_id, 16))
    at = np.arange(epochs)
    fall = np.exp(-at / draw.uniform(5, 40))
    plateau = draw.uniform(0.05, 0.2)
    columns = {
        "train_loss": 0.1 * plateau + 2.2 * fall + draw.normal(0, 0.01, epochs),
        "train_error": plateau / 4 + 0.8 * fall + draw.normal(0, 0.002, epochs),
        "test_loss": 4 * plateau + 2 * fall + draw.normal(0, 0.03, epochs),
        "test_error": np.round(plateau + 0.8 * fall + draw.normal(0, 0.004, epochs), 4),
    }
    lists = {name: np.abs(values).tolist() for name, values in columns.items()}
    curve = [
        Epoch(
            epoch=i + 1,
            lr=trial.config.lr * (1 - i / epochs),
            train_seconds=3.0,
            **{name: values[i] for name, values in lists.items()},
        )
        for i in range(epochs)
    ]
    start = number // 8 * 640
    stamps = [
        time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(1_780_000_000 + at))
        for at in (start, start + 630)
    ]
    return Record(
        **worker.identity_of(trial),
        status="done",
        test_error=curve[-1].test_error,
        test_loss=curve[-1].test_loss,
        train_loss=curve[-1].train_loss,
        train_error=curve[-1].train_error,
        epochs_trained=epochs,
        train_seconds=3.0 * epochs,
        started_at=stamps[0],
        ended_at=stamps[1],
        provenance=dataclasses.replace(code, host=f"node-{number % 8}", cpu="a CPU", device="cpu", threads=1),
        epochs=tuple(curve),
    )


def fill(store: Store, trials: Sequence[Trial], epochs: int) -> None:
    store.create()
    code = provenance.of_code()
    for start in range(0, len(trials), CHUNK):
        records = [
            record(trial, start + place, epochs, code)
            for place, trial in enumerate(trials[start : start + CHUNK])
        ]
        for path, rows, types in (
            (store.epochs_path, [row for one in records for row in one.epoch_rows()], EPOCH_TYPES),
            (store.trials_path, [one.row() for one in records], TRIAL_TYPES),
        ):
            with files.temporary_beside(path) as partial:
                parquet.append(path, rows, types, [], partial)


DRAWN = "await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));"
"""In the page: wait until what was changed is on the screen."""
OPENED = """async () => {
    const soon = () => new Promise((done) => setTimeout(done, 5));
    const ready = () => typeof grid === 'object' && grid && document.querySelector('#table .tabulator-row');
    while (!ready()) await soon();
    const usable = performance.now();
    while (!charts.has('curves')) await soon();
    return [usable, performance.now()];
}"""
FILTERS = ("32", ">0.01", "0.001..0.1", "")


class Stopwatch:
    """Measures steps in a page that has just been opened: elapsed time, and CPU time of the page's thread.

    On a machine with other work the second says more. Unpacking and pixels have threads of their own.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        self._cdp = page.context.new_cdp_session(page)
        self._cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.found: dict[str, list[tuple[float, float]]] = {}

    def busy(self) -> float:
        """Return the milliseconds that a CPU has worked for the page's thread."""
        metrics = self._cdp.send("Performance.getMetrics")["metrics"]
        return 1e3 * next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")

    def step(self, name: str, body: str) -> None:
        """Run some JavaScript and wait until what it draws is on the screen."""
        start, end = "const start = performance.now();", "return performance.now() - start;"
        before = self.busy()
        elapsed = float(self._page.evaluate(f"async () => {{ {start} {body}; {DRAWN} {end} }}"))
        self.found.setdefault(name, []).append((elapsed, self.busy() - before))


def figures_of(page: Page, place: Path, rows: int) -> dict[str, list[tuple[float, float]]]:
    """Return elapsed and CPU milliseconds of each step."""
    watch = Stopwatch(page)
    page.goto(place.absolute().as_uri(), wait_until="commit")
    usable, drawn = page.evaluate(OPENED)
    busy = watch.busy()
    watch.found = {"the table can be used": [(usable, busy)], "the first screen is drawn": [(drawn, busy)]}
    page.wait_for_timeout(500)
    for text in FILTERS:
        watch.step("a filter", f"grid.setHeaderFilterValue('c0', {text!r})")
        page.wait_for_timeout(900)  # charts follow later
    chosen = [place * (rows // 20) for place in range(20)]
    select = f"state.selected = new Set({chosen}); await drawCurves()"
    page.select_option("#curve-metric", label="Training loss (nats)")
    page.wait_for_timeout(500)
    page.evaluate("kept.delete('curves-train_loss')")
    watch.step("curves of 20 rows, unpacked for the first time", select)
    watch.step("curves of 20 rows, unpacked before", select)
    watch.step("parallel coordinates", "drawParallel()")
    watch.step("scatter", "drawScatter()")
    quarter = f"Array.from({{length: {rows // 4}}}, (_, i) => 4 * i)"
    watch.step("a brush of a quarter of the rows", f"select({quarter}, true)")
    watch.step("sort", "grid.setSort('c4', 'desc')")
    return watch.found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="use this directory, and what an earlier run left there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        grid = write_grid(directory / "large.yaml", arguments.trials, arguments.epochs, arguments.seeds)
        store = Store(directory / "results")
        if len(store.statuses()) < len(grid.trials):
            fill(store, grid.trials, arguments.epochs)
        started = time.perf_counter()
        report = make_report([grid], store, results=directory / "results")
        place = directory / "report.html"
        place.write_text(to_html(report), encoding="utf-8")
        seconds = time.perf_counter() - started
        size = place.stat().st_size / 1e6
        print(f"{len(grid.trials):,} trials of {len(grid.rows):,} rows, {arguments.epochs} epochs")
        print(f"  written in {seconds:.1f} s; {size:.1f} MB", flush=True)
        found: list[dict[str, list[tuple[float, float]]]] = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS, chromium_sandbox=False
            )
            for _ in range(arguments.runs):
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.set_default_timeout(60_000)
                found.append(figures_of(page, place, len(grid.rows)))
                page.close()
            version = browser.version
            browser.close()
        print(f"  load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"  milliseconds in Chromium {version}, n = {len(found)}: median (lowest to highest); CPU time")
        for name in found[0]:
            elapsed, busy = zip(*(pair for one in found for pair in one[name]), strict=True)
            spread = f"{statistics.median(elapsed):6.0f} ({min(elapsed):.0f} to {max(elapsed):.0f})"
            print(f"  {spread:22} {statistics.median(busy):6.0f}  {name}")


if __name__ == "__main__":
    main()
