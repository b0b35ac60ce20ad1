"""Phase in mel bands: a tone turns at its frequency, a click has its delay, whatever the blocks; stored and stacked."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from featstore.datasets import TableInfo, TrackTable
from featstore.dsp import compute_power, frames_complex, make_window
from featstore.errors import SpecError
from featstore.extract import ExtractOptions, extract
from featstore.features import TrackContext, check, expand_features, graph_of
from featstore.features.phase import PhaseBandsStream, PhaseSpec
from featstore.specs import parse_spec, view_of
from featstore.store import open_store
from featstore.training.run import train
from tests.features.runner import run_signal

RATE = 16_000
SPEC = PhaseSpec(sample_rate=RATE, n_mels=20)


def both(signal, **changes):
    return [run_signal(SPEC.replace(part=part, **changes), signal) for part in ("cos", "sin")]


def test_a_tone_turns_by_its_frequency_from_frame_to_frame():
    hertz = 1234.5
    signal = np.sin(2 * np.pi * hertz / RATE * np.arange(8000)).astype(np.float32)
    cosine, sine = both(signal)
    band = int(np.argmin(np.abs(SPEC.band_centres - hertz)))
    turn = 2 * np.pi * hertz * SPEC.hop_length / RATE
    np.testing.assert_allclose(cosine[band, 4:-4], np.cos(turn), atol=2e-3)
    np.testing.assert_allclose(sine[band, 4:-4], np.sin(turn), atol=2e-3)
    assert not cosine[:, 0].any() and not sine[:, 0].any()


@pytest.mark.parametrize("late", [0, 37, -80])
def test_a_click_has_the_delay_to_the_centre_of_its_frame(late):
    signal = np.zeros(8000, np.float32)
    frame = 12
    signal[frame * SPEC.hop_length + late] = 1.0
    cosine, sine = both(signal, along="frequency")
    step = -2 * np.pi * late / SPEC.n_fft
    np.testing.assert_allclose(cosine[1:, frame], np.cos(step), atol=1e-4)
    np.testing.assert_allclose(sine[1:, frame], np.sin(step), atol=1e-4)
    assert not cosine[:, 0].any() and not sine[:, -1].any()  # silence


def test_transforms_are_those_of_the_power_spectrum_and_blocks_do_not_matter():
    signal = np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    window = make_window("hann", win_length=512, n_fft=512, symmetric=False)
    spectra = frames_complex(signal, 30, window=window, hop_length=256)
    power = compute_power(signal, n_fft=512, hop_length=256, framing="valid")[:, :30]
    np.testing.assert_allclose(np.abs(spectra) ** 2, power, rtol=1e-3, atol=1e-5 * power.max())
    for along in ("time", "frequency"):
        node, context = graph_of(SPEC.replace(part="sin", along=along, n_mels=20)), TrackContext(RATE)
        whole = PhaseBandsStream(node, context).push(spectra)
        stream = PhaseBandsStream(node, context)
        pieces = [stream.push(spectra[:, a:b]) for a, b in ((0, 1), (1, 1), (1, 17), (17, 30))]
        assert np.array_equal(np.concatenate(pieces, axis=1), whole) and np.abs(whole).max() <= 1
        assert np.array_equal(
            run_signal(SPEC.replace(along=along), signal, [700, 3, 5000]), run_signal(SPEC.replace(along=along), signal)
        )


def test_names_views_and_refusals():
    spec = parse_spec("phase(part=sin,along=frequency,n_mels=64)")
    assert parse_spec(str(spec)) == spec and spec.value_range == (-1.0, 1.0) and spec.dims == ("band", "frame")
    assert view_of(spec.replace(hop_length=512), spec) is None
    assert graph_of(spec).input == graph_of(spec.replace(part="cos", along="time")).input
    with pytest.raises(SpecError, match=r"engine=librosa has no phase in bands"):
        check(spec.replace(engine="librosa"))
    with pytest.raises(SpecError, match=r"fmax=9000.0 Hz lies above the Nyquist frequency"):
        parse_spec("phase(fmax=9000)")


def test_channels_of_phase_are_stacked_on_a_mel_spectrogram(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for k in range(8):
        x = 0.3 * np.sin(np.arange(RATE) * (0.1, 0.4)[k % 2]) + 0.02 * rng.normal(size=RATE)
        soundfile.write(tmp_path / f"{k}.wav", x, RATE, subtype="FLOAT")
        split = ("train", "train", "valid", "test")[k // 2]
        rows.append({"track_id": str(k), "path": str(tmp_path / f"{k}.wav"), "label": "ab"[k % 2], "split": split})
    info = TableInfo(name="tones", task="single_label", classes=("a", "b"), label_column="label")
    names = ["mel(n_mels=20)", "phase(n_mels=20)", "phase(n_mels=20,part=sin)@uint8"]
    options = ExtractOptions(scheduler="sync", jobs=1, progress="none")
    extract(TrackTable(pd.DataFrame(rows), info), expand_features(names), tmp_path / "s", options)
    store = open_store(tmp_path / "s")
    wave, _ = soundfile.read(tmp_path / "3.wav", dtype="float32")
    assert np.array_equal(store["phase(n_mels=20)"]["3"], run_signal(SPEC, wave))
    np.testing.assert_allclose(store[names[2]]["3"], run_signal(SPEC.replace(part="sin"), wave), atol=1 / 250)
    config = {"model": {"size": "tiny", "group": 2}, "data": {"batch_size": 4, "crop_s": 0.5}, "loop": {"epochs": 1}}
    config |= {"evaluate": {"bootstrap": 0, "splits": ["valid"]}, "objective": {"name": "masked-values"}}
    result = train(store, [store[name].name for name in names], "spectroformer", tmp_path / "run", config=config)
    assert np.isfinite(result["scores"]["valid"]["skill"])
    inputs = json.loads((tmp_path / "run" / "run.json").read_text())["input"]["inputs"]
    assert list(inputs) == ["input_mel", "input_phase_1", "input_phase_2"]
