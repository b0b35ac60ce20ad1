"""Mel filterbanks: triangles on a mel axis, kept as short runs of weights, applied to power spectra."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import SpecError, check_known

__all__ = ["MelBank", "apply_bank", "compute_mel", "hz_to_mel", "make_mel_bank", "mel_to_hz", "raise_spectrum"]

# Slaney's Auditory Toolbox: linear below 1 kHz (15 mel), then 27 mel for each factor of 6.4.
_HZ_PER_MEL = 200.0 / 3
_KNEE_HZ, _KNEE_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27


@dataclass(frozen=True, eq=False, slots=True)
class MelBank:
    """A filterbank without its zeros.

    Attributes
    ----------
    first : int64 (n_mels,)
        First bin of each band.
    offsets : int64 (n_mels + 1,)
        Band b has the weights ``offsets[b] … offsets[b + 1]`` for the bins from ``first[b]`` on.
    weights : float32 (n_weights,)
    n_bins : int
        ``1 + n_fft // 2``.

    See Also
    --------
    make_mel_bank : Makes one.
    apply_bank : Applies one.
    """

    first: np.ndarray
    offsets: np.ndarray
    weights: FloatArray
    n_bins: int

    @property
    def n_mels(self) -> int:
        """Number of bands."""
        return len(self.first)

    def dense(self) -> FloatArray:
        """Return the matrix (n_mels, n_bins), zeros and all."""
        matrix = np.zeros((self.n_mels, self.n_bins), np.float32)
        for band, start in enumerate(self.first):
            run = self.weights[self.offsets[band] : self.offsets[band + 1]]
            matrix[band, start : start + len(run)] = run
        return matrix


def hz_to_mel(frequency: np.ndarray | float, mel_scale: str = "slaney") -> np.ndarray:
    """Mel number of a frequency in Hz.

    See Also
    --------
    mel_to_hz : The inverse.
    librosa.hz_to_mel : The same scales.

    Examples
    --------
    >>> float(hz_to_mel(1000.0)), round(float(hz_to_mel(1000.0, "htk")), 3)
    (15.0, 999.986)
    """
    hz = np.asarray(frequency, np.float64)
    if mel_scale == "htk":
        return 2595.0 * np.log10(1 + hz / 700.0)
    check_known(mel_scale, ("slaney", "htk"), f"unknown mel_scale {mel_scale!r}", error=SpecError)
    above = _KNEE_MEL + np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ) / _LOG_STEP
    return np.where(hz < _KNEE_HZ, hz / _HZ_PER_MEL, above)


def mel_to_hz(mel: np.ndarray | float, mel_scale: str = "slaney") -> np.ndarray:
    """Frequency in Hz of a mel number.

    See Also
    --------
    hz_to_mel : The inverse.

    Examples
    --------
    >>> float(mel_to_hz(15.0)), float(mel_to_hz(3.0))
    (1000.0, 200.0)
    """
    mels = np.asarray(mel, np.float64)
    if mel_scale == "htk":
        return 700.0 * (10.0 ** (mels / 2595.0) - 1)
    check_known(mel_scale, ("slaney", "htk"), f"unknown mel_scale {mel_scale!r}", error=SpecError)
    above = _KNEE_HZ * np.exp(_LOG_STEP * (np.maximum(mels, _KNEE_MEL) - _KNEE_MEL))
    return np.where(mels < _KNEE_MEL, mels * _HZ_PER_MEL, above)


@lru_cache(maxsize=256)
def mel_centres(*, n_mels: int, fmin: float, fmax: float, mel_scale: str = "slaney") -> np.ndarray:
    """Hz of the peak of each band of a bank, float64 (n_mels,).

    See Also
    --------
    make_mel_bank : The filters around these frequencies.

    Examples
    --------
    >>> mel_centres(n_mels=3, fmin=0.0, fmax=800.0)
    array([200., 400., 600.])
    """
    return _corners(n_mels, fmin, fmax, mel_scale)[1:-1]


def _corners(n_mels: int, fmin: float, fmax: float, mel_scale: str) -> np.ndarray:
    """Hz where the bands begin, peak and end: each begins at the peak of the one below it."""
    low, high = hz_to_mel(fmin, mel_scale), hz_to_mel(fmax, mel_scale)
    return mel_to_hz(np.linspace(low, high, n_mels + 2), mel_scale)


@lru_cache(maxsize=256)
def make_mel_bank(
    *,
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    fmin: float = 0.0,
    fmax: float | None = None,
    mel_scale: str = "slaney",
    norm: str = "slaney",
) -> MelBank:
    """Triangular bands whose corners are equally spaced in mel and whose slopes are linear in Hz.

    Parameters
    ----------
    sample_rate, n_fft, n_mels : int
    fmin, fmax : float
        Hz at the outer corners; ``fmax=None`` means half the sample rate.
    mel_scale : str
        ``slaney`` or ``htk``.
    norm : str
        ``slaney`` divides each band by half its width in Hz (equal areas); ``none`` leaves peaks of 1.

    Returns
    -------
    MelBank
        Equal to ``librosa.filters.mel`` of the same settings to within 1e-6 of the largest weight.

    Raises
    ------
    SpecError
        When a band lies between two bins and so would be empty, or a setting is unknown.

    See Also
    --------
    apply_bank : Applies it to spectra.
    mel_centres : Centre frequencies in Hz.
    librosa.filters.mel : The same bank as a dense matrix.

    References
    ----------
    M. Slaney, "Auditory Toolbox", Interval Research Corporation, technical report 1998-010 (1998): the scale and the
    norm named ``slaney``.

    Examples
    --------
    >>> make_mel_bank(sample_rate=16000, n_fft=512, n_mels=96).dense().shape
    (96, 257)
    """
    check_known(norm, ("slaney", "none"), f"unknown norm {norm!r}", error=SpecError)
    fmax = sample_rate / 2 if fmax is None else fmax
    corners = _corners(n_mels, fmin, fmax, mel_scale)
    bins = np.arange(1 + n_fft // 2) * (sample_rate / n_fft)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    if norm == "slaney":
        triangles *= 2.0 / (corners[2:] - corners[:-2])[:, None]
    matrix = triangles.astype(np.float32)
    empty = np.flatnonzero(matrix.max(axis=1) == 0)
    if len(empty):
        raise SpecError(
            f"{len(empty)} of {n_mels} mel bands are empty (the first is band {empty[0]}, "
            f"{corners[empty[0]]:.0f} to {corners[empty[0] + 2]:.0f} Hz): bins are {sample_rate / n_fft:.1f} Hz apart",
            f"sample_rate={sample_rate}, n_fft={n_fft}, fmin={fmin:g}, fmax={fmax:g}",
            "Lower n_mels, or raise n_fft (a shorter win_length keeps the time resolution)",
        )
    return _without_zeros(matrix)


def _without_zeros(matrix: FloatArray) -> MelBank:
    first = (matrix > 0).argmax(axis=1).astype(np.int64)
    stop = matrix.shape[1] - (matrix[:, ::-1] > 0).argmax(axis=1)
    weights = np.concatenate([row[a:b] for row, a, b in zip(matrix, first, stop, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(stop - first)]).astype(np.int64)
    for array in (first, offsets, weights):
        array.setflags(write=False)
    return MelBank(first, offsets, weights, matrix.shape[1])


def apply_bank(bank: MelBank, spectrum: FloatArray) -> FloatArray:
    """Band values of a spectrum: for each frame, weights times bins, summed from the lowest bin up.

    Parameters
    ----------
    spectrum : float32 (n_bins, frames)

    Returns
    -------
    float32 (n_mels, frames)
        Each frame's values depend on that frame alone, bit for bit.

    See Also
    --------
    make_mel_bank : Makes the bank.
    """
    from featstore.dsp.vector_kernels import weighted_runs

    if spectrum.shape[0] != bank.n_bins:  # the kernel does not look
        raise ValueError(f"a bank for {bank.n_bins} bins cannot take {spectrum.shape[0]}")
    bands = np.empty((bank.n_mels, spectrum.shape[1]), np.float32)
    weighted_runs(np.ascontiguousarray(spectrum, np.float32), bank.first, bank.offsets, bank.weights, bands)
    return bands


def compute_mel(power: FloatArray, bank: MelBank, exponent: float = 2.0) -> FloatArray:
    """Mel spectrogram of a power spectrogram.

    Parameters
    ----------
    power : float32 (n_bins, frames)
        ``|X|^2``.
    exponent : float
        Of the magnitude that enters the bank: 2 takes the power as it is, 1 the magnitude.
    """
    return apply_bank(bank, raise_spectrum(power, exponent))


def raise_spectrum(power: FloatArray, exponent: float) -> FloatArray:
    """Power spectrum to ``magnitude ** exponent``, in float32.

    See Also
    --------
    compute_power : Power spectra, the base of every exponent.
    """
    if exponent == 2.0:
        return power
    if exponent == 1.0:
        return np.sqrt(power)
    return np.power(power, np.float32(exponent / 2))
