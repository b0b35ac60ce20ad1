"""The difference of two configurations, or of the means of two groups of them, with its interval.

Both kinds of noise enter, as in ``bounds``: that of training, with variances which the other configurations moderate,
and that of the choice of test tracks, which the two sides share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featstore.results.bounds import DRAWS, TINY, FloatArray, Study, asked_confidence, training_noise

__all__ = ["Contrast", "contrast"]


@dataclass(frozen=True, slots=True)
class Contrast:
    """A weighted sum of mean scores, and its interval.

    Attributes
    ----------
    value, low, high : float
        In the scale of the study: greater is better.
    """

    value: float
    low: float
    high: float


def contrast(study: Study, weights: FloatArray, *, draws: int = DRAWS, seed: int = 0) -> Contrast:
    """Estimate a weighted sum of the means of a study with its 95 % interval, such as 1 and -1 for a difference.

    Parameters
    ----------
    study : Study
        All configurations that were measured: those without weight help to estimate the noise of training.
    weights : float64 (configurations,)
    draws : int > 0
        Simulated studies from which the critical value is read.
    seed : int

    See Also
    --------
    featstore.results.bounds.loss_bounds : Bounds for all configurations at once.

    Examples
    --------
    >>> study = Study(np.array([0.90, 0.88]), np.array([1e-6, 1e-6]), np.array([5, 5]))
    >>> found = contrast(study, np.array([1.0, -1.0]))
    >>> bool(0.018 < found.low < found.value < found.high < 0.022)
    True
    """
    noise, df, _ = training_noise(study)
    shares = np.square(weights) * noise  # of the variance of the sum
    tracks = float(weights @ study.test_covariance @ weights)
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(weights)
    z = np.sqrt(shares.sum() + tracks) * rng.standard_normal(draws)
    if study.covariance is None:
        seen = shares.sum() * rng.chisquare(df[0], draws) / df[0]
    else:
        seen = tracks + (shares[used] / df[used]) @ rng.chisquare(df[used, None], (len(used), draws))
    ratios = np.abs(z) / np.sqrt(np.maximum(seen, TINY))
    reach = float(np.quantile(ratios, asked_confidence(study, 0.95)) * np.sqrt(shares.sum() + tracks))
    value = float(weights @ study.means)
    return Contrast(value, value - reach, value + reach)
