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
from featstore.store.ledger import read_status
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
    from featstore.store.ledger import read_ledger

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
