"""What a reconstructed waveform is measured by: squared error, its largest parts, and spectra at three resolutions.

Settings of Jukebox (Dhariwal et al. 2020): squared error + 0.02 x the mean of the 2048 largest squared residuals, both
over the data's variance, + the multi-resolution spectral distance over the mean norm of the data's spectra.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

__all__ = ["DataScale", "reconstruction_loss", "si_sdr_db", "spectral_convergence"]

_RESOLUTIONS = ((2048, 240, 1200), (1024, 120, 600), (512, 50, 240))  # n_fft, hop, window
_MEASURE = (2048, 256, 1536)
_LARGEST = 2048
_PEAK_WEIGHT = 0.02


@dataclass(frozen=True, slots=True)
class DataScale:
    """How loud the data is.

    Attributes
    ----------
    variance : float
        Of its samples.
    spectrum : float
        Mean Frobenius norm of an item's magnitude spectrogram.
    """

    variance: float
    spectrum: float

    @classmethod
    def of(cls, batches: Iterable[torch.Tensor]) -> DataScale:
        """Measure batches (batch, n)."""
        squares = spectra = 0.0
        samples = items = 0
        for batch in batches:
            squares += float(batch.double().square().sum())
            samples += batch.numel()
            spectra += float(_norm(_magnitude(batch, _MEASURE)).sum())
            items += len(batch)
        return cls(max(squares / max(1, samples), 1e-12), max(spectra / max(1, items), 1e-12))


def _magnitude(signal: torch.Tensor, resolution: tuple[int, int, int]) -> torch.Tensor:
    n_fft, hop, window = resolution
    taps = torch.hann_window(window, device=signal.device)
    padded = torch.nn.functional.pad(signal, (0, max(0, n_fft - signal.shape[-1])))
    bins = torch.stft(padded, n_fft, hop, window, taps, center=True, pad_mode="constant", return_complex=True)
    # the root of zero has no gradient
    return (bins.real.square() + bins.imag.square() + 1e-12).sqrt()


def _norm(spectrum: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = spectrum.flatten(1).norm(dim=1)
    return norms


def reconstruction_loss(found: torch.Tensor, wanted: torch.Tensor, scale: DataScale) -> dict[str, torch.Tensor]:
    """Losses of reconstructed signals (batch, n): ``l2``, ``peaks``, ``spectral``, and their weighted ``total``."""
    residual = (found - wanted).square()
    largest = residual.topk(min(_LARGEST, residual.shape[1]), dim=1).values
    spectral = torch.stack(
        [_norm(_magnitude(found, one) - _magnitude(wanted, one)).mean() for one in _RESOLUTIONS]
    ).mean()
    parts = {
        "l2": residual.mean() / scale.variance,
        "peaks": largest.mean() / scale.variance,
        "spectral": spectral / scale.spectrum,
    }
    return parts | {"total": parts["l2"] + _PEAK_WEIGHT * parts["peaks"] + parts["spectral"]}


def spectral_convergence(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Distance of magnitude spectrograms over the norm of the wanted one: 0 is perfect, 1 is silence; mean of items."""
    target = _magnitude(wanted, _MEASURE)
    ratio = _norm(_magnitude(found, _MEASURE) - target) / _norm(target).clamp_min(1e-9)
    return float(ratio.mean())


def si_sdr_db(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), mean of items that are not silent."""
    found, wanted = found.double(), wanted.double()
    energy = wanted.square().sum(1)
    heard = energy > 0
    if not bool(heard.any()):
        return float("nan")
    found, wanted, energy = found[heard], wanted[heard], energy[heard]
    target = ((found * wanted).sum(1) / energy)[:, None] * wanted
    noise = (found - target).square().sum(1).clamp_min(1e-20)
    return float((10 * torch.log10(target.square().sum(1).clamp_min(1e-20) / noise)).mean())
