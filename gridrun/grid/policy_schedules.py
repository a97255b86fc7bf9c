"""Files with a schedule of augmentation policies: read, written, and put in place of their name in a grid.

epochs: 200          # optional: the epochs of all policies together
schedule:
  - [12, ""]
  - [188, "Rotate 0.3 6, ShearX 1 9"]
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gridrun.errors import GridError
from gridrun.grid.node import Located, Node, locate
from gridrun.grid.yaml import load_yaml, read_text
from gridrun.text import one_line
from trainer.augmentations.policy.schedules import (
    MAX_EPOCHS,
    RANDOM,
    LogError,
    Schedule,
    length,
    policy_text,
    read_log,
    read_policy,
)

OPTION = ("augmentation", "policy", "schedule")
KEYS = ("schedule", "epochs", "title", "source")
"""Top-level keys of a schedule file."""


def read_schedule(path: Path) -> Schedule:
    """Read a schedule file. Raises GridError: it is not valid; names file, line and key."""
    given = Node(path, "", load_yaml(path)).options(KEYS)
    if "schedule" not in given:
        raise GridError(path, 0, "schedule", "is required")
    schedule = tuple(_read_piece(node) for node in given["schedule"].items("a list of [epochs, policy]"))
    if length(schedule) > MAX_EPOCHS:
        raise given["schedule"].error(f"is longer than {MAX_EPOCHS} epochs")
    if "epochs" in given and given["epochs"].count(least=1) != length(schedule):
        problem = f"is {given['epochs'].value}, but the policies last {length(schedule)} epochs"
        raise given["epochs"].error(problem)
    for key in ("title", "source"):
        if key in given:
            given[key].text()
    return schedule


def _read_piece(node: Node) -> tuple[int, str]:
    if not isinstance(node.value, list) or len(node.value) != 2:
        raise node.must_be("[epochs, policy]")
    epochs, policy = node.child(0), node.child(1)
    if not isinstance(policy.value, str):
        raise policy.must_be("a policy, such as 'Rotate 0.3 6, ShearX 1 9'")
    if policy.value == RANDOM:
        return epochs.count(least=1), RANDOM
    try:
        return epochs.count(least=1), policy_text(read_policy(policy.value))
    except ValueError as error:
        raise policy.error(str(error)) from None


def write_schedule(schedule: Schedule, source: str = "") -> str:
    """Return the text of a file that `read_schedule` reads, with its source as a comment."""
    lines = [f"# {one_line(source)}"] if source else []
    lines += [f"epochs: {length(schedule)}", "schedule:"]
    for epochs, policy in schedule:
        whole_entries = policy.replace(", ", ",\n").replace(" ", "_").replace("\n", " ")
        wrapped = [line.replace("_", " ") for line in textwrap.wrap(whole_entries, 100)] or ['""']
        lines += [f"  - - {epochs}", f"    - {wrapped[0]}", *(f"      {line}" for line in wrapped[1:])]
    return "\n".join(lines) + "\n"


def import_log(path: Path, epochs: int) -> Schedule:
    """Read the schedule in a log of github.com/arcelien/pba, of a search of so many epochs.

    Raises:
        GridError: the file is not such a log; names file and line.
    """
    try:
        return read_log(read_text(path), epochs)
    except LogError as error:
        raise GridError(path, error.line, "", error.problem) from None


def put_in_place(root: Node, find: Callable[[Node], Path]) -> Located:
    """Return a value of a grid file with each named schedule file replaced by what it says.

    Args:
        root: the value, and its dotted key.
        find: returns the file that a node names.

    Raises:
        GridError: there is no such file, or it is not valid.
    """
    made: dict[tuple[int, int], Any] = {}  # an alias stands for a value that is there already

    def replaced(node: Node, depth: int) -> Located:
        """Return the value of a node that lies in the first `depth` parts of OPTION."""
        value, key = node.value, (id(node.value), depth)
        is_piece = isinstance(value, list) and len(value) == 2 and type(value[0].value) is int
        if isinstance(value, str) and depth == len(OPTION):
            return _at(locate(read_schedule(find(node))), node.line)
        if not isinstance(value, (dict, list)) or is_piece:
            return node.located
        if key not in made:
            if isinstance(value, dict):
                made[key] = {name: replaced(node.child(name), _depth(name, depth)) for name in value}
            else:
                made[key] = [replaced(node.child(index), depth) for index in range(len(value))]
        return Located(made[key], node.line)

    return replaced(root, _depth(root.key, 0))


def _depth(key: str, depth: int) -> int:
    """Return how many parts of OPTION a key ends in, if what is around it lies in `depth` of them."""
    for part in key.split("."):
        depth = depth + 1 if depth < len(OPTION) and part == OPTION[depth] else int(part == OPTION[0])
    return depth


def _at(located: Located, line: int) -> Located:
    """Return a list with this line for all of it."""
    value = located.value
    return Located([_at(item, line) for item in value] if isinstance(value, list) else value, line)
