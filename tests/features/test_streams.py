"""Whole equals parts: a feature does not depend on where its blocks were cut, bit for bit."""

import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from featstore.dsp import compute_hpss, compute_magnitude, compute_mel, compute_power, make_mel_bank
from featstore.dsp.hpss import COMPONENTS
from featstore.errors import SpecError
from featstore.features import Node, TrackContext, check, dims_of, make_stream
from featstore.features.hpss import HpssSpec
from featstore.features.mel import MelSpec
from featstore.features.spectrum import stride_stream
from featstore.features.stft import StftSpec
from featstore.features.waveform import WaveformSpec
from featstore.specs import KINDS
from tests.features.runner import run_signal

RATE = 8000
framings = st.sampled_from(["librosa", "essentia", "valid", "token"])


@st.composite
def spectral(draw, cls=StftSpec, **fixed):
    n_fft = draw(st.sampled_from([16, 30, 32, 63, 64, 100, 128]))
    fields = {
        "sample_rate": RATE,
        "n_fft": n_fft,
        "win_length": draw(st.integers(1, n_fft)),
        "hop_length": draw(st.integers(1, 200)),
        "window": draw(st.sampled_from(["hann", "hamming", "boxcar"])),
        "window_symmetric": draw(st.booleans()),
        "pad_mode": draw(st.sampled_from(["zeros", "reflect"])),
        "framing": draw(framings),
    }
    return cls(**(fields | fixed))


signals = st.builds(
    lambda n, seed: np.random.default_rng(seed).standard_normal(n).astype(np.float32) * 0.2,
    st.integers(1, 1500),
    st.integers(0, 5),
)
cuts = st.lists(st.integers(0, 1500), max_size=6)


@settings(max_examples=120, deadline=None)
@given(spectral(), signals, cuts)
def test_stft_in_blocks(spec, signal, cuts):
    whole = run_signal(spec, signal)
    assert whole.shape == (*spec.item_shape, spec.frames(len(signal)))
    assert whole.dtype == np.float32
    assert np.array_equal(whole, run_signal(spec, signal, cuts))
    fields = ("n_fft", "win_length", "hop_length", "window", "window_symmetric", "pad_mode", "framing")
    direct = compute_power(signal, **{name: getattr(spec, name) for name in fields})
    assert np.array_equal(whole, direct)


@settings(max_examples=40, deadline=None)
@given(spectral(MelSpec, n_mels=3, scale="db"), signals, cuts, st.sampled_from([1.0, 2.0, 1.5]))
def test_mel_in_blocks(spec, signal, cuts, power):
    assume(spec.n_fft >= 60)
    spec = spec.replace(power=power)
    whole = run_signal(spec, signal)
    assert whole.shape == (3, spec.frames(len(signal)))
    assert np.array_equal(whole, run_signal(spec, signal, cuts))


@settings(max_examples=60, deadline=None)
@given(
    spectral(HpssSpec),
    signals,
    cuts,
    st.sampled_from([1, 3, 7, 31]),
    st.sampled_from(["harmonic", "percussive", "residual"]),
    st.sampled_from([1.0, 2.0]),
)
def test_hpss_in_blocks(spec, signal, cuts, kernel, component, margin):
    spec = spec.replace(kernel=kernel, component=component, margin=margin, scale="magnitude")
    whole = run_signal(spec, signal)
    assert whole.shape == (1 + spec.n_fft // 2, spec.frames(len(signal)))
    assert np.array_equal(whole, run_signal(spec, signal, cuts))
    if whole.shape[1]:
        fields = ("n_fft", "win_length", "hop_length", "window", "window_symmetric", "pad_mode", "framing")
        magnitude = compute_magnitude(compute_power(signal, **{name: getattr(spec, name) for name in fields}))
        direct = compute_hpss(magnitude, component=component, kernel=kernel, margin=margin)
        assert np.array_equal(whole, np.sqrt(np.square(direct)))


@settings(max_examples=60, deadline=None)
@given(
    signals,
    cuts,
    st.sampled_from(["whole", "centre(0.1 s)", "start(0.1 s)", "offset(0.05 s, 0.1 s)"]),
    st.sampled_from(["none", "zeros", "repeat"]),
    st.sampled_from([8000, 16000, 11025]),
)
def test_waveform_in_blocks(signal, cuts, clip, pad, source_rate):
    from featstore.audio import TrackTooShort, cut_signal, resample_signal

    if pad != "none" and clip != "whole":
        clip = f"{clip[:-1]}, pad={pad})"
    spec = WaveformSpec(sample_rate=RATE, clip=clip)
    resampled = resample_signal(signal, source_rate=source_rate, sample_rate=RATE)
    try:
        direct = cut_signal(resampled, RATE, spec.clip)
    except TrackTooShort:
        assert spec.frames(len(resampled)) == 0
        with pytest.raises(TrackTooShort, match="samples"):
            run_signal(spec, signal, cuts, source_rate)
        return
    assert len(direct) == spec.frames(len(resampled))
    assert np.array_equal(direct, run_signal(spec, signal, cuts, source_rate))


def test_a_fitted_waveform_has_30_s_at_any_rate():
    spec = WaveformSpec(sample_rate=RATE, resampler="fit_to_30s")
    for n, source_rate in ((5000, 8000), (RATE * 31, RATE)):
        assert len(run_signal(spec, np.ones(n, np.float32), [100], source_rate)) == 30 * RATE


def test_mel_is_the_bank_of_the_power_spectrum():
    signal = np.random.default_rng(1).standard_normal(9000).astype(np.float32)
    spec = MelSpec(sample_rate=RATE, n_mels=20)
    power = compute_power(signal, n_fft=512, hop_length=256)
    bank = make_mel_bank(sample_rate=RATE, n_fft=512, n_mels=20)
    assert np.array_equal(run_signal(spec, signal), compute_mel(power, bank))
    magnitude = compute_mel(power, bank, exponent=1.0)
    assert np.array_equal(run_signal(spec.replace(power=1.0), signal), magnitude)


def test_hpss_through_a_bank():
    signal = np.random.default_rng(2).standard_normal(9000).astype(np.float32)
    linear = run_signal(HpssSpec(sample_rate=RATE), signal)
    banded = run_signal(HpssSpec(sample_rate=RATE, n_mels=20), signal)
    bank = make_mel_bank(sample_rate=RATE, n_fft=512, n_mels=20)
    assert np.array_equal(banded, compute_mel(linear, bank))


# kinds that need weights: test_vq_tokens.py, test_embedding.py
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith(("vq_", "embedding"))])
def test_every_feature_has_shape_and_dims_that_fit(kind):
    from featstore.specs import parse_spec

    spec = parse_spec(f"{kind}(sample_rate={RATE})")
    values = run_signal(spec, np.ones(3000, np.float32) * 0.1)
    dims = dims_of(spec)
    assert len(dims) == values.ndim == len(spec.item_shape) + 1
    assert dims[-1] in ("frame", "sample")
    assert values.shape == (*spec.item_shape, spec.frames(3000))
    assert values.dtype == np.float32 and np.isfinite(values).all()
    with pytest.raises(SpecError, match=r"hop_length=.* longer than the clip|holds no sample"):
        check(spec.replace(clip="start(0.00001 s)"))


def test_streams_of_unknown_steps_are_refused():
    from featstore.errors import ConfigError

    with pytest.raises(ConfigError, match="step 'mono' has no stream in this room"):
        make_stream(Node.make("mono"), TrackContext(8000))


def test_every_kth_frame_may_end_before_it_begins():
    node = Node.make("stride", None, stride_stream, step=3)
    assert make_stream(node, TrackContext(8000)).finish().shape[-1] == 0
    stream = make_stream(node, TrackContext(8000))
    parts = [stream.push(block) for block in np.split(np.arange(20.0).reshape(2, 10), [4, 5], axis=1)]
    found = np.concatenate([*parts, stream.finish()], axis=1)
    assert found.tolist() == [[0, 3, 6, 9], [10, 13, 16, 19]]


def test_nodes_travel_between_processes():
    node = Node.make("stride", Node.make("decode", decoder="soundfile"), step=3)
    copy = pickle.loads(pickle.dumps(node))
    assert copy == node and hash(copy) == hash(node) and copy["step"] == 3


@pytest.mark.parametrize("component", ["harmonic", "percussive", "residual"])
@pytest.mark.parametrize("n_mels", [0, 24])
@pytest.mark.parametrize("scale", ["magnitude", "db", "log10_1p", "ln"])
def test_every_form_of_a_separation(component, n_mels, scale):
    """A scale is an elementwise function of the linear values, with a bank and without."""
    signal = np.random.default_rng(3).standard_normal(9000).astype(np.float32)
    spec = HpssSpec(sample_rate=RATE, component=component, margin=1.5, n_mels=n_mels)
    linear = run_signal(spec, signal)
    formed = run_signal(spec.replace(scale=scale), signal)
    assert linear.shape == formed.shape == (*spec.item_shape, spec.frames(9000))
    assert np.array_equal(formed, spec.replace(scale=scale).scale.apply(linear))
    assert linear.min() >= 0 and linear.max() > 0


def test_what_neither_is_sure_of_is_the_residual():
    """At any margin the three parts add up to the magnitude; at margin 1 nothing is left over."""
    signal = np.random.default_rng(4).standard_normal(9000).astype(np.float32)
    magnitude = run_signal(StftSpec(sample_rate=RATE, scale="magnitude"), signal)
    for margin, mask_power in ((1.0, 2.0), (2.0, 2.0), (4.0, 1.0), (2.0, "inf")):
        fields = {"sample_rate": RATE, "margin": margin, "mask_power": mask_power, "scale": "magnitude"}
        parts = [run_signal(HpssSpec(component=name, **fields), signal) for name in COMPONENTS]
        assert np.abs(sum(parts) - magnitude).max() <= 1e-5 * magnitude.max()
        # masks keep less of each the more they ask for
        assert (parts[2].max() <= 1e-5 * magnitude.max()) == (margin == 1)
