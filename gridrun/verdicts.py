"""What a difference between two errors is worth: pooled spread, intervals, verdicts. See docs/statistics.md.

Errors are fractions. The spread of a row from seed to seed is taken from all rows together, as a multiple
phi of the variance that binomial draws of the test images would have (arXiv:2304.01910): so a row of 3 % and
one of 57 % share it. A few runs of one row alone say next to nothing about its spread.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Verdict = Literal["reproduced", "equivalent", "better", "worse", "open"]
"""`reproduced` is against a published value, `equivalent` against another row."""
CONFIDENCE = 0.95
DEFAULT_TOLERANCE = 0.002
"""Half the width of what counts as the same error."""
MIN_DEGREES = 4
"""Degrees of freedom that a spread needs. Below it, t is so large that nothing can be told."""
MIN_FIT = 0.01
"""Rows that would differ in phi so much with a smaller probability than this do not share it."""
NEAR_CHANCE = 0.9
"""Rows above this share of the error of guessing have not learnt, and say nothing about those that have."""
MAX_MORE_SEEDS = 100
_MEDIAN_VARIANCES = (
    *(1.0, 0.5, 0.4487, 0.2982, 0.2868, 0.2147, 0.2104, 0.1682, 0.1661, 0.1383),
    *(0.1372, 0.1175, 0.1168, 0.1022, 0.1017, 0.0904, 0.0900, 0.0811, 0.0808, 0.0735),
)


class Runs(NamedTuple):
    """The errors of one row's runs."""

    errors: tuple[float, ...]
    num_test: int
    """Images that each error is measured on."""
    num_classes: int
    guesses: int = 1
    """Classes that a network may name for each image: 5 of a top-5 error."""

    @property
    def mean(self) -> float:
        """Their mean."""
        return math.fsum(self.errors) / len(self.errors)

    @property
    def binomial(self) -> float:
        """Variance of the error if each image were wrong by a draw of its own: p (1 - p) / N."""
        return self.mean * (1 - self.mean) / self.num_test

    @property
    def rounding(self) -> float:
        """Variance of rounding to whole images: the least that runs can be said to have."""
        return 1 / 12 / self.num_test**2

    @property
    def is_between(self) -> bool:
        """Whether the network neither guesses nor makes no error: only then phi says how much it varies."""
        return 0 < self.mean < NEAR_CHANCE * (1 - self.guesses / self.num_classes)

    @property
    def counts(self) -> bool:
        """Whether the row says something about the spread of others."""
        return len(self.errors) > 1 and self.is_between


@dataclass(frozen=True, slots=True)
class Pool:
    """The spread that some rows share."""

    phi: float
    """Variance from seed to seed as a multiple of the binomial one."""
    degrees: int
    """Degrees of freedom."""
    rows: int
    fit: float
    """Probability of rows that differ in phi at least as much as these, if they do share it."""

    @property
    def is_shared(self) -> bool:
        """Whether one phi fits all rows."""
        return self.fit >= MIN_FIT

    def sigma(self, error: float, num_test: int) -> float:
        """Return the standard deviation of a run, given the error around which it lies."""
        return math.sqrt(self.phi * error * (1 - error) / num_test)


class Difference(NamedTuple):
    """A difference of two errors, with all that it is judged by."""

    value: float
    sigma: float
    """Standard deviation of a single run."""
    degrees: float
    variance: float
    """Of `value`, as a multiple of that of a single run."""
    between_rows: bool = False
    """Whether both errors are ours."""

    def half_width(self, confidence: float = CONFIDENCE) -> float:
        """Return half the width of the interval; also the smallest difference that could have been seen."""
        return _t(self.degrees, confidence) * self.sigma * math.sqrt(self.variance)

    @property
    def p_value(self) -> float:
        """Probability of a difference at least as large if there is none."""
        from scipy.special import stdtr

        scale = self.sigma * math.sqrt(self.variance)
        if scale == 0:
            return 0.0 if self.value else 1.0
        return float(2 * stdtr(self.degrees, -abs(self.value) / scale))

    def verdict(self, tolerance: float = DEFAULT_TOLERANCE, confidence: float = CONFIDENCE) -> Verdict:
        """Return the verdict on an error of ours against another one."""
        half_width = self.half_width(confidence)
        low, high = self.value - half_width, self.value + half_width
        if -tolerance <= low and high <= tolerance:
            return "equivalent" if self.between_rows else "reproduced"
        return "better" if high < 0 else "worse" if low > 0 else "open"


def pool(rows: Iterable[Runs]) -> Pool | None:
    """Return the spread that rows share; None if they have no degree of freedom."""
    found = [row for row in rows if row.counts]
    degrees = [len(row.errors) - 1 for row in found]
    ratios = [max(statistics.variance(row.errors), row.rounding) / row.binomial for row in found]
    total = sum(degrees)
    if not total:
        return None
    phi = math.fsum(n * ratio for n, ratio in zip(degrees, ratios, strict=True)) / total
    return Pool(phi, total, len(found), _fit(phi, ratios, degrees))


def own(row: Runs) -> Pool | None:
    """Return the spread of a row by itself."""
    return pool([row])


def _fit(phi: float, ratios: Sequence[float], degrees: Sequence[int]) -> float:
    """Return the p-value of Bartlett's test that rows share a variance."""
    if len(ratios) < 2:
        return 1.0
    from scipy.special import chdtrc

    total = sum(degrees)
    logs = math.fsum(n * math.log(r) for n, r in zip(degrees, ratios, strict=True))
    correction = 1 + (math.fsum(1 / n for n in degrees) - 1 / total) / (3 * (len(degrees) - 1))
    return float(chdtrc(len(degrees) - 1, max((total * math.log(phi) - logs) / correction, 0.0)))


def median_variance(n: int) -> float:
    """Return the variance of the median of n runs, as a multiple of that of one, for a normal distribution.

    Above 20, by the first two terms of its expansion for odd numbers; an even one is almost as good as the
    next odd one. That is right to 1 %.
    """
    if n <= len(_MEDIAN_VARIANCES):
        return _MEDIAN_VARIANCES[n - 1]
    odd = n | 1
    return math.pi / (2 * odd) * (1 - (4 - math.pi) / (2 * odd))


def compare(ours: Runs, theirs: float, their_variance: float, spread: Pool) -> Difference:
    """Return the difference of the median of our runs to another error.

    Args:
        ours: our runs.
        theirs: the other error.
        their_variance: of it, as a multiple of that of a single run: `median_variance`, or 1 / n for a mean.
        spread: what our runs share with others, or their own.
    """
    sigma = spread.sigma(ours.mean, ours.num_test)
    variance = median_variance(len(ours.errors)) + their_variance
    return Difference(statistics.median(ours.errors) - theirs, sigma, spread.degrees, variance)


def compare_rows(ours: Runs, theirs: Runs, our_spread: Pool, their_spread: Pool) -> Difference:
    """Return the difference of the medians of two rows.

    Where they share a spread, it has its degrees of freedom; where each has its own, Welch's.
    """
    sigma = our_spread.sigma(ours.mean, ours.num_test)
    ratio = (their_spread.sigma(theirs.mean, theirs.num_test) / sigma) ** 2
    parts = median_variance(len(ours.errors)), ratio * median_variance(len(theirs.errors))
    degrees: float = our_spread.degrees
    if our_spread != their_spread:
        degrees = sum(parts) ** 2 / (parts[0] ** 2 / degrees + parts[1] ** 2 / their_spread.degrees)
    value = statistics.median(ours.errors) - statistics.median(theirs.errors)
    return Difference(value, sigma, degrees, sum(parts), between_rows=True)


def more_seeds(
    found: Difference,
    n: int,
    tolerance: float = DEFAULT_TOLERANCE,
    *,
    other: int | None = None,
    confidence: float = CONFIDENCE,
) -> int | None:
    """Return how many more seeds would settle an open verdict, if the difference stayed as it is.

    Args:
        found: the difference.
        n: our runs so far.
        tolerance: as for the verdict.
        other: runs so far of the other row, if it is one of ours; it gets as many more.
        confidence: of the interval.

    Returns:
        The number; None: even MAX_MORE_SEEDS would not.
    """
    theirs = found.variance - median_variance(n)
    for more in range(1, MAX_MORE_SEEDS + 1):
        rest = theirs * median_variance(other + more) / median_variance(other) if other else theirs
        degrees = found.degrees + (2 * more if other else more)
        then = found._replace(variance=median_variance(n + more) + rest, degrees=degrees)
        if then.verdict(tolerance, confidence) != "open":
            return more
    return None


def best_rows(rows: Sequence[Runs], spreads: Sequence[Pool], alpha: float = 1 - CONFIDENCE) -> set[int]:
    """Return the places of the row with the lowest median and of all that cannot be told from it.

    Which row is the lowest is chance as well. So all pairs of rows are compared, not only those with it
    (Holm): with probability 1 - `alpha`, no row is left out that is as good as the truly best one.
    """
    if not rows:
        return set()
    import numpy as np
    from scipy.special import stdtr

    medians = np.array([statistics.median(row.errors) for row in rows])
    variances = np.array(
        [
            spread.sigma(row.mean, row.num_test) ** 2 * median_variance(len(row.errors))
            for row, spread in zip(rows, spreads, strict=True)
        ]
    )
    degrees = np.array([float(spread.degrees) for spread in spreads])
    first, second = np.triu_indices(len(rows), 1)
    total = variances[first] + variances[second]
    of_pair = degrees[first]
    if len(set(spreads)) > 1:  # Welch's
        of_pair = total**2 / (variances**2 / degrees)[[first, second]].sum(axis=0)
    p_values = 2 * stdtr(of_pair, -abs(medians[first] - medians[second]) / np.sqrt(total))
    apart, best = np.array(holm(p_values.tolist(), alpha), bool), int(medians.argmin())
    told = np.where(first == best, second, first)[apart & ((first == best) | (second == best))]
    return set(range(len(rows))) - set(told.tolist())


def holm(p_values: Sequence[float], alpha: float = 1 - CONFIDENCE) -> list[bool]:
    """Return which of several hypotheses are rejected, so that one true one is with probability `alpha`.

    Holm's procedure (Scandinavian Journal of Statistics 6, 1979).
    """
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def _t(degrees: float, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))
