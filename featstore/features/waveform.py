"""Waveform: the signal itself, decoded, resampled and cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from featstore.features.graph import Node
from featstore.features.source_signal import signal_node
from featstore.specs import FeatureSpec
from featstore.specs.base import choice

__all__ = ["WaveformSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveformSpec(FeatureSpec):
    """The decoded, resampled and cut signal itself, in [-1, 1].

    Attributes
    ----------
    channels : str
        Mean of the channels.
    """

    kind: ClassVar[str] = "waveform"
    usual_model: ClassVar[str] = "sincnet"
    sonifier: ClassVar[str] = "featstore.workflows.sonify:waveform_blocks"
    native_only: ClassVar[str] = "waveform of its own: it only analyses"
    dims = ("sample",)
    value_range = (-1.0, 1.0)  # full scale
    channels: str = choice("mono", "mono")

    def graph(self) -> Node:
        """Node of the stored samples."""
        return signal_node(self)
