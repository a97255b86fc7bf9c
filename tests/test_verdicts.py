"""What a difference is worth: formulas by hand, and how often verdicts are wrong in simulations."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from scipy import integrate, stats

from gridrun import verdicts
from gridrun.verdicts import Difference, Pool, Runs


def runs(*errors: float, num_test: int = 10_000, num_classes: int = 10) -> Runs:
    return Runs(errors, num_test, num_classes)


class TestPool:
    def test_phi_is_the_mean_ratio_of_variances_weighted_by_degrees_of_freedom(self) -> None:
        one = runs(0.05, 0.052, 0.054)  # variance 4e-6; binomial 0.052 x 0.948 / 10,000 = 4.9296e-6
        two = runs(0.30, 0.31)  # variance 5e-5; binomial 0.305 x 0.695 / 10,000 = 2.11975e-5
        pool = verdicts.pool([one, two])
        assert pool
        assert pool.phi == pytest.approx((2 * 4e-6 / 4.9296e-6 + 5e-5 / 2.11975e-5) / 3)
        assert (pool.degrees, pool.rows) == (3, 2)

    def test_sigma_is_that_of_the_binomial_times_phi(self) -> None:
        # 2,000 runs of a CIFAR-10 network at 5.99 %: 0.132 points, 0.31 of the binomial variance
        assert Pool(0.31, 10, 3, 1.0).sigma(0.0599, 10_000) == pytest.approx(0.00132, abs=5e-6)

    @pytest.mark.parametrize("row", [(0.05,), (0.0, 0.0), (0.9, 0.89), (1.0, 1.0)])
    def test_what_says_nothing_stays_out(self, row: tuple[float, ...]) -> None:
        assert verdicts.pool([runs(*row)]) is None

    @pytest.mark.parametrize(
        ("error", "num_classes", "counts"),
        [
            *((0.80, 10, True), (0.82, 10, False), (0.44, 2, True), (0.46, 2, False), (1e-4, 10, True)),
            (0.45, 2, False),
        ],
    )
    def test_a_row_has_learnt_below_nine_tenths_of_the_error_of_guessing(
        self, error: float, num_classes: int, counts: bool
    ) -> None:
        assert runs(error, error, num_classes=num_classes).counts == counts

    def test_equal_runs_still_vary_by_rounding_to_images(self) -> None:
        # of 355 images 4 are wrong in each run: the variance of rounding over that of the binomial
        equal = runs(4 / 355, 4 / 355, 4 / 355, num_test=355)
        pool = verdicts.pool([equal])
        assert pool
        assert pool.phi == pytest.approx((1 / 12 / 355**2) / (4 / 355 * 351 / 355 / 355))
        usual = [runs(k / 355, (k + 1) / 355, (k + 2) / 355, num_test=355) for k in (4, 5, 6, 7)]
        shared = verdicts.pool([equal, *usual])
        assert shared
        assert shared.is_shared

    def test_the_fit_is_bartletts(self) -> None:
        draw = random.Random(1)
        rows = [runs(*(draw.gauss(0.1, 0.003) for _ in range(5))) for _ in range(6)]
        pool = verdicts.pool(rows)
        assert pool
        scaled = [[(e - row.mean) / math.sqrt(row.binomial) for e in row.errors] for row in rows]
        assert pool.fit == pytest.approx(stats.bartlett(*scaled).pvalue)
        assert pool.is_shared

    def test_rows_of_one_spread_fit_it_perfectly(self) -> None:
        alike = runs(0.05, 0.052, 0.054)
        found = verdicts.own(alike), verdicts.pool([alike, alike, alike])
        assert [pool and pool.fit for pool in found] == pytest.approx([1, 1])

    def test_one_in_a_hundred_is_still_shared(self) -> None:
        assert Pool(0.31, 10, 5, 0.01).is_shared
        assert not Pool(0.31, 10, 5, 0.0099).is_shared

    def test_rows_of_unlike_spread_do_not_share_one(self) -> None:
        pool = verdicts.pool([runs(0.10, 0.1001, 0.0999, 0.1), runs(0.1, 0.13, 0.07, 0.11)])
        assert pool
        assert not pool.is_shared


class TestMedians:
    @pytest.mark.parametrize("n", [1, 3, 7, 15, 25])
    def test_odd_numbers_against_the_integral(self, n: int) -> None:
        k = (n + 1) // 2
        density = lambda x: stats.beta.pdf(stats.norm.cdf(x), k, k) * stats.norm.pdf(x)  # noqa: E731
        exact, _ = integrate.quad(lambda x: x * x * density(x), -9, 9)
        assert verdicts.median_variance(n) == pytest.approx(exact, rel=0.001)

    def test_even_numbers_against_draws(self) -> None:
        draw = random.Random(0)
        for n in (2, 4, 10, 30):
            medians = [statistics.median(draw.gauss(0, 1) for _ in range(n)) for _ in range(4000)]
            assert verdicts.median_variance(n) == pytest.approx(statistics.variance(medians), rel=0.1)

    def test_more_runs_say_more(self) -> None:
        values = [verdicts.median_variance(n) for n in range(1, 60)]
        assert values == sorted(values, reverse=True)


class TestVerdict:
    SPREAD = Pool(0.31, 10, 3, 1.0)

    def test_an_interval_by_hand(self) -> None:
        found = verdicts.compare(runs(0.059, 0.06, 0.061), 0.058, 1.0, self.SPREAD)
        sigma = math.sqrt(0.31 * 0.06 * 0.94 / 10_000)
        assert found.value == pytest.approx(0.002)
        assert found.half_width() == pytest.approx(2.228 * sigma * math.sqrt(0.4487 + 1), rel=1e-3)

    @pytest.mark.parametrize(
        ("value", "half_width", "verdict"),
        [
            (0.0, 0.001, "reproduced"),
            (0.001, 0.0005, "reproduced"),  # not 0, but within the tolerance
            (0.0, 0.003, "open"),
            (0.003, 0.002, "worse"),
            (-0.003, 0.002, "better"),
            (0.0019, 0.0003, "worse"),
        ],
    )
    def test_words(self, value: float, half_width: float, verdict: str) -> None:
        t = stats.t.ppf(0.975, 12)
        assert Difference(value, half_width / t, 12, 1.0).verdict() == verdict

    def test_more_seeds_settle_it(self) -> None:
        sigma = 0.002
        found = Difference(0.0, sigma, 30, verdicts.median_variance(3) + verdicts.median_variance(100))
        assert found.verdict() == "open"
        more = verdicts.more_seeds(found, 3)
        assert more
        theirs = verdicts.median_variance(100)
        for n, verdict in ((3 + more - 1, "open"), (3 + more, "reproduced")):
            again = Difference(0.0, sigma, 30 + n - 3, verdicts.median_variance(n) + theirs)
            assert again.verdict() == verdict

    def test_no_number_of_seeds_makes_one_published_run_exact(self) -> None:
        assert verdicts.more_seeds(Difference(0.0, 0.0013, 30, 1.4487), 3) is None

    def test_the_bounds_of_an_interval_themselves(self) -> None:
        assert Difference(0.002, 0.0, 12, 1.0).verdict(0.002) == "reproduced"
        assert Difference(-0.002, 0.0, 12, 1.0).verdict(0.002) == "reproduced"
        assert Difference(0.002, 0.0, 12, 1.0, between_rows=True).verdict(0.002) == "equivalent"
        half_width = Difference(0.0, 0.001, 12, 1.0).half_width()
        for value in (half_width, -half_width):  # the interval ends at 0
            assert Difference(value, 0.001, 12, 1.0).verdict(0.0) == "open"

    def test_a_hundred_more_seeds_is_the_most(self) -> None:
        """One run against an exact value: 4 runs of ours, 8 degrees, and each run adds one."""
        for more, found in ((1, 1), (7, 7), (100, 100), (101, None)):
            n, t = 4 + more, stats.t.ppf(0.975, 8 + more)
            sigma = 0.002 / t / math.sqrt(verdicts.median_variance(n)) * (1 - 1e-6)
            difference = Difference(0.0, sigma, 8, verdicts.median_variance(4))
            assert verdicts.more_seeds(difference, 4) == found

    def test_more_seeds_of_two_rows_add_two_degrees_each(self) -> None:
        """Rows of 4 and 6 runs, the other one of twice our variance."""
        for more in (1, 5, 20):
            variance = verdicts.median_variance(4 + more) + 2 * verdicts.median_variance(6 + more)
            sigma = 0.002 / stats.t.ppf(0.975, 8 + 2 * more) / math.sqrt(variance) * (1 - 1e-6)
            now = verdicts.median_variance(4) + 2 * verdicts.median_variance(6)
            difference = Difference(0.0, sigma, 8, now, between_rows=True)
            assert verdicts.more_seeds(difference, 4, other=6) == more

    def test_runs_without_any_spread(self) -> None:
        assert Difference(0.003, 0.0, 10, 1.0).p_value == 0
        assert Difference(0.0, 0.0, 10, 1.0).p_value == 1

    def test_p_value_is_that_of_t(self) -> None:
        found = Difference(0.003, 0.0013, 10, 1.4487)
        assert found.p_value == pytest.approx(2 * stats.t.sf(0.003 / 0.0013 / math.sqrt(1.4487), 10))


def test_holm_by_hand() -> None:
    assert verdicts.holm([0.01, 0.04, 0.03]) == [True, False, False]  # 0.01 <= 0.05 / 3; 0.03 > 0.05 / 2
    assert verdicts.holm([0.01, 0.02, 0.03]) == [True, True, True]
    assert verdicts.holm([]) == []
    assert verdicts.holm([0.05], 0.05) == [True]
    assert verdicts.holm([0.04, 0.01, 0.02], 0.05) == [True, True, True]


def simulated(draw: random.Random, *, rows: int, n: int, published: int, shift: float = 0.0) -> list[str]:
    """Return the verdicts on one table: perfect reproductions, or `shift` standard deviations off."""
    errors = [draw.uniform(0.003, 0.3) for _ in range(rows)]
    sigmas = [math.sqrt(0.31 * p * (1 - p) / 10_000) for p in errors]
    made = [runs(*(draw.gauss(p, s) for _ in range(n))) for p, s in zip(errors, sigmas, strict=True)]
    spread = verdicts.pool(made)
    assert spread
    found = []
    for p, s, ours in zip(errors, sigmas, made, strict=True):
        theirs = statistics.median(draw.gauss(p - shift * s, s) for _ in range(published))
        found.append(verdicts.compare(ours, theirs, verdicts.median_variance(published), spread))
    return [one.verdict(tolerance=0.0) for one in found]


@pytest.mark.parametrize(("rows", "published"), [(3, 1), (10, 1), (10, 3)])
def test_perfect_reproductions_are_rarely_called_better_or_worse(rows: int, published: int) -> None:
    draw = random.Random(rows + published)
    words = [
        word for _ in range(3000 // rows) for word in simulated(draw, rows=rows, n=3, published=published)
    ]
    wrong = sum(word != "open" for word in words) / len(words)
    assert wrong < 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(words))


@pytest.mark.parametrize(("shift", "published", "power"), [(2, 1, 0.36), (3, 1, 0.66), (3, 3, 0.85)])
def test_real_differences_are_found(shift: float, published: int, power: float) -> None:
    draw = random.Random(7)
    words = [
        word for _ in range(200) for word in simulated(draw, rows=10, n=3, published=published, shift=shift)
    ]
    assert sum(word == "worse" for word in words) / len(words) == pytest.approx(power, abs=0.06)
