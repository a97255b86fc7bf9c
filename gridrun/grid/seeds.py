"""Seeds of a grid or of some of its rows: a count or a list."""

from __future__ import annotations

from gridrun.grid.node import Node, shown

MAX_TRIALS = 1_000_000


def read_seeds(node: Node) -> tuple[int, ...]:
    """Read a count, which stands for 0, 1, ..., or a list. Raises GridError: it is neither."""
    value = node.plain()
    count = len(value) if isinstance(value, list) else value
    if type(count) is not int or count < 1:
        got = "an empty one" if value == [] else shown(node.located)
        raise node.error(f"must be a count >= 1 or a list of whole numbers, got {got}")
    if count > MAX_TRIALS:
        raise node.error(f"{count:,} seeds are more than {MAX_TRIALS:,} trials")
    if not isinstance(value, list):
        return tuple(range(count))
    for index, seed in enumerate(value):
        read_seed(node.child(index))
        if seed in value[:index]:
            raise node.child(index).error(f"the seed {seed} stands here twice")
    return tuple(value)


def read_seed(node: Node) -> int:
    """Read one seed. Raises GridError."""
    if type(node.value) is not int or not 0 <= node.value < 2**63:
        raise node.error(f"must be a whole number >= 0, got {shown(node.located)}")
    return node.value
