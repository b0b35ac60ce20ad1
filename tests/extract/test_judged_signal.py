"""The status of a track is that of the signal that each feature is computed from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from featstore.datasets import TrackTable
from featstore.datasets.table import TableInfo
from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features
from featstore.store import Store, open_store
from featstore.store.ledger import read_ledger, read_status
from featstore.store.verify import verify
from featstore.testing.audio import tone

RATE = 16000
LOUD = tone(2.0, RATE, seed=3)
NONE = np.zeros_like(LOUD)


def stored(folder: Path, waves: dict[str, np.ndarray], features: list[str]) -> Store:
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", wave, RATE)
    frame = pd.DataFrame({"track_id": list(waves), "path": [str(folder / f"{name}.wav") for name in waves]})
    table = TrackTable(frame, TableInfo(name="judged"))
    extract(table, expand_features(features), folder / "s.zarr", ExtractOptions(scheduler="sync"))
    return open_store(folder / "s.zarr")


@pytest.mark.parametrize("feature", ["mel(n_mels=8)", "waveform(sample_rate=8000)", "hpss"])
def test_channels_that_cancel_are_silent(tmp_path: Path, feature: str) -> None:
    waves = {
        "loud": LOUD,
        "cancelling": np.stack([LOUD, -LOUD], 1),
        "four": np.stack([LOUD, LOUD, -LOUD, -LOUD], 1),
        "one_channel": np.stack([LOUD, NONE], 1),
        "zero": np.stack([NONE, NONE], 1),
    }
    tracks = stored(tmp_path, waves, [feature]).tracks
    assert tracks["status"].to_dict() == {
        "loud": "ok", "cancelling": "silent", "four": "silent", "one_channel": "ok", "zero": "silent",
    }  # fmt: skip
    assert tracks.loc["four", "error"].startswith("the channels cancel in the mix: its peak is ")
    assert tracks.loc["zero", "error"] == "every sample is zero"


def test_a_silent_excerpt_of_a_loud_track(tmp_path: Path) -> None:
    waves = {"late": np.concatenate([NONE, NONE, LOUD]), "early": np.concatenate([LOUD, NONE, NONE])}
    features = ["mel(n_mels=8,clip=start(1 s))", "mel(n_mels=8)", "mel(n_mels=8,clip=every(1 s, 1 s))"]
    store = stored(tmp_path, waves, features)
    assert store.tracks["status"].to_dict() == {"late": "silent", "early": "ok"}
    assert store.tracks.loc["late", "error"].startswith("every sample of the excerpt is zero; the peak of the file is ")
    told = read_ledger(store)
    assert len(told) == 1 and "start(1" in told.loc[0, "feature"], "the other features see the music"


def test_no_frame_is_short_and_not_stored(tmp_path: Path) -> None:
    waves = {"long": LOUD, "window": LOUD[:512], "less": LOUD[:511], "one": LOUD[:1]}
    valid, padded = "mel(n_mels=8,framing=valid)", "mel(n_mels=8)"
    store = stored(tmp_path, waves, [valid, padded])
    assert store.tracks["status"].to_dict() == {"long": "ok", "window": "ok", "less": "short", "one": "short"}
    assert set(store[valid].track_ids) == {"long", "window"} and set(store[padded].track_ids) == set(waves)
    assert store[valid]["window"].shape == (8, 1)
    assert "less.wav: the signal is shorter than one frame" in store.tracks.loc["less", "error"]
    counts = read_status(store)
    assert (counts["ok"], counts["failed"], counts["by_reason"]) == (2, 2, {"short": 2})


WHOLE = ["mel(n_mels=8)", "waveform()@int16"]
CUT = [
    "mel(n_mels=8,scale=db,clip=offset(0.5 s, 1 s))@uint8",
    "waveform(clip=every(1.5 s, 0.5 s))",
    "waveform(sample_rate=8000,clip=start(1.2 s))",  # gives out samples before it knows that there are too few
    "mel(n_mels=8,clip=centre(1.5 s,pad=zeros))",
]


def test_a_track_too_short_for_a_clip_keeps_its_other_features(tmp_path: Path) -> None:
    waves = {"long": LOUD, "brief": LOUD[: RATE // 2], "second": LOUD[:RATE]}
    for name in ("all", "whole"):
        (tmp_path / name).mkdir()
    store, alone = stored(tmp_path / "all", waves, WHOLE + CUT), stored(tmp_path / "whole", waves, WHOLE)
    assert store.tracks["status"].to_dict() == {"long": "ok", "brief": "short", "second": "short"}
    assert [set(store[feature].track_ids) for feature in CUT] == [{"long"}, {"long"}, {"long"}, set(waves)]
    for feature in WHOLE:
        for track in waves:
            assert np.array_equal(store[feature][track], alone[feature][track])
    assert verify(store.location) == []
    assert "needs 24000" in store.tracks.loc["second", "error"] or "needs 9600" in store.tracks.loc["second", "error"]
    told = read_ledger(store)
    assert len(told) == 6 and set(told["stage"]) == {"decode"} and not told["stored"].any()
    assert all(store.tracks.index[row] in ("brief", "second") for row in told["row"])
    counts = read_status(store)
    assert (counts["ok"], counts["failed"], counts["by_reason"]) == (1, 2, {"short": 2})


@pytest.mark.parametrize("pad_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("feature", ["mel(n_mels=8{})", "stft(scale=db{},framing=essentia)", "hpss(n_mels=8{})"])
def test_a_signal_of_which_resampling_leaves_no_sample_has_no_frame(
    tmp_path: Path, feature: str, pad_mode: str
) -> None:
    """A sample at 16 kHz is none at 8 kHz or below 5333 Hz; the other rates of the track have it."""
    low = feature.format(f",pad_mode={pad_mode},sample_rate=4000")
    high, filled = feature.format(f",pad_mode={pad_mode}"), "waveform(sample_rate=4000,clip=start(1 s,pad=zeros))"
    store = stored(tmp_path, {"one": LOUD[:1], "long": LOUD}, [low, high, "waveform(sample_rate=4000)", filled])
    for spec, there in (
        (low, {"long"}),
        (high, {"one", "long"}),
        ("waveform(sample_rate=4000)", {"long"}),
        (filled, {"long"}),
    ):
        assert set(store[spec].track_ids) == there
    told = read_ledger(store)
    assert set(told["status"]) == {"short"} and len(told) == 3
    messages = set(told["error"])
    assert sum("shorter than one frame. Leave the track out" in message for message in messages) == 1
    assert sum("the track has 0 samples" in message and "nothing to fill up" in message for message in messages) == 1
