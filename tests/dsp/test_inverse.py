"""Overlap-add: what was cut into windowed frames comes back, in blocks of any size."""

from __future__ import annotations

import numpy as np
import pytest

from featstore.dsp.inverse import overlap_add
from featstore.dsp.windows import make_window


@pytest.mark.parametrize(("n_fft", "hop_length"), [(64, 16), (64, 48), (30, 30)])
def test_windowed_frames_come_back(n_fft: int, hop_length: int) -> None:
    window = make_window("hamming", win_length=n_fft)
    signal = np.random.default_rng(0).normal(size=6 * hop_length + n_fft).astype(np.float32)
    starts = range(0, len(signal) - n_fft + 1, hop_length)
    frames = np.stack([signal[start : start + n_fft] * window for start in starts])
    told: list[int] = []
    whole = np.concatenate(list(overlap_add([frames], window=window, hop_length=hop_length, done=told.append)))
    assert whole.dtype == np.float32 and np.allclose(whole, signal, atol=1e-5)
    parts = overlap_add(iter([frames[:2], frames[2:3], frames[3:]]), window=window, hop_length=hop_length)
    assert np.allclose(np.concatenate(list(parts)), signal, atol=1e-5)
    assert told == [7]


def test_frames_are_weighted_by_the_window() -> None:
    """Of frames that do not fit each other, each sample takes their mean, weighted by the squared windows."""
    window = np.array([0.5, 1.0, 0.25, 0.5], dtype=np.float32)
    frames = np.array([[1, 1, 1, 1], [3, 3, 3, 3]], dtype=np.float32)
    sums = np.array([0.5, 1, 0.25 + 1.5, 0.5 + 3, 0.75, 1.5])
    weights = np.array([0.25, 1, 0.0625 + 0.25, 0.25 + 1, 0.0625, 0.25])
    (out, tail) = overlap_add([frames], window=window, hop_length=2)
    assert np.allclose(np.concatenate([out, tail]), sums / weights)
