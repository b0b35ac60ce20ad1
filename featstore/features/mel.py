"""Mel: triangular bands of a power spectrum, on a scale."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

from featstore.dsp import apply_bank, make_mel_bank
from featstore.features.engines import engine_node
from featstore.features.graph import Node, TrackContext
from featstore.features.spectrum import (
    BANK_FIELDS,
    ElementwiseStream,
    SpectralSpec,
    scaled,
    spectrum_node,
    to_exponent,
)
from featstore.specs import Scale
from featstore.specs.base import choice, integer, optional, real, scale

__all__ = ["MelSpec", "bank_node"]


def bank_node(source: Node, spec: SpectralSpec) -> Node:
    """Node of a spectrum seen through a spec's mel bank."""
    return Node.make("mel_bank", source, mel_bank_stream, **{name: getattr(spec, name) for name in BANK_FIELDS})


@dataclass(frozen=True, slots=True, kw_only=True)
class MelSpec(SpectralSpec):
    """Triangular mel bands (..., n_mels, frames) of the spectrum raised to ``power``, on a scale.

    Attributes
    ----------
    n_mels : int
        Number of bands.
    fmin : float
        Hz at the lower edge of the bank.
    fmax : float
        Hz at the upper edge of the bank; by default half the sample rate.
    mel_scale : str
        Frequencies of the bank.
    norm : str
        ``slaney`` gives each band the same area, ``none`` the same peak.
    power : float
        Exponent of the magnitude that enters the bank.
    scale : Scale
        Elementwise end: ``power`` (the bank's output as it is), ``magnitude``, ``db``, ``log10_1p`` or ``ln``.
    """

    kind: ClassVar[str] = "mel"
    n_mels: int = integer(96, low=1, high=4096)
    fmin: float = real(0.0, low=0.0)
    fmax: float = optional(real(8000.0, low=0.0, exclusive=True))
    mel_scale: str = choice("slaney", "slaney", "htk")
    norm: str = choice("slaney", "slaney", "none")
    power: float = real(2.0, low=0.0, exclusive=True)
    scale: Scale = scale("power")

    def graph(self) -> Node:
        """Node of the stored values."""
        if self.engine != "native":
            return scaled(engine_node(self), self.scale)
        return scaled(bank_node(to_exponent(spectrum_node(self), self.power), self), self.scale)


def mel_bank_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of a ``mel_bank`` node."""
    return ElementwiseStream(functools.partial(apply_bank, make_mel_bank(**dict(node.params))))
