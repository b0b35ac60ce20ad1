"""Probes of a trunk while it was pretrained: the loss and the score of every checkpoint, and how their ranks agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featstore.results.run_set import RunSet

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["probe_table", "rank_correlation", "run_correlations"]


def probe_table(runs: RunSet, metric: str) -> pd.DataFrame:
    """Every probe of every run.

    Returns
    -------
    DataFrame
        ``model, run_id, step``, ``loss`` and ``skill`` on the validation split (NaN where the objective has no skill),
        ``score``: ``metric`` of the linear probe. Step 0 is the trunk with its first weights.
    """
    import pandas as pd

    rows = [
        (
            record.model,
            record.run_id,
            int(line["step"]),
            *map(line["valid"].get, ("loss", "skill")),
            line["probe"].get(metric),
        )
        for record in runs
        for line in record.result.get("probes") or []
    ]
    frame = pd.DataFrame(rows, columns=["model", "run_id", "step", "loss", "skill", "score"])
    return frame.astype(dict.fromkeys(("loss", "skill", "score"), float))


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's coefficient; NaN for fewer than three pairs, or where one side never changes.

    Examples
    --------
    >>> round(rank_correlation([1, 2, 3, 4], [2, 1, 4, 3]), 3)
    0.6
    """
    import pandas as pd

    pairs = pd.DataFrame({"x": x, "y": y}, dtype=float)
    return float(pairs.corr(method="spearman", min_periods=3).to_numpy()[0, 1])


def run_correlations(probes: pd.DataFrame) -> dict[str, float]:
    """Rank correlation of loss and score over the checkpoints of each run, by its id; first weights do not count."""
    trained = probes[probes["step"] > 0]
    return {
        str(run): rank_correlation(part["loss"].tolist(), part["score"].tolist())
        for run, part in trained.groupby("run_id", sort=False)
    }
