"""No file crashes, hangs or yields a silent wrong array: each ends stored with truthful flags, or as a ledger row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featstore.audio import open_audio
from featstore.datasets import TrackTable
from featstore.datasets.table import TableInfo
from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.workflows.indexing import probe_tracks
from tests.audio.nasty_files import FEATURE, FILES, PAGE, make_all, outcomes, page

QUICK = [each for each in FILES if each.name != "three_hours.wav"]


def table(folder: Path, names: list[str]) -> TrackTable:
    frame = pd.DataFrame({"track_id": names, "path": [str(folder / name) for name in names]})
    return TrackTable(frame, TableInfo(name="nasty"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nasty")
    for each in QUICK:
        each.make(path / each.name)
    return path


@pytest.fixture(scope="module")
def stored(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    extract(
        table(folder, [each.name for each in QUICK]),
        expand_features([FEATURE]),
        path,
        ExtractOptions(scheduler="sync", short_decode="flag"),
    )
    return open_store(path)


@pytest.mark.slow
def test_the_page_says_what_each_file_becomes(tmp_path: Path) -> None:
    """Run ``python -m tests.audio.nasty_files`` where this fails for a good reason."""
    found = outcomes(tmp_path / "files", tmp_path / "s.zarr")
    assert page(found, tmp_path / "files") == PAGE.read_text(encoding="utf-8")


def test_every_file_has_one_outcome(stored) -> None:
    tracks = stored.tracks
    assert len(tracks) == len(QUICK) and not (tracks["status"] == "pending").any()
    for name, row in tracks.iterrows():
        assert row["status"] == "ok" or row["error"], name


@pytest.mark.parametrize("each", [each for each in QUICK if each.like], ids=lambda each: repr(each.name))
def test_other_codings_give_the_same_array(stored, each) -> None:
    reader = stored[FEATURE]
    mine, plain = reader[each.name], reader[each.like]
    assert mine.shape == plain.shape
    loud = plain > plain.max() - 30  # below that, eight bits are noise
    assert np.abs(mine - plain)[loud].max() < 3.0
    if each.name not in ("pcm_8.wav", "eight_channels.wav"):
        assert np.abs(mine - plain)[loud].max() < 0.05


@pytest.mark.parametrize(
    ("name", "seconds", "words"),
    [
        ("half.ogg", 3.5, "the stream has no end: the file is cut"),
        ("chained.ogg", 4.0, "several streams were joined, and only the first is decoded"),
        ("two_rates.mp3", 4.0, "more music of another format follows, and is not decoded"),
        ("half.mp3", 3.9, "of the 8.00 s that the header declares"),
        ("joined.mp3", 4.0, "several files were joined, and only the first is decoded"),
        ("joined.au", 4.0, "another file follows behind the length that the header declares"),
        ("length_half.wav", 4.0, "88200 more follow that belong to nothing else"),
        ("count_half.flac", 4.0, "the header declares 44100 samples where the frames hold 88200"),
        ("half.au", 4.0, "of the 8.00 s that the header declares"),
        ("half.wav", 2.0, "of the 4.00 s that the header declares"),
    ],
)
def test_what_is_missing_is_kept_only_with_a_flag(stored, folder: Path, tmp_path, name, seconds, words) -> None:
    row = stored.tracks.loc[name]
    assert row["status"] == "short" and words in row["error"]
    assert abs(stored[FEATURE][name].shape[1] * 256 / 16000 - seconds) < 0.2
    for policy, status, there in (("fail", "short", False), ("keep", "ok", True)):
        options = ExtractOptions(scheduler="sync", short_decode=policy)
        extract(table(folder, [name, "plain.wav"]), expand_features([FEATURE]), tmp_path / policy, options)
        store = open_store(tmp_path / policy)
        assert store.tracks.loc[name, "status"] == status
        assert (name in store[FEATURE].track_ids) == there


@pytest.mark.parametrize("name", ["plain.wav", "plain.mp3", "huge_tag.mp3", "no_xing.mp3", "junk_between_frames.mp3"])
def test_whole_files_are_not_accused(folder: Path, name: str) -> None:
    assert open_audio(folder / name).info.damage == ""


def test_indexing_survives_them_too(folder: Path) -> None:
    frame = probe_tracks(table(folder, [each.name for each in QUICK]), jobs=4).frame.set_index("track_id")
    assert frame.loc["plain.wav", "probe_error"] is None or pd.isna(frame.loc["plain.wav", "probe_error"])
    for name in ("pipe.wav", "loop.wav", "dangling.wav", "folder.wav", "text.mp3", "empty.wav", "rate_1.wav"):
        assert frame.loc[name, "probe_error"], name


@pytest.mark.slow
def test_all_of_them_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.audio.nasty_files.FILES", QUICK)
    assert len(make_all(tmp_path)) == len(QUICK)
