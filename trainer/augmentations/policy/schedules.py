"""Policies and their schedules as data: texts with names, lists of 60 numbers, logs of a search. Torch-free.

A policy is a text such as `Rotate 0.3 6, Rotate 0.1 4, TranslateX 0.8 2`: operations, each with a probability
in tenths and a level 0..9, each at most twice. The empty text does nothing. A schedule is a sequence of
`(epochs, policy)`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from trainer.registry import did_you_mean

OPERATIONS = (
    *("Rotate", "TranslateX", "TranslateY", "Brightness", "Color", "Invert", "Sharpness", "Posterize"),
    *("ShearX", "Solarize", "ShearY", "Equalize", "AutoContrast", "Cutout", "Contrast"),
)
"""In the order of the vectors in the logs of github.com/arcelien/pba."""
COPIES = 2
"""How often a policy may have the same operation."""
LEVELS = 10
TENTHS = 10
WITHOUT_LEVEL = frozenset({"Invert", "Equalize", "AutoContrast"})
"""Operations to which the level means nothing."""
RANDOM = "random"
"""Stands for a policy that is drawn with the trial's seed."""
MAX_LINE = 100_000
MAX_EPOCHS = 1_000_000
"""The longest schedule."""

Schedule = tuple[tuple[int, str], ...]


class Entry(NamedTuple):
    """One operation of a policy."""

    operation: str
    tenths: int
    """Probability x 10."""
    level: int


class LogError(ValueError):
    """A log of a search that cannot be read; `line` counts from 1, 0 is the whole file."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}" if line else problem)
        self.line = line
        self.problem = problem


# --- policies ----------------------------------------------------------------------------------


def read_policy(text: str) -> tuple[Entry, ...]:
    """Return the entries of a policy in the order of OPERATIONS, without those that are `0 0`.

    Raises:
        ValueError: an operation is unknown or appears too often, or a number is out of its range.
    """
    entries = [_entry(part) for part in text.split(",")] if text.strip() else []
    kept = [entry for entry in entries if entry.tenths or entry.level]
    for operation in OPERATIONS:
        times = sum(entry.operation == operation for entry in kept)
        if times > COPIES:
            raise ValueError(f"{operation} appears {times} times; the most is {COPIES}")
    return tuple(sorted(kept, key=lambda entry: OPERATIONS.index(entry.operation)))


def _entry(text: str) -> Entry:
    parts = text.split()
    if len(parts) != 3:
        raise ValueError(f"{text.strip()!r} must be an operation, a probability and a level: Rotate 0.3 6")
    name, probability, level = parts
    if name not in OPERATIONS:
        raise ValueError(f"unknown operation {name!r}.{did_you_mean(name, OPERATIONS)}")
    if not re.fullmatch(r"0?\.[0-9]0*|0|1(\.0*)?", probability):
        raise ValueError(f"the probability of {name} must be 0, 0.1 ... 0.9 or 1, got {probability}")
    if not re.fullmatch(r"[0-9]", level):
        raise ValueError(f"the level of {name} must be a whole number in 0..{LEVELS - 1}, got {level}")
    return Entry(name, round(float(probability) * TENTHS), int(level))


def policy_text(entries: Iterable[Entry]) -> str:
    """Return the one text of a policy: what `read_policy` reads, in its order."""
    kept = (entry for entry in entries if entry.tenths or entry.level)
    ordered = sorted(kept, key=lambda entry: OPERATIONS.index(entry.operation))
    return ", ".join(f"{name} {tenths / TENTHS:g} {level}" for name, tenths, level in ordered)


def to_vector(text: str) -> list[int]:
    """Return a policy as 60 numbers: for each copy, for each of OPERATIONS, tenths and level."""
    halves = [[(0, 0)] * len(OPERATIONS) for _ in range(COPIES)]
    seen = dict.fromkeys(OPERATIONS, 0)
    for entry in read_policy(text):
        halves[seen[entry.operation]][OPERATIONS.index(entry.operation)] = entry.tenths, entry.level
        seen[entry.operation] += 1
    return [number for half in halves for pair in half for number in pair]


def from_vector(vector: Sequence[int]) -> str:
    """Return the policy of 60 numbers. Raises ValueError: there are not 60, or one is out of its range."""
    count = COPIES * len(OPERATIONS)
    if len(vector) != 2 * count:
        raise ValueError(f"a policy has {2 * count} numbers, got {len(vector)}")
    entries = [Entry(OPERATIONS[i % len(OPERATIONS)], vector[2 * i], vector[2 * i + 1]) for i in range(count)]
    for name, tenths, level in entries:
        if not (0 <= tenths <= TENTHS and 0 <= level < LEVELS):
            limits = f"0..{TENTHS} for the probability, 0..{LEVELS - 1} for the level"
            raise ValueError(f"{name} has {_shown(tenths)} and {_shown(level)}; must be in {limits}")
    return policy_text(entries)


# --- schedules ---------------------------------------------------------------------------------


def length(schedule: Schedule) -> int:
    """Return the epochs of a schedule."""
    return sum(epochs for epochs, _ in schedule)


def piece_at(schedule: Schedule, epoch: int, epochs: int, *, compat: bool = False) -> int:
    """Return which piece of a schedule an epoch gets, when it is stretched to `epochs`.

    Epoch e gets that of the schedule's epoch floor(e x length / epochs). With `compat`, as in
    github.com/arcelien/pba, each piece lasts its epochs x (epochs / length), rounded down, and the last
    piece what is then left.
    """
    whole = length(schedule)
    source = epoch if compat else epoch * whole // epochs
    end = 0
    for piece, (lasts, _) in enumerate(schedule):
        end += int(lasts * (epochs / whole)) if compat else lasts
        if source < end:
            return piece
    return len(schedule) - 1


# --- logs of the original ------------------------------------------------------------------------


def read_log(text: str, epochs: int, initial: str = "") -> Schedule:
    """Return the schedule in a log of github.com/arcelien/pba, `pbt_policy_*.txt`.

    Each line is an exploit: receiver, donor, the epochs of both, the policy of the donor, and the explored
    policy. The first lines may be of a member that was replaced; what counts starts after the last line
    whose receiver is not the next line's donor.

    Args:
        text: the log; without a line, `initial` lasts the whole search.
        epochs: length of the search, which the log does not tell.

    Raises:
        LogError: a line is no such list, or the epochs do not add up.
    """
    if epochs > MAX_EPOCHS:
        raise LogError(0, f"a search has at most {MAX_EPOCHS} epochs, got {epochs}")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    rows = [_read_row(number, line) for number, line in lines]
    for i in reversed(range(len(rows) - 1)):
        if rows[i].receiver != rows[i + 1].donor:
            rows = rows[i + 1 :]
            break
    policies = [rows[0].before if rows else initial, *(row.after for row in rows)]
    pieces, start = [], 0
    for row, policy in zip([*rows, None], policies, strict=True):
        end = row.epoch if row else epochs
        if end < start:
            what = "the donor's epoch" if row else "the end of the search,"
            raise LogError((row or rows[-1]).line, f"{what} {end} is before {start}, where its policy begins")
        pieces += [(end - start, policy)] if end > start else []
        start = end
    return tuple(pieces)


class _Row(NamedTuple):
    line: int
    receiver: str
    donor: str
    epoch: int
    before: str
    after: str


def _read_row(number: int, line: str) -> _Row:
    if len(line) > MAX_LINE:
        raise LogError(number, f"is longer than {MAX_LINE} characters")
    plain = re.sub(r"\b(?:np|numpy)\.u?int\d+\((-?\d+)\)", r"\1", line)
    try:
        row = json.loads(plain)
    except (ValueError, RecursionError):
        try:
            row = ast.literal_eval(plain.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise LogError(number, "is neither JSON nor a list as Python writes it") from None
    if not isinstance(row, (list, tuple)) or len(row) != 6:
        raise LogError(number, "must be a list of 6: receiver, donor, their epochs, two policies")
    receiver, donor, _, epoch, before, after = row
    if not _is_whole(epoch) or not 0 <= epoch <= MAX_EPOCHS:
        limits = f"0..{MAX_EPOCHS}"
        problem = f"the epoch of the donor must be a whole number in {limits}, got {_shown(epoch)}"
        raise LogError(number, problem)
    try:
        policies = [from_vector(_vector(policy)) for policy in (before, after)]
    except ValueError as error:
        raise LogError(number, str(error)) from None
    return _Row(number, _tag(receiver), _tag(donor), int(epoch), *policies)


def _tag(tag: Any) -> str:
    """Return what names a trial; newer versions of Ray append what was perturbed."""
    return str(tag).partition("@perturbed")[0]


def _vector(policy: Any) -> list[int]:
    vector = policy.get("hp_policy") if isinstance(policy, dict) else policy
    if not isinstance(vector, (list, tuple)) or not all(_is_whole(number) for number in vector):
        raise ValueError(f"a policy must be a list of whole numbers, got {_shown(policy)}")
    return [int(number) for number in vector]


def _is_whole(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
