"""What guessing scores: the macro F1 of three ways to guess, from the labels alone.

Kamuni et al. 2024 quote 0.11 for guessing. On the classes of FMA-medium, which differ in size by a factor of 700, a
guess is worth much less; a score means something only beside the figures for the labels it was measured on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GUESSES", "Chance", "chance_levels", "expected_f1"]

_DRAWS = 1000  # simulated guesses, for the deviation
GUESSES = ("uniform", "class_share", "largest")
"""Any class alike; in proportion to the training labels; always the class that most training tracks have."""


@dataclass(frozen=True, slots=True)
class Chance:
    """Macro F1 of a way to guess, over all classes.

    Attributes
    ----------
    mean : float
        Over all guesses, by the closed form.
    deviation : float
        Of single guesses at all tracks, by simulation.
    """

    mean: float
    deviation: float


def expected_f1(true: NDArray[Any], guessed: NDArray[Any]) -> NDArray[np.float64]:
    """F1 of each class when a share ``guessed`` of all tracks is given the class at random: 2pq / (p + q).

    Parameters
    ----------
    true, guessed : float (classes,)
        Shares of the tracks; a class with neither has F1 0.

    Examples
    --------
    >>> expected_f1(np.array([0.5, 0.5]), np.array([1.0, 0.0])).round(3).tolist()
    [0.667, 0.0]
    """
    total = np.asarray(true, dtype=np.float64) + guessed
    return np.asarray(np.divide(2.0 * true * guessed, total, out=np.zeros(len(total)), where=total > 0))


def chance_levels(
    targets: NDArray[np.integer[Any]], n_classes: int, *, train_targets: NDArray[np.integer[Any]] | None = None
) -> dict[str, Chance]:
    """Macro F1 of guessing, by the name of the way to guess.

    Parameters
    ----------
    targets : int (n,)
        Class numbers of the tracks that are scored.
    n_classes : int
        All classes count, those without a track with F1 0.
    train_targets : int (m,), optional
        Labels that a guess may be based on; by default the same.

    Examples
    --------
    >>> chance = chance_levels(np.array([0, 0, 0, 1]), 2)
    >>> {name: round(each.mean, 3) for name, each in chance.items()}
    {'uniform': 0.467, 'class_share': 0.5, 'largest': 0.429}
    """
    known = targets if train_targets is None else train_targets
    shares = np.bincount(known, minlength=n_classes) / len(known)
    guesses = {
        "uniform": np.full(n_classes, 1 / n_classes),
        "class_share": shares,
        "largest": np.eye(n_classes)[int(shares.argmax())],
    }
    true = np.bincount(targets, minlength=n_classes)
    rng = np.random.default_rng(0)
    found = {}
    for name, shares_guessed in guesses.items():
        mean = float(expected_f1(true / len(targets), shares_guessed).mean())
        found[name] = Chance(mean, float(_drawn(true, shares_guessed, rng).std()))
    return found


def _drawn(
    true: NDArray[np.integer[Any]], guessed: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Macro F1 of simulated guesses ``(_DRAWS,)``: the guesses at the tracks of each class are one multinomial."""
    cells = np.stack([rng.multinomial(int(n), guessed, size=_DRAWS) for n in true], axis=1)  # (draws, true, guessed)
    right = np.diagonal(cells, axis1=1, axis2=2)
    total = cells.sum(axis=1) + true
    return np.asarray(np.divide(2.0 * right, total, out=np.zeros(right.shape), where=total > 0).mean(axis=1))
