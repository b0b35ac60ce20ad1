"""Power spectra of frames.

A frame's spectrum depends on its samples alone: it is the same, bit for bit, whatever frames are computed with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from featstore.arrays import FloatArray
from featstore.dsp.framing import first_sample, n_frames, needed_samples
from featstore.dsp.padding import pad_signal
from featstore.dsp.windows import make_window

__all__ = ["compute_magnitude", "compute_power", "frames_complex", "frames_power"]

# Frames that one call of scipy's transform sees, for lengths that the kernel does not serve. Every call sees this many
# (the last ones may be zeros), so that each frame takes the same path through a library that treats several at once.
_GROUP = 32


def frames_power(
    samples: FloatArray,
    count: int,
    *,
    window: FloatArray,
    hop_length: int,
    out: FloatArray | None = None,
    column: int = 0,
) -> FloatArray:
    """Power spectra ``|X|^2`` of frames that begin at 0, hop, 2 hop, … of ``samples``.

    Parameters
    ----------
    samples : float32 (n_samples,)
        At least ``(count - 1) * hop_length + n_fft`` samples.
    count : int >= 0
        Number of frames.
    window : float32 (n_fft,)
    out : float32 (1 + n_fft // 2, frames), optional
        Written to from ``column`` on; a new array of ``count`` frames otherwise.

    Returns
    -------
    float32 (1 + n_fft // 2, count)
        Or ``out``.

    See Also
    --------
    compute_power : Cuts the frames itself.
    """
    n_fft = len(window)
    power = np.empty((1 + n_fft // 2, count), np.float32) if out is None else out
    if count <= 0:
        return power
    if len(samples) < (count - 1) * hop_length + n_fft or power.shape[1] < column + count:  # the kernel does not look
        raise ValueError(f"{len(samples)} samples do not hold {count} frames, or {power.shape} no place for them")
    from featstore.dsp.vector_kernels import LANES, can_transform, power_of_groups

    if not can_transform(n_fft):
        for start, spectrum in _transforms(samples, count, window, hop_length):
            squares = np.square(spectrum.real) + np.square(spectrum.imag)
            power[:, column + start : column + start + len(squares)] = squares.T
        return power
    samples, window = np.ascontiguousarray(samples, np.float32), np.ascontiguousarray(window, np.float32)
    whole = count - count % LANES
    if whole:
        power_of_groups(samples, whole // LANES, hop_length, window, power, column)
    if whole < count:  # the last frames, with zeros in the lanes that have none
        rest = np.zeros((LANES - 1) * hop_length + n_fft, np.float32)
        needed = (count - whole - 1) * hop_length + n_fft
        rest[:needed] = samples[whole * hop_length : whole * hop_length + needed]
        group = np.empty((1 + n_fft // 2, LANES), np.float32)
        power_of_groups(rest, 1, hop_length, window, group, 0)
        power[:, column + whole : column + count] = group[:, : count - whole]
    return power


def _transforms(
    samples: FloatArray, count: int, window: FloatArray, hop_length: int
) -> Iterator[tuple[int, NDArray[np.complex64]]]:
    """First frame and transforms (frames, bins) of one group of frames after the other."""
    from scipy.fft import rfft

    n_fft = len(window)
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[::hop_length][:count]
    windowed = np.zeros((_GROUP, n_fft), np.float32)
    for start in range(0, count, _GROUP):
        group = frames[start : start + _GROUP]
        np.multiply(group, window, out=windowed[: len(group)])
        yield start, rfft(windowed, axis=-1)[: len(group)]


def frames_complex(
    samples: FloatArray,
    count: int,
    *,
    window: FloatArray,
    hop_length: int,
    out: NDArray[np.complex64] | None = None,
    column: int = 0,
) -> NDArray[np.complex64]:
    """Transforms of frames, complex64 (1 + n_fft // 2, count): parameters as of :func:`frames_power`."""
    found = np.empty((1 + len(window) // 2, count), np.complex64) if out is None else out
    if count > 0:
        for start, spectrum in _transforms(samples, count, window, hop_length):
            found[:, column + start : column + start + len(spectrum)] = spectrum.T
    return found


def compute_power(
    signal: FloatArray,
    *,
    n_fft: int,
    hop_length: int,
    win_length: int | None = None,
    window: str = "hann",
    window_symmetric: bool = False,
    pad_mode: str = "zeros",
    framing: str = "librosa",
) -> FloatArray:
    """Power spectrogram of a whole signal.

    Parameters
    ----------
    signal : float32 (n_samples,)
    n_fft, hop_length, win_length : int
        Samples; ``win_length=None`` means ``n_fft``.
    window, window_symmetric, pad_mode, framing
        As in :func:`make_window`, :func:`pad_signal` and :func:`n_frames`.

    Returns
    -------
    float32 (1 + n_fft // 2, frames)
        ``|X|^2``, not normalised by the window; within 2e-6 of the frame's largest value of ``librosa.stft`` squared.

    See Also
    --------
    compute_magnitude : Its square root.
    frames_power : The same for frames cut by the caller.
    librosa.stft : Complex values with the same framing.
    """
    signal = np.ascontiguousarray(signal, np.float32)
    taps = make_window(window, win_length=win_length or n_fft, n_fft=n_fft, symmetric=window_symmetric)
    count = n_frames(len(signal), n_fft=n_fft, hop_length=hop_length, framing=framing)
    begin = first_sample(n_fft=n_fft, hop_length=hop_length, framing=framing)
    end = needed_samples(count, n_fft=n_fft, hop_length=hop_length, framing=framing)
    padded = pad_signal(signal, left=-begin, right=end - len(signal), pad_mode=pad_mode)
    return frames_power(padded, count, window=taps, hop_length=hop_length)


def compute_magnitude(power: FloatArray) -> FloatArray:
    """Magnitude of a power spectrum: its square root, correctly rounded.

    See Also
    --------
    compute_power : Its square.
    """
    return np.sqrt(power)
