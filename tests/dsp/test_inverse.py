"""Overlap-add: what was cut into windowed frames comes back, in blocks of any size."""

from __future__ import annotations

import numpy as np
import pytest

from featstore.dsp.inverse import griffin_lim, noise_phases, overlap_add
from featstore.dsp.windows import make_window


@pytest.mark.parametrize(("n_fft", "hop_length"), [(64, 16), (64, 48), (30, 30)])
def test_windowed_frames_come_back(n_fft: int, hop_length: int) -> None:
    window = make_window("hamming", win_length=n_fft)
    signal = np.random.default_rng(0).normal(size=6 * hop_length + n_fft).astype(np.float32)
    starts = range(0, len(signal) - n_fft + 1, hop_length)
    frames = np.stack([signal[start : start + n_fft] * window for start in starts])
    whole = np.concatenate(list(overlap_add([frames], window=window, hop_length=hop_length)))
    assert whole.dtype == np.float32 and np.allclose(whole, signal, atol=1e-5)
    parts = overlap_add(iter([frames[:2], frames[2:3], frames[3:]]), window=window, hop_length=hop_length)
    assert np.allclose(np.concatenate(list(parts)), signal, atol=1e-5)


def test_frames_are_weighted_by_the_window() -> None:
    """Of frames that do not fit each other, each sample takes their mean, weighted by the squared windows."""
    window = np.array([0.5, 1.0, 0.25, 0.5], dtype=np.float32)
    frames = np.array([[1, 1, 1, 1], [3, 3, 3, 3]], dtype=np.float32)
    sums = np.array([0.5, 1, 0.25 + 1.5, 0.5 + 3, 0.75, 1.5])
    weights = np.array([0.25, 1, 0.0625 + 0.25, 0.25 + 1, 0.0625, 0.25])
    (out, tail) = overlap_add([frames], window=window, hop_length=2)
    assert np.allclose(np.concatenate([out, tail]), sums / weights)


def magnitudes_of(frames: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft(frames, axis=-1))


@pytest.mark.parametrize("invert", [noise_phases, griffin_lim])
def test_frames_have_the_magnitudes_that_were_asked_for(invert) -> None:
    """Only the phases are made up: in each frame every bin has its magnitude, and silence stays silent."""
    magnitude = np.random.default_rng(0).uniform(0.1, 1, (9, 33)).astype(np.float32)
    magnitude[4] = 0
    magnitude[:, [0, -1]] = 0  # bins that are real: their phase is no free choice
    window = make_window(win_length=64)
    frames = invert(magnitude, window=window, hop_length=16, rng=np.random.default_rng(1))
    assert frames.shape == (9, 64) and frames.dtype == np.float32
    assert np.allclose(magnitudes_of(frames), magnitude, atol=1e-5)
    silent = invert(np.zeros((3, 33), np.float32), window=window, hop_length=16, rng=np.random.default_rng(1))
    assert np.array_equal(silent, np.zeros((3, 64), np.float32))


def test_rounds_of_griffin_and_lim_bring_phases_together() -> None:
    window = make_window(win_length=64)
    signal = np.sin(np.arange(64 + 30 * 16) * 0.3).astype(np.float32)
    cut = np.stack([signal[16 * t : 16 * t + 64] * window for t in range(31)])
    magnitude = magnitudes_of(cut).astype(np.float32)

    def distance(iterations: int) -> float:
        rng = np.random.default_rng(2)
        frames = griffin_lim(magnitude, window=window, hop_length=16, rng=rng, iterations=iterations)
        sound = np.concatenate(list(overlap_add([frames], window=window, hop_length=16)))
        again = np.stack([sound[16 * t : 16 * t + 64] * window for t in range(31)])
        return float(np.linalg.norm(magnitudes_of(again) - magnitude) / np.linalg.norm(magnitude))

    assert distance(100) < 0.2 < distance(0)
