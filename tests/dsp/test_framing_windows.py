import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.dsp import first_sample, make_window, n_frames, needed_samples, pad_signal, reflect_positions
from featstore.dsp.framing import FRAMINGS
from featstore.dsp.windows import WINDOWS
from featstore.errors import SpecError


@given(st.integers(0, 5000), st.integers(1, 600), st.integers(1, 700), st.sampled_from(FRAMINGS))
def test_counts_grow_with_the_signal_and_fit_strides(n, n_fft, hop, framing):
    settings = {"n_fft": n_fft, "hop_length": hop, "framing": framing}
    count = n_frames(n, **settings)
    assert 0 <= count <= n_frames(n + 1, **settings) <= count + 1
    if framing != "token":
        for multiple in (2, 3, 7):
            assert n_frames(n, n_fft=n_fft, hop_length=hop * multiple, framing=framing) == -(-count // multiple)
    if count and framing == "valid":
        assert needed_samples(count, **settings) <= n < needed_samples(count + 1, **settings)
    if count and framing == "essentia":
        last = first_sample(**settings) + (count - 1) * hop
        assert last < n <= last + hop


def test_refused():
    with pytest.raises(SpecError, match="unknown framing 'center'"):
        n_frames(10, n_fft=4, hop_length=2, framing="center")
    with pytest.raises(SpecError, match=r"unknown window 'hanning'.*Did you mean hann"):
        make_window("hanning", win_length=8)
    with pytest.raises(SpecError, match="win_length=9 is longer than n_fft=8"):
        make_window("hann", win_length=9, n_fft=8)
    with pytest.raises(SpecError, match="unknown pad_mode 'edge'"):
        pad_signal(np.zeros(3, np.float32), left=1, right=1, pad_mode="edge")


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 100, 401, 512, 2048])
@pytest.mark.parametrize("symmetric", [True, False])
def test_windows_equal_scipy_to_the_last_bit(name, length, symmetric):
    from scipy.signal import get_window

    ours = make_window(name, win_length=length, symmetric=symmetric)
    assert np.array_equal(ours, get_window(name, length, fftbins=not symmetric).astype(np.float32))


@given(st.integers(1, 12), st.integers(0, 30), st.integers(0, 30))
def test_padding_equals_numpy(n, left, right):
    signal = np.arange(1, n + 1, dtype=np.float32)
    assert np.array_equal(pad_signal(signal, left=left, right=right), np.pad(signal, (left, right)))
    mirrored = pad_signal(signal, left=left, right=right, pad_mode="reflect")
    assert np.array_equal(mirrored, np.pad(signal, (left, right), mode="reflect"))
    assert np.array_equal(signal[reflect_positions(np.arange(n), n)], signal)


@given(st.integers(0, 12), st.integers(-12, 12), st.integers(-12, 12))
def test_negative_padding_cuts(n, left, right):
    signal = np.arange(1, n + 1, dtype=np.float32)
    expected = [signal[i] if 0 <= i < n else 0 for i in range(-left, n + right)]
    assert np.array_equal(pad_signal(signal, left=left, right=right), np.array(expected, np.float32))
