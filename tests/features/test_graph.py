"""Graphs: what is shared, what is refused."""

import numpy as np
import pytest

from featstore.errors import SpecError
from featstore.features import check, children_of, describe, graph_of, share_transforms
from featstore.specs import expand_features, parse_spec
from tests.features.runner import run_blocks, run_signal


def graphs(*texts):
    return [graph_of(parse_spec(text)) for text in texts]


def test_the_study_needs_one_transform_a_rate():
    specs = [request.spec for request in expand_features(["ferraro2020"])]
    assert len(specs) == 88
    children = children_of(share_transforms([graph_of(spec) for spec in specs]))
    ops = [node.op for node in children if node is not None]
    assert (ops.count("decode"), ops.count("mono"), ops.count("resample"), ops.count("cut")) == (1, 1, 2, 2)
    assert ops.count("power_spectrum") == 2
    assert ops.count("stride") == 2 * 5


def test_hops_share_only_where_strides_are_exact():
    shared = share_transforms(graphs("mel()", "mel(hop_length=768)", "mel(hop_length=384)", "stft(hop_length=512)"))
    hops = {node["hop_length"] for node in children_of(shared) if node is not None and node.op == "power_spectrum"}
    assert hops == {256, 384}
    apart = share_transforms(graphs("mel(framing=token,hop_length=128)", "mel(framing=token,hop_length=256)"))
    assert not any(node is not None and node.op == "stride" for node in children_of(apart))


@pytest.mark.parametrize("framing", ["librosa", "essentia", "valid"])
@pytest.mark.parametrize("n_samples", [1, 255, 256, 257, 5000, 5121, 9999])
def test_strides_equal_direct_hops(framing, n_samples):
    signal = np.random.default_rng(n_samples).standard_normal(n_samples).astype(np.float32)
    base = f"stft(framing={framing},hop_length=128)"
    for multiple in (2, 3, 5, 10):
        text = f"stft(framing={framing},hop_length={128 * multiple})"
        direct = run_signal(text, signal)
        shared = run_blocks([base, text], [signal[None, :3000], signal[None, 3000:]], 16000)
        assert np.array_equal(direct, shared[1])
        assert np.array_equal(direct, shared[0][:, ::multiple])
        assert direct.shape[1] == parse_spec(text).frames(n_samples)


def test_a_separation_at_twice_the_hop_is_no_stride():
    """The medians along time see other frames. What may be shared is the transform below them."""
    signal = np.random.default_rng(1).standard_normal(16000).astype(np.float32)
    base, twice = "hpss(hop_length=128)", "hpss(hop_length=256)"
    shared = run_blocks([base, twice], [signal[None]], 16000)
    assert np.array_equal(shared[1], run_signal(twice, signal))
    assert not np.allclose(shared[1], shared[0][:, ::2], rtol=0.1)


def test_frame_counts_of_the_study():
    counts = {
        (rate, m): parse_spec(
            f"mel(sample_rate={rate},hop_length={256 * m},framing=essentia,clip=centre(29.1 s))"
        ).frames(rate * 30)
        for rate in (12000, 16000)
        for m in (1, 2, 3, 4, 5, 10)
    }
    assert [counts[12000, m] for m in (1, 2, 3, 4, 5, 10)] == [1366, 683, 456, 342, 274, 137]
    assert [counts[16000, m] for m in (1, 2, 3, 4, 5, 10)] == [1820, 910, 607, 455, 364, 182]
    plain = [
        parse_spec(f"mel(sample_rate=12000,hop_length={256 * m},clip=centre(29.1 s))").frames(360000)
        for m in (1, 2, 3, 4, 5, 10)
    ]
    assert plain == [1365, 683, 455, 342, 273, 137]


def test_the_tokens_grid():
    spec = parse_spec("mel(sample_rate=44100,n_fft=2048,win_length=512,hop_length=128,framing=token,n_mels=64)")
    assert spec.frames(1321967) == 10327
    # a click in the middle of token 20's samples is loudest in frame 20
    signal = np.zeros(128 * 64, np.float32)
    signal[128 * 20 + 64] = 1
    assert run_signal(spec, signal).sum(axis=0).argmax() == 20


@pytest.mark.parametrize(
    ("preset", "shape"),
    [
        ("spectroformer-token", (64, 10327)),
        ("spectroformer-11ms", (64, 2581)),
        ("spectroformer-46ms", (64, 2582)),
        ("spectroformer-46ms-sparse", (64, 646)),
    ],
)
def test_frame_counts_of_the_clips_of_fma(preset, shape):
    """1,321,967 samples: what a 30 s clip of that data set decodes to at 44.1 kHz."""
    (request,) = expand_features([preset])
    check(request.spec)
    assert (*request.spec.item_shape, request.spec.frames(1321967)) == shape


@pytest.mark.parametrize(
    ("preset", "n_samples", "shape"),
    [("sincresnet-mel", 480000, (160, 376)), ("ast-128", 661794, (128, 3308)), ("ast-128", 660000, (128, 3308))],
)
def test_pictures_of_the_papers(preset, n_samples, shape):
    (request,) = expand_features([preset])
    assert (*request.spec.item_shape, request.spec.frames(n_samples)) == shape


def test_frames_and_tokens_mean_the_same_time():
    """A click anywhere in the 128 samples of a token is loudest in the frame of its number; four tokens to a frame of
    the longer hop."""
    (fine,), (coarse,) = (expand_features([f"spectroformer-{name}"]) for name in ("token", "11ms"))
    for token, within in ((20, 8), (33, 64), (46, 120)):
        signal = np.zeros(128 * 64, np.float32)
        signal[128 * token + within] = 1
        assert run_signal(fine.spec.replace(scale="power"), signal).sum(axis=0).argmax() == token
        assert run_signal(coarse.spec.replace(scale="power"), signal).sum(axis=0).argmax() == token // 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mel(sample_rate=44100,n_mels=128)", r"^11 of 128 mel bands are empty .*mel spec, .*Lower n_mels"),
        ("hpss(sample_rate=44100,n_mels=128)", r"^11 of 128 mel bands are empty .*hpss spec, "),
        ("mel(hop_length=4000,clip=start(0.2 s))", r"^hop_length=4000 is longer than the clip of 3200 samples"),
        ("stft(clip=start(0.00001 s))", r"holds no sample at 16000 Hz"),
        ("waveform(engine=librosa)", r"^engine=librosa has no waveform of its own"),
        ("mel(engine=librosa,framing=essentia)", r"^engine=librosa cannot do framing=essentia .* or use engine=native"),
        ("mel(engine=essentia)", r"^engine=essentia cannot do framing=librosa"),
        ("mel(engine=essentia,framing=essentia)", r"^engine=essentia cannot do window_symmetric=no"),
        ("hpss(engine=essentia)", r"^engine=essentia has no median-filter separation"),
    ],
)
def test_refused_before_any_audio(text, message):
    with pytest.raises(SpecError, match=message):
        check(parse_spec(text))


def test_describe_draws_the_tree():
    text = describe(share_transforms(graphs("mel(n_mels=48)", "mel(n_mels=96,hop_length=512,scale=db)")))
    lines = text.splitlines()
    assert lines[0] == "decode(decoder=soundfile)"
    assert sum("power_spectrum" in line for line in lines) == 1
    assert lines[-1].strip().startswith("scale(")
