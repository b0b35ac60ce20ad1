"""Recordings that are there twice are found by their audio, through encoders, levels and other excerpts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from click.testing import CliRunner

from featstore.datasets import TableInfo, TrackTable
from featstore.workflows.indexing import probe_tracks
from featstore.workflows.repeats import find_repeats, fingerprint
from featstore_cli.datasets import datasets

RATE = 22_050


def music(seed: int, seconds: float = 12.0) -> np.ndarray:
    """Three voices of tones that change at their own times, with a little noise."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    wave = 0.01 * rng.standard_normal(n)
    for _ in range(3):
        at = 0
        while at < n:
            length = int(rng.uniform(0.1, 0.5) * RATE)
            t = np.arange(min(length, n - at)) / RATE
            tone = np.sin(2 * np.pi * rng.uniform(150, 3000) * t) * np.exp(-3 * t)
            wave[at : at + len(t)] += tone
            at += length
    return (0.3 * wave).astype(np.float32)


def test_excerpts_copies_and_other_music() -> None:
    one, two = music(1, 20), music(2, 20)
    later = one[round(5.37 * RATE) :]
    noisy = 0.2 * one + 0.002 * np.random.default_rng(0).standard_normal(len(one)).astype(np.float32)
    silence = np.zeros(RATE, np.float32)
    tracks = [two, one, music(3), later, music(4), noisy, two[: 8 * RATE], silence, silence, music(5)]
    prints = [fingerprint(each, sample_rate=RATE) for each in tracks]
    assert find_repeats(prints) == [(0, 6), (1, 3, 5)]
    assert find_repeats([]) == [] and find_repeats(prints[7:9]) == []


def test_check_reports_and_writes_them(tmp_path: Path) -> None:
    one, two = music(1), music(2)
    soundfile.write(tmp_path / "a.wav", one, RATE)
    soundfile.write(tmp_path / "b.mp3", 0.5 * one, RATE)
    soundfile.write(tmp_path / "c.wav", two, RATE)
    soundfile.write(tmp_path / "d.flac", two, RATE)
    soundfile.write(tmp_path / "e.flac", music(3), RATE)
    names = ["a.wav", "b.mp3", "c.wav", "d.flac", "e.flac"]
    paths = [str(tmp_path / name) for name in names]
    frame = pd.DataFrame({"track_id": names, "path": paths, "split": ["train", "test", "train", "train", "valid"]})
    probe_tracks(TrackTable(frame, TableInfo(name="t"))).write(tmp_path / "t.parquet")
    content = (tmp_path / "e.flac").read_bytes()
    (tmp_path / "e.flac").write_bytes(content[: len(content) // 2])
    arguments = ["check", str(tmp_path / "t.parquet"), "--fingerprint", "--repeats", str(tmp_path / "r.json"), "--json"]
    result = CliRunner().invoke(datasets, arguments, catch_exceptions=False)
    found = {each["kind"]: each for each in json.loads(result.stdout)["findings"]}
    assert result.exit_code == 3
    assert found["repeated_recording_across_splits"]["message"] == "one recording: a.wav (train), b.mp3 (test)"
    assert found["repeated_recording"]["tracks"] == ["c.wav", "d.flac"]
    assert "e.flac" in str(found["undecodable"]["tracks"])
    assert json.loads((tmp_path / "r.json").read_text()) == [["a.wav", "b.mp3"], ["c.wav", "d.flac"]]
    result = CliRunner().invoke(datasets, [*arguments[:2], "--repeats", "x.json"])
    assert result.exit_code != 0 and "--repeats without --fingerprint" in str(result.exception)
