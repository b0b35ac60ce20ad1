"""Specs: names parse back to equal specs, two ways to ask for one thing have one name, bad fields are refused."""

import dataclasses
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import SpecError
from featstore.features.mel import MelSpec
from featstore.specs import PRESETS, Encoding, Scale, expand_features, parse_feature, parse_spec
from featstore.specs.kinds import KINDS

scales = st.one_of(
    st.sampled_from(["power", "magnitude", "db", "log10_1p", "ln"]),
    st.floats(1e-12, 1e-3).map(lambda amin: f"db(amin={amin!r})"),
    st.floats(1.0, 1e6).map(lambda gain: f"log10_1p(gain={gain!r})"),
)
clips = st.one_of(
    st.just("whole"),
    st.floats(0.1, 100).map(lambda s: f"centre({s!r} s)"),
    st.tuples(st.floats(0, 50), st.floats(0.1, 50)).map(lambda t: f"offset({t[0]!r} s, {t[1]!r} s)"),
    st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)).map(lambda t: f"every({t[0]!r} s, {t[1]!r} s, pad=zeros)"),
)


@st.composite
def spectral_fields(draw: st.DrawFn) -> dict[str, object]:
    rate = draw(st.integers(4000, 48000))
    n_fft = draw(st.integers(16, 4096))
    return {
        "sample_rate": rate,
        "n_fft": n_fft,
        "win_length": draw(st.one_of(st.none(), st.integers(1, n_fft))),
        "hop_length": draw(st.integers(1, 4096)),
        "window_symmetric": draw(st.booleans()),
        "pad_mode": draw(st.sampled_from(["zeros", "reflect"])),
        "framing": draw(st.sampled_from(["librosa", "essentia", "valid", "token"])),
        "scale": draw(scales),
        "clip": draw(clips),
        "engine": draw(st.sampled_from(["native", "librosa", "essentia"])),
    }


@given(fields=spectral_fields(), kind=st.sampled_from(["mel", "stft", "hpss"]))
def test_name_reads_back_to_an_equal_spec(fields: dict[str, object], kind: str) -> None:
    spec = KINDS.load(kind)(**fields)
    assert parse_spec(str(spec)) == spec
    assert parse_spec(str(spec).replace(".r1(", "(")) == spec
    assert str(parse_spec(str(spec))) == str(spec)
    assert pickle.loads(pickle.dumps(spec)) == spec


@given(fields=spectral_fields())
def test_order_and_spelling_do_not_matter(fields: dict[str, object]) -> None:
    spec = MelSpec(**fields)
    text = ", ".join(f"{name} = {getattr(spec, name)}" for name in reversed(list(fields)))
    assert parse_spec(f"mel({text})") == spec
    assert parse_spec(f"mel({text})").key() == spec.key()


def test_defaults_are_resolved() -> None:
    spec = parse_spec("mel(sample_rate=22050)")
    assert (spec.win_length, spec.fmax, spec.n_mels, spec.hop_length) == (512, 11025.0, 96, 256)
    assert parse_spec("mel(sample_rate=22050,fmax=11025,win_length=512,fmin=0,n_mels=96.0)") == spec
    assert str(spec) == (
        "mel.r1(sample_rate=22050,decoder=soundfile,resampler=soxr_hq,clip=whole,engine=native,n_fft=512,win_length=512,"
        "hop_length=256,window=hann,window_symmetric=no,pad_mode=zeros,framing=librosa,n_mels=96,fmin=0.0,fmax=11025.0,"
        "mel_scale=slaney,norm=slaney,power=2.0,scale=power)"
    )


def test_short_scale_names_resolve_in_full() -> None:
    assert str(Scale.parse("db")) == "db(amin=1e-10,factor=10)"
    assert str(Scale.parse("log10_1p")) == "log10_1p(gain=10000)"
    assert str(parse_spec("mel(scale=db)")) == str(parse_spec("mel(scale=db(factor=10,amin=1e-10))"))


def test_each_field_changes_name_and_key() -> None:
    plain = MelSpec()
    other: dict[str, object] = {
        "sample_rate": 22050, "decoder": "essentia", "resampler": "soxr_vhq", "clip": "centre(29.1 s)",
        "engine": "librosa",
        "n_fft": 1024, "win_length": 400, "hop_length": 512, "window": "hamming", "window_symmetric": True,
        "pad_mode": "reflect", "framing": "essentia", "n_mels": 48, "fmin": 20.0, "fmax": 7000.0, "mel_scale": "htk",
        "norm": "none", "power": 1.0, "scale": "db",
    }  # fmt: skip
    assert set(other) == {field.name for field in dataclasses.fields(MelSpec)}
    keys = {plain.key()} | {plain.replace(**{name: value}).key() for name, value in other.items()}
    assert len(keys) == len(other) + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mel(fmax=12000)", "fmax=12000.0 Hz lies above the Nyquist frequency 8000.0 Hz"),
        ("mel(fmin=8000)", "fmin=8000.0 Hz is not below fmax"),
        ("mel(n_mel=48)", "Did you mean n_mels?"),
        ("mle(n_mels=48)", "unknown feature kind 'mle'"),
        ("mel(n_mels=0)", "n_mels=0 is out of range"),
        ("mel(sample_rate=0)", "sample_rate=0 is out of range"),
        ("mel(n_mels=4.5)", "n_mels=4.5 is not a whole number"),
        ("mel(n_mels=many)", "n_mels='many' is not a number"),
        ("mel(hop_length=nan)", "is not finite"),
        ("mel(win_length=1024)", "win_length=1024 is longer than the transform"),
        ("mel(scale=log)", "unknown scale 'log'"),
        ("mel(scale=db(amin=0))", "is not positive"),
        ("mel(scale=db(top_db=80))", "unknown parameter 'top_db' of scale db"),
        ("mel(clip=centre)", "centre takes: length"),
        ("mel(clip=centre(0 s))", "too small"),
        ("mel(power=1,scale=magnitude)", "takes the root of a power"),
        ("mel(n_mels=48,n_mels=96)", "n_mels is given twice"),
        ("mel(48)", "names no field"),
        ("mel(n_mels=48", "cannot read"),
        ("mel(n_mels=48))", "unexpected ')'"),
        ("mel.r9(n_mels=48)", "mel.r9 is not what this version computes"),
        ("hpss(kernel=30)", "kernel=30 is even"),
        ("hpss(kernel=31+16)", "kernel=16 is even"),
        ("hpss(kernel=3+5+7)", "kernel='3+5+7' has 3 values"),
        ("hpss(margin=1+0.5)", "margin=0.5 is out of range"),
        ("hpss(kernel=31+)", "kernel='' is not a number"),
        ("", "cannot read ''"),
    ],
)
def test_bad_specs_say_what_and_how(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    assert message in str(caught.value)


def test_a_pickled_error_stays_itself() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec("mel(n_mels=0)")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and isinstance(again, ValueError)


def test_encodings_belong_to_requests_not_to_specs() -> None:
    request = parse_feature("mel(scale=db)@uint8")
    assert request.encoding == Encoding("uint8", -100.0, 40.0)
    assert parse_feature(str(request)) == request
    assert parse_feature("mel(scale=db)").encoding is None
    for bad in ("mel(scale=power)@uint8", "mel()@int16", "mel()@float8", "mel(scale=db)@uint8(low=3,high=1)"):
        with pytest.raises(SpecError):
            parse_feature(bad)


def test_the_study_has_88_configurations() -> None:
    requests = expand_features(["ferraro2020"])
    assert len({str(r) for r in requests}) == 88
    assert {str(r.spec.clip) for r in requests} == {"centre(29.1 s)"}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_make_specs(name: str) -> None:
    assert all(parse_feature(str(r)) == r for r in expand_features([name]))
    assert {str(r.encoding) for r in expand_features([f"{name}@float16"])} == {"float16"}
    with pytest.raises(SpecError, match="cannot read ''"):
        expand_features([f"{name}@"])


def test_grids_from_yaml(tmp_path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("features:\n- {kind: mel, n_mels: [96, 48], hop_length: [256, 512], scale: db}\n- mel(n_mels=16)\n")
    assert len(expand_features([str(path)])) == 5
    path.write_text("kind: mel\nn_mels: " + str(list(range(1, 101))) + "\nhop_length: " + str(list(range(1, 101))))
    with pytest.raises(SpecError, match="10,000 combinations"):
        expand_features([str(path)])
    path.write_text("kind: mel\nn_mells: 3")
    with pytest.raises(SpecError, match="Did you mean n_mels"):
        expand_features([str(path)])
    with pytest.raises(SpecError, match="neither a feature kind nor a preset"):
        expand_features(["feraro2020"])


@pytest.mark.parametrize(
    "text",
    [
        "- {kind: mel, n_mels: [32, 16]}\n- {kind: stft, n_fft: [512, 1024]}",
        "mel: {n_mels: [32, 16]}\nstft:\n  n_fft: [512, 1024]",
        "features:\n  mel: [{n_mels: 32}, {n_mels: 16}]\n  stft: [{}, {n_fft: 1024}]",
        "[{mel: {n_mels: [32, 16]}}, stft, stft(n_fft=1024)]",
    ],
)
def test_ways_to_write_a_grid(tmp_path, text: str) -> None:
    (tmp_path / "g.yaml").write_text(text)
    wanted = ["mel(n_mels=32)", "mel(n_mels=16)", "stft()", "stft(n_fft=1024)"]
    assert expand_features([str(tmp_path / "g.yaml")]) == expand_features(wanted)


def test_kinds_are_alternatives_too(tmp_path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("{kind: [mel, stft], hop_length: [256, 512]}")
    assert [request.spec.kind for request in expand_features([str(path)])] == ["mel", "mel", "stft", "stft"]
    for text, message in (("{mel: 3}", "3 under mel is no mapping"), ("{kind: {a: 1}}", "unknown feature kind")):
        path.write_text(text)
        with pytest.raises(SpecError, match=message):
            expand_features([str(path)])


def test_infinity_is_a_mask_power_only() -> None:
    spec = parse_spec("hpss(mask_power=inf)")
    assert parse_spec(str(spec)) == spec and "mask_power=inf" in spec.short()
    assert parse_spec("hpss(mask_power=2)") == parse_spec("hpss()")
    with pytest.raises(SpecError, match="margin=inf is not finite"):
        parse_spec("hpss(margin=inf)")


def test_two_kernels_and_two_margins():
    spec = parse_spec("hpss(kernel=31+17,margin=1+5)")
    assert (spec.kernel, spec.margin) == ((31, 17), (1.0, 5.0))
    assert "kernel=31+17,mask_power=2.0,margin=1.0+5.0" in str(spec) and parse_spec(str(spec)) == spec
    assert spec.short() == "hpss(sample_rate=16000,kernel=31+17,margin=1.0+5.0)" and parse_spec(spec.short()) == spec
    assert parse_spec("hpss(kernel=17+17,margin=2+2.0)") == parse_spec("hpss(kernel=17,margin=2)")
    assert str(parse_spec("hpss(kernel=31+31,margin=1+1)")) == str(parse_spec("hpss()"))
    assert spec.replace(kernel=[31, 17]) == spec and spec.replace(kernel=9).kernel == 9


def test_numbers_of_numpy_are_numbers_and_lists_are_none() -> None:
    assert MelSpec(fmin=np.float32(20), n_mels=np.int64(48)) == MelSpec(fmin=20.0, n_mels=48)
    for wrong in ([20.0], {"hz": 20}, True, "low"):
        with pytest.raises(SpecError, match=r"fmin=.* is not a number"):
            MelSpec(fmin=wrong)


@pytest.mark.parametrize("kind", ["waveform", "stft"])
def test_a_bare_kind_may_name_its_encoding(kind: str) -> None:
    (request,) = expand_features([f"{kind}@float16"])
    assert request == parse_feature(f"{kind}()@float16")
    with pytest.raises(SpecError, match=r"'wavefrom' is neither .* Did you mean waveform"):
        expand_features(["wavefrom@float16"])


@pytest.mark.parametrize("wrong", [None, 3, 0.5, ["mel()"], {"mel": {}}, object()])
def test_what_is_neither_text_nor_a_spec_is_named(wrong: object) -> None:
    for read in (parse_spec, parse_feature, lambda each: expand_features([each])):
        with pytest.raises(SpecError, match=r"is no feature. Give its name"):
            read(wrong)


def test_feature_files_may_be_paths(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("mel: {n_mels: [16, 32]}")
    assert expand_features([tmp_path / "f.yaml"]) == expand_features(["mel(n_mels=16)", "mel(n_mels=32)"])


@pytest.mark.parametrize("encoding", ["uint8", "uint8(low=-80,high=20)", "float64"])
def test_a_spec_with_an_encoding_is_refused_as_such(encoding: str) -> None:
    with pytest.raises(
        SpecError, match=rf"'@{re.escape(encoding)}' is an encoding, and a spec has none.*parse_feature"
    ):
        parse_spec(f"mel(scale=db)@{encoding}")
