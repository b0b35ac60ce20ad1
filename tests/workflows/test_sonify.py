"""Sound from features: pitch, time and loudness are where they were, and what cannot be heard is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from featstore.dsp import apply_bank, compute_power, make_mel_bank
from featstore.dsp.inverse import unmap_bank
from featstore.errors import ConfigError, MissingFeature
from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features, parse_spec
from featstore.store import open_store
from featstore.workflows.indexing import index_tracks
from featstore.workflows.sonify import SonifyOptions, sonify
from featstore_cli.main import main

RATE = 16000
PITCH = 1000.0
SECONDS = 3.1
FEATURES = [
    "stft()",
    "stft(scale=db)",
    "stft(scale=magnitude,hop_length=128,win_length=256)",
    "mel()",
    "mel(scale=db,hop_length=1024)",  # gaps between frames
    "mel(scale=log10_1p,n_mels=48)",
    "mel(scale=ln,power=1,mel_scale=htk,norm=none)",
    "mel(sample_rate=44100,n_fft=2048,win_length=512,hop_length=128,framing=token,n_mels=64,scale=ln)",
    "mel(framing=essentia,window_symmetric=yes,scale=db,clip=centre(2 s))",
    "mel(framing=valid,scale=db)",
    "mel(scale=db,clip=every(1 s,0.5 s))",
    "hpss(component=harmonic)",
    "hpss(component=harmonic,n_mels=96,scale=db)",
    "waveform()",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    time = np.arange(round(SECONDS * 44100)) / 44100
    soundfile.write(folder / "sine.wav", 0.3 * np.sin(2 * np.pi * PITCH * time).astype(np.float32), 44100)
    clicks = np.zeros(len(time), np.float32)
    clicks[::22050] = 0.9
    clicks = np.convolve(clicks, np.exp(-np.arange(600) / 60), "same").astype(np.float32)
    soundfile.write(folder / "clicks.wav", np.clip(clicks, -1, 1), 44100)
    (folder / "broken.wav").write_bytes(b"RIFF")
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    wanted = [*FEATURES, "hpss(component=percussive,n_mels=96)", "hpss(component=residual,margin=2,scale=db)"]
    extract(index_tracks("folder", folder), expand_features(wanted), path, ExtractOptions(scheduler="sync"))
    return path


def pitch_of(samples, rate) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    power = np.convolve(np.square(spectrum), np.ones(25), "same")  # noise in the shape of a band has no sharp peak
    return float(power.argmax() * rate / len(samples))


@pytest.mark.parametrize("method", ["noise", "griffin-lim"])
@pytest.mark.parametrize("feature", FEATURES)
def test_a_sine_keeps_pitch_length_and_loudness(store, tmp_path, feature, method) -> None:
    spec = parse_spec(feature)
    report = sonify(store, "sine.wav", feature, tmp_path / "out.wav", SonifyOptions(method=method, iterations=8))
    samples, rate = soundfile.read(tmp_path / "out.wav")
    seconds = spec.clip.length_s or SECONDS
    assert rate == spec.sample_rate and report.seconds == len(samples) / rate
    assert abs(len(samples) / rate - seconds) <= 1.5 / rate or spec.kind == "waveform"
    assert abs(pitch_of(samples, rate) - PITCH) <= 40  # a band is 40 to 90 Hz wide there
    middle = samples[rate // 4 : -rate // 4]
    assert 0.3 <= np.sqrt(np.square(middle).mean()) / (0.3 / np.sqrt(2)) <= 1.7


def test_events_stay_where_they_are(store, tmp_path) -> None:
    for feature in ("mel()", "mel(scale=db,hop_length=512)", "hpss(component=percussive,n_mels=96)"):
        spec = parse_spec(feature)
        sonify(store, "clicks.wav", feature, tmp_path / "out.flac", SonifyOptions(seed=3))
        samples, rate = soundfile.read(tmp_path / "out.flac")
        energy = np.square(samples).cumsum()
        for second in (0.5, 1.0, 1.5):
            near = round((second - 0.25) * rate), round((second + 0.25) * rate)
            inside = energy[near[0] : near[1]] - energy[near[0]]
            middle = int(np.searchsorted(inside, inside[-1] / 2)) / rate - 0.25
            assert abs(middle) <= spec.hop_length / rate / 2 + 0.02, feature


def test_griffin_lim_fits_the_spectrum_better(store, tmp_path) -> None:
    """The power spectrum of what is heard, against the one that was asked for."""
    reader = open_store(store)["stft(scale=magnitude,hop_length=128,win_length=256)"]
    wanted = reader["sine.wav"]
    errors = {}
    for method in ("noise", "griffin-lim"):
        sonify(store, "sine.wav", reader.spec, tmp_path / "out.wav", SonifyOptions(method=method))
        samples, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
        heard = np.sqrt(compute_power(samples, n_fft=512, win_length=256, hop_length=128))
        n = min(heard.shape[1], wanted.shape[1])
        errors[method] = np.linalg.norm(heard[:, :n] - wanted[:, :n]) / np.linalg.norm(wanted[:, :n])
    assert errors["griffin-lim"] < 0.1 and errors["griffin-lim"] < errors["noise"] / 3


def test_what_is_heard_has_the_mel_of_the_feature(store, tmp_path) -> None:
    reader = open_store(store)["mel()"]
    sonify(store, "clicks.wav", "mel()", tmp_path / "out.wav")
    samples, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    bank = make_mel_bank(sample_rate=RATE, n_fft=512, n_mels=96)
    heard = apply_bank(bank, compute_power(samples, n_fft=512, hop_length=256)).mean(axis=1)
    wanted = reader["clicks.wav"].mean(axis=1)
    assert np.corrcoef(np.log(heard), np.log(wanted))[0, 1] > 0.9
    assert abs(10 * np.log10(heard.sum() / wanted.sum())) < 3


def test_passages(store, tmp_path) -> None:
    whole, part = tmp_path / "whole.wav", tmp_path / "part.wav"
    sonify(store, "sine.wav", "waveform()", whole)
    report = sonify(store, "sine.wav", "waveform()", part, SonifyOptions(start_s=0.5, seconds=0.75))
    assert report.seconds == 0.75 and report.method == "stored samples"
    samples, _ = soundfile.read(whole)
    assert np.array_equal(soundfile.read(part)[0], samples[8000:20000])
    report = sonify(store, "clicks.wav", "mel()", part, SonifyOptions(start_s=0.9, seconds=0.2))
    heard, rate = soundfile.read(part)
    assert len(heard) == 3200
    assert abs(int(np.abs(heard).argmax()) / rate - 0.1) < 0.03
    excerpt = "mel(scale=db,clip=every(1 s,0.5 s))"
    assert sonify(store, "sine.wav", excerpt, part, SonifyOptions(excerpt=3)).seconds == 1


def test_same_seed_same_bytes(store, tmp_path) -> None:
    files = [tmp_path / name for name in ("a.wav", "b.wav", "c.wav")]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        sonify(store, "sine.wav", "mel()", file, SonifyOptions(seed=seed))
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_blocks_do_not_show(store, tmp_path, monkeypatch) -> None:
    """However many frames are made at once, samples and length are the same, but for the drawn noise."""
    import featstore.workflows.sonify as module

    sonify(store, "sine.wav", "stft()", tmp_path / "a.wav")
    monkeypatch.setattr(module, "_FRAMES_AT_ONCE", 16)
    sonify(store, "sine.wav", "stft()", tmp_path / "b.wav")
    a, b = (soundfile.read(tmp_path / name)[0] for name in ("a.wav", "b.wav"))
    assert a.shape == b.shape
    assert abs(np.std(b) / np.std(a) - 1) < 0.1 and abs(pitch_of(b, RATE) - PITCH) <= 40


def test_a_flat_spectrum_comes_back_through_the_bank() -> None:
    bank = make_mel_bank(sample_rate=16000, n_fft=512, n_mels=96)
    flat = np.full((257, 3), 2.5, np.float32)
    back = unmap_bank(bank, apply_bank(bank, flat))
    assert np.allclose(back[1:-1], 2.5, rtol=1e-4) and back.min() >= 0


@pytest.mark.parametrize(
    ("track", "feature", "options", "error", "message"),
    [
        ("sin.wav", "mel()", {}, MissingFeature, r"no track 'sin\.wav' .*Did you mean sine\.wav"),
        ("broken.wav", "mel()", {}, MissingFeature, r"nothing is stored for track 'broken\.wav'"),
        ("sine.wav", "mel(n_mels=7)", {}, MissingFeature, r"the store has no mel\(.*To add it"),
        ("sine.wav", "mel()", {"start_s": 4}, ConfigError, r"start=4 s lies behind the end at 3\.10 s"),
        ("sine.wav", "mel()", {"excerpt": 1}, ConfigError, r"excerpt=1: the feature is no list of excerpts"),
        ("sine.wav", FEATURES[10], {"excerpt": 9}, ConfigError, r"excerpt=9: the track has 5 .*Use 0 to 4"),
    ],
)
def test_what_cannot_be_heard(store, tmp_path, track, feature, options, error, message) -> None:
    with pytest.raises(error, match=message):
        sonify(store, track, feature, tmp_path / "out.wav", SonifyOptions(**options))
    assert list(tmp_path.iterdir()) == []


def test_options_are_checked(store, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"method='griffinlim' is unknown.*Did you mean griffin-lim"):
        SonifyOptions(method="griffinlim")
    with pytest.raises(ConfigError, match="seconds=0 is no length"):
        SonifyOptions(seconds=0)
    with pytest.raises(ConfigError, match=r"iterations=0 is too small"):
        SonifyOptions(iterations=0)
    with pytest.raises(ConfigError, match=r"'\.doc' names no audio format"):
        sonify(store, "sine.wav", "mel()", tmp_path / "out.doc")


def call(capsys, *args):
    with pytest.raises(SystemExit) as left:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_command(store, tmp_path, capsys) -> None:
    out = tmp_path / "out.wav"
    code, said, _ = call(capsys, "sonify", store, "sine.wav", "-f", "mel()", "-o", out, "--json")
    assert code == 0 and json.loads(said)["seconds"] == pytest.approx(SECONDS)
    code, said, _ = call(capsys, "sonify", store, "sine.wav", "stft(scale=db)", "-o", out, "--method", "griffin-lim")
    assert code == 0 and "3.10 s at 16000 Hz (griffin-lim)" in said
    code, _, err = call(capsys, "sonify", store, "sine.wav", "-o", out)
    assert code == 1 and "no feature is named" in err
    code, _, err = call(capsys, "sonify", store, "sine.wav", "mel()", "-f", "stft()", "-o", out)
    assert code == 1 and "two features are named: mel() and stft()" in err
    code, _, err = call(capsys, "sonify", store, "sine.wav", "ferraro2020", "-o", out)
    assert code == 1 and "ferraro2020 is 88 features" in err
