"""Indexing goes on where it was stopped: answers are kept, files that changed are asked again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import featstore.workflows.indexing as indexing
from featstore.datasets import index
from featstore.testing.audio import make_collection
from featstore.workflows.probe_cache import default_cache


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files whose header was read."""
    names: list[str] = []
    plain = indexing.probe_audio

    def probe(path: str):
        names.append(Path(path).name)
        return plain(path)

    monkeypatch.setattr(indexing, "probe_audio", probe)
    return names


def test_answers_are_kept_until_a_file_changes(tmp_path: Path, asked: list[str]) -> None:
    music = make_collection(tmp_path / "m", n_tracks=6, seconds=(0.2, 0.4))
    (music / "a" / "bad.wav").write_bytes(b"RIFF")
    cache = tmp_path / "cache" / "p.jsonl"
    table = index("folder", music)
    first = indexing.probe_tracks(table, cache=cache)
    assert len(asked) == 7
    asked.clear()
    second = indexing.probe_tracks(table, cache=cache)
    assert asked == ["bad.wav"], "only what could not be read is asked again"
    assert first.frame.equals(second.frame)
    content = cache.read_text()
    cache.write_text(content[: len(content) - 30])  # killed while writing
    os.utime(music / "a" / "0000.wav", ns=(1, 1))
    asked.clear()
    assert indexing.probe_tracks(table, cache=cache).frame.equals(first.frame)
    assert len(asked) == 3 and {"0000.wav", "bad.wav"} < set(asked), "and the one whose line was cut"


def test_large_collections_have_a_cache_of_their_own(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(indexing, "_CACHED_FROM", 3)
    music = make_collection(tmp_path / "m", n_tracks=4, seconds=(0.2, 0.4))
    indexing.index_tracks("folder", music)
    assert default_cache(music).exists() and len(asked) == 4
    indexing.index_tracks("folder", music)
    assert len(asked) == 4


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, caplog) -> None:
    music = make_collection(tmp_path / "m", n_tracks=2, seconds=(0.2, 0.4))
    (tmp_path / "file").write_text("")
    found = indexing.probe_tracks(index("folder", music), cache=tmp_path / "file" / "p.jsonl")
    assert found.frame["duration_s"].notna().all() and "answers of probing are not kept" in caplog.text


# ---- processes in place of threads, for many files ------------------------------------------------------------------


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "_FORKED_FROM", 4)
    monkeypatch.setattr(indexing, "cpu_count", lambda: 2)
    monkeypatch.setattr(indexing, "_SLICE", 3)


def many(folder: Path) -> Path:
    music = make_collection(folder, n_tracks=9, seconds=(0.2, 0.4))
    (music / "a" / "bad.wav").write_bytes(b"RIFF")
    return music


def test_processes_say_what_threads_do(tmp_path: Path, forked: None) -> None:
    music = many(tmp_path / "m")
    found = indexing.index_tracks("folder", music, jobs=3)
    assert found.frame.equals(indexing.index_tracks("folder", music, jobs=1).frame)
    assert found.frame["probe_error"].notna().sum() == 1 and len(found) == 10
    assert indexing.artists_of(found, jobs=3) == indexing.artists_of(found, jobs=1)


def test_the_headers_of_many_files_are_read_by_other_processes(
    tmp_path: Path, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = tmp_path / "readers"
    plain = indexing.probe_audio

    def probe(path: str):
        with readers.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return plain(path)

    monkeypatch.setattr(indexing, "probe_audio", probe)
    indexing.index_tracks("folder", many(tmp_path / "m"), jobs=2)
    pids = readers.read_text().split()
    assert len(pids) == 10 and str(os.getpid()) not in pids and len(set(pids)) == 2


def test_a_file_that_ends_its_reader_is_named_and_costs_no_other(
    tmp_path: Path, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = indexing.probe_audio

    def probe(path: str):
        if path.endswith("0004.wav"):
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(path)

    music = many(tmp_path / "m")
    whole = indexing.index_tracks("folder", music, jobs=1).frame
    monkeypatch.setattr(indexing, "probe_audio", probe)
    frame = indexing.index_tracks("folder", music, jobs=2).frame
    is_killer = frame["path"].str.endswith("0004.wav")
    assert frame["probe_error"][is_killer].tolist() == ["a library crashes on its header"]
    assert frame[~is_killer].equals(whole[~is_killer])


def test_a_file_that_ends_its_reader_has_no_artist(
    tmp_path: Path, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def artist(path: str) -> str:
        if path.endswith("0004.wav"):
            os.kill(os.getpid(), signal.SIGKILL)
        return Path(path).stem

    table = indexing.index_tracks("folder", make_collection(tmp_path / "m", n_tracks=9, seconds=(0.2, 0.4)))
    monkeypatch.setattr(indexing, "read_artist", artist)
    expected = [None if path.endswith("0004.wav") else Path(path).stem for path in table.frame["path"]]
    assert indexing.artists_of(table, jobs=2) == expected
