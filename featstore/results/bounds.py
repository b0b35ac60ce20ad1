"""How much worse than the best a configuration can be: simultaneous bounds on its loss, instead of a verdict.

A test that fails to find a difference is no evidence of equality: with three seeds, most truly worse configurations are
"not told apart" from the best. These bounds turn the question round. For each configuration they give the largest loss
against the best that the data allow, and the smallest loss that they prove. All bounds hold at once with the stated
confidence, so a choice among the configurations may use them.

Two kinds of noise enter and stay separate, because different things reduce them: training noise (the variance over
seeds, moderated by what the other configurations show) and test noise (the covariance of the scores over resampled test
tracks, common to all configurations).

References
----------
.. [1] D. G. Edwards and J. C. Hsu, "Multiple comparisons with the best treatment", J. Am. Stat. Assoc. 78 (1983).
.. [2] G. K. Smyth, "Linear models and empirical Bayes methods for assessing differential expression in microarray
   experiments", Stat. Appl. Genet. Mol. Biol. 3 (2004): moderated variances, moments of log s².
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from featstore.errors import ConfigError

__all__ = [
    "LossBounds",
    "Study",
    "asked_confidence",
    "is_within",
    "loss_bounds",
    "moderated_variances",
    "training_noise",
]

FloatArray: TypeAlias = npt.NDArray[np.float64]

# degrees of freedom that the other configurations may lend: without a limit the bounds miss too often
PRIOR_LIMIT = 4.0
TWO_SEEDS = 0.5  # of the risk is taken where variances come from two seeds: their spread is estimated too poorly
DRAWS = 4000
_MOST_NUMBERS = 2_000_000  # configurations times draws: hundreds of configurations take fewer draws
TINY = 1e-16  # of a score in [0, 1], squared: differences below 1e-8 are ties


@dataclass(frozen=True)
class Study:
    """What is known of some configurations, greater scores being better.

    Attributes
    ----------
    means : float64 (configurations,)
        Mean score over seeds.
    variances : float64 (configurations,)
        Variance of the score over seeds, n − 1 in the divisor; ignored where there is one seed.
    seeds : int64 (configurations,)
        Runs behind each mean.
    covariance : float64 (configurations, configurations), or None
        Of the means over resampled test tracks; None where no predictions were kept.
    tracks : int
        Test tracks (or groups of them) behind ``covariance``.
    exact : bool (configurations,), or None
        Configurations without training noise: fits that have one solution, whatever the seed. They say nothing about
        the noise of the others. None where there are none.
    """

    means: FloatArray
    variances: FloatArray
    seeds: npt.NDArray[np.int64]
    covariance: FloatArray | None = None
    tracks: int = 0
    exact: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        n = len(self.means)
        shapes = {self.variances.shape, self.seeds.shape, (n,)}
        if n == 0 or len(shapes) > 1 or (self.covariance is not None and self.covariance.shape != (n, n)):
            raise ConfigError("means, variances, seeds and covariance do not fit together", "loss bounds")
        if not np.isfinite(self.means).all():
            raise ConfigError("a mean score is not a number", "loss bounds", "Leave out runs without a score")
        if n > 1 and self.noisy.any() and (self.seeds[self.noisy] < 2).all():
            raise ConfigError(
                "every configuration has a single seed: the noise of training is unknown",
                "loss bounds",
                "Train at least one configuration with two or more seeds",
            )

    @property
    def noisy(self) -> npt.NDArray[np.bool_]:
        """Configurations with training noise."""
        return np.ones(len(self.means), dtype=bool) if self.exact is None else ~self.exact

    @property
    def test_covariance(self) -> FloatArray:
        """The covariance over test tracks, zero where it is unknown."""
        n = len(self.means)
        return np.zeros((n, n)) if self.covariance is None else self.covariance

    def scaled(self, *, seeds: int | None = None, tracks: int | None = None) -> Study:
        """Return the same configurations as they would be known from other numbers of seeds or test tracks."""
        study = self
        if seeds is not None:
            study = replace(study, seeds=np.maximum(study.seeds, seeds))
        if tracks is not None and study.covariance is not None:
            study = replace(study, covariance=study.covariance * (study.tracks / tracks), tracks=tracks)
        return study


@dataclass(frozen=True)
class LossBounds:
    """Simultaneous bounds on each configuration's loss against the best.

    Attributes
    ----------
    most, least : float64 (configurations,)
        With the stated confidence, for all configurations at once: ``least <= loss <= most``.
    may_be_best : bool (configurations,)
        Those that the data do not rule out as the best; their ``least`` is 0.
    confidence : float
    pooled : bool
        Whether one variance was assumed for all configurations and no test noise: predictions are missing.
    prior_df : float
        Degrees of freedom that the configurations lent each other; 0 when pooled.
    """

    most: FloatArray
    least: FloatArray
    may_be_best: npt.NDArray[np.bool_]
    confidence: float
    pooled: bool
    prior_df: float


def moderated_variances(variances: FloatArray, df: npt.NDArray[np.float64]) -> tuple[FloatArray, FloatArray, float]:
    """Shrink variances of a few values each towards their common level, as far as they agree with each other.

    Parameters
    ----------
    variances : float64 (n,)
        Sample variances.
    df : float64 (n,)
        Their degrees of freedom; where 0, the variance is ignored and the common level takes its place.

    Returns
    -------
    moderated : float64 (n,)
    total_df : float64 (n,)
        Degrees of freedom of each: its own and those of the common level, at most those of all variances together.
    prior_df : float
        Degrees of freedom of the common level, at most ``PRIOR_LIMIT``.

    References
    ----------
    Smyth (2004), section 6.2; the limit is ours, calibrated by simulation (docs/benchmarks/bounds.jsonl).
    """
    from scipy.special import digamma, polygamma

    known = df > 0
    d, s2 = df[known], variances[known]
    if not (s2 > TINY).any():
        return np.zeros_like(variances), np.where(known, df, d.sum()), PRIOR_LIMIT
    # one run that repeats to the last digit says nothing about the others: it must not drag the level to zero
    logs = np.log(np.maximum(s2, max(TINY, 1e-5 * float(np.median(s2[s2 > TINY])))))
    shifted = logs - digamma(d / 2) + np.log(d / 2)
    excess = float(shifted.var(ddof=1) - polygamma(1, d / 2).mean()) if len(d) > 1 else 0.0
    prior_df = min(2 * _inverse_trigamma(excess), PRIOR_LIMIT) if excess > 0 else PRIOR_LIMIT
    level = math.exp(float(shifted.mean()) + float(digamma(prior_df / 2)) - math.log(prior_df / 2))
    own = np.where(known, df, 0.0)
    moderated = (prior_df * level + own * np.where(known, variances, 0.0)) / (prior_df + own)
    return moderated, np.minimum(own + prior_df, d.sum()), prior_df


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(y) = value for y > 0 by Newton's method on the reciprocal, which converges from below."""
    from scipy.special import polygamma

    y = 0.5 + 1 / value
    for _ in range(50):
        at = float(polygamma(1, y))
        step = at * (1 - at / value) / float(polygamma(2, y))
        y = max(1e-3, y + step)
        if abs(step) < 1e-9 * y:
            break
    return y


def loss_bounds(study: Study, *, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0) -> LossBounds:
    """Bound the loss of every configuration against the best one.

    Parameters
    ----------
    study : Study
    confidence : float in (0, 1)
        That all bounds hold at once.
    draws : int > 0
        Simulated studies from which the critical values are read.
    seed : int

    Returns
    -------
    LossBounds
        With two seeds somewhere, critical values are those of a higher confidence, calibrated by simulation
        (docs/benchmarks/bounds.jsonl). Without predictions (``study.covariance`` is None) from one pooled variance,
        without test noise.

    Examples
    --------
    >>> study = Study(np.array([0.90, 0.88]), np.array([1e-6, 1e-6]), np.array([5, 5]))
    >>> bounds = loss_bounds(study)
    >>> bool(bounds.most[0] == 0), bool(0.01 < bounds.least[1] < 0.02 < bounds.most[1] < 0.03)
    (True, True)
    """
    n = len(study.means)
    pooled = study.covariance is None
    if n == 1:
        return LossBounds(np.zeros(1), np.zeros(1), np.ones(1, dtype=bool), confidence, pooled, 0.0)
    pairs = _pairs_of(study, confidence)
    rows = np.flatnonzero((pairs.reach >= 0).all(axis=1))
    allowed = np.full((n, n), np.nan)  # of those that cannot be the best it is not needed
    allowed[rows] = _allowed(study, pairs, rows, draws=draws, seed=seed)
    ahead, others = pairs.ahead, ~np.eye(n, dtype=bool)
    may_be_best: npt.NDArray[np.bool_] = np.asarray(((ahead + allowed >= 0) | ~others).all(axis=1))
    may_be_best[int(study.means.argmax())] = True
    rivals = may_be_best[:, None] & others
    most = np.maximum(0.0, np.where(rivals, ahead + allowed, -np.inf).max(axis=0))
    least = np.maximum(0.0, np.where(rivals, ahead - allowed, np.inf).min(axis=0))
    return LossBounds(most, np.where(may_be_best, 0.0, least), may_be_best, confidence, pooled, pairs.prior_df)


def is_within(study: Study, which: int, margin: float, *, confidence: float = 0.95) -> bool:
    """Whether the upper bound of one configuration is at most ``margin``: an estimate, far faster than ``loss_bounds``.

    Only the rivals that set the bound are simulated: the three that it would be farthest from at Bonferroni's critical
    values.
    """
    pairs = _pairs_of(study, confidence)
    reach = np.where((pairs.reach >= 0).all(axis=1), pairs.reach[:, which], -np.inf)
    reach[which] = -np.inf
    rows = np.argsort(-reach, kind="stable")[:3]
    rows = rows[reach[rows] > margin]
    if not len(rows):
        return True
    most = pairs.ahead[rows] + _allowed(study, pairs, rows, draws=1000, seed=0)
    own = np.arange(len(study.means)) == rows[:, None]
    may_be_best = ((most >= 0) | own).all(axis=1) | (rows == study.means.argmax())
    return not (most[may_be_best, which] > margin).any()


@dataclass(frozen=True)
class _Pairs:
    """Differences of all pairs of configurations, ``[j, i]``: j's score less i's, j being the control.

    ``reach`` is what no upper bound exceeds; ``asked`` the confidence of the critical values.
    """

    ahead: FloatArray
    errors: FloatArray
    reach: FloatArray
    noise: FloatArray
    df: FloatArray
    asked: float
    prior_df: float


def _pairs_of(study: Study, confidence: float) -> _Pairs:
    asked = asked_confidence(study, confidence)
    noise, df, prior_df = training_noise(study)
    errors = np.sqrt(np.maximum(_spread(study.test_covariance) + noise[:, None] + noise, TINY))
    ahead = study.means[:, None] - study.means
    return _Pairs(ahead, errors, ahead + _ceiling(df, asked) * errors, noise, df, asked, prior_df)


def _allowed(study: Study, pairs: _Pairs, rows: npt.NDArray[np.int64], *, draws: int, seed: int) -> FloatArray:
    """Half the widths of the intervals of all differences from some configurations, the controls."""
    critical = _critical_values(study, pairs, rows, draws=draws, seed=seed)
    widths: FloatArray = critical[:, None] * pairs.errors[rows]
    return widths


def training_noise(study: Study) -> tuple[FloatArray, FloatArray, float]:
    """Variance of each mean over seeds, its degrees of freedom, and those that the configurations lent each other.

    Without predictions (``study.covariance`` is None) one variance is pooled over all configurations. Those without
    training noise have a variance of 0 and no part in that of the others.
    """
    df, noisy = (study.seeds - 1).astype(float), study.noisy
    noise, total_df, prior_df = np.zeros(len(df)), np.full(len(df), max(1.0, df.sum())), 0.0
    if not noisy.any():
        return noise, total_df, prior_df
    own, variances = df[noisy], study.variances[noisy]
    if study.covariance is None:
        variances = np.full(len(own), float((own * np.where(own > 0, variances, 0.0)).sum() / own.sum()))
        total_df[:] = own.sum()
    else:
        variances, total_df[noisy], prior_df = moderated_variances(variances, own)
    noise[noisy] = variances / study.seeds[noisy]
    return noise, total_df, prior_df


def asked_confidence(study: Study, confidence: float) -> float:
    """Confidence whose critical values are taken: a higher one where moderated variances come from two seeds."""
    df = study.seeds[study.noisy] - 1
    few = study.covariance is not None and df[df > 0].min(initial=2) <= 1
    return 1 - TWO_SEEDS * (1 - confidence) if few else confidence


def _spread(covariance: FloatArray) -> FloatArray:
    """Variance of every difference of two entries."""
    own = covariance.diagonal()
    return np.maximum(own[:, None] + own - 2 * covariance, 0.0)


def _ceiling(df: FloatArray, confidence: float) -> float:
    """A factor that no critical value exceeds: Bonferroni's, with the fewest degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df.min(), 1 - (1 - confidence) / (2 * max(1, len(df) - 1))))


def _critical_values(study: Study, pairs: _Pairs, rows: npt.NDArray[np.int64], *, draws: int, seed: int) -> FloatArray:
    """Factor on the standard error for each of some configurations as the control: the quantile of max |t|, simulated.

    The variances that a study would see are drawn as well, for each configuration separately (once for all when
    pooled: then these are Dunnett's values, equal for equal numbers of seeds).
    """
    rng, noise, df, confidence = np.random.default_rng(seed), pairs.noise, pairs.df, pairs.asked
    n = len(noise)
    draws = max(min(draws, 1000), min(draws, _MOST_NUMBERS // n))
    z = np.sqrt(noise)[:, None] * rng.standard_normal((n, draws))
    if study.covariance is None:
        seen = noise[:, None] * rng.chisquare(df[:1, None], (1, draws)) / df[:, None]
        _, first, same = np.unique(study.seeds[rows], return_index=True, return_inverse=True)
        between = np.zeros(n)
        found = [_largest_t(z, seen, between, int(rows[each]), confidence) for each in first]
        return np.array(found)[same]
    values, vectors = np.linalg.eigh(study.test_covariance)
    z += (vectors * np.sqrt(np.maximum(values, 0.0))) @ rng.standard_normal((n, draws))
    seen = noise[:, None] * rng.chisquare(df[:, None], (n, draws)) / df[:, None]
    spread = _spread(study.test_covariance)
    return np.array([_largest_t(z, seen, spread[j], int(j), confidence) for j in rows])


def _largest_t(z: FloatArray, seen: FloatArray, between: FloatArray, j: int, confidence: float) -> float:
    """Quantile of max |t| of all configurations against ``j`` over the draws."""
    errors = np.sqrt(np.maximum(between[:, None] + seen + seen[j], TINY))
    return float(np.quantile((np.abs(z - z[j]) / errors).max(axis=0), confidence))
