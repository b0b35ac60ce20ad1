"""What would decide: seeds or test tracks at which the bound of a configuration would fall to a margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from featstore.results.bounds import Study, is_within

__all__ = ["Needed", "needed_for"]

_MOST_SEEDS, _MOST_TRACKS = 100, 1000  # how far to look: seeds per configuration, multiples of the present test tracks


@dataclass(frozen=True, slots=True)
class Needed:
    """What would bring one configuration's bound below a margin, everything else staying as it was measured.

    Attributes
    ----------
    seeds : int or None
        Seeds per configuration in all; None where more seeds alone do not suffice.
    tracks : int or None
        Test tracks in all; None where more tracks alone do not suffice, or the test noise is unknown.
    both : tuple of int, or None
        Seeds and test tracks, both multiplied by one number, where neither suffices alone.
    """

    seeds: int | None
    tracks: int | None
    both: tuple[int, int] | None = None


def needed_for(study: Study, which: int, margin: float, *, confidence: float = 0.95) -> Needed:
    """Seeds or test tracks at which the bound of one configuration would fall to a margin, at its measured scores.

    Parameters
    ----------
    study : Study
        All configurations: a part of them has smaller bounds than the whole.
    which : int
        Row of the configuration.
    margin : float
        Loss that would be accepted, on the score's scale: less than the present bound.
    confidence : float in (0, 1)
        Of the bounds.
    """

    def meets(scaled: Study) -> bool:
        return is_within(scaled, which, margin, confidence=confidence)

    seeds = _smallest(lambda n: meets(study.scaled(seeds=n)), int(study.seeds.min()), _MOST_SEEDS)
    tracks = None
    if study.covariance is not None and study.tracks:
        tracks = _smallest(lambda n: meets(study.scaled(tracks=n)), study.tracks, study.tracks * _MOST_TRACKS)
    both = None
    if seeds is None and tracks is None and study.covariance is not None and study.tracks:
        first = int(study.seeds.max())
        times = _smallest(lambda n: meets(study.scaled(seeds=first * n, tracks=study.tracks * n)), 1, _MOST_SEEDS)
        both = None if times is None else (first * times, study.tracks * times)
    return Needed(seeds, tracks, both)


def _smallest(meets: Callable[[int], bool], low: int, high: int) -> int | None:
    """Smallest whole number in (low, high] for which a condition holds that stays true above it; None without one."""
    reach = low
    while reach < high:
        reach = min(2 * reach, high)
        if meets(reach):
            break
        low = reach
    else:
        return None
    while reach - low > max(1, reach // 50):  # two per cent are finer than the estimate is
        middle = (low + reach) // 2
        low, reach = (low, middle) if meets(middle) else (middle, reach)
    return reach
