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


def measure(page: Page, body: str) -> float:
    """Return the milliseconds that some JavaScript takes in the page, with what it draws."""
    start, end = "const start = performance.now();", "return performance.now() - start;"
    return float(page.evaluate(f"async () => {{ {start} {body}; {DRAWN} {end} }}"))


def figures_of(page: Page, rows: int) -> dict[str, float]:
    """Return the milliseconds of each step in a page that has just been opened."""
    usable, drawn = page.evaluate(OPENED)
    found = {"the table can be used": usable, "the first screen is drawn": drawn}
    page.wait_for_timeout(500)
    filtered = []
    for text in FILTERS:
        filtered.append(measure(page, f"grid.setHeaderFilterValue('c0', {text!r})"))
        page.wait_for_timeout(900)  # charts follow later
    found["a filter, median of four"] = statistics.median(filtered)
    page.wait_for_timeout(500)
    chosen = [place * (rows // 20) for place in range(20)]
    select = f"state.selected = new Set({chosen}); await drawCurves()"
    page.select_option("#curve-metric", label="Training loss (nats)")  # its column is not unpacked yet
    page.wait_for_timeout(500)
    page.evaluate("kept.delete('curves-train_loss')")
    found["curves of 20 rows"] = measure(page, select)
    found["the same, unpacked before"] = measure(page, select)
    found["parallel coordinates"] = measure(page, "drawParallel()")
    found["scatter"] = measure(page, "drawScatter()")
    found["a brush of a quarter of the rows"] = measure(
        page, f"select(Array.from({{length: {rows // 4}}}, (_, i) => 4 * i), true)"
    )
    found["sort"] = measure(page, "grid.setSort('c4', 'desc')")
    return found


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
        found: list[dict[str, float]] = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=FLAGS, chromium_sandbox=False
            )
            for _ in range(arguments.runs):
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.set_default_timeout(60_000)
                page.goto(place.absolute().as_uri(), wait_until="commit")
                found.append(figures_of(page, len(grid.rows)))
                page.close()
            version = browser.version
            browser.close()
        print(f"  load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"  milliseconds in Chromium {version}, n = {len(found)}: median (lowest to highest)")
        for name in found[0]:
            values = [one[name] for one in found]
            print(f"  {statistics.median(values):7.0f} ({min(values):.0f} to {max(values):.0f})  {name}")


if __name__ == "__main__":
    main()
