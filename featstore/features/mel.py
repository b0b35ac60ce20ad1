"""Mel: triangular bands of a power spectrum, on a scale."""

from __future__ import annotations

from featstore.arrays import FloatArray
from featstore.dsp import MelBank, apply_bank, make_mel_bank
from featstore.features.engines import check_engine, engine_node
from featstore.features.graph import Node, TrackContext
from featstore.features.source_signal import check_clip
from featstore.features.spectrum import (
    ElementwiseStream,
    scaled,
    spectral_frames,
    spectrum_node,
    to_exponent,
)
from featstore.specs import HpssSpec, MelSpec

__all__ = ["MelFeature", "bank_node", "bank_of", "mel_bank_stream"]

_BANK_FIELDS = ("sample_rate", "n_fft", "n_mels", "fmin", "fmax", "mel_scale", "norm")


def bank_node(source: Node, spec: MelSpec | HpssSpec) -> Node:
    """Node of a spectrum seen through a spec's mel bank."""
    return Node.make("mel_bank", source, **{name: getattr(spec, name) for name in _BANK_FIELDS})


def bank_of(spec: MelSpec | HpssSpec) -> MelBank:
    """Return the bank of a spec; refuses one with empty bands."""
    return make_mel_bank(**{name: getattr(spec, name) for name in _BANK_FIELDS})


class MelFeature:
    """What the plan asks of the kind ``mel``."""

    @staticmethod
    def check(spec: MelSpec) -> None:
        """Refuse what cannot be computed: empty bands, a hop longer than the clip."""
        check_clip(spec)
        bank_of(spec)
        check_engine(spec)

    @staticmethod
    def graph(spec: MelSpec) -> Node:
        """Node of the stored values."""
        if spec.engine != "native":
            return scaled(engine_node(spec), spec.scale)
        return scaled(bank_node(to_exponent(spectrum_node(spec), spec.power), spec), spec.scale)

    @staticmethod
    def frames(spec: MelSpec, n_samples: int) -> int:
        """Frames of a track of ``n_samples`` at the analysis rate."""
        return spectral_frames(spec, n_samples)

    @staticmethod
    def item_shape(spec: MelSpec) -> tuple[int, ...]:
        """One value a band."""
        return (spec.n_mels,)

    @staticmethod
    def dims(spec: MelSpec) -> tuple[str, ...]:
        """Names of the axes of one track."""
        return ("band", "frame")


def mel_bank_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of a ``mel_bank`` node."""
    bank = make_mel_bank(**dict(node.params))

    def bands(block: FloatArray) -> FloatArray:
        return apply_bank(bank, block)

    return ElementwiseStream(bands)
