"""The feature kinds that are computed from audio: waveform, stft, mel and hpss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from featstore.specs.base import FeatureSpec, choice, integer, optional, real, scale, switch
from featstore.specs.scale import Scale

__all__ = ["HpssSpec", "MelSpec", "SpectralSpec", "StftSpec", "WaveformSpec"]

WINDOWS = ("hann", "hamming", "blackman", "blackmanharris", "bartlett", "boxcar")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveformSpec(FeatureSpec):
    """The decoded, resampled and cut signal itself, in [-1, 1]."""

    kind: ClassVar[str] = "waveform"
    channels: str = choice("mono", "mono")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralSpec(FeatureSpec):
    """What every feature has that starts with a short-time Fourier transform.

    Attributes
    ----------
    n_fft, win_length, hop_length : int
        Samples; a window shorter than the transform is centred in it. ``win_length=None`` means ``n_fft``.
    window : str
        Name as in ``scipy.signal.get_window``; ``window_symmetric`` chooses the symmetric form over the periodic one.
    pad_mode : str
        What lies outside the signal for centred frames: ``zeros`` or ``reflect``.
    framing : str
        Frame positions and count for n samples: ``librosa`` (centred, 1 + n // hop), ``essentia`` (centred,
        ceil((n + n_fft // 2) / hop)), ``valid`` (only frames inside the signal), ``token`` (aligned to codec tokens of
        ``hop_length`` samples, n // hop).
    """

    n_fft: int = integer(512, low=2, high=1 << 20)
    win_length: int = optional(integer(512, low=1))
    hop_length: int = integer(256)
    window: str = choice("hann", *WINDOWS)
    window_symmetric: bool = switch(False)
    pad_mode: str = choice("zeros", "zeros", "reflect")
    framing: str = choice("librosa", "librosa", "essentia", "valid", "token")

    def _resolve(self) -> None:
        if self.win_length is None:
            object.__setattr__(self, "win_length", self.n_fft)
        if self.win_length > self.n_fft:
            raise self._refuse(
                f"win_length={self.win_length} is longer than the transform", "Lower win_length or raise n_fft", "n_fft"
            )

    @property
    def frame_step(self) -> int:
        """Samples between neighbouring frames."""
        return self.hop_length


@dataclass(frozen=True, slots=True, kw_only=True)
class StftSpec(SpectralSpec):
    """Power spectrum |X|^2 of each frame (..., 1 + n_fft // 2 bins, frames), on a scale."""

    kind: ClassVar[str] = "stft"
    scale: Scale = scale("power")


def _check_band_edges(spec: MelSpec | HpssSpec) -> None:
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
        _check_band_edges(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class HpssSpec(SpectralSpec):
    """One component of harmonic-percussive separation (Fitzgerald 2010; margins of Driedger et al. 2014).

    The component is a power spectrum; with ``n_mels`` above 0 it goes through a mel bank as in :class:`MelSpec`.

    Attributes
    ----------
    component : str
        ``harmonic``, ``percussive`` or ``residual`` (what neither takes; all zero at ``margin=1``).
    kernel : int
        Odd length of both median filters, in frames and in bins.
    mask_power, margin : float
        Exponent of the soft mask (``inf``: the binary masks of Driedger et al.), and how much stronger a component must
        be than the other.
    n_mels : int
        0 keeps the linear bins.
    """

    kind: ClassVar[str] = "hpss"
    component: str = choice("harmonic", "harmonic", "percussive", "residual")
    kernel: int = integer(31, low=1, high=1001)
    mask_power: float = real(2.0, low=0.0, exclusive=True, infinite=True)
    margin: float = real(1.0, low=1.0)
    n_mels: int = integer(0, low=0, high=4096)
    fmin: float = real(0.0, low=0.0)
    fmax: float = optional(real(8000.0, low=0.0, exclusive=True))
    mel_scale: str = choice("slaney", "slaney", "htk")
    norm: str = choice("slaney", "slaney", "none")
    power: float = real(2.0, low=0.0, exclusive=True)
    scale: Scale = scale("power")

    def _resolve(self) -> None:
        SpectralSpec._resolve(self)
        _check_band_edges(self)
        if self.kernel % 2 == 0:
            raise self._refuse(f"kernel={self.kernel} is even: a median needs a centre", f"Use {self.kernel + 1}")
        if self.n_mels == 0:  # a bank's fields mean nothing without a bank: one name for one thing
            for name, plain in (
                ("fmin", 0.0),
                ("fmax", self.sample_rate / 2),
                ("mel_scale", "slaney"),
                ("norm", "slaney"),
            ):
                object.__setattr__(self, name, plain)
