"""Every configuration side by side: the resolution study's figure 1 drawn from measured runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError, check_known
from featstore.metrics import title_of
from featstore.results.figure_style import (
    PALETTE,
    PUBLISHED,
    QUIET,
    draw_marks,
    footnote,
    new_figure,
    score_limits,
    size_axis,
)
from featstore.results.frames import metrics_of
from featstore.results.labels import field_text, hops_by_multiple
from featstore.results.reference import read_reference
from featstore.units import format_span

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw_study"]

_SERIES = ("dataset", "model", "sample_rate", "scale", "encoding", "representation")


def draw_study(summary: pd.DataFrame, *, metrics: Sequence[str] = (), published: str = "", title: str = "") -> Figure:
    """Draw scores and arithmetic of all mel configurations over bands and hop multiples.

    A panel for each metric, one for GMACs; groups are bands, steps within them hop multiples.

    Parameters
    ----------
    summary : DataFrame
        From ``summarise``; rows without ``n_mels`` and ``hop_multiple`` are left out.
    metrics : sequence of str
        Rows of the figure; the first two of the summary by default.
    published : str
        Data set of the resolution study (``MTAT`` or ``MSD``) whose published numbers are drawn as hollow marks.

    Raises
    ------
    ConfigError
        When no row is a mel configuration, or there are more than eight series.
    """
    rows = summary[summary["n_mels"].notna() & summary["hop_multiple"].notna()]
    if not len(rows):
        raise ConfigError("no run has mel bands and a hop multiple", "report plot figure1", "Use --kind bytes")
    shown = list(metrics) or [name for name in metrics_of(summary) if name != "loss"][:2]
    series = _series_of(rows)
    reference = _published(published, shown, sorted(set(map(str, rows["model"])))) if published else None
    known = [rows, *([] if reference is None else [reference])]
    places = _places(known)
    figure, panels = new_figure(7.2, 1.1 + 1.9 * (len(shown) + 1), nrows=len(shown) + 1, sharex=True, squeeze=False)
    for axes, metric in zip(panels[:-1, 0], shown, strict=True):
        _draw_scores(axes, metric, series, places)
        score_limits(axes.yaxis, metric)
        if reference is not None:
            theirs = reference[reference["metric"] == metric]
            same = {str(name).lower() for name in rows["dataset"]} == {published.lower()}
            scale = axes if same else _shifted_axis(axes, theirs, published)
            label = f"published, {published}{'' if same else ' (right axis)'}"
            _draw_published(axes, scale.transData, theirs, series, places, label)
            if same:
                axes.relim()
                axes.autoscale_view()
    _draw_gmacs(panels[-1, 0], rows, places)
    hops = hops_by_multiple(row for frame in known for row in frame.to_dict("records"))
    _label_groups(panels[-1, 0], places, hops, sorted(rows["sample_rate"].dropna().unique()))
    span = format_span(rows["n"].astype(int))
    note = f"marks: means; whiskers: standard deviation (n − 1), n = {span}; GMACs of one pass over a model input"
    footnote(figure, note)
    for axes in panels[:, 0]:
        _shade(axes, places)
    legend = sorted(zip(*panels[0, 0].get_legend_handles_labels(), strict=True), key=lambda p: "published" in p[1])
    handles, names = zip(*legend, strict=True)
    figure.legend(handles, names, loc="outside upper left", ncols=4, title=title or None, alignment="left")
    return figure


def _series_of(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Rows that differ only in bands and hop make a series; its name holds the fields in which it differs."""
    varying = [name for name in _SERIES if name in rows and rows[name].astype(str).nunique() > 1]
    if not varying:
        return [("measured", rows)]
    groups = [
        (", ".join(field_text(name, value) for name, value in zip(varying, key, strict=True)), group)
        for key, group in rows.groupby(varying, sort=True, dropna=False)
    ]
    if len(groups) > len(PALETTE):
        raise ConfigError(
            f"{len(groups)} series do not fit in one figure",
            "report plot figure1",
            f"Choose some: --where {varying[0]}={rows[varying[0]].iloc[0]}",
        )
    return groups


def _places(frames: Sequence[pd.DataFrame]) -> dict[tuple[int, int], float]:
    """Where each (bands, hop multiple) stands on the axis: many bands first, a gap between groups."""
    pairs = {(int(m), int(h)) for rows in frames for m, h in zip(rows["n_mels"], rows["hop_multiple"], strict=True)}
    places, at, last = {}, 0.0, None
    for mels, hop in sorted(pairs, key=lambda pair: (-pair[0], pair[1])):
        at += 0.0 if last is None else 1.0 if last == mels else 1.6
        places[mels, hop] = at
        last = mels
    return places


def _draw_scores(
    axes: Any, metric: str, series: list[tuple[str, pd.DataFrame]], places: dict[tuple[int, int], float]
) -> None:
    """Means with deviations, the series side by side within a place."""
    for number, (name, rows) in enumerate(series):
        x = _x_of(rows, places) + _offset(number, len(series))
        mean, std = (rows[f"{metric}_{part}"].astype(float) for part in ("mean", "std"))
        draw_marks(axes, x, mean, number, yerr=std, label=name, zorder=5)
    axes.set_ylabel(title_of(metric, split="test").replace(", test)", ")").replace(" (test)", ""))


def _draw_gmacs(axes: Any, rows: pd.DataFrame, places: dict[tuple[int, int], float]) -> None:
    """Arithmetic of a pass as bars from the axis's foot; the highest of the series where they differ."""
    rates = sorted(rows["sample_rate"].dropna().astype(int).unique()) or [0]
    values: list[float] = []
    for number, rate in enumerate(rates):
        part = rows[rows["sample_rate"] == rate] if rate else rows
        part = part[part["gmacs"].notna()].drop_duplicates(["n_mels", "hop_multiple"])
        if not len(part):
            continue
        width = 0.7 / len(rates)
        x = _x_of(part, places) + (number - (len(rates) - 1) / 2) * width
        shade = ("#B9B9B9", "#6E6E6E", "#DADADA", "#444444")[number % 4]
        axes.bar(x, part["gmacs"].astype(float), width=width, color=shade, label=field_text("sample_rate", rate))
        values += part["gmacs"].astype(float).tolist()
    if values and min(values) > 0:
        axes.set_yscale("log")
        size_axis(axes.yaxis, "gmacs", (min(values), max(values)))
        axes.set_ylim(min(values) / 2, max(values) * 1.6)
    axes.set_ylabel("GMACs")
    if len(rates) > 1:
        axes.legend(loc="upper right", ncols=2)


def _shifted_axis(axes: Any, rows: pd.DataFrame, dataset: str) -> Any:
    """A second axis for numbers on other data: shifted, not stretched, so that differences compare, levels do not."""
    values = rows["value"].to_numpy(dtype=float)
    low, high = axes.get_ylim()
    height = max(high - low, 1.15 * (values.max() - values.min()))
    axes.set_ylim(high - height, high)
    twin = axes.twinx()
    top = values.max() + 0.08 * height
    twin.set_ylim(top - height, top)
    twin.spines["right"].set_visible(True)
    twin.spines["right"].set_color(PUBLISHED)
    twin.tick_params(axis="y", colors=PUBLISHED)
    twin.grid(visible=False)
    twin.set_ylabel(f"published, {dataset}", color=PUBLISHED)
    return twin


def _draw_published(
    axes: Any,
    scale: Any,
    rows: pd.DataFrame,
    series: list[tuple[str, pd.DataFrame]],
    places: dict[tuple[int, int], float],
    label: str,
) -> None:
    """Hollow marks behind the measured ones, in the colour of the series with the same rate and scale.

    ``scale`` are the coordinates of their axis: drawn there, they would lie above whatever the other axis holds.
    """
    for number, (_, measured) in enumerate(series):
        kinds = set(_kinds_of(measured))
        part = rows[[kinds == {kind} for kind in _kinds_of(rows)]]  # none beside a series of several kinds
        x = _x_of(part, places) + _offset(number, len(series))
        draw_marks(axes, x, part["value"].astype(float), number, markerfacecolor="white", zorder=3, transform=scale)
    axes.plot([], [], "o", markersize=4.5, markerfacecolor="white", markeredgecolor=PUBLISHED, label=label)


def _kinds_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Sample rate and scale of each row."""
    return [(str(rate), str(scale)) for rate, scale in zip(rows["sample_rate"], rows["scale"], strict=True)]


def _offset(number: int, count: int) -> float:
    """Place of a series within its column."""
    return (number - (count - 1) / 2) * min(0.2, 0.72 / count)


def _published(dataset: str, metrics: Sequence[str], models: Sequence[str]) -> pd.DataFrame:
    """The study's own rows on one data set, of the model that is drawn; VGG-CNN's where several are."""
    model = "musicnn" if len(models) == 1 and models[0].startswith("musicnn") else "vgg-cnn"
    rows = read_reference("ferraro2020")
    check_known(dataset, sorted(rows["dataset"].unique()), f"the study has no data set {dataset!r}", "--published")
    keep = (rows["dataset"] == dataset) & rows["metric"].isin(list(metrics)) & (rows["model"] == model)
    return rows[keep & rows["value"].notna()]


def _x_of(rows: pd.DataFrame, places: dict[tuple[int, int], float]) -> Any:
    return np.array([places[int(m), int(h)] for m, h in zip(rows["n_mels"], rows["hop_multiple"], strict=True)])


def _label_groups(
    axes: Any, places: dict[tuple[int, int], float], hops: dict[int, int], rates: Sequence[float]
) -> None:
    """Hops as ticks, bands as a second row below them."""
    one = len(rates) == 1 and bool(hops)  # ticks are two lines high
    times = {multiple: f"\n{1000 * hop / rates[0]:.3g}" if one else "" for multiple, hop in hops.items()}
    ticks = [f"{hops[multiple]}{times[multiple]}" if multiple in hops else f"×{multiple}" for _, multiple in places]
    axes.set_xticks(list(places.values()), ticks, fontsize=8 if len(places) <= 16 else 6.5)
    example = next(iter(hops.values()), 0)
    said = ", ".join(f"{1000 * example / rate:.3g} ms at {rate / 1000:g} kHz" for rate in rates)
    unit = "hop in samples, and in ms" if one else f"hop in samples ({example}: {said})" if hops else "hop"
    words = f"{unit}; in groups by number of mel bands"
    for mels in dict.fromkeys(mels for mels, _ in places):
        inside = [at for (m, _), at in places.items() if m == mels]
        axes.annotate(
            f"{mels} mels" if len(inside) > 1 or len(places) < 10 else str(mels),
            (sum(inside) / len(inside), 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -36 if one else -26),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    axes.set_xlabel(words, labelpad=18, color=QUIET)
    axes.set_xlim(min(places.values()) - 0.8, max(places.values()) + 0.8)


def _shade(axes: Any, places: dict[tuple[int, int], float]) -> None:
    """Every other group on a grey ground, so that the eye keeps to its group."""
    axes.grid(visible=False, axis="x")
    for number, mels in enumerate(dict.fromkeys(mels for mels, _ in places)):
        inside = [at for (m, _), at in places.items() if m == mels]
        if number % 2 == 0:
            axes.axvspan(min(inside) - 0.8, max(inside) + 0.8, color="#F4F4F4", linewidth=0, zorder=-1)
