"""`seeds: auto`: seeds that a row gets until its verdicts are decided."""

from __future__ import annotations

from collections.abc import Sequence

from gridrun.grid.node import Node
from gridrun.verdicts import CONFIDENCE

AUTO_KEYS = {
    "min": "Seeds that every row gets. Default: 3.",
    "max": "Seeds after which a row stays open. Default: 12.",
    "looks": "Numbers of seeds at which verdicts are looked at. Default: `min`, `max`, and those of 3, 5, 8 "
    "and 12 between them.",
}
"""Keys of `seeds`, where their number is not fixed, and what each means."""
DEFAULT_LOOKS = (3, 5, 8, 12)
MAX_SEEDS = 1000


class AdaptiveSeeds(tuple[int, ...]):
    """The seeds 0, 1, ... of a row, of which there are more at each look that decides nothing."""

    looks: tuple[int, ...]
    """Numbers of seeds, increasing; the last one is the budget."""

    def __new__(cls, looks: Sequence[int], count: int | None = None) -> AdaptiveSeeds:
        """Return the seeds of the first look, or `count` of them."""
        made = super().__new__(cls, range(looks[0] if count is None else count))
        made.looks = tuple(looks)
        return made

    def __getnewargs__(self) -> tuple[tuple[int, ...], int]:
        return self.looks, len(self)

    def look(self, count: int) -> int:
        """Return the first look of at least `count` seeds."""
        return next((look for look in self.looks if look >= count), self.looks[-1])

    def after(self, count: int) -> int | None:
        """Return the first look of more than `count` seeds; None: the budget is spent."""
        return next((look for look in self.looks if look > count), None)

    @property
    def confidence(self) -> float:
        """Confidence of an interval at the current look, so that all looks together have CONFIDENCE.

        Each look spends a part of the 5 % in proportion to the seeds that are new at it (Lan & DeMets,
        Biometrika 70, 1983, with the linear spending function), and the parts add up.
        """
        look = self.look(len(self))
        before = max((one for one in self.looks if one < look), default=0)
        return 1 - (1 - CONFIDENCE) * (look - before) / self.looks[-1]


def read_auto(node: Node) -> AdaptiveSeeds:
    """Read `auto` or a mapping. Raises GridError: a number is not valid."""
    given = node.options(AUTO_KEYS) if isinstance(node.value, dict) else {}
    numbers = {key: entry.count(least=1) for key, entry in given.items() if key != "looks"}
    looks = [item.count(least=1) for item in given["looks"].items()] if "looks" in given else []
    if looks != sorted(set(looks)):
        raise given["looks"].error("must be increasing numbers of seeds")
    least = numbers.get("min", looks[0] if looks else min(DEFAULT_LOOKS[0], numbers.get("max", MAX_SEEDS)))
    most = numbers.get("max", looks[-1] if looks else max(DEFAULT_LOOKS[-1], least))
    if least > most:
        raise node.error(f"min ({least}) is above max ({most})")
    if most > MAX_SEEDS:
        raise node.error(f"{most:,} seeds are more than {MAX_SEEDS:,}")
    if looks and (looks[0] < least or looks[-1] > most):
        raise given["looks"].error(f"must be between min ({least}) and max ({most})")
    return AdaptiveSeeds(
        sorted({least, *(look for look in looks or DEFAULT_LOOKS if least < look < most), most})
    )
