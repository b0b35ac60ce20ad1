"""The same features by librosa's own functions: for parity, and for those who want exactly these numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from featstore.arrays import FloatArray, IntArray
from featstore.dsp.framing import first_sample, n_frames, needed_samples
from featstore.dsp.hpss import harmonic_and_percussive
from featstore.dsp.padding import pad_signal, symmetric_positions

__all__ = ["compute_hpss", "compute_mel", "compute_stft"]

_PAD_MODES = {"zeros": "constant", "reflect": "reflect"}


def compute_stft(signal: FloatArray, **framing: Any) -> FloatArray:
    """Power spectrum ``abs(librosa.stft) ** 2``: float32 (1 + n_fft // 2, frames)."""
    return np.square(_magnitude(signal, **framing))


def _magnitude(
    signal: FloatArray,
    *,
    n_fft: int,
    win_length: int,
    hop_length: int,
    window: str,
    window_symmetric: bool,
    pad_mode: str,
    framing: str,
) -> FloatArray:
    import librosa
    from scipy.signal import get_window

    center = framing == "librosa"
    if framing == "token":  # librosa frames what it is given: the padding that moves its frames is put on before
        settings: dict[str, Any] = {"n_fft": n_fft, "hop_length": hop_length, "framing": framing}
        end = needed_samples(n_frames(len(signal), **settings), **settings)
        signal = pad_signal(signal, left=-first_sample(**settings), right=end - len(signal), pad_mode=pad_mode)
    if len(signal) < (1 if center else n_fft):
        return np.zeros((1 + n_fft // 2, 0), np.float32)
    pad: Any = _PAD_MODES[pad_mode]
    spectrum = librosa.stft(
        signal,
        n_fft=n_fft,
        win_length=win_length,
        hop_length=hop_length,
        window=get_window(window, win_length, fftbins=not window_symmetric),
        center=center,
        pad_mode=pad,
    )
    return np.ascontiguousarray(np.abs(spectrum), np.float32)


def compute_mel(
    signal: FloatArray,
    *,
    sample_rate: int,
    n_mels: int,
    fmin: float,
    fmax: float,
    mel_scale: str,
    norm: str,
    power: float,
    **framing: Any,
) -> FloatArray:
    """``librosa.feature.melspectrogram`` from ``abs(stft) ** power``: float32 (n_mels, frames)."""
    import librosa

    magnitude = _magnitude(signal, **framing)
    mel: FloatArray = librosa.feature.melspectrogram(
        S=magnitude**power,
        sr=sample_rate,
        n_fft=framing["n_fft"],
        n_mels=n_mels,
        fmin=fmin,
        fmax=fmax,
        htk=mel_scale == "htk",
        norm=None if norm == "none" else norm,
    )
    return np.ascontiguousarray(mel, np.float32)


def compute_hpss(
    signal: FloatArray,
    *,
    component: str,
    kernel: int | tuple[int, int],
    mask_power: float,
    margin: float | tuple[float, float],
    sample_rate: int = 0,
    **framing: Any,
) -> FloatArray:
    """One component's magnitude by ``librosa.decompose.hpss``: float32 (bins, frames)."""
    import librosa

    magnitude = _magnitude(signal, **framing)
    bins, frames = magnitude.shape
    if frames == 0:
        return magnitude
    along_time, along_frequency = map(int, harmonic_and_percussive(kernel))
    (top, rows), (left, columns) = _widened(bins, along_frequency), _widened(frames, along_time)
    wide = magnitude[np.ix_(rows, columns)]
    parts = librosa.decompose.hpss(wide, kernel_size=kernel, power=mask_power, margin=margin)
    harmonic, percussive = (part[top : top + bins, left : left + frames] for part in parts)
    if component == "residual":
        rest: FloatArray = np.maximum(magnitude - (harmonic + percussive), np.float32(0))
        return rest
    return np.ascontiguousarray({"harmonic": harmonic, "percussive": percussive}[component])


def _widened(size: int, kernel: int) -> tuple[int, IntArray]:
    """Where an axis begins in one that is padded for the median, and the positions that the padded one takes.

    scipy (1.17) reads beyond its buffer where a kernel reaches eight axes far, so that what it gives is neither right
    nor twice the same; it is given an axis that is long enough. Shorter kernels need none.
    """
    half = kernel // 2 if kernel // 2 > size else 0
    return half, symmetric_positions(np.arange(-half, size + half), size)
