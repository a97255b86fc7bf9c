"""`gridrun report --serve`: who gets an answer, and what the page sees while a sweep runs and ends."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import page as made
import pytest
from click.testing import CliRunner

import cli
from gridrun.errors import StoreError
from gridrun.report.data import Report, make_report
from gridrun.report.serve import LiveReport, Server
from gridrun.store import Store
from gridrun.store.launches import LaunchState, Running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    store.create()
    return store


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[Server]:
    """Return a server that looks at the store whenever it is asked."""
    grids = made.write_grids(tmp_path)
    live = LiveReport(lambda: make_report(grids, store, results=Path("results")), store.version)
    with Server(live) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask for a path below the server's address, or for any other that begins with a slash."""
    parts = urlsplit(server.address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request(method, path if path.startswith("/") else f"{parts.path}{path}", headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def data(server: Server, stamp: str = "") -> dict[str, object] | None:
    server.live._not_before = 0.0  # do not wait to spare the CPU
    status, _, body = ask(server, f"data.json?stamp={stamp}")
    assert status in (200, 204)
    return json.loads(body) if body else None


# --- who gets an answer ----------------------------------------------------------------------------


def test_only_those_who_know_the_token_get_an_answer(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    status, headers, body = ask(server, "")
    assert (status, body[:15]) == (200, b"<!doctype html>")
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert b"connect-src &#x27;self&#x27;" in body
    token = urlsplit(server.address).path.strip("/")
    assert len(token) >= 32
    for path in ("/", "/data.json", f"/{token}", f"/{token[:-1]}/", f"/{token}x/", "/%2e/"):
        assert ask(server, path)[0] == 404, path
    assert ask(server, "/%c3%a9/")[0] == 404
    assert ask(server, "", Host="evil.example")[0] == 404  # a name that resolves to this machine
    assert ask(server, "", Host=f"localhost:{server.server_port}")[0] == 200


def test_it_only_reads(server: Server, store: Store) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, "data.json", method)[0] == 501
    for path in ("../../etc/passwd", "blob/../../../etc/passwd", "blob/details-99", "none"):
        assert ask(server, path)[0] == 404
    assert ask(server, "", "HEAD")[2] == b""
    ask(server, "")
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before


# --- what it shows -------------------------------------------------------------------------------


def test_the_page_follows_a_sweep_to_its_end_and_through_compaction(
    server: Server, store: Store, tmp_path: Path
) -> None:
    (grid, _) = made.write_grids(tmp_path)
    first = data(server)
    assert first
    assert first["state"]["counts"] == {"missing": 44}  # type: ignore[index]
    stamp = str(first["stamp"])
    assert data(server, stamp) is None

    running = Running(trial_id=grid.trials[1].trial_id, about="the second", epochs=4, epoch=2, test_error=0.5)
    state = LaunchState(started_at="2026-01-01T00:00:00+00:00", total=36, ended=1, running=(running,))
    store.launches.write("one", state)
    store.add(made.record(grid.trials[0], 0))
    second = data(server, stamp)
    assert second
    assert second["state"]["running"][0]["epoch"] == 2  # type: ignore[index]
    assert second["trials"]["status"][0] == "done"  # type: ignore[index]
    assert data(server, str(second["stamp"])) is None

    store.compact(now=True)
    store.launches.end("one")
    third = data(server, str(second["stamp"]))
    assert third
    assert third["state"]["running"] == []  # type: ignore[index]
    assert third["trials"] == second["trials"]
    assert third["tables"] == second["tables"]
    for of in (second, third):  # the page may still ask for what the report before had
        status, _, body = ask(server, f"blob/curves-test_error?stamp={of['stamp']}")
        assert status == 200
        assert len(gzip.decompress(body)) == 2 * 4
    assert ask(server, f"blob/curves-test_error?stamp={stamp}")[0] == 404


def test_later_seeds_appear_once_the_records_ask_for_them(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "auto.yaml"
    base = "base: {model: {name: resnet_preact, depth: 8}, dataset: digits, epochs: 4, lr: 0.1}\n"
    table = "tables: [{columns: [lr, test_error], published: [{test_error: 3.0}]}]\n"
    path.write_text(f"{base}seeds: {{min: 2, max: 5, looks: [2, 5]}}\n{table}")
    grid = made.load_grid(path)
    live = LiveReport(lambda: make_report([grid], store, results=Path("results")), store.version)
    assert live.newest.report.data["state"]["counts"] == {"missing": 2}
    for number, trial in enumerate(grid.trials):
        store.add(made.record(trial, number))
    live._not_before = 0.0
    newest = live.newest.report.data
    assert newest["state"]["counts"] == {"done": 2, "missing": 3}
    assert newest["trials"]["status"] == ["done"] * 2 + ["missing"] * 3


def test_a_damaged_store_keeps_the_last_report(store: Store, tmp_path: Path) -> None:
    grids = made.write_grids(tmp_path)
    store.add(made.record(grids[0].trials[0], 0))
    store.compact(now=True)
    live = LiveReport(lambda: make_report(grids, store, results=Path("results")), store.version)
    before = live.newest.stamp
    whole = store.trials_path.read_bytes()
    store.trials_path.write_bytes(b"PAR1 no PAR1")
    live._not_before = 0.0
    assert live.newest.stamp == before
    store.trials_path.write_bytes(whole)
    assert live.newest.stamp != before
    with pytest.raises(StoreError):
        LiveReport(lambda: (_ for _ in ()).throw(StoreError("damaged")), store.version)


def test_reading_a_large_store_anew_waits_as_long_as_it_took_five_times() -> None:
    calls = []

    def make() -> Report:
        calls.append(1)
        return Report({}, {})

    live = LiveReport(make, lambda: len(calls))
    live._not_before = float("inf")
    assert [live.newest.stamp, live.newest.stamp][0] == live.newest.stamp
    assert len(calls) == 1
    live._not_before = 0.0
    assert live.newest.stamp.endswith("-2")


def test_the_command_refuses_what_does_not_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.write_grids(tmp_path)
    monkeypatch.chdir(tmp_path)
    for arguments, problem in (
        (["--serve", "-o", "a.html"], "--serve writes no file; leave out -o"),
        (["--port", "80"], "--port goes with --serve"),
    ):
        done = CliRunner().invoke(cli.main, ["report", "rates.yaml", *arguments])
        assert done.exit_code == 2
        assert problem in done.output
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(cli.main, ["report", "rates.yaml", "--serve", "--port", str(port)])
    assert done.exit_code == 2
    assert f"--port {port}: cannot listen on 127.0.0.1 (Address already in use)" in done.output
