"""Altered copies of tracks: each alteration does what its name says, the same for the same seed, and is made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from featstore.audio import decode_audio
from featstore.datasets import TableInfo, TrackTable
from featstore.errors import ConfigError, DatasetError
from featstore.workflows import timbre
from featstore.workflows.alter import alter_tracks, part_of
from featstore.workflows.alterations import ALTERATIONS, parse_alteration
from featstore.workflows.scramble import scramble_phases
from featstore_cli.main import main

RATE = 22050


def sound(seconds: float = 1.5) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    chirp = 0.4 * np.sin(2 * np.pi * (200 + 300 * time) * time) * np.exp(-2 * (time % 0.5))
    return chirp.astype(np.float32)


def magnitudes(signal: np.ndarray) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(signal, 1024)[::256] * np.hanning(1024)
    return np.abs(np.fft.rfft(frames, axis=-1))


def test_magnitudes_stay_and_samples_do_not() -> None:
    signal = sound()
    found = scramble_phases(signal, rng=np.random.default_rng(0))
    assert found.shape == signal.shape and found.dtype == np.float32
    before, after = magnitudes(signal), magnitudes(found)
    assert np.linalg.norm(after - before) < 0.15 * np.linalg.norm(before)
    assert abs(np.corrcoef(signal, found)[0, 1]) < 0.5
    other = scramble_phases(signal, rng=np.random.default_rng(1))
    assert abs(np.corrcoef(other, found)[0, 1]) < 0.5
    assert not scramble_phases(np.zeros(3000, np.float32), rng=np.random.default_rng(0)).any()
    assert len(scramble_phases(np.ones(5, np.float32), rng=np.random.default_rng(0))) == 5


def test_every_alteration_reads_its_own_example() -> None:
    for kind in ALTERATIONS:
        example = ALTERATIONS.load(kind).example
        assert type(parse_alteration(example)) is ALTERATIONS.load(kind) and example.startswith(kind)
    for wrong in ("mp3-64", "gain+6dB", "noise", "echo-3s", "resample-8000"):
        with pytest.raises(ConfigError, match=r"unknown alteration .*Known: gain-6dB, mp3-64k"):
            parse_alteration(wrong)


@pytest.fixture
def table(tmp_path: Path) -> TrackTable:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([sound(0.4)] * 2, axis=1), RATE)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    names = ["a", "b", "broken"]
    paths = [str(tmp_path / f"{name}.wav") for name in names]
    frame = pd.DataFrame({"track_id": [f"x/{name}" for name in names], "path": paths, "labels": [["l"]] * 3})
    return TrackTable(frame.assign(split=["train", "test", "test"]), TableInfo(name="test"))


def altered(table: TrackTable, name: str, folder: Path) -> tuple[np.ndarray, int]:
    """First copy of a table, and its rate."""
    found = alter_tracks(table, name, folder / name, jobs=1)
    samples, rate = decode_audio(found.table.frame["path"][0])
    assert len(samples) == 1 and found.table.frame["source_sample_rate"][0] == rate
    return samples[0], rate


def test_each_alteration_does_what_it_says(table: TrackTable, tmp_path: Path) -> None:
    signal = sound(0.4)
    softer, rate = altered(table, "gain-6dB", tmp_path)
    assert rate == RATE and np.allclose(softer, signal * 10 ** (-6 / 20), atol=1e-4)
    noisy, _ = altered(table, "noise-20dB", tmp_path)
    ratio = 10 * np.log10(np.mean(signal**2) / np.mean((noisy - signal) ** 2))
    assert ratio == pytest.approx(20, abs=0.3)
    halved, rate = altered(table, "resample-half", tmp_path)
    assert rate == RATE // 2 and len(halved) == len(signal) // 2
    assert altered(table, "resample-8k", tmp_path)[1] == 8000
    coded, rate = altered(table, "mp3-64k", tmp_path)
    assert rate == RATE and abs(len(coded) - len(signal)) < 1200
    assert np.corrcoef(coded[: len(signal)], signal)[0, 1] > 0.95
    with pytest.raises(DatasetError, match=r"no track could be altered: the track has 22050 Hz, which resample-44\.1k"):
        altered(table, "resample-44.1k", tmp_path)


def test_mp3_has_the_bit_rate_of_its_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(16000 * 8), 16000)
    for rate in (64, 24):
        kind, target = parse_alteration(f"mp3-{rate}k"), tmp_path / f"{rate}.mp3"
        kind.write({"path": tmp_path / "noise.wav"}, target, rng=np.random.default_rng(0))
        assert target.stat().st_size == pytest.approx(rate * 1000, rel=0.03)  # 8 s
    with pytest.raises(ConfigError, match=r"mp3 at 16000 Hz has no 256 kbit/s.*It has 8 to 160"):
        parse_alteration("mp3-256k").write({"path": tmp_path / "noise.wav"}, target, rng=np.random.default_rng(0))


def test_a_table_of_copies(table: TrackTable, tmp_path: Path) -> None:
    found = alter_tracks(table, "scramble-4", tmp_path / "out", jobs=1)
    assert list(found.failed) == ["x/broken"] and list(found.table.frame["track_id"]) == ["x/a", "x/b"]
    first, second = (soundfile.read(path)[0] for path in found.table.frame["path"])
    assert first.shape == sound(0.4).shape and not np.allclose(first, second, atol=1e-3)  # phases go by the track
    times = [Path(path).stat().st_mtime_ns for path in found.table.frame["path"]]
    again = alter_tracks(table, "scramble-4", tmp_path / "out", jobs=1)
    assert [Path(path).stat().st_mtime_ns for path in again.table.frame["path"]] == times
    same = alter_tracks(table, "scramble-4", tmp_path / "same", jobs=1)
    assert np.array_equal(soundfile.read(same.table.frame["path"][0])[0], first)
    with pytest.raises(ConfigError, match="the folder holds copies of scramble-4 with seed 0"):
        alter_tracks(table, "scramble-4", tmp_path / "out", seed=1, jobs=1)


def test_a_part_of_a_table(table: TrackTable) -> None:
    assert list(part_of(table, split="test").frame["track_id"]) == ["x/b", "x/broken"]
    one, two = (set(part_of(table, most=most).frame["track_id"]) for most in (1, 2))
    assert len(one) == 1 and one < two
    unsplit = TrackTable(table.frame.assign(split=None), table.info)
    with pytest.raises(DatasetError, match=r"no track in the split 'test'.*featstore datasets split"):
        part_of(unsplit, split="test")
    with pytest.raises(DatasetError, match="no track in the split 'tets'"):
        part_of(table, split="tets")


def test_the_command_says_what_failed(table: TrackTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table.write(tmp_path / "tracks.parquet")
    words = ["datasets", "alter", str(tmp_path / "tracks.parquet"), "gain-6dB", "-o", str(tmp_path / "copies")]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--split", "test", "-j", "1"])
    said = capsys.readouterr()
    assert ended.value.code == 2 and "1 copies" in said.out and "x/broken" in said.err
    assert list(TrackTable.read(tmp_path / "copies" / "tracks.parquet").frame["track_id"]) == ["x/b"]


def test_built_in_music_is_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("symusic", reason="the extra demo is not installed")
    from featstore.datasets.demo.arrange import window
    from featstore.datasets.demo.build import arranged
    from featstore.datasets.demo.catalogue import catalogue
    from featstore.datasets.demo.packages import font_path
    from featstore.datasets.demo.render import render, write_audio

    entry = next(each for each in catalogue() if each.style == "reel")
    clip = window(arranged(entry.work, entry.style, seed=0, notes=tmp_path / "music" / "notes"), 0)
    path = tmp_path / "music" / "flac-16000-mono" / "reel" / "one.flac"
    audio, _ = render(clip, sample_rate=16000, channels=1)
    write_audio(path, audio, sample_rate=16000, format="flac")
    row = {"track_id": "one", "path": str(path), "labels": ["reel"], "work": entry.work, "style": entry.style}
    frame = pd.DataFrame([row | {"window": 0, "identity": clip.identity}])
    one = TrackTable(frame, TableInfo(name="demo"))
    monkeypatch.setattr(timbre, "_PLACES", (str(tmp_path),))
    (tmp_path / "sf2").mkdir()
    (tmp_path / "sf2" / "Same.sf2").symlink_to(font_path())
    copy, rate = altered(one, "timbre-Same", tmp_path)
    assert rate == 16000 and np.allclose(copy, audio[0], atol=1e-4)  # the same font: the same clip
    with pytest.raises(DatasetError, match="no sound font 'Other'"):
        altered(one, "timbre-Other", tmp_path)
    soundfile.write(tmp_path / "own.wav", sound(0.2), RATE)
    with pytest.raises(DatasetError, match="the track is no clip of the built-in music"):
        parse_alteration("timbre-Same").write(
            {"path": tmp_path / "own.wav"}, tmp_path / "x.flac", rng=np.random.default_rng(0)
        )


def test_a_folder_without_copies_is_free_again(table: TrackTable, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no track could be altered: mp3 at"):
        alter_tracks(table, "mp3-640k", tmp_path / "copies", jobs=1)
    assert not (tmp_path / "copies").exists()
    assert list(alter_tracks(table, "gain-6dB", tmp_path / "copies", jobs=1).failed) == ["x/broken"]
