"""Scores on altered copies of test tracks beside those on the originals, track by track."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from featstore.errors import ConfigError
from featstore.metrics import METRICS, lower_is_better
from featstore.results.bootstrap import paired_bootstrap
from featstore.results.details import Predictions

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
    there = set(shifted.track_ids)
    rows = [row for row, track in enumerate(clean.track_ids) if track in there]
    shared = tuple(clean.track_ids[row] for row in rows)
    before = replace(clean, track_ids=shared, target=clean.target[rows], score=clean.score[rows])
    found: dict[str, dict[str, Any]] = {}
    for name in METRICS:
        try:
            both = paired_bootstrap([before], [shifted], name, resamples=_RESAMPLES)
        except ConfigError:
            continue
        measure, sign = METRICS.load(name), -1 if lower_is_better(name) else 1
        low, high = sorted((sign * both.low, sign * both.high))
        score = float(measure(before.target, before.score).value)
        drop = sign * both.difference
        found[name] = {"clean": score, "shifted": score - both.difference, "drop": drop, "low": low, "high": high}
    return found
