import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from featstore.audio import (
    ResampleStream,
    TrackTooShort,
    clip_bounds,
    cut_signal,
    every_starts,
    resample_signal,
    resampled_length,
)
from featstore.audio.resample import RESAMPLERS, FitStream
from featstore.audio.streams import CutStream, mix_down
from featstore.errors import DecodeError, SpecError
from featstore.specs import Clip

RATES = st.sampled_from([8000, 11025, 12000, 16000, 22050, 32000, 44100, 48000, 96000])


def pieces(signal, cuts):
    edges = [0, *sorted(cut % (len(signal) + 1) for cut in cuts), len(signal)]
    return [signal[a:b] for a, b in itertools.pairwise(edges)]


@settings(max_examples=40, deadline=None)
@example(48000, 44100, 70000, [], "soxr_hq")  # 64312.5 samples
@given(
    RATES,
    RATES,
    st.integers(0, 70000),
    st.lists(st.integers(0, 70000), max_size=5),
    st.sampled_from(sorted(RESAMPLERS)),
)
def test_blocks_give_what_one_call_gives(source_rate, sample_rate, n, cuts, resampler):
    import soxr

    signal = np.random.default_rng(n).standard_normal(n).astype(np.float32) * 0.1
    stream = ResampleStream(source_rate=source_rate, sample_rate=sample_rate, resampler=resampler)
    parts = [stream.push(block) for block in pieces(signal, cuts)]
    result = np.concatenate([*parts, stream.finish()])
    assert result.dtype == np.float32
    assert len(result) == resampled_length(n, source_rate, sample_rate)
    assert np.array_equal(
        result, resample_signal(signal, source_rate=source_rate, sample_rate=sample_rate, resampler=resampler)
    )
    if n:
        assert np.array_equal(result, soxr.resample(signal, source_rate, sample_rate, RESAMPLERS[resampler]))


def test_equal_rates_pass_through():
    signal = np.arange(5, dtype=np.float32)
    assert resample_signal(signal, source_rate=8000, sample_rate=8000) is not None
    assert np.array_equal(resample_signal(signal, source_rate=8000, sample_rate=8000), signal)


@pytest.mark.parametrize(("n", "rate"), [(66_179, 2205), (67_580, 2205), (48_000, 1600), (10, 2205)])
def test_a_track_is_fitted_to_30_s_by_one_fourier_transform(n, rate):
    signal = np.sin(2 * np.pi * 100 * np.arange(n) / rate).astype(np.float32)
    stream = FitStream(source_rate=rate, sample_rate=1600)
    parts = [stream.push(block) for block in pieces(signal, [17, 4000])]
    found = np.concatenate([*parts, stream.finish()])
    assert found.dtype == np.float32 and len(found) == 48_000
    wanted = np.fft.irfft(_bins(np.fft.rfft(signal.astype(np.float64)), n), 48_000) * 48_000 / n
    assert np.abs(found - wanted).max() < 1e-5
    if n > 10:  # the tone is as much too high as the track was too long
        loudest = int(np.abs(np.fft.rfft(found)).argmax())
        assert loudest / 30 == pytest.approx(100 * n / rate / 30, abs=0.05)


def _bins(spectrum, n):
    """Bins of a spectrum that fit below the new Nyquist frequency; the one at it is shared by both halves."""
    room = 48_000 // 2 + 1
    kept = np.zeros(room, complex)
    kept[: min(room, len(spectrum))] = spectrum[:room]
    if n > 48_000:
        kept[-1] = 2 * kept[-1].real
    elif n % 2 == 0 and n < 48_000:
        kept[len(spectrum) - 1] /= 2
    return kept


def test_a_track_too_long_to_be_fitted():
    stream = FitStream(source_rate=10, sample_rate=10, where="long.wav")
    with pytest.raises(DecodeError, match=r"longer than 600 s.*long\.wav.*soxr_hq"):
        stream.push(np.zeros(6001, np.float32))
    assert len(FitStream(source_rate=10, sample_rate=10).finish()) == 0


def test_unknown_resampler():
    with pytest.raises(SpecError, match="unknown resampler 'soxr_best'"):
        ResampleStream(source_rate=1, sample_rate=2, resampler="soxr_best")


@given(st.integers(1, 6), st.integers(0, 50))
def test_mono_is_the_mean_of_the_channels(channels, n):
    block = np.random.default_rng(n).standard_normal((channels, n)).astype(np.float32)
    mono = mix_down(block)
    assert mono.dtype == np.float32 and mono.shape == (n,)
    assert np.allclose(mono, block.mean(axis=0), atol=1e-6)
    assert np.array_equal(mono, mix_down(np.asfortranarray(block)))


def test_the_studys_segment():
    clip = Clip.parse("centre(29.1 s)")
    assert clip_bounds(465984, 16000, clip) == (192, 465792)
    assert clip_bounds(349488, 12000, clip) == (144, 349344)
    assert clip_bounds(465600, 16000, clip) == (0, 465600)
    with pytest.raises(
        TrackTooShort, match=r"^the track has 465599 samples .29.100 s. and centre.29.1 s. needs 465600 .t7"
    ):
        clip_bounds(465599, 16000, clip, "t7")
    assert TrackTooShort.reason == "short" and issubclass(TrackTooShort, DecodeError)


@pytest.mark.parametrize(
    ("text", "n", "bounds"),
    [
        ("whole", 7, (0, 7)),
        ("start(1 s)", 200, (0, 100)),
        ("offset(0.5 s, 1 s)", 200, (50, 150)),
        ("centre(1 s)", 201, (50, 150)),
        ("centre(1 s,pad=zeros)", 40, (0, 100)),
        ("offset(0.5 s, 1 s,pad=repeat)", 60, (50, 150)),
    ],
)
def test_bounds(text, n, bounds):
    assert clip_bounds(n, 100, Clip.parse(text)) == bounds


def test_padding_fills_up():
    signal = np.arange(1, 4, dtype=np.float32)
    assert cut_signal(signal, 1, Clip.parse("start(7 s,pad=repeat)")).tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert cut_signal(signal, 1, Clip.parse("centre(5 s,pad=zeros)")).tolist() == [1, 2, 3, 0, 0]
    with pytest.raises(TrackTooShort, match="needs 12"):
        cut_signal(signal, 1, Clip.parse("offset(5 s,7 s,pad=zeros)"))


def test_regular_excerpts():
    clip = Clip.parse("every(3 s, 0.5 s)")
    starts = every_starts(480000, 16000, clip)
    assert len(starts) == 55 and starts[:2] == [0, 8000] and starts[-1] == 432000
    with pytest.raises(TrackTooShort, match="one excerpt of every"):
        every_starts(47999, 16000, clip)
    assert every_starts(47999, 16000, Clip.parse("every(3 s, 0.5 s, pad=zeros)")) == [0]
    with pytest.raises(ValueError, match="every_starts"):
        clip_bounds(100, 10, clip)


def test_a_long_centre_is_held_in_part_when_the_header_says_so(monkeypatch):
    monkeypatch.setattr("featstore.audio.streams._HELD_MOST", 500)
    signal = np.arange(5000, dtype=np.float32)

    def run(expected, most):
        stream = CutStream(clip=Clip.parse("centre(1 s)"), sample_rate=100, expected=expected, where="t")
        for block in pieces(signal, range(0, 5000, 90)):
            stream.push(block)
            assert sum(len(held) for _, held in stream._held) <= most
        return stream.finish()

    assert np.array_equal(run(-1, 2500 + 50 + 180), signal[2450:2550])
    assert np.array_equal(run(400, 2500 + 50 + 180), signal[2450:2550]), "a short promise is not relied on"
    assert np.array_equal(run(5000, 300 + 180), signal[2450:2550])
    assert np.array_equal(run(5100, 300 + 180), signal[2450:2550])
    with pytest.raises(DecodeError, match="declares a length that decoding does not find"):
        run(9000, 480)
