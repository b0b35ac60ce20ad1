"""Recordings that are there twice are found by their audio, through encoders, levels and other excerpts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import CliRunner

from featstore.datasets import TableInfo, TrackTable
from featstore.errors import DatasetError
from featstore.workflows.indexing import index_tracks, probe_tracks, with_splits
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


def collection(root: Path, *, n: int = 16) -> Path:
    """Table of ``n`` recordings in two classes, of which two are there as mp3 too."""
    for k in range(n):
        (root / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        soundfile.write(root / f"{'ab'[k % 2]}/{k:02d}.wav", music(k, 5), RATE)
    for k in (3, 8):
        soundfile.write(root / f"{'ab'[k % 2]}/copy{k:02d}.mp3", 0.7 * music(k, 5), RATE)
    index_tracks("folder", root).write(root / "t.parquet")
    return root / "t.parquet"


def sides(table: Path) -> dict[str, str | None]:
    frame = TrackTable.read(table).frame
    return dict(zip(frame["track_id"], frame["split"], strict=True))


def split(table: Path, out: Path, *more: str) -> dict[str, str | None]:
    """Sides that the command gives, with a seed that has copies on two sides."""
    arguments = ["split", str(table), "-o", str(out), "--fractions", "0.4,0.3,0.3", "--seed", "1", *more]
    assert CliRunner().invoke(datasets, arguments, catch_exceptions=False).exit_code == 0
    return sides(out)


def test_what_check_finds_split_keeps_together(tmp_path: Path) -> None:
    table, found = collection(tmp_path), tmp_path / "r.json"
    before = split(table, tmp_path / "before.parquet")
    assert before["b/03.wav"] != before["b/copy03.mp3"] or before["a/08.wav"] != before["a/copy08.mp3"]
    check = ["check", "--fingerprint"]
    leaking = [*check, str(tmp_path / "before.parquet"), "--repeats", str(found)]
    result = CliRunner().invoke(datasets, leaking, catch_exceptions=False)
    assert result.exit_code == 3 and "repeated_recording_across_splits" in result.stdout
    after = split(table, tmp_path / "after.parquet", "--repeats", str(found))
    result = CliRunner().invoke(datasets, [*check, str(tmp_path / "after.parquet")], catch_exceptions=False)
    assert result.exit_code == 0 and result.stdout.count("repeated_recording:") == 2
    repeated = {track for tracks in json.loads(found.read_text()) for track in tracks}
    assert repeated == {"b/03.wav", "b/copy03.mp3", "a/08.wav", "a/copy08.mp3"}
    assert {track: after[track] for track in after if track not in repeated} == {
        track: before[track] for track in before if track not in repeated
    }


def some_tracks(groups: list[str | None], *, broken: tuple[int, ...] = ()) -> TrackTable:
    names = [f"t{k}" for k in range(len(groups))]
    errors = ["empty (0 bytes)" if k in broken else None for k in range(len(groups))]
    return TrackTable(
        pd.DataFrame({"track_id": names, "path": names, "group": groups, "probe_error": errors}), TableInfo(name="t")
    )


def test_a_hand_made_file_links_groups(tmp_path: Path) -> None:
    table = some_tracks([f"g{k // 3}" if k < 30 else None for k in range(60)])
    lists = [["t0", "t29"], ["t40", "t41"], ["t41", "t1"]]
    (tmp_path / "r.json").write_text(json.dumps(lists))
    before = with_splits(table, (0.5, 0.25, 0.25)).frame["split"]
    after = with_splits(table, (0.5, 0.25, 0.25), repeats=tmp_path / "r.json").frame["split"]
    linked = [0, 1, 2, 27, 28, 29, 40, 41]
    assert before[linked].nunique() > 1 and after[linked].nunique() == 1
    assert after.drop(linked).equals(before.drop(linked))
    assert with_splits(table, (0.5, 0.25, 0.25), repeats=lists).frame["split"].equals(after)


def test_a_file_that_cannot_be_read_links_others() -> None:
    table = some_tracks([None] * 40 + ["g", "g"], broken=(39, 41))
    before = with_splits(table, (0.4, 0.3, 0.3)).frame["split"]
    other = {side: int(before.index[before == side][0]) for side in ("train", "valid", "test")}
    one, two, three = (f"t{row}" for row in other.values())
    after = with_splits(table, (0.4, 0.3, 0.3), repeats=[[one, "t39"], ["t39", two], [three, "t41"]]).frame["split"]
    assert after[other["train"]] == after[other["valid"]] and after[other["test"]] == after[40]
    assert after[[39, 41]].isna().all()


def test_a_wrong_file_writes_no_table(tmp_path: Path) -> None:
    table, file = tmp_path / "t.parquet", tmp_path / "r.json"
    some_tracks([None] * 9).write(table)
    arguments = ["split", str(table), "-o", str(tmp_path / "out.parquet"), "--repeats", str(file)]
    for text, what in {'[["t0", "t99"]]': "such as 't99'", "{}": "the repeats are an object", "[[": "as JSON"}.items():
        file.write_text(text)
        with pytest.raises(DatasetError, match=what):
            CliRunner().invoke(datasets, arguments, catch_exceptions=False)
    assert not (tmp_path / "out.parquet").exists()
