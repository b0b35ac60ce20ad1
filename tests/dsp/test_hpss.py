import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.dsp import compute_hpss, extract_component, frequency_median, symmetric_positions, time_median
from featstore.errors import SpecError


def spectrogram(bins, frames, seed, levels=0):
    values = np.random.default_rng(seed).random((bins, frames), np.float32)
    if levels:  # many equal values, and zeros
        values = np.floor(values * levels).astype(np.float32)
    return values


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 300),
    st.integers(0, 9),
    st.sampled_from([0, 3]),
    st.sampled_from([1, 3, 5, 17, 31]),
)
def test_medians_equal_scipy_bit_for_bit(bins, frames, seed, levels, kernel):
    from scipy.ndimage import median_filter

    values, reach = spectrogram(bins, frames, seed, levels), kernel // 2
    along_time = time_median(values[:, symmetric_positions(np.arange(-reach, frames + reach), frames)], kernel)
    along_frequency = frequency_median(values, kernel)
    # scipy's own padding goes wrong on axes shorter than the kernel (seen with 2 values and a kernel of 17): there the
    # plain definition decides
    if frames >= kernel:
        assert np.array_equal(along_time, median_filter(values, size=(1, kernel), mode="reflect"))
    if bins >= kernel:
        assert np.array_equal(along_frequency, median_filter(values, size=(kernel, 1), mode="reflect"))
    for axis, medians in ((1, along_time), (0, along_frequency)):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (reach, reach)
        padded = np.pad(values, padding, mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=axis)
        assert np.array_equal(medians, np.median(windows, axis=-1))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(31, 40), st.integers(31, 120), st.integers(0, 9), st.sampled_from([0, 3]),
    st.sampled_from([1.0, 2.0, np.inf]), st.sampled_from([1.0, 1.5, 3.0, (1.0, 5.0), (2.0, 1.0)]),
    st.sampled_from([31, (31, 17), (5, 31)]),
)  # fmt: skip
def test_components_equal_librosa(bins, frames, seed, levels, power, margin, kernel):
    import librosa

    values = spectrogram(bins, frames, seed, levels)
    settings = {"kernel": kernel, "mask_power": power, "margin": margin}
    theirs = librosa.decompose.hpss(values, kernel_size=kernel, power=power, margin=margin)
    for component, expected in zip(("harmonic", "percussive"), theirs, strict=True):
        assert np.array_equal(compute_hpss(values, component=component, **settings), expected)
    residual = compute_hpss(values, component="residual", **settings)
    assert np.abs(residual - (values - theirs[0] - theirs[1])).max() <= 1e-6 * max(1, values.max())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 90), st.integers(0, 9))
def test_at_margin_one_the_parts_add_up(bins, frames, seed):
    values = spectrogram(bins, frames, seed)
    parts = [compute_hpss(values, component=name) for name in ("harmonic", "percussive")]
    assert np.abs(sum(parts) - values).max() <= 2e-7
    assert compute_hpss(values, component="residual").max() <= 2e-7


def test_ridges_go_where_they_belong():
    values = np.full((80, 200), 0.01, np.float32)
    values[40] = 1  # a held tone
    values[:, 100] = 1  # a stroke
    harmonic, percussive = (compute_hpss(values, component=name) for name in ("harmonic", "percussive"))
    assert harmonic[40, 10] > 0.99 and percussive[40, 10] < 0.01
    assert percussive[10, 100] > 0.99 and harmonic[10, 100] < 0.01


def test_unknown_component():
    one = np.ones((2, 2), np.float32)
    with pytest.raises(SpecError, match="unknown component 'drums'"):
        extract_component(one, one, one, component="drums")
    assert compute_hpss(np.zeros((5, 0), np.float32)).shape == (5, 0)
