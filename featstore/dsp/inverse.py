"""From a spectrum without phases back to sound.

Two ways to choose the phases. Those of white noise, as the authors of the resolution study did it: what is heard is
noise shaped by the spectrum, and nothing that the spectrum did not hold. Griffin and Lim (1984), in the fast form of
Perraudin et al. (2013): phases that fit each other, which sounds more like the original.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from featstore.arrays import FloatArray
from featstore.dsp.mel import MelBank

__all__ = ["griffin_lim", "noise_phases", "overlap_add", "unmap_bank"]

Spectra = npt.NDArray[np.complex64]

_FLOOR = 0.01  # of the mean energy of a band's weights: what bins outside all bands are divided by
_MOMENTUM = np.float32(0.99)


def unmap_bank(bank: MelBank, bands: FloatArray) -> FloatArray:
    """Spectrum that could have given these band values: each band spread over its bins, by its own weights.

    The transposed bank, divided by the sums over columns of ``W^T W``: a flat spectrum comes back as it was, but
    for bins that no band covers.

    Parameters
    ----------
    bands : float32 (n_mels, frames)
        Linear values.

    Returns
    -------
    float32 (n_bins, frames)
        Not negative where ``bands`` is not.
    """
    weights = bank.dense()
    overlap = weights.T @ weights.sum(axis=1)
    floor = _FLOOR * float(np.square(weights).sum(axis=0).mean())
    spread: FloatArray = (weights.T / np.maximum(overlap, floor)[:, None]) @ bands
    return spread


def _transform(frames: FloatArray) -> Spectra:
    from scipy.fft import rfft

    spectra: Spectra = rfft(frames, axis=-1)
    return spectra


def _inverse(spectra: Spectra, n_fft: int) -> FloatArray:
    from scipy.fft import irfft

    frames: FloatArray = irfft(spectra, n=n_fft, axis=-1)
    return frames.astype(np.float32, copy=False)


def _frames(signal: FloatArray, n_fft: int, hop_length: int, count: int) -> FloatArray:
    return np.lib.stride_tricks.sliding_window_view(signal, n_fft)[::hop_length][:count]


def noise_phases(magnitude: FloatArray, *, window: FloatArray, hop_length: int, rng: np.random.Generator) -> FloatArray:
    """Frames whose phases are those of white noise.

    Parameters
    ----------
    magnitude : float32 (frames, bins)
    window : float32 (n_fft,)
    hop_length : int
        Samples between frames.

    Returns
    -------
    float32 (frames, n_fft)
        To be weighted by the window and added up: :func:`overlap_add`.
    """
    count, n_fft = len(magnitude), len(window)
    noise = rng.standard_normal((count - 1) * hop_length + n_fft, dtype=np.float32)
    spectra = _transform(_frames(noise, n_fft, hop_length, count) * window)
    return _inverse(_with_phases_of(spectra, magnitude), n_fft)


def _with_phases_of(spectra: Spectra, magnitude: FloatArray) -> Spectra:
    size = np.abs(spectra)
    size[size == 0] = 1
    return spectra * (magnitude / size)


def griffin_lim(
    magnitude: FloatArray,
    *,
    window: FloatArray,
    hop_length: int,
    rng: np.random.Generator,
    iterations: int = 32,
) -> FloatArray:
    """Frames whose phases fit each other as well as a number of rounds can make them.

    Parameters
    ----------
    magnitude : float32 (frames, bins)
    window : float32 (n_fft,)
    hop_length : int
        At most a quarter of the window for good results.

    Returns
    -------
    float32 (frames, n_fft)
        To be weighted by the window and added up: :func:`overlap_add`.
    """
    count, n_fft = len(magnitude), len(window)
    angles = rng.uniform(0, 2 * np.pi, magnitude.shape).astype(np.float32)
    current: Spectra = (magnitude * np.exp(1j * angles)).astype(np.complex64)
    before = np.zeros_like(current)
    for _ in range(iterations):
        signal = np.concatenate(list(overlap_add([_inverse(current, n_fft)], window=window, hop_length=hop_length)))
        fitting = _transform(_frames(signal, n_fft, hop_length, count) * window)
        current = _with_phases_of(fitting + _MOMENTUM * (fitting - before), magnitude)
        before = fitting
    return _inverse(current, n_fft)


def overlap_add(blocks: Iterable[FloatArray], *, window: FloatArray, hop_length: int) -> Iterator[FloatArray]:
    """Add frames up where they lie, weighted by the window; blocks of frames in, blocks of samples out.

    Parameters
    ----------
    blocks : iterable of float32 (frames, n_fft)
        Frame t of all begins at sample ``t * hop_length``.

    Yields
    ------
    float32 (n,)
        Together ``(frames - 1) * hop_length + n_fft`` samples, divided by the sum of the squared windows over each.
    """
    n_fft = len(window)
    keep = max(0, n_fft - hop_length)  # samples that coming frames still reach
    tail = np.zeros((2, keep), np.float32)  # sums of frames, and of squared windows
    for block in blocks:
        length = (len(block) - 1) * hop_length + n_fft
        sums = np.zeros((2, max(length, len(block) * hop_length)), np.float32)
        sums[:, :keep] = tail
        for place, frame in enumerate(block * window):
            sums[0, place * hop_length : place * hop_length + n_fft] += frame
            sums[1, place * hop_length : place * hop_length + n_fft] += window * window
        ready = len(block) * hop_length
        yield _divide(sums[:, :ready])
        tail = sums[:, ready : ready + keep]
    yield _divide(tail)


def _divide(sums: npt.NDArray[np.float32]) -> FloatArray:
    weight = sums[1]
    signal: FloatArray = sums[0] / np.maximum(weight, np.float32(1e-3))
    return signal
