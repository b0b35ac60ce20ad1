"""Scores on altered copies of test tracks beside those on the originals, track by track."""

from __future__ import annotations

from typing import Any

from featstore.errors import ConfigError
from featstore.metrics import METRICS, lower_is_better
from featstore.results.bootstrap import paired_bootstrap
from featstore.results.details import Predictions
from featstore.results.resampled import rows_of, shared_tracks

__all__ = ["shift_scores"]

_RESAMPLES = 400


def shift_scores(clean: Predictions, shifted: Predictions) -> dict[str, dict[str, Any]]:
    """Every metric on the tracks that both sides have predicted.

    Parameters
    ----------
    clean, shifted : Predictions
        Of one run on its test tracks, and on their copies.

    Returns
    -------
    dict of str to dict
        Metric to ``clean``, ``shifted``, ``drop`` (what is lost: positive is worse, whichever direction is better),
        ``low`` and ``high`` (95 % interval of the drop over resampled tracks, the same on both sides). Metrics without
        a value on these tracks are left out.
    """
    target, score = rows_of(clean, shared_tracks([clean, shifted]))
    found: dict[str, dict[str, Any]] = {}
    for name in METRICS:
        try:
            both = paired_bootstrap([clean], [shifted], name, resamples=_RESAMPLES)
        except ConfigError:
            continue
        measure, sign = METRICS.load(name), -1 if lower_is_better(name) else 1
        low, high = sorted((sign * both.low, sign * both.high))
        before, drop = float(measure(target, score).value), sign * both.difference
        found[name] = {"clean": before, "shifted": before - both.difference, "drop": drop, "low": low, "high": high}
    return found
