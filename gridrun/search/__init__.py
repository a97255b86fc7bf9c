"""Searches: a population of trials that is trained in rounds, after each of which some go on from others.

    segments   who trains what in a round, decided from the errors of the round before; nothing but arithmetic
    progress   what is decided, what is left, and what both kinds of searches have in common
    rounds     decisions after each round, computed anew from the records of a store
    asynchronous   decisions member by member, kept in the lineage
    run        one round after another, each one launch of `sweep`; or one launch that is given more trials

A member's part of a round is a *segment*: a trial with the member's whole schedule, which stops after the
round (`stop_after`). It may start from the state of its parent, and gives the same result without. So a
search has no state of its own: whoever has the records knows how it goes on.
"""

from gridrun.grid import Grid
from gridrun.search.asynchronous import Asynchronous
from gridrun.search.progress import Progress
from gridrun.search.rounds import Rounds
from gridrun.search.segments import Segment
from gridrun.store import Store

__all__ = ["Progress", "Segment", "read_progress"]


def read_progress(grid: Grid, store: Store) -> Progress:
    """Return the progress of a grid's search.

    Raises:
        StoreError: the store cannot be read, or its lineage is not of this search.
        LaunchError: every member has diverged.
    """
    assert grid.search
    kind = Asynchronous if grid.search.asynchronous else Rounds
    return kind(grid.search, grid.name, store)
