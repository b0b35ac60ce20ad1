"""Views: what may be read from what, and that stated bounds hold on random values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.features.mel import MelSpec
from featstore.specs import Encoding, parse_spec, view_of

SCALES = ["power", "magnitude", "db", "log10_1p", "ln"]


def stored(values: np.ndarray, base: MelSpec, encoding: str) -> tuple[np.ndarray, Encoding]:
    code = Encoding.parse(encoding, base)
    return code.decode(code.encode(base.scale.apply(values))[0]), code


@settings(max_examples=60, deadline=None)
@given(
    before=st.sampled_from(SCALES),
    after=st.sampled_from(SCALES),
    encoding=st.sampled_from(["float32", "float16", "uint16", "uint8"]),
    seed=st.integers(0, 999),
)
def test_bounds_hold(before: str, after: str, encoding: str, seed: int) -> None:
    base, want = MelSpec(scale=before), MelSpec(scale=after)
    if encoding.startswith("uint") and before in ("power", "magnitude"):
        return
    power = (10 ** np.random.default_rng(seed).uniform(-9.9, 2, 4000)).astype(np.float32)
    values, code = stored(power, base, encoding)
    view = view_of(want, base, code)
    if view is None:
        return
    difference = np.abs(view.apply(values).astype(np.float64) - want.scale.apply(power))
    slack = 0 if view.exact else 2e-5
    assert difference.max() <= view.bound + slack


def test_exact_means_bit_for_bit() -> None:
    power = np.random.default_rng(0).uniform(0, 80, 10000).astype(np.float32)
    for scale in SCALES:
        view = view_of(MelSpec(scale=scale, hop_length=1024), MelSpec())
        assert view is not None and view.exact and view.stride == 4
        assert np.array_equal(view.apply(power), MelSpec(scale=scale).scale.apply(power))


@pytest.mark.parametrize(
    ("want", "base"),
    [
        ("mel(n_mels=48)", "mel(n_mels=96)"),
        ("mel(hop_length=384)", "mel(hop_length=256)"),
        ("mel(hop_length=256)", "mel(hop_length=512)"),
        ("mel(sample_rate=12000)", "mel(sample_rate=16000)"),
        ("mel(scale=db)", "mel(scale=log10_1p)"),
        ("mel(clip=centre(29.1 s))", "mel()"),
        ("mel(framing=token,hop_length=512)", "mel(framing=token,hop_length=256)"),
        ("stft()", "mel()"),
        ("hpss(hop_length=512)", "hpss(hop_length=256)"),
        ("mel(engine=librosa)", "mel()"),
    ],
)
def test_what_is_no_view(want: str, base: str) -> None:
    assert view_of(parse_spec(want), parse_spec(base)) is None


@pytest.mark.parametrize("n_base", [1, 4, 5, 1820, 1366])
@pytest.mark.parametrize("stride", [1, 2, 3, 10])
def test_frame_counts_of_views(n_base: int, stride: int) -> None:
    view = view_of(MelSpec(hop_length=256 * stride), MelSpec())
    assert view is not None and view.n_frames(n_base) == len(range(0, n_base, stride))


@pytest.mark.parametrize("name", ["uint8", "uint16"])
@pytest.mark.parametrize("spec", ["mel(scale=db)", "mel(scale=log10_1p)", "mel(scale=ln)", "waveform()"])
def test_no_value_in_range_is_further_off_than_the_bound(spec: str, name: str) -> None:
    code = Encoding.parse(name, parse_spec(spec))
    values = np.linspace(code.low, code.high, 200_001).astype(np.float32)
    error = np.abs(code.decode(code.encode(values)[0]).astype(np.float64) - values)
    assert 0.99 * code.scale_factor / 2 < error.max() <= code.error_bound < 1.1 * code.scale_factor / 2
    assert code.encode_measured(values)[2] <= code.error_bound


@given(name=st.sampled_from(["uint8", "uint16"]), seed=st.integers(0, 99))
def test_quantisation_error_and_fill(name: str, seed: int) -> None:
    code = Encoding.parse(name, MelSpec(scale="db"))
    values = np.random.default_rng(seed).uniform(-130, 60, 500).astype(np.float32)
    codes, saturated = code.encode(values)
    assert saturated == int(((values < -100 - code.scale_factor / 2) | (values > 40 + code.scale_factor / 2)).sum())
    assert code.fill_value not in codes
    inside = (values >= -100) & (values <= 40)
    assert np.abs(code.decode(codes) - values)[inside].max() <= code.error_bound
    codes[0] = code.fill_value
    assert np.isnan(code.decode(codes)[0])


def test_waveform_in_int16_keeps_full_scale() -> None:
    code = Encoding.parse("int16", parse_spec("waveform"))
    codes, saturated = code.encode(np.array([-1, 0, 1, 1.5], dtype=np.float32))
    assert codes.tolist() == [-32767, 0, 32767, 32767] and saturated == 1
    assert np.allclose(code.decode(codes), [-1, 0, 1, 1], atol=1e-6)


@pytest.mark.parametrize("name", ["float32", "float16", "uint8", "uint16"])
def test_scale_and_offset_are_what_decoding_does(name: str) -> None:
    """The CF attributes in the metadata: any reader that knows them gets the values that we get."""
    code = Encoding.parse(name, MelSpec(scale="db"))
    codes, _ = code.encode(np.linspace(-100, 40, 29, dtype=np.float32))
    by_hand = codes.astype(np.float64) * code.scale_factor + code.add_offset
    assert np.allclose(by_hand, code.decode(codes), atol=1e-4)
    assert code.is_integer or (code.scale_factor, code.add_offset) == (1.0, 0.0)
