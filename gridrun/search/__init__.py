"""Searches: a population of trials that is trained in rounds, after each of which some go on from others.

    segments   who trains what in a round, decided from the errors of the round before; nothing but arithmetic
    progress   the rounds so far, computed anew from the records of a store; what is left
    run        one round after another, each one launch of `sweep`

A member's part of a round is a *segment*: a trial with the member's whole schedule, which stops after the
round (`stop_after`). It may start from the state of its parent, and gives the same result without. So a
search has no state of its own: whoever has the records knows how it goes on.
"""

from gridrun.search.progress import Progress
from gridrun.search.segments import Segment

__all__ = ["Progress", "Segment"]
