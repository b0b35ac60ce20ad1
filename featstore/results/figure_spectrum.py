"""Spectra over time as pictures: Hz and seconds on the axes, and a bar that says what the colours are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["draw_spectrum", "hz_ticks"]

_OCTAVES = (125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)


def draw_spectrum(
    axes: Any,
    values: npt.NDArray[Any],
    *,
    centres_hz: npt.ArrayLike | None,
    step_s: float,
    start_s: float = 0.0,
    limits: tuple[float, float] | None = None,
    unit: str = "",
    ticks: int = 5,
) -> Any:
    """Draw bands over seconds, each band a row of equal height, its frequency beside it.

    Parameters
    ----------
    axes : Axes
    values : array (bands, frames)
        NaN is left blank.
    centres_hz : array (bands,) or None
        Frequencies of the rows, rising; None counts the bands instead.
    step_s, start_s : float
        Between frames, and of the first frame's centre.
    limits : low, high
        Values of the darkest and the lightest colour; the 2nd and the 99.8th percentile by default.
    unit : str
        Label of the colour bar.
    ticks : int
        Most frequencies to name.

    Returns
    -------
    Colorbar
    """
    known = values[np.isfinite(values)]
    low, high = limits or (np.percentile(known, [2, 99.8]) if known.size else (0.0, 1.0))
    edge = start_s - step_s / 2
    image = axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        extent=(edge, edge + values.shape[-1] * step_s, 0, len(values)),
        cmap="magma",
        vmin=low,
        vmax=max(high, low + 1e-9),
        interpolation="nearest",
    )
    axes.grid(visible=False)
    if centres_hz is None:
        axes.set_ylabel("band")
    else:
        places, texts = hz_ticks(centres_hz, ticks)
        axes.set_yticks(places, texts)
        axes.set_ylabel("Hz")
    axes.set_xlabel("seconds")
    return _bar(axes, image, unit)


def _bar(axes: Any, image: Any, unit: str) -> Any:
    bar = axes.figure.colorbar(image, ax=axes, pad=0.015, aspect=16, fraction=0.05)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize="x-small", length=2)
    bar.ax.yaxis.get_major_locator().set_params(nbins=4)
    if unit:
        bar.set_label(unit, fontsize="small")
    return bar


def hz_ticks(centres_hz: npt.ArrayLike, most: int = 5) -> tuple[list[float], list[str]]:
    """Places of round frequencies among rows of equal height, and their texts.

    Parameters
    ----------
    centres_hz : array (bands,)
        Frequencies of the rows, rising.
    most : int > 0
        Number of ticks.

    Examples
    --------
    >>> hz_ticks([0, 1000, 2000, 3000, 4000], 3)
    ([0.5, 2.5, 4.5], ['0', '2000', '4000'])
    >>> hz_ticks([60, 180, 420, 1000, 2100, 4300], 3)[1]
    ['250', '1000', '4000']
    """
    from matplotlib.ticker import MaxNLocator

    centres = np.asarray(centres_hz, dtype=float)
    low, high = centres[0], centres[-1]
    steps = np.diff(centres)
    if len(centres) < 3 or steps.max() < 1.01 * steps.min():
        wanted = np.asarray(MaxNLocator(nbins=max(1, most - 1), steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    else:
        wanted = np.asarray(_OCTAVES)
    found: list[tuple[float, float]] = []
    for value in wanted[(wanted >= low) & (wanted <= high)][::-1]:
        place = float(np.interp(value, centres, np.arange(len(centres)) + 0.5))
        if not found or found[-1][0] - place >= len(centres) / (1.2 * most):
            found.append((place, float(value)))
    found = found[::-1] or [(0.5, float(low))]
    return [place for place, _ in found], [f"{value:.4g}" for _, value in found]
