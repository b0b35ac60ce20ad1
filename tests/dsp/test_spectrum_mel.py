import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.dsp import apply_bank, compute_power, frames_power, hz_to_mel, make_mel_bank, make_window, mel_to_hz
from featstore.errors import SpecError

rng = np.random.default_rng(0)


def exact_power(signal, window, hop, count):
    frames = np.lib.stride_tricks.sliding_window_view(signal.astype(np.float64), len(window))[::hop][:count]
    return np.abs(np.fft.rfft(frames * window.astype(np.float64))).T ** 2


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([2, 3, 8, 16, 30, 32, 64, 100, 128, 256, 512, 1000, 1024, 2048, 4096]),
    st.integers(1, 700),
    st.integers(1, 40),
    st.integers(0, 3),
)
def test_power_of_any_length_against_float64(n_fft, hop, count, seed):
    noise = np.random.default_rng(seed).standard_normal(n_fft + (count - 1) * hop).astype(np.float32)
    window = make_window("hann", win_length=n_fft)
    power = frames_power(noise, count, window=window, hop_length=hop)
    exact = exact_power(noise, window, hop, count)
    assert power.shape == exact.shape
    # float32 butterflies: the error of a bin is in proportion to the frame's energy, not to the bin's own
    assert np.abs(power - exact).max() <= 3e-6 * exact.max() + 1e-12


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([16, 60, 64, 512, 2048]), st.integers(1, 300), st.integers(0, 30), st.integers(1, 30))
def test_a_frame_does_not_depend_on_its_neighbours(n_fft, hop, start, count):
    noise = np.random.default_rng(7).standard_normal(n_fft + 60 * hop).astype(np.float32)
    window = make_window("hamming", win_length=n_fft)
    every = frames_power(noise, 61, window=window, hop_length=hop)
    some = frames_power(noise[start * hop :], count, window=window, hop_length=hop)
    assert np.array_equal(some, every[:, start : start + count])
    apart = frames_power(noise, 1 + 60 // 4, window=window, hop_length=4 * hop)
    assert np.array_equal(apart, every[:, ::4])


def test_writing_into_columns():
    noise = rng.standard_normal(4000).astype(np.float32)
    window = make_window("hann", win_length=64)
    out = np.full((33, 40), np.nan, np.float32)
    frames_power(noise, 20, window=window, hop_length=16, out=out, column=7)
    assert np.array_equal(out[:, 7:27], frames_power(noise, 20, window=window, hop_length=16))
    assert np.isnan(out[:, :7]).all() and np.isnan(out[:, 27:]).all()


def test_no_frames():
    assert compute_power(np.zeros(10, np.float32), n_fft=64, hop_length=8, framing="valid").shape == (33, 0)
    assert frames_power(np.zeros(3, np.float32), 0, window=make_window(win_length=64), hop_length=8).shape == (33, 0)


def test_what_does_not_fit_is_refused():
    window = make_window("hann", win_length=64)
    with pytest.raises(ValueError, match="99 samples do not hold 3 frames"):
        frames_power(np.zeros(99, np.float32), 3, window=window, hop_length=20)
    with pytest.raises(ValueError, match="no place for them"):
        frames_power(
            np.zeros(999, np.float32), 3, window=window, hop_length=20, out=np.zeros((33, 4), np.float32), column=2
        )
    with pytest.raises(ValueError, match="a bank for 257 bins cannot take 129"):
        apply_bank(make_mel_bank(sample_rate=16000, n_fft=512, n_mels=8), np.zeros((129, 5), np.float32))


def test_parseval():
    noise = rng.standard_normal(512).astype(np.float32)
    power = frames_power(noise, 1, window=np.ones(512, np.float32), hop_length=1)[:, 0].astype(np.float64)
    total = (power[0] + power[-1] + 2 * power[1:-1].sum()) / 512
    assert total == pytest.approx(np.square(noise.astype(np.float64)).sum(), rel=1e-5)


@given(st.floats(0, 24000))
@settings(deadline=None)
def test_mel_scales_invert(hz):
    for scale in ("slaney", "htk"):
        assert float(mel_to_hz(hz_to_mel(hz, scale), scale)) == pytest.approx(hz, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([8000, 12000, 16000, 22050, 44100]),
    st.sampled_from([256, 400, 512, 1024, 2048]),
    st.integers(1, 128),
    st.floats(0, 500),
    st.floats(1500, 4000),
    st.sampled_from(["slaney", "htk"]),
    st.sampled_from(["slaney", "none"]),
)
def test_banks_equal_librosa(sample_rate, n_fft, n_mels, fmin, fmax, mel_scale, norm):
    import warnings

    import librosa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        theirs = librosa.filters.mel(
            sr=sample_rate,
            n_fft=n_fft,
            n_mels=n_mels,
            fmin=fmin,
            fmax=fmax,
            htk=mel_scale == "htk",
            norm=None if norm == "none" else norm,
        )
    arguments = {
        "sample_rate": sample_rate, "n_fft": n_fft, "n_mels": n_mels,
        "fmin": fmin, "fmax": fmax, "mel_scale": mel_scale, "norm": norm,
    }  # fmt: skip
    if (theirs.max(axis=1) == 0).any():
        with pytest.raises(SpecError, match="mel bands are empty"):
            make_mel_bank(**arguments)
        return
    assert np.abs(make_mel_bank(**arguments).dense() - theirs).max() <= 1e-6 * theirs.max()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.sampled_from([1, 8, 96]), st.integers(0, 9))
def test_applying_a_bank(frames, n_mels, seed):
    bank = make_mel_bank(sample_rate=16000, n_fft=512, n_mels=n_mels)
    power = np.random.default_rng(seed).random((257, frames), np.float32)
    bands = apply_bank(bank, power)
    exact = bank.dense().astype(np.float64) @ power
    assert np.abs(bands - exact).max() <= 1e-5 * exact.max()
    middle = frames // 2
    assert np.array_equal(apply_bank(bank, power[:, middle:]), bands[:, middle:])


def test_banks_refuse():
    with pytest.raises(
        SpecError, match=r"11 of 128 mel bands are empty .the first is band .* Hz.: bins are 86.1 Hz apart"
    ):
        make_mel_bank(sample_rate=44100, n_fft=512, n_mels=128)
    with pytest.raises(SpecError, match="unknown norm 'l2'"):
        make_mel_bank(sample_rate=16000, n_fft=512, n_mels=8, norm="l2")
    with pytest.raises(SpecError, match="unknown mel_scale 'bark'"):
        make_mel_bank(sample_rate=16000, n_fft=512, n_mels=8, mel_scale="bark")


def test_no_band_of_the_study_is_empty_and_peaks_are_where_they_should():
    for sample_rate in (12000, 16000):
        for n_mels in (128, 96, 48, 32, 24, 16, 8):
            bank = make_mel_bank(sample_rate=sample_rate, n_fft=512, n_mels=n_mels)
            assert np.diff(bank.offsets).min() >= 1
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    power = compute_power(tone, n_fft=512, hop_length=256)
    bank = make_mel_bank(sample_rate=16000, n_fft=512, n_mels=96)
    loudest = apply_bank(bank, power)[:, 20].argmax()
    centre = mel_to_hz(np.linspace(hz_to_mel(0), hz_to_mel(8000), 98))[loudest + 1]
    assert abs(centre - 1000) < 40


def test_keeping_freed_memory_changes_no_number():
    from featstore.process_memory import keep_freed_memory

    noise = np.random.default_rng(3).standard_normal(20000).astype(np.float32)
    before = compute_power(noise, n_fft=512, hop_length=128)
    assert keep_freed_memory() in (True, False)
    assert np.array_equal(compute_power(noise, n_fft=512, hop_length=128), before)
