"""Audio with s3:// paths: the same samples as from disk, bounded copies, and faults in the ledger's words."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featstore.audio import decode_audio, local_copy, open_audio, probe_audio
from featstore.errors import DecodeError
from featstore.testing.audio import make_collection, make_faulty
from featstore.testing.s3_gate import s3_gate
from featstore.testing.s3_server import S3Server

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go in this test."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def copies(scratch: Path) -> list[Path]:
    return [path for path in scratch.rglob("*") if path.is_file()]


def uploaded(server: S3Server, folder: Path) -> str:
    url = f"s3://{server.new_bucket()}/music"
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            server.replace(url, path.relative_to(folder).as_posix(), path.read_bytes())
    return url


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["soundfile", "essentia"])
def test_samples_and_headers_are_those_of_the_file(s3: S3Server, tmp_path: Path, scratch: Path, decoder: str) -> None:
    if decoder == "essentia":
        pytest.importorskip("essentia")
    music = make_collection(tmp_path / "music", n_tracks=4, suffixes=SUFFIXES)
    url = uploaded(s3, music)
    for path in sorted(music.rglob("*.*")):
        name = path.relative_to(music).as_posix()
        assert probe_audio(f"{url}/{name}") == probe_audio(path)
        here, there = decode_audio(path, decoder=decoder), decode_audio(f"{url}/{name}", decoder=decoder)
        assert np.array_equal(here[0], there[0]) and here[1] == there[1]
        blocks = np.concatenate(list(open_audio(f"{url}/{name}", decoder=decoder).blocks(1000)), axis=1)
        assert np.array_equal(blocks, here[0])
        assert copies(scratch) == [], "a copy outlived its use"


@pytest.mark.parametrize("is_held", [True, False])
def test_blocks_of_remote_files_can_be_had_again(
    s3: S3Server, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, is_held: bool
) -> None:
    """Also of what libsndfile does not read from memory (a tagged FLAC, a VOX) and of files too large to be held."""
    music = make_collection(tmp_path / "music", n_tracks=2, seconds=(1, 1), suffixes=(".wav", ".flac"))
    flac = next(music.rglob("*.flac"))
    flac.write_bytes(b"ID3\x03\0\0\0\0\x02\0" + bytes(256) + flac.read_bytes())
    (music / "b.vox").write_bytes(np.random.default_rng(0).integers(0, 255, 8000, np.uint8).tobytes())
    url = uploaded(s3, music)
    if not is_held:
        monkeypatch.setattr("featstore.audio.memory_file.MOST_HELD", 0)
    for name in ("a/0000.wav", flac.relative_to(music).as_posix(), "b.vox"):
        source = open_audio(f"{url}/{name}")
        first, again = (np.concatenate(list(source.blocks(1000)), axis=1) for _ in range(2))
        assert np.array_equal(first, again) and np.array_equal(first, decode_audio(music / name)[0])
        assert copies(scratch) == []


@pytest.mark.slow
def test_a_probe_fetches_the_header_alone(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    music = make_collection(tmp_path / "music", n_tracks=1, seconds=(60, 60))
    url = uploaded(s3, music)
    with s3_gate(s3.endpoint) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.endpoint)
        asked = []
        gate.rule = lambda request: asked.append(request.headers.get("Range"))
        assert probe_audio(f"{url}/a/0000.wav") == probe_audio(music / "a/0000.wav")
    assert 1 <= len(asked) <= 4 and all(asked), asked


def test_faults_are_told_as_on_disk_with_the_url(s3: S3Server, tmp_path: Path, scratch: Path) -> None:
    for name in make_faulty(tmp_path / "faulty"):
        path = tmp_path / "faulty" / name
        url = uploaded(s3, path.parent) if name == "empty.wav" else url  # noqa: F821 (the first one sets it)
        told = []
        for place in (str(path), f"{url}/{name}"):
            try:
                audio, _ = decode_audio(place)
                told.append(("fine", audio.shape))
            except DecodeError as error:
                assert error.where == place
                told.append((type(error), error.what))
        assert told[0] == told[1], name
    assert copies(scratch) == []


def test_what_is_not_there_or_not_to_be_had(s3: S3Server, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.new_bucket()
    for ask in (probe_audio, open_audio):
        with pytest.raises(DecodeError, match=r"no such object \[s3://.*nothing.wav\]. Check the path"):
            ask(f"s3://{bucket}/nothing.wav")
        with pytest.raises(DecodeError, match="no bucket 'no-such-bucket'"):
            ask("s3://no-such-bucket/a.wav")
    s3.client().put_object(Bucket=bucket, Key="large.wav", Body=b"RIFF" + bytes(1000))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("usage", (), {"free": 10}))
    with pytest.raises(DecodeError, match=r"folder for temporary files 0.00 GB free.*Set TMPDIR"):
        open_audio(f"s3://{bucket}/large.wav")
    assert copies(scratch) == []


def test_one_copy_serves_all_that_is_done_with_a_track(s3: S3Server, tmp_path: Path, scratch: Path) -> None:
    url = uploaded(s3, make_collection(tmp_path / "music", n_tracks=1)) + "/a/0000.wav"
    with local_copy(url) as local:
        assert copies(scratch) == [Path(local)]
        open_audio(url)
        with local_copy(url) as again:
            assert again == local
        assert Path(local).exists()
    assert copies(scratch) == []
    with local_copy("/on/disk.wav") as local:
        assert local == "/on/disk.wav"


KILLED = """
import os, sys, tempfile
from featstore.audio import local_copy
with local_copy(sys.argv[1]):
    os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_a_copy_for_the_next_one_to_delete(
    s3: S3Server, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featstore.audio import remote

    url = uploaded(s3, make_collection(tmp_path / "music", n_tracks=1)) + "/a/0000.wav"
    subprocess.run([sys.executable, "-c", KILLED, url], env=os.environ | {"TMPDIR": str(scratch)}, check=False)
    assert len(copies(scratch)) == 1
    monkeypatch.setattr(remote, "_swept", set())
    with local_copy(url) as local:
        assert copies(scratch) == [Path(local)]
