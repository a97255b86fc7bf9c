"""The report page: its data and its file. What a browser makes of it is in test_report_browser.py."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import html
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import page
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

import cli
from gridrun.grid import load_grid
from gridrun.report import curves
from gridrun.report.data import Report, make_report, to_json
from gridrun.report.page import HERE, to_html
from gridrun.report.searches import page_search
from gridrun.report.trials import Span, timeline
from gridrun.search import read_progress
from gridrun.store import Store
from gridrun.store.launches import LaunchState, Running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    directory = tmp_path_factory.mktemp("report")
    grids, store = page.write_grids(directory), Store(directory / "results")
    page.fill(store, grids)
    return make_report(grids, store, results=Path("some results"))


# --- tables --------------------------------------------------------------------------------------


def column(report: Report, title: str, table: int = 0) -> dict[str, object]:
    """Return what the page has of a column: its definition, texts, keys and hover texts."""
    one = report.data["tables"][table]
    (place,) = (i for i, found in enumerate(one["columns"]) if found["title"] == title)
    return {"texts": one["texts"][place], "keys": one["keys"][place], "hover": one["hover"][place]} | one[
        "columns"
    ][place]


def test_a_column_has_its_texts_and_what_it_is_sorted_by(report: Report) -> None:
    error = next(
        found for found in report.data["tables"][0]["columns"] if found["title"].startswith("Test Error")
    )
    found = column(report, error["title"])
    # seeds 0, 1, 2 of lr 0.001 and batch size 32: 0.04 + 0.01 + 0.00032 - 0.001 + 0.001 * seed
    assert found["texts"][0] == "5.03"
    assert found["keys"][0] == 5.032
    assert found["hover"][0] == "3 of 3 runs, 4.93 to 5.13, std 0.10: 4.93, 5.03, 5.13"
    assert found["hover"][1] == "2 of 3 runs, 5.06 to 5.16, std 0.07: 5.06, 5.16"  # one has failed
    assert found["hozAlign"] == "right"
    time = column(report, "Training Time")
    assert (time["texts"][0], time["keys"][0]) == ("36s", 36.0)


def test_options_that_differ_and_metrics_are_there_hidden(report: Report) -> None:
    found = column(report, "Weight Decay")
    assert not found["visible"]
    assert found["keys"][:3] == [0.001, 0.002, 0.003]
    assert not column(report, "Training Loss")["visible"]
    titles = [one["title"] for one in report.data["tables"][0]["columns"]]
    assert "Data Set" not in titles
    assert "Optimizer Momentum" not in titles
    assert len(titles) == len(set(titles))


def test_published_value_difference_and_verdict_stand_beside_ours(report: Report) -> None:
    titles = [one["title"] for one in report.data["tables"][0]["columns"] if one["visible"]]
    assert any(title.startswith("Published") for title in titles)
    difference = column(report, next(title for title in titles if title.startswith("Difference")))
    # lr 0.1, batch size 32: 0.04 + 0.01 / 3 + 0.00032, in percent 4.37 as printed, beside 3.50
    assert [text for text in difference["texts"] if text] == ["+0.87 ± 0.18"]
    assert [key for key in difference["keys"] if key is not None] == [0.87]


def test_rows_name_their_trials(report: Report) -> None:
    trials, table = report.data["trials"], report.data["tables"][0]
    assert [trials["seed"][i] for i in table["trials"][0]] == [0, 1, 2]
    assert [trials["status"][i] for i in table["trials"][1]] == ["failed", "done", "done"]
    assert trials["status"].count("missing") == 2
    assert len(trials["id"]) == len(set(trials["id"])) == 36 + 8


def test_details_have_runs_commands_and_tracebacks(report: Report) -> None:
    details = json.loads(gzip.decompress(report.blobs["details-0"]))
    assert len(details) == 12
    assert [run[2] for run in details[1]["runs"]] == ["failed", "done", "done"]
    assert page.HOSTILE in details[1]["tracebacks"][0][1]
    commands = dict(details[1]["commands"])
    ids = [run[1] for run in details[1]["runs"]]
    rest = commands["Train the trials that are not done"]
    assert f"--only {ids[0]} --retry --results 'some results'" in rest
    assert "gridrun train model=resnet_preact" in commands["Train the first trial without its grid"]


# --- timeline, failures, searches ------------------------------------------------------------------


def test_the_timeline_shows_idle_and_lost_time() -> None:
    hour = 3600.0
    spans = [
        Span(0, 0, hour, 0.75 * hour, "done", "a"),
        Span(1, 0.5 * hour, hour, 0.5 * hour, "done", "a"),  # beside the first: a lane of its own
        Span(2, hour, 1.5 * hour, 0.0, "failed", "a"),
        Span(3, 11.5 * hour, 12 * hour, 0.5 * hour, "done", "a"),  # after a pause of ten hours
    ]
    found = timeline(spans)
    assert [bar[:3] for bar in found["bars"]] == [[0, 0, 1], [1, 0.5, 1], [0, 1, 1.5], [0, 1.5, 2]]
    first, second = found["lanes"]
    assert (first["train"], first["other"], first["lost"], first["idle"]) == (1.25, 0.25, 0.5, 0.0)
    assert (second["train"], second["idle"]) == (0.5, 1.0)
    assert found["sessions"] == [[0.0, "1970-01-01 00:00"], [1.5, "1970-01-01 11:30"]]


def test_failures_are_listed(report: Report) -> None:
    found = report.data["failures"]
    assert found["failure"] == ["exception", "divergence"]
    assert all(page.HOSTILE in error for error in found["error"])
    texts = json.loads(gzip.decompress(report.blobs["tracebacks"]))
    assert [text.count(page.HOSTILE) for text in texts] == [1, 1]


def test_trials_of_a_search_are_on_the_timeline_and_among_the_failures(tmp_path: Path) -> None:
    grid = page.load_grid(Path(__file__).parent.parent / "grids" / "pba" / "search_rcifar10.yaml")
    store, (other, _) = Store(tmp_path / "results"), page.write_grids(tmp_path)
    assert grid.search
    store.create()
    rows = page.lineage(grid.search.search_id)
    store.write_lineage(grid.search.search_id, rows)
    for row, status in zip(rows, ("done", "failed"), strict=False):
        store.add(dataclasses.replace(page.record(other.trials[0], 0, status), trial_id=row.trial_id))
    found = make_report([grid], store, results=tmp_path).data
    assert len(found["timeline"]["bars"]) == 2
    assert found["failures"]["about"] == ["search: round 1, member 1"]
    assert found["state"]["counts"] == {"done": 1, "failed": 1, "missing": 4}


def test_the_first_round_of_a_search_is_counted_while_it_runs(tmp_path: Path) -> None:
    path = Path(__file__).parent.parent / "grids" / "pba" / "search_rcifar10.yaml"
    store, out = Store(tmp_path / "results"), tmp_path / "a.html"
    store.create()
    first, *others = read_progress(load_grid(path), store).grid.trials
    running = Running(trial_id=first.trial_id, about="one", epochs=3, epoch=2)
    when = "2026-01-01T00:00:00+00:00"
    store.launches.write("one", LaunchState(started_at=when, total=16, running=(running,)))
    done = CliRunner().invoke(cli.main, ["report", str(path), "--results", str(store.root), "-o", str(out)])
    assert done.exit_code == 0, done.output
    text = out.read_text(encoding="utf-8")
    assert f'"state":{{"counts":{{"missing":{len(others)}}}' in text
    assert f'"running":[{{"trial":"{first.trial_id}"' in text


def test_a_search_knows_the_way_of_its_best_member() -> None:
    rows = page.lineage("ab" * 8)
    found = page_search("A search", rows)
    assert found["best"] == [[1, 0], [2, 2]]
    assert [row["from"] for row in found["rows"]] == [0, 1, 2, 0, 1, 0]
    assert found["schedule"] is None  # these policies are forged
    assert page_search("Nothing yet", [])["best"] == []


def test_the_schedule_of_the_best_member_is_that_of_its_way() -> None:
    policies = {1: "Rotate 0.4 6", 2: "Rotate 0.2 3, Invert 1.0 0"}
    rows = [replace(row, policy=policies[row.round]) for row in page.lineage("ab" * 8)]
    found = page_search("A search", rows)["schedule"]
    assert found["title"] == "A search: schedule of member 2, validation error 15.00 %, after 6 epochs"
    assert (found["starts"], found["epochs"]) == ((1, 4), 6)
    layers = {
        stack["label"]: dict(zip(found["operations"], stack["layers"], strict=True))
        for stack in found["stacks"]
    }
    # Each operation has two entries, of which one is left out here.
    assert layers["Probability"]["Rotate"] == (0.2, 0.1)
    assert layers["Probability"]["Invert"] == (0.0, 0.5)
    assert layers["Level"]["Rotate"] == (3.0, 1.5)
    assert layers["Share of all operations (%)"]["Rotate"] == pytest.approx((100.0, 100 / 6))


def test_a_lineage_that_goes_in_circles_ends() -> None:
    rows = [replace(row, parent_id=row.trial_id) for row in page.lineage("ab" * 8)]
    assert page_search("A search", rows)["best"] == [[2, 2]]


# --- curves --------------------------------------------------------------------------------------


def read_curves(report: dict[str, object], blob: bytes, metric: str) -> list[list[float | None]]:
    """Read curves as the page does."""
    packed = gzip.decompress(blob)
    count = len(packed) // 2
    steps, last = [], 0
    for low, high in zip(packed[:count], packed[count:], strict=True):
        last = (last + low + (high << 8)) & 65535
        steps.append(last)
    scale, found, at = report["metrics"][metric], [], 0  # type: ignore[index]
    for trial, length in enumerate(report["num_epochs"]):  # type: ignore[arg-type,var-annotated]
        low, high = scale["low"][trial], scale["high"][trial]
        shares = [None if step == 65535 else step / 65534 for step in steps[at : at + length]]
        at += length
        found.append(
            [
                None
                if share is None
                else low * (high / low) ** share
                if scale["log"][trial]
                else low + (high - low) * share
                for share in shares
            ]
        )
    return found


def epochs_of(curves_by_trial: dict[str, list[float | None]]) -> pa.Table:
    rows = [(i, e + 1, value) for i, values in curves_by_trial.items() for e, value in enumerate(values)]
    return pa.table(
        {
            "trial_id": pa.array([row[0] for row in rows], pa.string()),
            "epoch": pa.array([row[1] for row in rows], pa.int64()),
            "test_loss": pa.array([row[2] for row in rows], pa.float64()),
        }
    )


NUMBERS = st.one_of(st.none(), st.just(0.0), st.floats(1e-6, 1e20), st.floats(1e-6, 10))


@given(st.lists(st.lists(NUMBERS, max_size=6), min_size=1, max_size=4))
@settings(max_examples=60)
def test_curves_keep_their_values_to_the_quantum(values: list[list[float | None]]) -> None:
    ids = [f"{number:016x}" for number in range(len(values))]
    table = epochs_of({"f" * 16: [1.0], **dict(zip(ids, values, strict=True))})
    found, blobs = curves.curves_of(table, ids, {"test_loss": 1.0})
    known = [value for one in values for value in one if value is not None]
    if not known:
        assert not blobs
        return
    for ours, theirs in zip(read_curves(found, blobs["curves-test_loss"], "test_loss"), values, strict=True):
        given_ = [value for value in theirs if value is not None]
        low, high = (min(given_), max(given_)) if given_ else (0, 0)
        for value, original in zip(ours, theirs, strict=True):
            assert (value is None) == (original is None)
            if value is None or original is None:
                continue
            if low > 0 and high > curves.LOG_RATIO * low:
                assert value == pytest.approx(original, rel=2e-3)  # of 36 decades, 65,534 steps
            else:
                assert value == pytest.approx(original, rel=1e-6, abs=max(1e-300, (high - low) / 60_000))


@given(some.arrays(np.uint16, st.integers(0, 50)))
def test_packing_loses_nothing(steps: np.ndarray) -> None:
    packed = curves.packed(steps)
    count = len(steps)
    differences = [packed[i] + (packed[count + i] << 8) for i in range(count)]
    assert [sum(differences[: i + 1]) % 65536 for i in range(count)] == steps.tolist()


def test_rows_of_epochs_that_nobody_can_have_measured_are_left_out() -> None:
    table = pa.table(
        {
            "trial_id": ["a", "a", "a", "a", "b", "b", "b", None],
            "epoch": pa.array([1, 2, -3, None, 2**62, 10**6, 30, 1], pa.int64()),
            "test_loss": pa.array([1.0, float("nan"), 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
        }
    )
    found, blobs = curves.curves_of(table, ["a", "b"], {"test_loss": 1.0, "lr": 1.0})
    assert found["num_epochs"] == [2, 30]
    assert read_curves(found, blobs["curves-test_loss"], "test_loss") == [[1.0, None], [*[None] * 29, 7.0]]
    assert set(found["metrics"]) == {"test_loss"}


# --- the file ------------------------------------------------------------------------------------


def test_names_from_grids_cannot_end_a_script(report: Report) -> None:
    text = to_html(report)
    assert "<img src=x" not in text
    assert text.count("</script") == text.count("<script")
    assert text.count("</style") == text.count("<style") == 2
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert json.loads(data) == json.loads(json.dumps(report.data))
    assert to_json({"a": "</script>"}) == '{"a":"\\u003c/script>"}'


def test_the_policy_names_every_script_and_style_and_no_host(report: Report) -> None:
    text = to_html(report)
    (found,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    policy = dict(part.split(" ", 1) for part in html.unescape(found).split("; "))
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in found
    assert "http" not in found
    for kind, bodies in (
        ("script-src", re.findall(r"<script>(.*?)</script>", text, re.DOTALL)),
        ("style-src", re.findall(r"<style>(.*?)</style>", text, re.DOTALL)),
    ):
        digests = [base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies]
        assert policy[kind] == " ".join(f"'sha256-{digest}'" for digest in digests)


def test_vendored_libraries_are_what_their_list_says() -> None:
    vendor = HERE / "vendor"
    listed = dict(line.split("  ")[::-1] for line in (vendor / "SHA256SUMS").read_text().splitlines())
    assert set(listed) == {path.name for path in vendor.iterdir()} - {"README.md", "SHA256SUMS", "renew.sh"}
    for name, digest in listed.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name
    renew, about = ((vendor / name).read_text() for name in ("renew.sh", "README.md"))
    versions = re.findall(r"^[A-Z]+=([\d.]+)$", renew, re.MULTILINE)
    assert len(versions) == 2
    assert all(version in about for version in versions)


def test_own_scripts_evaluate_no_text_and_write_no_markup() -> None:
    for path in (HERE / "assets").glob("*.js"):
        found = re.findall(
            r"\beval\b|new Function|innerHTML|outerHTML|insertAdjacent|document\.write", path.read_text()
        )
        assert not found, path


def test_the_command_writes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids = page.write_grids(tmp_path)
    page.fill(Store(tmp_path / "results"), grids)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.main, ["report", "rates.yaml", "-o", "a.html"])
    assert (done.exit_code, done.stdout) == (0, "a.html: 1.7 MB\n"), done.output
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    os.mkfifo("pipe")
    refused = CliRunner().invoke(cli.main, ["report", "rates.yaml", "-o", "pipe"])
    assert refused.exit_code == 2
    assert "pipe is not a regular file" in refused.output
    failed = CliRunner().invoke(cli.main, ["report", "rates.yaml", "-o", "none/a.html"])
    assert failed.exit_code == 2
    assert "none/a.html: cannot be written (No such file or directory)" in failed.output


def test_a_page_without_results_and_one_without_tables_can_be_made(tmp_path: Path) -> None:
    grids = page.write_grids(tmp_path)
    empty = make_report(grids, Store(tmp_path / "nothing"), results=tmp_path)
    assert empty.data["trials"]["status"] == ["missing"] * 44
    assert empty.data["curves"]["metrics"] == {}
    assert "</html>" in to_html(make_report([], Store(tmp_path / "nothing"), results=tmp_path))
