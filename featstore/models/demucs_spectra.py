"""Spectrograms of the sources that Hybrid Demucs separates, from what its two branches give."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch.nn import functional

from featstore.errors import ConfigError

__all__ = ["GROUP", "SOURCES", "Compression", "compress", "features_from_branches", "hybrid_stft"]

SOURCES = ("drums", "bass", "other", "vocals")
"""What Hybrid Demucs separates, in the order of its outputs."""

GROUP = 16
"""Neighbouring bins of a band."""

Compression = Literal["db", "log1p", "none"]


def hybrid_stft(x: torch.Tensor, n_fft: int, hop_length: int, *, zeros: bool = False) -> torch.Tensor:
    """Short-time Fourier transform as Hybrid Demucs frames it.

    Periodic Hann window, scaled by ``n_fft ** -0.5``; ``ceil(n_samples / hop_length)`` frames; the Nyquist bin is left
    out.

    Parameters
    ----------
    x : float32 (..., n_samples)
    n_fft, hop_length : int
        In samples; ``hop_length`` is a quarter of ``n_fft``.
    zeros : bool
        Edges are filled with zeros instead of their mirror image, as the models do that have ``hybrid_old``.

    Returns
    -------
    complex64 (..., n_fft / 2, frames)

    Raises
    ------
    ConfigError
        The hop is not a quarter of the window, or the signal is too short for its mirror image.
    """
    if 4 * hop_length != n_fft:
        raise ConfigError(f"hop_length={hop_length} is not a quarter of n_fft={n_fft}", "gafx-u")
    n_samples = x.shape[-1]
    frames, pad = -(-n_samples // hop_length), hop_length // 2 * 3
    right = pad + frames * hop_length - n_samples
    if not zeros and n_samples <= right:
        fix = f"Give clips of more than {pad + hop_length} samples"
        raise ConfigError(f"{n_samples} samples are too short for a window of {n_fft}", "gafx-u", fix)
    flat = x.reshape(-1, n_samples)
    filled = functional.pad(flat, (pad, right), mode="constant" if zeros else "reflect")
    window = torch.hann_window(n_fft, device=x.device, dtype=filled.dtype)
    found = torch.stft(filled, n_fft, hop_length, window=window, normalized=True, center=True, return_complex=True)
    return found[:, :-1, 2 : 2 + frames].reshape(*x.shape[:-1], n_fft // 2, frames)


def features_from_branches(z: Any, w: Any, n_fft: int, hop_length: int, *, zeros: bool = False) -> torch.Tensor:
    """Spectrograms of the separated sources, joined in time, before compression.

    The transform of what the temporal branch separated is added to what the spectral branch did: the transform is
    linear, so the sum is the spectrogram of each source. Magnitudes are averaged over the channels, and over groups of
    16 bins.

    Parameters
    ----------
    z : complex64 (..., sources, channels, n_fft / 2, frames)
        Output of the spectral branch.
    w : float32 (..., sources, channels, n_samples)
        Output of the temporal branch.
    n_fft, hop_length : int
        Of the model's transform, in samples.
    zeros : bool
        As for ``hybrid_stft``.

    Returns
    -------
    float32 (..., n_fft / 32, sources * frames)
        In the order of the sources.
    """
    z, w = torch.as_tensor(z), torch.as_tensor(w)
    bands = (hybrid_stft(w, n_fft, hop_length, zeros=zeros) + z).abs().mean(dim=-3)
    grouped = bands.unflatten(-2, (-1, GROUP)).mean(dim=-2)
    return cast("torch.Tensor", grouped.movedim(-3, -2).flatten(-2))


def compress(x: torch.Tensor, how: Compression) -> torch.Tensor:
    """Magnitudes in decibels of their square (not below -100), as ``log(1 + x)``, or as they are."""
    if how == "db":
        return 10 * torch.log10(x.square().clamp(min=1e-10))
    return torch.log1p(x) if how == "log1p" else x
