"""STFT: the power spectrum itself, on a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from featstore.features.engines import engine_node
from featstore.features.graph import Node
from featstore.features.spectrum import SpectralSpec, scaled, spectrum_node
from featstore.specs import Scale
from featstore.specs.base import scale

__all__ = ["StftSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StftSpec(SpectralSpec):
    """Power spectrum |X|^2 of each frame (..., 1 + n_fft // 2 bins, frames), on a scale.

    Attributes
    ----------
    scale : Scale
        Elementwise end: ``power``, ``magnitude``, ``db``, ``log10_1p`` or ``ln``.
    """

    kind: ClassVar[str] = "stft"
    scale: Scale = scale("power")

    def graph(self) -> Node:
        """Node of the stored values."""
        native = self.engine == "native"
        return scaled(spectrum_node(self) if native else engine_node(self, without=("sample_rate",)), self.scale)
