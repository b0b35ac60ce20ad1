"""Clips every half second do not meet a hop of 128 samples: which can be cut from the spectra of a whole track."""

from __future__ import annotations

import numpy as np
import pytest
from runner import run_signal

from featstore.arrays import FloatArray
from featstore.features.hpss import HpssSpec
from featstore.features.stft import StftSpec

RATE, GRID, CLIP = 16_000, 8000, 48_000
SIGNAL: FloatArray = np.random.default_rng(0).standard_normal(CLIP + 4 * GRID).astype(np.float32)


def both(spec: StftSpec | HpssSpec, start: int, edge: int) -> tuple[FloatArray, FloatArray]:
    """A clip's own spectrum, and a cut of the whole track's at the nearest frame; both without frames at the edges."""
    clip = run_signal(spec, SIGNAL[start : start + CLIP])
    first = round(start / spec.hop_length)
    whole = run_signal(spec, SIGNAL)[:, first : first + clip.shape[1]]
    return clip[:, edge:-edge], whole[:, edge:-edge]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_with_a_hop_of_125_every_clip_is_a_cut(number: int) -> None:
    clip, whole = both(StftSpec(sample_rate=RATE, hop_length=125), number * GRID, 3)
    assert GRID % 125 == 0 and clip.shape[1] > 370
    assert np.array_equal(clip, whole)


@pytest.mark.parametrize(("number", "same"), [(1, False), (2, True), (3, False), (4, True)])
def test_with_a_hop_of_128_odd_clips_lie_half_a_hop_off(number: int, same: bool) -> None:
    clip, whole = both(StftSpec(sample_rate=RATE, hop_length=128), number * GRID, 2)
    assert np.array_equal(clip, whole) is same
    if not same:
        assert np.abs(clip - whole).mean() > 0.1 * clip.mean(), "not a matter of rounding"


def test_harmonic_parts_need_half_a_median_more_at_the_edges() -> None:
    spec = HpssSpec(sample_rate=RATE, hop_length=128)
    for edge, same in ((17, True), (10, False)):
        clip, whole = both(spec, 2 * GRID, edge)
        assert np.array_equal(clip, whole) is same
