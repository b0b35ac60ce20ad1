"""Phase in mel bands: cosine and sine of how fast it runs, which a mel-spectrogram beside it has lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from featstore.arrays import FloatArray
from featstore.dsp import apply_bank, frames_complex, make_mel_bank
from featstore.features.graph import Node, TrackContext
from featstore.features.source_signal import signal_node
from featstore.features.spectrum import BANK_FIELDS, FRAMING_FIELDS, PowerSpectrumStream, SpectralSpec
from featstore.specs.base import choice, integer, optional, real

__all__ = ["PhaseBandsStream", "PhaseSpec"]

ComplexArray = NDArray[np.complex64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSpec(SpectralSpec):
    """Cosine or sine (n_mels, frames) of a difference of phases, averaged over each mel band.

    With X the short-time Fourier transform and D a product of two of its values, one of them conjugated, a band holds
    the real (or imaginary) part of D summed with the weights of the bank, over |D| summed alike: the mean of the cosine
    (or sine) of the phase difference, weighted by magnitude. It lies in -1 … 1, and is 0 where there is no sound.

    Attributes
    ----------
    part : str
        ``cos`` or ``sin``.
    along : str
        ``time``: from a frame to the next, the instantaneous frequency; the first frame is 0. ``frequency``: from a bin
        to the next, the group delay, which is 0 (cosine 1) for a click at the centre of the frame.
    n_mels, fmin, fmax, mel_scale : int, float or str
        As of the kind mel. The area of bands cancels.
    """

    kind: ClassVar[str] = "phase"
    sonifier: ClassVar[str] = ""
    native_only: ClassVar[str] = "phase in bands"
    norm: ClassVar[str] = "none"
    value_range = (-1.0, 1.0)  # of a cosine
    part: str = choice("cos", "cos", "sin")
    along: str = choice("time", "time", "frequency")
    n_mels: int = integer(96, low=1, high=4096)
    fmin: float = real(0.0, low=0.0)
    fmax: float = optional(real(8000.0, low=0.0, exclusive=True))
    mel_scale: str = choice("slaney", "slaney", "htk")

    def graph(self) -> Node:
        """Node of the stored values; all channels of one transform share it."""
        framing = {name: getattr(self, name) for name in FRAMING_FIELDS}
        spectrum = Node.make("complex_spectrum", signal_node(self), ComplexSpectrumStream, **framing)
        bank = {name: getattr(self, name) for name in BANK_FIELDS}
        return Node.make("phase_bands", spectrum, PhaseBandsStream, part=self.part, along=self.along, **bank)

    @property
    def view_base(self) -> PhaseSpec:
        """Itself: differences are between neighbours at this hop."""
        return self


class ComplexSpectrumStream(PowerSpectrumStream):
    """The transform itself, of a signal that arrives in blocks."""

    dtype = np.complex64
    transform = staticmethod(frames_complex)


class PhaseBandsStream:
    """Transforms (bins, n) in, one channel of phase (n_mels, n) out; keeps the last frame."""

    def __init__(self, node: Node, context: TrackContext) -> None:
        self._bank = make_mel_bank(**{name: node[name] for name in BANK_FIELDS})
        self._part, self._along = node["part"], node["along"]
        self._last: ComplexArray = np.zeros((self._bank.n_bins, 1), np.complex64)

    def push(self, block: FloatArray) -> FloatArray:
        """Take transforms complex64 (bins, n); return as many frames of bands."""
        spectra: ComplexArray = np.asarray(block, np.complex64).reshape(self._bank.n_bins, -1)
        product = np.zeros_like(spectra)
        if self._along == "time":
            frames = np.concatenate([self._last, spectra], axis=1)
            np.multiply(spectra, np.conj(frames[:, :-1]), out=product)
            self._last = frames[:, -1:].copy()  # a view would keep the whole block
        else:  # the sign moves the origin of time from the start of the frame to its centre
            np.multiply(spectra[1:], -np.conj(spectra[:-1]), out=product[1:])
        channel = product.real if self._part == "cos" else product.imag
        weight = apply_bank(self._bank, np.abs(product))
        found = apply_bank(self._bank, channel) / np.where(weight > 0, weight, 1)
        return np.clip(found, -1, 1)

    def finish(self) -> FloatArray:
        """Nothing is held back."""
        return np.zeros((self._bank.n_mels, 0), np.float32)
