"""Mel: triangular bands of a power spectrum, on a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from featstore.arrays import FloatArray
from featstore.dsp import MelBank, apply_bank, make_mel_bank
from featstore.errors import SpecError
from featstore.features.engines import engine_node
from featstore.features.graph import Node, TrackContext
from featstore.features.spectrum import ElementwiseStream, SpectralSpec, scaled, spectrum_node, to_exponent
from featstore.specs import Scale
from featstore.specs.base import choice, integer, optional, real, scale

__all__ = ["BANK_FIELDS", "MelSpec", "bank_node", "bank_of", "check_band_edges", "check_exponent"]

BANK_FIELDS = ("sample_rate", "n_fft", "n_mels", "fmin", "fmax", "mel_scale", "norm")


class BandsSpec(Protocol):
    """What a spec with mel bands has; the fields are those of :class:`MelSpec`."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def fmin(self) -> float: ...
    @property
    def fmax(self) -> float: ...
    def _refuse(self, what: str, fix: str, *about: str) -> SpecError: ...


class BankSpec(BandsSpec, Protocol):
    """What a spec of spectra has that may go through a mel bank, besides."""

    @property
    def power(self) -> float: ...
    @property
    def scale(self) -> Scale: ...


def bank_node(source: Node, spec: BankSpec) -> Node:
    """Node of a spectrum seen through a spec's mel bank."""
    return Node.make("mel_bank", source, mel_bank_stream, **{name: getattr(spec, name) for name in BANK_FIELDS})


def bank_of(spec: BandsSpec) -> MelBank:
    """Return the bank of a spec; refuses one with empty bands."""
    return make_mel_bank(**{name: getattr(spec, name) for name in BANK_FIELDS})


def check_band_edges(spec: BandsSpec) -> None:
    """Fill in ``fmax``, and refuse edges that no bank can have."""
    if spec.fmax is None:
        object.__setattr__(spec, "fmax", spec.sample_rate / 2)
    if spec.fmax > spec.sample_rate / 2:
        raise spec._refuse(
            f"fmax={spec.fmax} Hz lies above the Nyquist frequency {spec.sample_rate / 2} Hz",
            "Lower fmax or raise sample_rate",
            "sample_rate",
        )
    if spec.fmin >= spec.fmax:
        raise spec._refuse(f"fmin={spec.fmin} Hz is not below fmax={spec.fmax} Hz", "Lower fmin or raise fmax")


def check_exponent(spec: BankSpec) -> None:
    """Refuse a root of what is no power."""
    if spec.power != 2.0 and spec.scale.name == "magnitude":
        raise spec._refuse(
            f"scale=magnitude takes the root of a power, but power={spec.power}",
            "Use scale=power: the values are linear as they are",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MelSpec(SpectralSpec):
    """Triangular mel bands (..., n_mels, frames) of the spectrum raised to ``power``, on a scale.

    Attributes
    ----------
    n_mels : int
    fmin, fmax : float
        Hz at the outer edges; ``fmax=None`` means ``sample_rate / 2``.
    mel_scale, norm : str
        ``slaney`` or ``htk`` frequencies; ``slaney`` (area) or ``none`` normalisation.
    power : float
        Exponent of the magnitude that enters the bank; ``scale=power`` keeps the bank's output as it is.
    """

    kind: ClassVar[str] = "mel"
    n_mels: int = integer(96, low=1, high=4096)
    fmin: float = real(0.0, low=0.0)
    fmax: float = optional(real(8000.0, low=0.0, exclusive=True))
    mel_scale: str = choice("slaney", "slaney", "htk")
    norm: str = choice("slaney", "slaney", "none")
    power: float = real(2.0, low=0.0, exclusive=True)
    scale: Scale = scale("power")

    def _resolve(self) -> None:
        SpectralSpec._resolve(self)
        check_band_edges(self)
        check_exponent(self)

    def check(self) -> None:
        """Refuse what cannot be computed: empty bands, a hop longer than the clip."""
        SpectralSpec.check(self)
        bank_of(self)

    def graph(self) -> Node:
        """Node of the stored values."""
        if self.engine != "native":
            return scaled(engine_node(self), self.scale)
        return scaled(bank_node(to_exponent(spectrum_node(self), self.power), self), self.scale)


def mel_bank_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of a ``mel_bank`` node."""
    bank = make_mel_bank(**dict(node.params))

    def bands(block: FloatArray) -> FloatArray:
        return apply_bank(bank, block)

    return ElementwiseStream(bands)
