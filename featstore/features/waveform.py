"""Waveform: the signal itself, decoded, resampled and cut."""

from __future__ import annotations

from featstore.errors import SpecError
from featstore.features.graph import Node
from featstore.features.source_signal import check_clip, cut_length, signal_node
from featstore.specs import WaveformSpec

__all__ = ["WaveformFeature"]


class WaveformFeature:
    """What the plan asks of the kind ``waveform``."""

    @staticmethod
    def check(spec: WaveformSpec) -> None:
        """Refuse what cannot be computed."""
        if spec.engine != "native":
            raise SpecError(
                f"engine={spec.engine} has no waveform of its own",
                "waveform spec",
                "Leave engine out: no analysis is done",
            )
        check_clip(spec)

    @staticmethod
    def graph(spec: WaveformSpec) -> Node:
        """Node of the stored samples."""
        return signal_node(spec)

    @staticmethod
    def frames(spec: WaveformSpec, n_samples: int) -> int:
        """Samples stored of a track of ``n_samples`` at the analysis rate."""
        return cut_length(spec.clip, spec.sample_rate, n_samples)

    @staticmethod
    def item_shape(spec: WaveformSpec) -> tuple[int, ...]:
        """No axis besides time."""
        return ()

    @staticmethod
    def dims(spec: WaveformSpec) -> tuple[str, ...]:
        """Name of the time axis."""
        return ("sample",)
