"""The notes below a table: what a reader must know beyond its numbers."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gridrun.metrics import METRICS, format_column, header_of
from gridrun.resources import HARDWARE_KEYS, UNKNOWN, hardware_of
from gridrun.tables.model import MIN_RUNS_OF_A_VERDICT, TrialRow, number
from gridrun.text import format_option, number_of

if TYPE_CHECKING:
    from gridrun.grid import TableSpec
    from gridrun.tables.model import Line


OPTIONS_NOTED = {
    "precision": "precisions",
    "epochs": "numbers of epochs",
    "num_gpus": "numbers of GPUs",
}
"""What tells at a glance that two rows do not compare, unless it is a column."""
_ORIGIN_KEYS = (*HARDWARE_KEYS, *OPTIONS_NOTED, "commit", "dirty", "torch_version", "trainer_version")
NOTED_COLUMNS = frozenset((*_ORIGIN_KEYS, "status", "error", "notes"))
"""Of the store: what notes are made from."""
Origins = Sequence[tuple[TrialRow, int]]
"""What trials say of where they come from, each saying once, with the number of trials that say it."""


def notes_of(
    spec: TableSpec, lines: Sequence[Line], records: Mapping[str, TrialRow], origins: Origins
) -> Iterator[str]:
    """Yield a table's notes.

    Args:
        spec: what the grid file says of the table.
        lines: those of the rows that are trained.
        records: rows of the store by trial id.
        origins: of the trials that are done.
    """
    labels = Labels(spec.columns, lines)
    yield from _ending_notes(labels, lines, records)
    yield from _trial_notes(labels, lines, records)
    yield from provenance_notes(spec.columns, origins)
    yield from _published_notes(spec, labels, lines)
    yield from _reported_notes(len(spec.reported), len(lines))


def origins_of(trials: Iterable[TrialRow]) -> Origins:
    """Gather where trials come from. Most say the same, so that all else looks at a few sayings."""
    said = Counter(tuple(map(record.get, _ORIGIN_KEYS)) for record in trials)
    return [(dict(zip(_ORIGIN_KEYS, values, strict=True)), n) for values, n in said.items()]


def provenance_notes(columns: Sequence[str], origins: Origins) -> Iterator[str]:
    """Say where trials that are shown together come from different hardware, options or code."""
    yield from _hardware_notes(columns, origins)
    yield from _option_notes(columns, origins)
    yield from _code_notes(origins)


def hardware_mixture(origins: Origins) -> str | None:
    """Count trials by what their speed depends on; None where that is one and the same."""
    return _mixture(origins, lambda record: hardware_of(record).name)


def _ending_notes(labels: Labels, lines: Sequence[Line], records: Mapping[str, TrialRow]) -> Iterable[str]:
    """Name the trials that diverged or failed, with the reason, and count those that have not run."""
    for status in ("diverged", "failed"):
        for line in lines:
            by_reason: dict[str, list[int]] = {}
            for seed in getattr(line, status):
                by_reason.setdefault(_reason(records[line.trials[seed]]), []).append(seed)
            for reason, seeds in by_reason.items():
                yield f"{status}: {labels.of(line)} ({_counted_seeds(seeds)}){reason}"
    missing = sum(len(line.missing) for line in lines)
    wanted = sum(len(line.trials) for line in lines)
    if missing:
        yield "not run yet" + (f": {missing} of {number_of(wanted, 'trial')}" if missing < wanted else "")


MAX_REASON = 160
"""Characters of an error in a note."""


def _reason(record: TrialRow) -> str:
    """Say why a trial failed or diverged, as far as its record knows."""
    error = _known(record, "error", "")
    return f": {error if len(error) <= MAX_REASON else error[: MAX_REASON - 3] + '...'}" if error else ""


def _trial_notes(labels: Labels, lines: Sequence[Line], records: Mapping[str, TrialRow]) -> Iterable[str]:
    """Say what trials have noted of themselves: a checkpoint that could not be saved, another machine."""
    noted = [
        (line, seed, notes)
        for line in lines
        for seed in (*line.done, *line.diverged)
        if (notes := records[line.trials[seed]].get("notes")) and isinstance(notes, str)
    ]
    found: dict[str, dict[str, list[tuple[str, int]]]] = {}
    for line, seed, notes in noted:
        for note in notes.split("; "):
            alike = found.setdefault(_STEP.sub("", note), {})
            alike.setdefault(note, []).append((labels.of(line), seed))
    for short, alike in found.items():
        who = [trial for trials in alike.values() for trial in trials]
        named = _named(who) if len(who) <= MAX_NAMED else number_of(len(who), "trial")
        if short:
            yield f"noted of {named}: {short if len(alike) > 1 else next(iter(alike))}"


MAX_NAMED = 4
"""Of trials with the same note; of more, the number is told."""
_STEP = re.compile(r" at step \d+$")


def _named(trials: Iterable[tuple[str, int]]) -> str:
    seeds: dict[str, list[int]] = {}
    for label, seed in trials:
        seeds.setdefault(label, []).append(seed)
    return "; ".join(f"{label} ({_counted_seeds(of_label)})" for label, of_label in seeds.items())


def _hardware_notes(columns: Sequence[str], origins: Origins) -> Iterable[str]:
    mixture = hardware_mixture(origins)
    bound = [
        METRICS[column].header for column in columns if column in METRICS and not METRICS[column].portable
    ]
    if mixture and bound:
        yield f"* {', '.join(bound)}: not comparable between rows, trained on different hardware: {mixture}"
    elif mixture:
        yield f"trained on different hardware: {mixture}"
    elif bound and origins:
        yield f"{', '.join(bound)}: on {hardware_of(origins[0][0]).name}"


def _option_notes(columns: Sequence[str], origins: Origins) -> Iterable[str]:
    """Say where the trials differ in what a reader takes to be the same."""
    for option, plural in OPTIONS_NOTED.items():
        if option not in columns and (mixture := _mixture(origins, _word_of(option))):
            yield f"different {plural}: {mixture}"


def _code_notes(origins: Origins) -> Iterable[str]:
    """Say where the trials differ in what computed them."""
    if mixture := _mixture(origins, lambda record: _known(record, "commit")[:10]):
        yield f"different commits: {mixture}"
    if dirty := sum(n for record, n in origins if record["dirty"] is True):
        trials = number_of(sum(n for _, n in origins), "trial")
        yield f"uncommitted changes in the code of {dirty} of {trials}"
    if mixture := _mixture(origins, _word_of("torch_version")):
        yield f"different torch versions: {mixture}"
    if mixture := _mixture(origins, _word_of("trainer_version")):
        yield f"different trainer versions: {mixture}"


def _published_notes(spec: TableSpec, labels: Labels, lines: Sequence[Line]) -> Iterable[str]:
    shown = [line for line in lines if any(cell.published_text for cell in line.cells.values())]
    bound = [
        METRICS[column].header
        for column in spec.columns
        if column in METRICS
        and not METRICS[column].portable
        and any(line.cells[column].published_text for line in shown)
    ]
    if spec.source and (shown or any(row.published for row in spec.reported)):
        yield f"published values: {spec.source}"
    if bound:
        yield f"published {', '.join(bound)}: on the authors' own hardware, so no difference is shown"
    by_note: dict[str, list[Line]] = {}
    for line in shown:
        if note := spec.published[line.config_id].note:
            by_note.setdefault(note, []).append(line)
    if any(cell.verdict for line in shown for cell in line.cells.values()):
        yield (
            "Verdict: whether the published value lies between our lowest and highest run, "
            f"of at least {MIN_RUNS_OF_A_VERDICT}"
        )
    for note, noted in by_note.items():
        which = "" if len(noted) == len(shown) else f", {'; '.join(map(labels.of, noted))}"
        yield f"published{which}: {note}"


def _reported_notes(count: int, trained: int) -> Iterable[str]:
    if count:
        which = f"the last {number_of(count, 'row')}" if trained else "every row"
        yield f"{which}: as published, not trained here"


class Labels:
    """Says each line's config in words: the columns in which the table's lines differ."""

    def __init__(self, columns: Sequence[str], lines: Sequence[Line]) -> None:
        self._options = [column for column in columns if column not in METRICS and column != "paper"]
        self._lines = lines

    def of(self, line: Line) -> str:
        """Return the words for a line."""
        said = ", ".join(self._words(line, column) for column in self._shown)
        return said or line.name or f"config {line.config_id}"

    @functools.cached_property
    def _shown(self) -> list[str]:  # not before a label is asked for: it looks through all lines
        return [column for column in self._options if self._differ(column)] or self._options[:1]

    def _differ(self, column: str) -> bool:
        texts = (format_column(column, line.options[column]) for line in self._lines)
        first = next(texts, None)
        return any(text != first for text in texts)

    def _words(self, line: Line, column: str) -> str:
        value = format_column(column, line.options[column])
        return value if column in ("model", "name") else f"{header_of(column)} {value}"


def _known(record: TrialRow, key: str, unknown: str = UNKNOWN) -> str:
    value = record.get(key)
    if isinstance(value, str):
        return value or unknown
    return unknown if number(value) is None else format_option(value)


def _word_of(key: str) -> Callable[[TrialRow], str]:
    return lambda record: _known(record, key)


def _mixture(origins: Origins, word: Callable[[TrialRow], str]) -> str | None:
    """Count trials by a word for where they come from, the most frequent first; None if it is one for all."""
    words: Counter[str] = Counter()
    for record, n in origins:
        words[word(record)] += n
    counts = words.most_common()
    return ", ".join(f"{value} ({number_of(n, 'trial')})" for value, n in counts) if len(counts) > 1 else None


def _counted_seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
