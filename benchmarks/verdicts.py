"""How often verdicts are wrong, how often they find what is there, and how runs spread in a store.

    python benchmarks/verdicts.py [--tables 1000] [--results results/readme]

Each simulated table has 10 rows with errors of 0.3 to 60 % on 10,000 test images; a run varies by 0.31 of the
binomial variance. The tolerance is 0, so that no row is `reproduced`. The last
column is the rule of the eye: a published value outside our lowest and highest run is different.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import Counter
from pathlib import Path

from gridrun import verdicts
from gridrun.grid.looks import AdaptiveSeeds
from gridrun.store import Store
from gridrun.trial import config_of
from gridrun.verdicts import Pool, Runs

PHI = 0.31
NUM_TEST = 10_000
ROWS = 10


def simulate(draw: random.Random, tables: int, n: int, published: int, shift: float) -> tuple[float, float]:
    """Return the share of rows that are better or worse, and the share outside our min-max.

    The published value is the median of `published` runs of a recipe that is `shift` sigma better.
    """
    told = outside = 0
    for _ in range(tables):
        errors = [draw.uniform(0.003, 0.6) for _ in range(ROWS)]
        sigmas = [Pool(PHI, 1, 1, 1.0).sigma(error, NUM_TEST) for error in errors]
        made = [
            Runs(tuple(draw.gauss(error, sigma) for _ in range(n)), NUM_TEST, 10)
            for error, sigma in zip(errors, sigmas, strict=True)
        ]
        spread = verdicts.pool(made)
        assert spread
        for error, sigma, ours in zip(errors, sigmas, made, strict=True):
            theirs = statistics.median(draw.gauss(error - shift * sigma, sigma) for _ in range(published))
            found = verdicts.compare(ours, theirs, verdicts.median_variance(published), spread)
            told += found.verdict(tolerance=0.0) in ("better", "worse")
            outside += not min(ours.errors) <= theirs <= max(ours.errors)
    return told / (tables * ROWS), outside / (tables * ROWS)


def bold(draw: random.Random, tables: int, n: int, behind: float) -> tuple[float, float, float]:
    """Simulate tables of 10 rows of which one is `behind` sigma better than the nine others, at 6 %.

    Returns:
        The share of tables in which the truly best row is not in bold, the share of them in which the lowest
        median is not that row's, and the mean number of bold rows.
    """
    lost = elsewhere = marked = 0
    sigma = Pool(PHI, 1, 1, 1.0).sigma(0.06, NUM_TEST)
    for _ in range(tables):
        errors = [0.06, *(0.06 + behind * sigma for _ in range(ROWS - 1))]
        made = [Runs(tuple(draw.gauss(error, sigma) for _ in range(n)), NUM_TEST, 10) for error in errors]
        spread = verdicts.pool(made)
        assert spread
        best = verdicts.best_rows(made, [spread] * ROWS)
        lost += 0 not in best
        elsewhere += min(range(ROWS), key=lambda i: statistics.median(made[i].errors)) != 0
        marked += len(best)
    return lost / tables, elsewhere / tables, marked / tables


def adaptive(
    draw: random.Random, rows: int, looks: tuple[int, ...], shift: float, tolerance: float
) -> tuple[dict[str, float], float]:
    """Simulate rows with `seeds: auto` against the median of 30 published runs that is `shift` sigma better.

    The spread is known from 40 degrees of freedom. One look is a fixed number of seeds.

    Returns:
        The share of each verdict, and the mean number of seeds.
    """
    found, seeds, published = Counter[str](), 0, 30
    sigma = Pool(PHI, 1, 1, 1.0).sigma(0.06, NUM_TEST)
    for _ in range(rows):
        spread = Pool(PHI * sum(draw.gauss(0, 1) ** 2 for _ in range(40)) / 40, 40, 20, 1.0)
        theirs = statistics.median(draw.gauss(0.06 - shift * sigma, sigma) for _ in range(published))
        errors: list[float] = []
        for n in looks:
            errors += [draw.gauss(0.06, sigma) for _ in range(n - len(errors))]
            runs = Runs(tuple(errors), NUM_TEST, 10)
            difference = verdicts.compare(runs, theirs, verdicts.median_variance(published), spread)
            verdict = difference.verdict(tolerance, AdaptiveSeeds(looks, n).confidence)
            if verdict != "open":
                break
        found[verdict] += 1
        seeds += n
    return {verdict: count / rows for verdict, count in found.items()}, seeds / rows


def more_tables(draw: random.Random, tables: int) -> None:
    """Print how often the best row is lost, and what `seeds: auto` takes against a fixed number of seeds."""
    heads = ("best row not in bold, %", "lowest row is another, %", "bold rows")
    print(f"| runs of each row | the others behind by | {' | '.join(heads)} |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for n in (3, 5, 12):
        for behind in (0, 1, 2, 3):
            lost, elsewhere, marked = bold(draw, tables, n, behind)
            name = f"{behind} sigma" if behind else "nothing"
            print(f"| {n} | {name} | {100 * lost:.1f} | {100 * elsewhere:.1f} | {marked:.1f} |", flush=True)
    print()
    print(
        "| seeds | true difference | tolerance | better or worse, % | reproduced, % | open, % | seeds, mean |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for tolerance in (0.0, 0.002):
        for shift in (0.0, 0.5, 1.0, 2.0, 3.0):
            for looks in ((3,), (3, 5, 8, 12), (8,), (12,)):
                found, seeds = adaptive(draw, 5 * tables, looks, shift, tolerance)
                told = found.get("better", 0.0) + found.get("worse", 0.0)
                name = "auto: 3 to 12" if len(looks) > 1 else str(looks[0])
                shares = [told, found.get("reproduced", 0.0), found.get("open", 0.0)]
                shown = " | ".join(f"{100 * share:.1f}" for share in shares)
                difference = f"{shift:g} sigma" if shift else "none"
                print(f"| {name} | {difference} | {100 * tolerance:g} | {shown} | {seeds:.1f} |", flush=True)
    print()


def spreads(results: Path) -> None:
    """Print the pooled spread of each data set of a store, and the least and largest of a row's own."""
    rows: dict[tuple[str, int, int], dict[str, list[float]]] = {}
    for record in Store(results).records().values():
        if record.status != "done" or record.test_error is None:
            continue
        config = config_of(record.config_json)
        spec = config.dataset.spec
        images = config.num_held_out or spec.num_test
        same = rows.setdefault((config.dataset.label, images, spec.num_classes), {})
        same.setdefault(record.config_id, []).append(record.test_error)
    print("| data set | images | rows | degrees of freedom | phi | p (Bartlett) | own phi, quartiles |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (label, images, classes), of_config in rows.items():
        made = [Runs(tuple(errors), images, classes) for errors in of_config.values()]
        pool = verdicts.pool(made)
        if pool is None:
            continue
        own = sorted(one.phi for row in made if (one := verdicts.own(row)))
        low, middle, high = statistics.quantiles(own) if len(own) > 1 else own * 3
        print(
            f"| {label} | {images:,} | {pool.rows} | {pool.degrees} | {pool.phi:.2f} | {pool.fit:.2g} "
            f"| {low:.2f}, {middle:.2f}, {high:.2f} |"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--results", type=Path, default=Path("results/readme"))
    options = parser.parse_args()
    print("| our runs | published runs | true difference | better or worse, % | outside min-max, % |")
    print("| ---: | ---: | --- | ---: | ---: |")
    draw = random.Random(0)
    for n in (3, 5, 8, 12):
        for published in (1, 3):
            for shift in (0, 1, 2, 3):
                told, outside = simulate(draw, options.tables, n, published, shift)
                name = f"{shift} sigma" if shift else "none"
                print(f"| {n} | {published} | {name} | {100 * told:.1f} | {100 * outside:.1f} |", flush=True)
    print()
    more_tables(draw, options.tables)
    spreads(options.results)


if __name__ == "__main__":
    main()
