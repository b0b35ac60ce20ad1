"""Figure of pretraining: the score of each checkpoint over its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError
from featstore.metrics import title_of
from featstore.results.figure_style import PALETTE, draw_marks, footnote, new_figure
from featstore.results.probes import probe_table, rank_correlation, run_correlations
from featstore.results.run_set import RunSet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw_probes"]


def draw_probes(runs: RunSet, *, metric: str, title: str = "") -> Figure:
    """Draw score against loss for the checkpoints of pretraining: a panel for each model, and one for all runs.

    Parameters
    ----------
    runs : RunSet
        Runs of pretraining with probes (``loop.probe_every``), of seven models at most.
    metric : str
        Score of the probe.

    Raises
    ------
    ConfigError
        When no run has probes, or there are too many models.
    """
    probes = probe_table(runs, metric)
    models = list(dict.fromkeys(probes["model"]))
    if not models:
        raise ConfigError("no run has probes of its trunk", "report plot probes", "Pretrain with loop.probe_every=N")
    if len(models) >= len(PALETTE):
        raise ConfigError(f"{len(models)} models do not fit in one figure", "report plot probes", "Choose some")
    columns = min(2, len(models) + 1)
    rows = -(-(len(models) + 1) // columns)
    figure, panels = new_figure(3.4 * columns, 0.7 + 2.5 * rows, nrows=rows, ncols=columns, squeeze=False)
    places = list(panels.flat)
    for number, model in enumerate(models):
        found = _draw_model(places[number], probes[probes["model"] == model], number)
        places[number].set_title(f"{model}{found}", loc="left", fontsize=8)
    _draw_all(places[len(models)], probes, models)
    for axes in places[len(models) + 1 :]:
        axes.set_visible(False)
    for axes in places[: len(models) + 1]:
        axes.set_ylabel(f"probe: {title_of(metric)}")
    note = "hollow: first weights, which do not count in a correlation; lines follow a run"
    footnote(figure, note)
    figure.legend(loc="outside upper left", ncols=4, title=title or None, alignment="left")
    return figure


def _draw_model(axes: Any, probes: pd.DataFrame, number: int) -> str:
    """Runs of one model as lines over the loss; return the mean of their rank correlations in words."""
    for run in dict.fromkeys(probes["run_id"]):
        part = probes[probes["run_id"] == run].sort_values("step")
        axes.plot(part["loss"], part["score"], color=PALETTE[number], linewidth=0.8, alpha=0.6)
        _marks(axes, part, "loss", number)
    axes.set_xlabel("validation loss")
    axes.invert_xaxis()  # training goes to the right
    found = [value for value in run_correlations(probes).values() if not np.isnan(value)]
    span = f" ({min(found):+.2f} to {max(found):+.2f})" if len(found) > 1 else ""
    return f", ρ within a run: {np.mean(found):+.2f}{span}" if found else ""


def _draw_all(axes: Any, probes: pd.DataFrame, models: Sequence[str]) -> None:
    """All checkpoints over the skill, which compares between models; the last of each run decides the correlation."""
    for number, model in enumerate(models):
        _marks(axes, probes[probes["model"] == model], "skill", number, label=model)
    axes.set_xlabel("skill: share of the baseline's error spared")
    last = probes.sort_values("step").groupby("run_id", sort=False).tail(1)
    value = rank_correlation(last["skill"].tolist(), last["score"].tolist())
    text = "" if np.isnan(value) else f", ρ over the last weights of {len(last)} runs: {value:+.2f}"
    axes.set_title(f"all models{text}", loc="left", fontsize=8)


def _marks(axes: Any, probes: pd.DataFrame, x: str, number: int, label: str = "") -> None:
    for part, filled in ((probes[probes["step"] > 0], True), (probes[probes["step"] == 0], False)):
        look = {"markersize": 4, "markerfacecolor": PALETTE[number] if filled else "white"}
        draw_marks(axes, part[x], part["score"], number, label=label if filled and label else None, **look)
