"""The trials of the page: when and where each ran, and what was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from gridrun.tables.notes import hardware_name
from gridrun.text import one_line, seconds_of

if TYPE_CHECKING:
    from gridrun.grid import Row
    from gridrun.store.lineage import LineageRow
    from gridrun.store.records import Record

PAUSE_SECONDS = 600.0
"""When nothing ran for longer, the timeline leaves the time out and marks the place."""


class Span(NamedTuple):
    """The time that a trial took, from its start to its end, in seconds since 1970."""

    number: int
    """Of the trial in the page's list."""
    start: float
    end: float
    train_seconds: float
    status: str
    place: str
    """Host and hardware."""


def page_trials(
    rows: Iterable[Row], searched: Iterable[LineageRow], records: Mapping[str, Record]
) -> dict[str, list[Any]]:
    """Return every trial of some rows and of some searches once, as columns."""
    seeds = {i: seed for row in rows for i, seed in zip(row.trial_ids, row.seeds, strict=True)}
    seeds |= {row.trial_id: row.seed for row in searched}
    found = [records.get(trial_id) for trial_id in seeds]
    return {
        "id": list(seeds),
        "seed": list(seeds.values()),
        "status": [record.status if record else "missing" for record in found],
    }


def spans_of(trial_ids: Sequence[str], records: Mapping[str, Record]) -> list[Span]:
    """Return when and where trials ran, the first one first. Those without a start are left out."""
    spans = []
    for number, trial_id in enumerate(trial_ids):
        record = records.get(trial_id)
        start = seconds_of(record.started_at) if record else None
        end = seconds_of(record.ended_at) if record else None
        if record is None or start is None or end is None or end < start:
            continue
        trained = min(record.train_seconds or 0.0, end - start)
        place = f"{record.provenance.host or 'unknown host'}, {hardware_name(record.provenance)}"
        spans.append(Span(number, start, end, trained, record.status, one_line(place)))
    return sorted(spans, key=lambda span: (span.start, span.end))


def timeline(spans: Sequence[Span]) -> dict[str, Any]:
    """Return the sweep's timeline: lanes, bars and sessions.

    A lane is a place that trains one trial at a time; trials that overlap on one machine are in lanes of
    their own. A session is a time without a long pause; positions are hours since the first start, without
    pauses. What a session's lane does not train is idle; what a trial does beside training steps (to start,
    load, test, save, and attempts that were lost) is `other`; what failed or diverged is `lost`.
    """
    sessions = _sessions(spans)
    lanes: list[dict[str, Any]] = []
    bars: list[list[Any]] = []
    free_at: dict[str, list[tuple[int, float]]] = {}
    session = 0
    for span in spans:
        while session + 1 < len(sessions) and span.start >= sessions[session + 1][0]:
            session += 1
        begin, shift = sessions[session][0], sessions[session][2]
        own = free_at.setdefault(span.place, [])
        place = next((at for at, (_, until) in enumerate(own) if until <= span.start), None)
        if place is None:
            own.append((len(lanes), span.end))
            lanes.append({"place": span.place, "number": len(own), "trials": 0})
            lanes[-1] |= {"train": 0.0, "other": 0.0, "lost": 0.0, "sessions": set()}
            lane = len(lanes) - 1
        else:
            lane = own[place][0]
            own[place] = (lane, span.end)
        at = span.start - begin + shift
        bars.append([lane, _hours(at), _hours(at + span.end - span.start), _hours(span.train_seconds)])
        bars[-1] += [span.number, span.status, _moment(span.start, "%Y-%m-%d %H:%M:%S")]
        of_lane, seconds = lanes[lane], span.end - span.start
        of_lane["trials"] += 1
        of_lane["sessions"].add(session)
        if span.status == "done":
            of_lane["train"] += span.train_seconds
            of_lane["other"] += seconds - span.train_seconds
        else:
            of_lane["lost"] += seconds
    for of_lane in lanes:
        span_seconds = sum(sessions[i][1] - sessions[i][0] for i in of_lane.pop("sessions"))
        used = sum(of_lane[what] for what in ("train", "other", "lost"))
        of_lane["idle"] = max(0.0, span_seconds - used)
        for what in ("train", "other", "lost", "idle"):
            of_lane[what] = _hours(of_lane[what])
    return {
        "lanes": lanes,
        "bars": bars,
        "sessions": [[_hours(shift), _moment(start)] for start, _, shift in sessions],
    }


def _sessions(spans: Sequence[Span]) -> list[tuple[float, float, float]]:
    """Return start and end of each time without a long pause, and where its start is without pauses."""
    found: list[list[float]] = []
    for span in spans:
        if found and span.start - found[-1][1] <= PAUSE_SECONDS:
            found[-1][1] = max(found[-1][1], span.end)
        else:
            found.append([span.start, span.end])
    sessions, shift = [], 0.0
    for start, end in found:
        sessions.append((start, end, shift))
        shift += end - start
    return sessions


def _hours(seconds: float) -> float:
    return round(seconds / 3600, 5)


def _moment(seconds: float, form: str = "%Y-%m-%d %H:%M") -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime(form)


def failures(
    trial_ids: Sequence[str], records: Mapping[str, Record], words: Mapping[str, str]
) -> dict[str, Any]:
    """Return the trials that failed or diverged, as columns. `words` describe them, by trial id."""
    found = [
        (number, records[i], words[i])
        for number, i in enumerate(trial_ids)
        if i in records and records[i].status != "done"
    ]
    return {
        "trial": [number for number, *_ in found],
        "about": [about for *_, about in found],
        "failure": [record.failure or "" for _, record, _ in found],
        "attempts": [record.attempts for _, record, _ in found],
        "error": [one_line(record.error or "") for _, record, _ in found],
        "ended": [(record.ended_at or "")[:19].replace("T", " ") for _, record, _ in found],
        "place": [one_line(record.provenance.host or "") for _, record, _ in found],
    }
