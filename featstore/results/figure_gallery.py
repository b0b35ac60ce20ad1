"""One track as every stored or derived feature shows it: what is lost can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.errors import ConfigError
from featstore.results.figure_spectrum import draw_spectrum
from featstore.results.figure_style import QUIET, new_figure
from featstore.results.frames import named_fields
from featstore.results.labels import labels_of
from featstore.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_gallery"]


def draw_gallery(
    store: Any,
    features: Sequence[str],
    *,
    track: str = "",
    start_s: float = 0.0,
    seconds: float = 10.0,
    title: str = "",
) -> Figure:
    """Draw some seconds of one track in several features, one above the other on one axis of time.

    Parameters
    ----------
    store : Store
        An open store.
    features : sequence of str
        Specs of features with bands; all of the store when empty.
    track : str
        Its id; the first stored track by default.
    start_s, seconds : float
        The stretch to show.

    Raises
    ------
    ConfigError
        When no feature has bands, or the track is not stored.
    """
    readers = [store[name] for name in (features or store.features)]
    readers = [reader for reader in readers if len(reader.shape_of_item) == 1 and hasattr(reader.spec, "hop_length")]
    if not readers:
        raise ConfigError("no feature has bands and frames", str(store), "Name spectral features with --feature")
    if not track:
        track = str(readers[0].track_ids[0])
    readers = readers[:12]
    figure, axes = new_figure(7.0, 0.7 + 1.3 * len(readers), nrows=len(readers), sharex=True, squeeze=False)
    for panel, reader, label in zip(axes[:, 0], readers, _short_names(readers), strict=True):
        _draw_track(panel, reader, track, start_s, seconds, label)
    for panel in axes[:-1, 0]:
        panel.set_xlabel("")
    axes[-1, 0].set_xlim(start_s, start_s + seconds)
    figure.suptitle(title or f"track {track}", x=0.01, ha="left", fontsize=9, color=QUIET)
    return figure


def _short_names(readers: Sequence[Any]) -> list[str]:
    """What differs between the features, in words."""
    import pandas as pd

    names = [f"{reader.spec}@{reader.encoding}" for reader in readers]
    return labels_of(pd.DataFrame([named_fields(name) | {"configuration": name} for name in names]))


def _draw_track(axes: Any, reader: Any, track: str, start_s: float, seconds: float, label: str) -> None:
    """One panel: bands over seconds, each with its own range, because scales differ."""
    if track not in set(reader.track_ids):
        raise ConfigError(f"track {track!r} is not stored", str(reader.name), "See featstore status for what failed")
    spec = reader.spec
    step = spec.frame_step / spec.sample_rate
    values = np.asarray(reader[track])
    first = min(int(start_s / step), max(values.shape[-1] - 1, 0))
    part = values[:, first : first + int(np.ceil(seconds / step)) + 1]
    begin = first * step + spec.first_centre_s
    unit = "dB" if spec.unit == "dB" else "value"
    draw_spectrum(axes, part, centres_hz=spec.band_centres, step_s=step, start_s=begin, unit=unit, ticks=4)
    size = format_bytes(reader.bytes_alone / max(len(reader), 1))
    values_a_second = part.shape[0] / step
    axes.set_title(f"{label}   {size} a track, {values_a_second:,.0f} values a second", loc="left", fontsize=7.5)
