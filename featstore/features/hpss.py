"""HPSS: the harmonic, percussive or residual part of a spectrogram, as it is or through a mel bank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from featstore.arrays import FloatArray
from featstore.dsp import (
    extract_component,
    frequency_median,
    harmonic_and_percussive,
    symmetric_positions,
    time_median,
)
from featstore.features.engines import engine_node
from featstore.features.graph import Node, TrackContext
from featstore.features.mel import bank_node
from featstore.features.spectrum import ElementwiseStream, SpectralSpec, scaled, spectrum_node, to_exponent
from featstore.specs import Scale
from featstore.specs.base import choice, integer, optional, pair, real, scale

__all__ = ["HpssSpec", "MedianStream"]

# These follow as steps of ours whatever the engine: the separation is what is compared.
_AFTER_ENGINE = ("power", "n_mels", "fmin", "fmax", "mel_scale", "norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class HpssSpec(SpectralSpec):
    """One component of harmonic-percussive separation (Fitzgerald 2010; margins of Driedger et al. 2014).

    The component is a power spectrum; with ``n_mels`` above 0 it goes through a mel bank as in
    :class:`~featstore.features.mel.MelSpec`.

    Attributes
    ----------
    component : str
        ``harmonic``, ``percussive`` or ``residual`` (what neither takes; all zero at ``margin=1``).
    kernel : int, or two
        Odd length of both median filters, in frames and in bins; ``31+17`` gives each its own (harmonic, percussive).
    mask_power : float
        Exponent of the soft mask; ``inf``: the binary masks of Driedger et al.
    margin : float, or two
        How much stronger a component must be than the other; ``1+5`` as for ``kernel``.
    n_mels : int
        Number of bands; 0 keeps the linear bins.
    fmin, fmax, mel_scale, norm, power, scale : float, str or Scale
        As of the kind mel.
    """

    kind: ClassVar[str] = "hpss"
    component: str = choice("harmonic", "harmonic", "percussive", "residual")
    kernel: int | tuple[int, int] = pair(integer(31, low=1, high=1001))
    mask_power: float = real(2.0, low=0.0, exclusive=True, infinite=True)
    margin: float | tuple[float, float] = pair(real(1.0, low=1.0))
    n_mels: int = integer(0, low=0, high=4096)
    fmin: float = real(0.0, low=0.0)
    fmax: float = optional(real(8000.0, low=0.0, exclusive=True))
    mel_scale: str = choice("slaney", "slaney", "htk")
    norm: str = choice("slaney", "slaney", "none")
    power: float = real(2.0, low=0.0, exclusive=True)
    scale: Scale = scale("power")

    def _resolve(self) -> None:
        SpectralSpec._resolve(self)
        for length in harmonic_and_percussive(self.kernel):
            if length % 2 == 0:
                raise self._refuse(f"kernel={length} is even: a median needs a centre", f"Use {length + 1}")
        if self.n_mels == 0:  # a bank's fields mean nothing without a bank: one name for one thing
            plain = {"fmin": 0.0, "fmax": self.sample_rate / 2, "mel_scale": "slaney", "norm": "slaney"}
            for name, value in plain.items():
                object.__setattr__(self, name, value)

    def check(self) -> None:
        """Refuse what cannot be computed."""
        if self.engine == "essentia":
            raise self._refuse("engine=essentia has no median-filter separation", "Use engine=native or librosa")
        SpectralSpec.check(self)

    def graph(self) -> Node:
        """Node of the stored values. The medians of all three components are one node."""
        if self.engine == "native":
            magnitude = to_exponent(spectrum_node(self), 1.0)
            medians = Node.make("hpss_medians", magnitude, MedianStream, kernel=self.kernel)
            settings = {name: getattr(self, name) for name in ("component", "mask_power", "margin")}
            part = Node.make("hpss_part", medians, part_stream, **settings)
        else:
            part = engine_node(self, without=_AFTER_ENGINE)
        raised = part if self.power == 1.0 else Node.make("magnitude_to", part, magnitude_to_stream, power=self.power)
        return scaled(bank_node(raised, self) if self.n_mels else raised, self.scale)

    @property
    def view_base(self) -> HpssSpec:
        """Scales only: medians at another hop see other frames."""
        return self.replace(scale="power")


class MedianStream:
    """A magnitude spectrogram with its two medians: (bins, frames) in, (3, bins, frames) out.

    Frames wait for the half kernel of frames that follow them, and as many past ones are kept.
    """

    def __init__(self, node: Node, context: TrackContext) -> None:
        self._kernel, self._across = map(int, harmonic_and_percussive(node["kernel"]))
        self._reach = self._kernel // 2
        self._held: FloatArray | None = None  # frames from _at on
        self._at = self._seen = self._done = 0

    def push(self, block: FloatArray) -> FloatArray:
        """Take magnitudes; return those whose medians are known, with them: magnitude, along time, along frequency."""
        self._held = block if self._held is None else np.concatenate([self._held, block], axis=1)
        self._seen += block.shape[1]
        # The start is padded with what follows it: until a whole kernel has come, that may itself reach the end.
        ready = self._seen - self._reach if self._seen >= self._kernel else 0
        return self._medians(max(self._done, ready))

    def finish(self) -> FloatArray:
        """Return the last frames, the end padded ``symmetric``."""
        return self._medians(self._seen)

    def _medians(self, upto: int) -> FloatArray:
        held = np.zeros((1, 0), np.float32) if self._held is None else self._held
        result = np.zeros((3, held.shape[0], upto - self._done), np.float32)
        if upto > self._done:
            around = symmetric_positions(np.arange(self._done - self._reach, upto + self._reach), self._seen)
            result[0] = held[:, self._done - self._at : upto - self._at]
            result[1] = time_median(held[:, around - self._at], self._kernel)
            result[2] = frequency_median(result[0], self._across)
        keep = max(self._at, min(upto - self._kernel, self._seen - self._kernel))
        self._held = held[:, keep - self._at :]
        self._at, self._done = keep, upto
        return result


def part_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of an ``hpss_part`` node: magnitude with medians (3, bins, n) to one component (bins, n)."""
    settings = dict(node.params)
    return ElementwiseStream(lambda block: extract_component(block[0], block[1], block[2], **settings))


def magnitude_to_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of a ``magnitude_to`` node: magnitude to ``magnitude ** power``."""
    power = node["power"]
    if power == 2.0:
        return ElementwiseStream(np.square)
    return ElementwiseStream(lambda block: np.power(block, np.float32(power)))
