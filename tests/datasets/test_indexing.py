"""Probing and the command line, on a tree with every kind of broken file."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import featstore.workflows.indexing as indexing
from featstore.audio.probe import probe_audio
from featstore.datasets import TrackTable, index
from featstore.errors import DatasetError, DecodeError
from featstore.workflows.indexing import index_tracks
from featstore_cli.datasets import datasets

Tone = Callable[..., Path]


def broken_tree(root: Path, tone: Tone) -> dict[str, str]:
    """Files that cannot be read, and what is said of each."""
    tone(root / "rock/good.wav", channels=2)
    tone(root / "jazz/good.flac", seconds=0.5, sample_rate=16000)
    (root / "rock/empty.mp3").touch()
    (root / "rock/page.mp3").write_text("<!doctype html><title>404</title>" * 40)
    (root / "rock/dangling.wav").symlink_to("nowhere.wav")
    os.mkfifo(root / "rock/pipe.wav")
    (root / "rock/half.wav").write_bytes(b"RIFF\x00\x00")
    return {
        "rock/empty.mp3": "empty (0 bytes)",
        "rock/page.mp3": "not readable as audio",
        "rock/dangling.wav": "points to 'nowhere.wav', which does not exist",
        "rock/pipe.wav": "pipe, socket or device",
        "rock/half.wav": "not readable as audio",
    }


def test_broken_files_stay_rows_with_the_reason(tmp_path: Path, tone: Tone) -> None:
    reasons = broken_tree(tmp_path, tone)
    frame = index_tracks("folder", tmp_path, jobs=3).frame.set_index("track_id")
    assert len(frame) == len(reasons) + 2
    for track_id, reason in reasons.items():
        assert reason in frame.loc[track_id, "probe_error"]
    good = frame.loc[["rock/good.wav", "jazz/good.flac"]]
    assert good["probe_error"].isna().all()
    assert good["duration_s"].tolist() == [0.1, 0.5]
    assert good["source_sample_rate"].tolist() == [8000, 16000]
    assert good["channels"].tolist() == [2, 1]
    assert good["size_bytes"].tolist() == [os.path.getsize(path) for path in good["path"]]


def test_probe_errors_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"no such file \[.*absent\.wav\]"):
        probe_audio(tmp_path / "absent.wav")
    with pytest.raises(DecodeError, match="this is a folder"):
        probe_audio(tmp_path)
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    with pytest.raises(DecodeError, match="cannot be examined"):
        probe_audio(tmp_path / "loop.wav")


def test_probe_reports_what_the_header_declares(tmp_path: Path, tone: Tone) -> None:
    path = tone(tmp_path / "a.wav", seconds=0.25, sample_rate=44100, channels=3)
    info = probe_audio(path)
    assert (info.sample_rate, info.channels, info.n_samples, info.duration_s) == (44100, 3, 11025, 0.25)
    assert (info.size_bytes, info.format, info.subtype) == (path.stat().st_size, "WAV", "PCM_16")


def test_probe_of_a_stream_whose_header_leaves_the_length_open(tmp_path: Path, tone: Tone) -> None:
    path = tone(tmp_path / "a.flac", seconds=1.0)
    data = bytearray(path.read_bytes())
    assert data[:8] == b"fLaC\x00\x00\x00\x22"  # STREAMINFO comes first; its last 36 bits of length are at byte 21
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    path.write_bytes(data)
    info = probe_audio(path)
    assert info.sample_rate == 8000
    assert info.n_samples in (-1, 8000)


def test_wav_that_claims_more_than_it_holds(tmp_path: Path, tone: Tone) -> None:
    path = tone(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 2**31 - 1)
    path.write_bytes(data)
    assert probe_audio(path).n_samples <= 2**30


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(datasets, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_index_command(tmp_path: Path, tone: Tone) -> None:
    tone(tmp_path / "music/rock/a.wav")
    tone(tmp_path / "music/jazz/b.wav")
    code, out, _ = run("index", "folder", tmp_path / "music", "-o", tmp_path / "t.parquet")
    assert code == 0 and "2 tracks" in out and "single_label with 2 classes" in out
    assert TrackTable.read(tmp_path / "t.parquet").frame["path"].tolist()[0] == str(tmp_path / "music/jazz/b.wav")
    code, out, _ = run(
        "index", "folder", tmp_path / "music", "--set", "label_from=none", "-o", tmp_path / "u.parquet", "--json"
    )
    assert json.loads(out)["task"] == "none" and json.loads(out)["tracks"] == 2
    first = (tmp_path / "t.parquet").read_bytes()
    run("index", "folder", tmp_path / "music", "-o", tmp_path / "t.parquet", "-j", "1")
    assert (tmp_path / "t.parquet").read_bytes() == first


def test_index_command_names_broken_files(tmp_path: Path, tone: Tone) -> None:
    reasons = broken_tree(tmp_path / "music", tone)
    code, out, err = run("index", "folder", tmp_path / "music", "-o", tmp_path / "t.parquet")
    assert code == 2 and "5 cannot be read" in out
    assert all(f"cannot be read: {track_id}: " in err for track_id in reasons)


def test_index_command_with_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the folder is empty"):
        run("index", "folder", tmp_path, "-o", tmp_path / "t.parquet")


def test_split_and_check_commands(tmp_path: Path, tone: Tone) -> None:
    for number in range(20):
        tone(tmp_path / f"music/{'ab'[number % 2]}/{number}.wav", hz=200 + number)
    table, split = tmp_path / "t.parquet", tmp_path / "s.parquet"
    run("index", "folder", tmp_path / "music", "-o", table)
    code, out, _ = run("split", table, "-o", split, "--fractions", "0.6,0.2,0.2", "--seed", "3", "--json")
    assert code == 0 and json.loads(out)["splits"] == {"test": 4, "train": 12, "valid": 4}
    code, out, _ = run("check", split)
    assert code == 0 and "20 tracks, 0 errors, 0 warnings" in out
    (tmp_path / "music/a/0.wav").unlink()
    code, out, _ = run("check", split, "--json")
    assert code == 3 and json.loads(out)["findings"][0]["kind"] == "missing_file"


def test_list_command() -> None:
    code, out, _ = run("list")
    assert code == 0 and out.startswith("folder     A folder of audio")
    assert "cite: M. Defferrard" in out and "licence: metadata CC BY 4.0" in out
    assert "checksums: fma_metadata.zip sha1:f0df49ff" in out and "``" not in out
    code, out, _ = run("list", "--json")
    rows = {each["kind"]: each for each in json.loads(out)}
    assert list(rows)[:2] == ["folder", "csv"]
    assert rows["fma"]["checksums"]["fma_small.zip"] == "sha1:ade154f733639d52e35e32f5593efe5be76c6d70"
    assert rows["gtzan"]["counts"]["gtzan-fault-filtered"] == {"train": 443, "valid": 197, "test": 290}


@pytest.mark.parametrize("name", ["list", "index", "check", "split"])
def test_help_has_an_example(name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0 and f"featstore datasets {name}" in out


def test_names_of_other_bytes_are_explained(tmp_path: Path, tone: Callable[..., Path]) -> None:
    tone(tmp_path / "a.wav")
    os.rename(tmp_path / "a.wav", os.fsencode(tmp_path) + b"/caf\xe9.wav")
    tone(tmp_path / "e\u0301.wav")
    (tmp_path / "l.csv").write_text("path\ncaf\u00e9.wav\n\u00e9.wav\nnai\u0308f.wav\n", encoding="utf-8")
    errors = index_tracks("csv", tmp_path / "l.csv").frame["probe_error"].tolist()
    assert errors == ["the file's name is not valid UTF-8", None, "no such file"]
    with pytest.raises(DecodeError, match=r"name is not valid UTF-8 .*Rename it, then index again"):
        probe_audio(tmp_path / "caf\\xe9.wav")  # as an index of the folder shows it
    with pytest.raises(DecodeError, match="another Unicode form"):
        probe_audio(tmp_path / "\u00e9.wav")


def test_tables_and_lists_below_a_name_that_is_not_utf8(tmp_path: Path, tone: Callable[..., Path]) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xe9"))
    folder.mkdir()
    tone(tmp_path / "a.wav").rename(folder / "a.wav")
    (folder / "l.csv").write_text("path\na.wav\n")
    table = index_tracks("csv", folder / "l.csv")
    table.write(folder / "t.parquet")
    assert TrackTable.read(folder / "t.parquet").frame["track_id"].tolist() == ["a.wav"]


def test_the_bar_of_artist_tags_ends(tone: Tone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def watched(items: Iterable[object], **_: object) -> Iterator[object]:
        yield from items
        ended.append(True)

    table = index("folder", tone(tmp_path / "rock" / "a.wav").parent)
    monkeypatch.setattr(indexing, "progress", watched)
    assert indexing.artists_of(table) == [None] and ended
