"""STFT: the power spectrum itself, on a scale."""

from __future__ import annotations

from featstore.features.engines import check_engine, engine_node
from featstore.features.graph import Node
from featstore.features.source_signal import check_clip
from featstore.features.spectrum import scaled, spectral_frames, spectrum_node
from featstore.specs import StftSpec

__all__ = ["StftFeature"]


class StftFeature:
    """What the plan asks of the kind ``stft``."""

    @staticmethod
    def check(spec: StftSpec) -> None:
        """Refuse what cannot be computed: a hop longer than the clip, an engine that lacks a setting."""
        check_clip(spec)
        check_engine(spec)

    @staticmethod
    def graph(spec: StftSpec) -> Node:
        """Node of the stored values."""
        node = spectrum_node(spec) if spec.engine == "native" else engine_node(spec)
        return scaled(node, spec.scale)

    @staticmethod
    def frames(spec: StftSpec, n_samples: int) -> int:
        """Frames of a track of ``n_samples`` at the analysis rate."""
        return spectral_frames(spec, n_samples)

    @staticmethod
    def item_shape(spec: StftSpec) -> tuple[int, ...]:
        """One value a bin."""
        return (1 + spec.n_fft // 2,)

    @staticmethod
    def dims(spec: StftSpec) -> tuple[str, ...]:
        """Names of the axes of one track."""
        return ("bin", "frame")
