"""Key, bars and chords of a melody: small, exact and the same on every machine."""

from __future__ import annotations

import re
from statistics import correlation

import numpy as np

__all__ = ["CHORDS", "bar_ticks", "find_key", "harmonise", "metre_tag", "plain_metre"]

# Key profiles of Krumhansl and Kessler 1982 (probe-tone ratings), from the tonic up.
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)

CHORDS = {
    "major": ((0, 4), (5, 4), (7, 4), (9, 3), (2, 3)),
    "minor": ((0, 3), (5, 3), (7, 4), (8, 4), (3, 4)),
}
"""Triads a tune is set with: (root above the tonic, third above the root), the likelier first."""

_METRES = dict.fromkeys(("6/8", "9/8", "12/8"), "compound time") | dict.fromkeys(("3/4", "3/8"), "triple time")


def _durations(notes: np.ndarray) -> list[int]:
    """Ticks that each pitch class is heard for, from C up."""
    ticks: list[int] = np.bincount(notes[:, 3] % 12, notes[:, 2], 12).astype(int).tolist()
    return ticks


def find_key(notes: np.ndarray) -> tuple[int, str]:
    """Tonic (0 is C) and mode, by the best correlation of durations per pitch class with the key profiles."""
    weights = _durations(notes)
    if len(set(weights)) == 1:  # nothing correlates with a constant
        return 0, "minor"
    # rounded, so that the last bits of a sum cannot decide
    scored = [
        (round(correlation([weights[(tonic + step) % 12] for step in range(12)], profile), 9), -tonic, mode)
        for mode, profile in (("major", _MAJOR), ("minor", _MINOR))
        for tonic in range(12)
    ]
    _, tonic, mode = max(scored)
    return -tonic, mode


def plain_metre(field: str) -> str:
    """The metre of a tune's ``M:`` field as a fraction; 4/4 when it gives none.

    Examples
    --------
    >>> plain_metre("C|"), plain_metre("6/8 % as printed"), plain_metre("none")
    ('2/2', '6/8', '4/4')
    """
    text = {"C": "4/4", "C|": "2/2"}.get(field.strip(), field.strip())
    found = re.match(r"([1-9]\d?)/([1248]|16)\b", text)
    return f"{found[1]}/{found[2]}" if found else "4/4"


def bar_ticks(metre: str) -> int:
    """Length of a bar of a metre given as a fraction, 480 ticks to the quarter note."""
    beats, unit = map(int, metre.split("/"))
    return max(480, 4 * 480 * beats // unit)


def metre_tag(metre: str) -> str:
    """Tag of a metre: duple, triple or compound time."""
    return _METRES.get(metre, "duple time")


def harmonise(notes: np.ndarray, *, bar: int, tonic: int, mode: str, end: int) -> list[tuple[int, int, int]]:
    """One triad a bar, the one that overlaps most with what sounds.

    Returns
    -------
    list of (onset in ticks, pitch class of the root, semitones from root to third)
    """
    starts = notes[:, 1] // bar
    chosen = []
    for number in range(-(-end // bar)):
        weights = _durations(notes[starts == number])
        best = max(
            range(len(CHORDS[mode])),
            key=lambda rank: (
                6 * weights[(tonic + CHORDS[mode][rank][0]) % 12]
                + 5 * weights[(tonic + sum(CHORDS[mode][rank])) % 12]
                + 5 * weights[(tonic + CHORDS[mode][rank][0] + 7) % 12]
                - rank * bar // 20,
                -rank,
            ),
        )
        root, third = CHORDS[mode][best]
        chosen.append((number * bar, (tonic + root) % 12, third))
    return chosen
