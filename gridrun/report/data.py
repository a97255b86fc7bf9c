"""All that the page shows, from grids and a store."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gridrun
from gridrun.grid.describe import describe
from gridrun.looks import settle
from gridrun.plan.overview import overview
from gridrun.report.charts import charts
from gridrun.report.curves import curves_of
from gridrun.report.details import details_of
from gridrun.report.searches import page_search
from gridrun.report.tables import page_table
from gridrun.report.trials import failures, page_trials, spans_of, timeline
from gridrun.tables import latex, render
from gridrun.tables.build import build_table
from gridrun.tables.judge import pools_of
from gridrun.text import one_line, utc_now

if TYPE_CHECKING:
    from gridrun.grid import Grid
    from gridrun.store import Store
    from gridrun.store.launches import LaunchState
    from gridrun.store.records import Record


class Report(NamedTuple):
    """What a page shows."""

    data: dict[str, Any]
    """Plain JSON."""
    blobs: dict[str, bytes]
    """What the page reads on demand, by name, each compressed with gzip."""


def make_report(
    grids: Sequence[Grid],
    store: Store,
    *,
    results: Path,
    grid_options: Sequence[str] = (),
    current: Sequence[Grid] = (),
) -> Report:
    """Read a store once and return what the page of some grids shows.

    Args:
        grids: whose tables to show, with as many seeds of adaptive rows as the store asks for now.
        store: the results.
        results: the store, as the user named it.
        grid_options: command-line options with which the grids were read; commands on the page repeat them.
        current: what searches among the grids train now.

    Raises:
        StoreError: a file of the store is damaged or not ours.
    """
    grids = settle(grids, store)
    rows = [row for grid in grids for row in grid.rows]
    searches = [(grid, store.lineage(grid.search.search_id)) for grid in grids if grid.search]
    searched = [row for _, lineage in searches for row in lineage]
    ids = [*(trial_id for row in rows for trial_id in row.trial_ids), *(row.trial_id for row in searched)]
    records = store.records(ids)
    pools = pools_of(store)
    trials = page_trials(rows, searched, records)
    numbers = {trial_id: number for number, trial_id in enumerate(trials["id"])}
    tables = [(grid, spec, build_table(spec, records, pools)) for grid in grids for spec in grid.tables]
    curves, blobs = curves_of(store.epochs_table(), trials["id"])
    for number, (grid, spec, table) in enumerate(tables):
        details = details_of(grid, spec, table, records, results=results, grid_options=grid_options)
        blobs[f"details-{number}"] = gzip.compress(to_json(details).encode(), 6, mtime=0)
    failed = {trial_id for trial_id, record in records.items() if record.status != "done"}
    words = {row.trial_id: f"{row.name}: round {row.round}, member {row.member}" for row in searched}
    words |= {
        trial.trial_id: one_line(describe(trial))
        for row in rows
        if failed.intersection(row.trial_ids)
        for trial in row.trials
    }
    lost = failures(trials["id"], records, words)
    texts = [records[trials["id"][number]].traceback or "" for number in lost["trial"]]
    blobs["tracebacks"] = gzip.compress(to_json(texts).encode(), 6, mtime=0)
    data = {
        "title": grids[0].title if len(grids) == 1 else f"{len(grids)} studies",
        "grids": [
            {"name": grid.name, "title": one_line(grid.title), "path": str(grid.path)} for grid in grids
        ],
        "results": str(results),
        "made_at": utc_now()[:19].replace("T", " "),
        "version": gridrun.__version__,
        "state": _state([*grids, *current], [row.trial_id for row in searched], store),
        "tables": [page_table(*table, records, numbers) for table in tables],
        "trials": trials,
        "curves": curves,
        "timeline": timeline(spans_of(trials["id"], records)),
        "failures": lost,
        "searches": [page_search(grid.title, lineage) for grid, lineage in searches if lineage],
        "provenance": _provenance(records),
        "charts": charts(list(curves["metrics"])),
        "escapes": {"latex": latex.ESCAPES, "latex_special": latex.SPECIAL, "markdown": render.MARKDOWN},
    }
    return Report(data, blobs)


def to_json(value: Any) -> str:
    """Return strict JSON that is also safe inside a `<script>`: `<` is written as an escape."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _state(grids: Sequence[Grid], searched: Sequence[str], store: Store) -> dict[str, Any]:
    """Return the counts of trials and what runs now; `searched` are those that searches have decided on."""
    found = overview(store, grids, searched)
    return {
        "counts": {name: count for name, count in found.counts.items() if count},
        "launches": [_launch(launch) for launch in found.launches],
        "running": [
            {
                "trial": run.trial_id,
                "about": one_line(run.about),
                "epoch": run.epoch,
                "epochs": run.epochs,
                "error": run.test_error,
                "place": one_line(run.place),
            }
            for run in found.running
        ],
    }


def _launch(launch: LaunchState) -> dict[str, Any]:
    return {
        "started": launch.started_at[:19].replace("T", " "),
        "total": launch.total,
        "ended": launch.ended,
        "share": round(launch.share, 4),
        "seconds_left": launch.seconds_left,
    }


_ORIGINS = ("commit", "dirty", "torch_version", "trainer_version", "gridrun_version", "python_version")
_MACHINES = ("host", "gpu", "gpu_share", "cpu", "threads", "cuda_version", "driver_version")


def _provenance(records: Mapping[str, Record]) -> dict[str, Any]:
    """Count trials by the code that trained them, and by the machine."""

    def counted(keys: Sequence[str]) -> dict[str, Any]:
        counts: dict[tuple[str, ...], int] = {}
        for record in records.values():
            values = (getattr(record.provenance, key) for key in keys)
            key = tuple("" if value is None else one_line(str(value)) for value in values)
            counts[key] = counts.get(key, 0) + 1
        rows = sorted(counts.items(), key=lambda item: -item[1])
        return {"headers": [*keys, "trials"], "rows": [[*key, count] for key, count in rows]}

    return {"code": counted(_ORIGINS), "machines": counted(_MACHINES)}
