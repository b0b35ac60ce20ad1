"""What a run costs: every kind of cost once, with its words for people and its unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from featstore.units import format_bytes, format_count, format_rate, format_seconds

__all__ = ["COSTS", "Cost", "cost_text"]


@dataclass(frozen=True, slots=True)
class Cost:
    """How a cost is written.

    Attributes
    ----------
    axis, head : str
        Words for the axis of a figure, and for the head of a column.
    text : callable
        A value as a person reads it.
    short : tuple of str
        Other names in questions.
    """

    axis: str
    head: str
    text: Callable[[float], str]
    short: tuple[str, ...] = ()


def _share(value: float) -> str:
    return f"{100 * value:.3g} %" if value < 9.995 else f"{100 * value:,.0f} %"


def _gmacs(value: float) -> str:
    return f"{value:.3f}" if value >= 0.1 else f"{value:.3g}"


COSTS = {
    "bytes_alone": Cost("bytes, stored on its own", "alone", format_bytes, ("bytes",)),
    "bytes_added": Cost("bytes, added to the store", "added", format_bytes, ("added",)),
    "rate_bps": Cost("bit per second of audio", "bit rate", format_rate, ("rate",)),
    "bytes_per_hour": Cost("bytes per hour of audio", "per hour", format_bytes),
    "bytes_per_track": Cost("bytes per track", "per track", format_bytes),
    "ratio_to_audio": Cost("share of the audio's bytes", "of audio", _share),
    "gmacs": Cost("GMACs per model input", "GMACs", _gmacs),
    "parameters": Cost("parameters", "parameters", format_count),
    "seconds_train": Cost("training time (s)", "training", format_seconds, ("time", "train")),
    "seconds_inference": Cost("inference time (s)", "inference", format_seconds, ("inference",)),
    "seconds_extract": Cost("extraction time (s)", "extraction", format_seconds, ("extract",)),
    "seconds_audio": Cost("audio seen in training (s)", "audio seen", format_seconds),
}
"""Name of a column of ``runs_frame`` -> the cost; each is averaged over the runs of a group, and less is better."""


def cost_text(name: str, value: float) -> str:
    """A cost as a person reads it.

    Examples
    --------
    >>> cost_text("bytes_alone", 349_000_000), cost_text("ratio_to_audio", 0.0939), cost_text("seconds_train", 90)
    ('349 MB', '9.39 %', '1.50 min')
    """
    return COSTS[name].text(float(value))
