"""Extraction end to end: right numbers, bytes that depend on nothing but the input, bad files in the ledger."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import soxr

from featstore.datasets import TrackTable
from featstore.errors import ConfigError, PlanError, StoreError, StoreLocked
from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.store.ledger import read_ledger, read_status
from featstore.store.writing import write_shard
from featstore.testing.audio import make_collection, make_faulty
from featstore.workflows.indexing import index_tracks
from tests.faults.small import snapshot

FEATURES = [
    "mel(n_mels=32,scale=db)",
    "mel(n_mels=32,scale=db,hop_length=512)",
    "mel(n_mels=16,scale=log10_1p)@float16",
]
SYNC = ExtractOptions(scheduler="sync", shard_tracks=3)


def table_of(folder: Path) -> TrackTable:
    return index_tracks("folder", folder)


def run(folder: Path, store: Path, features=FEATURES, options: ExtractOptions = SYNC):
    return extract(table_of(folder), expand_features(features), store, options)


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    return make_collection(tmp_path_factory.mktemp("music"), n_tracks=11, suffixes=(".wav", ".flac", ".mp3"))


@pytest.fixture(scope="module")
def reference(music, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "s.zarr"
    run(music, path)
    return path


def test_numbers_are_librosas(music, reference) -> None:
    reader = open_store(reference)["mel(n_mels=32,scale=db)"]
    for track in reader.track_ids[:4]:
        wave, rate = soundfile.read(music / track, dtype="float32")
        wave = soxr.resample(wave, rate, 16000, quality="HQ")
        power = librosa.feature.melspectrogram(
            y=wave, sr=16000, n_fft=512, hop_length=256, n_mels=32, pad_mode="constant", power=2.0
        )
        mine = reader[track]
        n = min(mine.shape[1], power.shape[1])
        assert abs(mine.shape[1] - power.shape[1]) <= 1
        theirs = 10 * np.log10(np.maximum(power, 1e-10))
        # the streamed resampler and the one-shot one differ near the ends
        assert np.abs(mine[:, 4 : n - 4] - theirs[:, 4 : n - 4]).max() < 0.05


def test_run_again_does_nothing(music, reference) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file()}
    report = run(music, reference)
    assert report.shards == 0 and report.status["ok"] == 11
    assert {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file()} == before


def test_two_processes_give_the_same_bytes(music, reference, tmp_path) -> None:
    run(music, tmp_path / "s.zarr", options=ExtractOptions(jobs=2, shard_tracks=3))
    assert snapshot(tmp_path / "s.zarr") == snapshot(reference)


def test_parts_of_the_work_in_any_order_give_the_same_bytes(music, reference, tmp_path) -> None:
    for part in (2, 0, 1):
        run(music, tmp_path / "s.zarr", options=ExtractOptions(scheduler="sync", shard_tracks=3, shard_range=(part, 3)))
    assert snapshot(tmp_path / "s.zarr") == snapshot(reference)


def test_a_run_without_work_says_what_is_true(music, tmp_path) -> None:
    """Of its part, of a limit, of tracks that failed: not that everything is stored."""
    from featstore_cli.extract import _describe_report

    def told(**settings) -> list[str]:
        report = run(music, path, FEATURES[:1], options=ExtractOptions(scheduler="sync", **settings))
        return _describe_report(report).splitlines()

    path = tmp_path / "s.zarr"
    lines = told(shard_tracks=100, shard_range=(1, 2))
    assert lines[0].startswith("nothing to do: the part that --shard-range chose has no shards")
    assert lines[2] == "1 shard left to the other parts of --shard-range"
    path = tmp_path / "t.zarr"
    assert "3 shards left to the other parts of --shard-range" in told(shard_tracks=2, shard_range=(0, 2))
    assert told(shard_range=(0, 2))[0] == "nothing to do: the 3 shards of this part are done"
    told(limit=4)
    assert told(limit=4)[0] == "nothing to do: all tracks before --limit are done"
    assert told()[0].startswith("3 tracks")
    assert told()[0] == "nothing to do: everything asked for is stored"


def test_features_added_later_touch_nothing_else(music, reference, tmp_path) -> None:
    path = tmp_path / "s.zarr"
    run(music, path, FEATURES[:1])
    before = {name: content for name, content in snapshot(path).items() if name.startswith(("features/mel", "commits"))}
    run(music, path, FEATURES[2:])
    after = snapshot(path)
    assert all(after[name] == content for name, content in before.items())
    assert len(open_store(path).arrays) == 2


@pytest.mark.parametrize(
    ("name", "asked", "backend"),
    [("s.h5", None, "hdf5"), ("s.zarr", None, "zarr"), ("s", None, "zarr"), ("s.hdf5", "zarr", "zarr")],
)
def test_a_new_store_is_what_its_name_says(music, tmp_path, name: str, asked: str | None, backend: str) -> None:
    for _ in range(2):  # the second time it is there
        run(music, tmp_path / name, FEATURES[:1], replace(SYNC, backend=asked))
        assert open_store(tmp_path / name).backend.name == backend
        asked = None


def test_a_run_counts_as_status_does_and_its_own_features_apart(music, tmp_path) -> None:
    path = tmp_path / "s.zarr"
    run(music, path, FEATURES[:1], replace(SYNC, limit=4))
    again = run(music, path, FEATURES[2:])
    assert (again.asked["ok"], again.asked["pending"]) == (11, 0)
    assert again.status == read_status(open_store(path)) and again.status["pending"] == 7


def test_limit_then_the_rest(music, reference, tmp_path) -> None:
    path = tmp_path / "s.zarr"
    report = run(music, path, options=ExtractOptions(scheduler="sync", shard_tracks=3, limit=4))
    assert report.tracks == 4 and report.status["pending"] == 7
    again = run(music, path, options=ExtractOptions(scheduler="sync", shard_tracks=3, limit=4))
    assert again.shards == 0
    assert run(music, path).status == {"tracks": 11, "ok": 11, "failed": 0, "pending": 0, "by_reason": {}}
    data = {name: content for name, content in snapshot(reference).items() if "/data/c/" in name}
    assert {name: content for name, content in snapshot(path).items() if "/data/c/" in name} == data


def test_bad_files_become_ledger_rows(music, tmp_path) -> None:
    folder = make_collection(tmp_path / "m", n_tracks=4)
    expected = make_faulty(folder / "bad")
    report = run(folder, tmp_path / "s.zarr")
    store = open_store(tmp_path / "s.zarr")
    got = {Path(track).name: status for track, status in store.tracks["status"].items() if track.startswith("bad")}
    assert got == expected
    assert report.status["failed"] == sum(status not in ("silent", "clipped") for status in expected.values())
    assert report.status["ok"] == 4 + 2
    ledger = read_ledger(store)
    assert all(len(text) > 10 for text in ledger["error"]) and set(ledger["path"].str.startswith(str(folder))) == {True}
    reader = store["mel(n_mels=32,scale=db)"]
    assert len(reader) == 6 and np.isfinite(reader["a/0000.wav"]).all()


@pytest.mark.slow
def test_short_files_can_be_kept(tmp_path) -> None:
    folder = make_collection(tmp_path / "m", n_tracks=2)
    make_faulty(folder / "bad")
    for policy, status, stored in (("flag", "short", True), ("keep", "ok", True), ("fail", "short", False)):
        path = tmp_path / f"{policy}.zarr"
        run(folder, path, options=ExtractOptions(scheduler="sync", short_decode=policy))
        store = open_store(path)
        assert store.tracks.loc["bad/half.mp3", "status"] == status
        assert ("bad/half.mp3" in store[FEATURES[0]].track_ids) is stored


def test_retry_after_the_file_is_mended(tmp_path) -> None:
    folder = make_collection(tmp_path / "m", n_tracks=4)
    whole = (folder / "a/0002.wav").read_bytes()
    (folder / "a/0002.wav").write_bytes(b"")
    path = tmp_path / "s.zarr"
    assert run(folder, path).status["by_reason"] == {"failed": 1}
    (folder / "a/0002.wav").write_bytes(whole)
    assert run(folder, path).status["failed"] == 1
    report = run(folder, path, options=ExtractOptions(scheduler="sync", shard_tracks=3, retry=("all",)))
    assert report.status["failed"] == 0 and report.shards == 1
    key = next(iter(open_store(path).arrays))
    generations = {json.loads(p.read_text())["generation"] for p in (path / "commits" / key).iterdir()}
    assert generations == {1, 2}


def test_new_tracks_are_appended(tmp_path) -> None:
    folder = make_collection(tmp_path / "m", n_tracks=4)
    path = tmp_path / "s.zarr"
    run(folder, path)
    before = snapshot(path)
    larger = make_collection(tmp_path / "larger", n_tracks=6)
    for new in (path for path in larger.rglob("*.wav") if not (folder / path.relative_to(larger)).exists()):
        shutil.copy(new, folder / new.relative_to(larger))
    report = run(folder, path)
    assert report.tracks == 2 and report.status["ok"] == 6
    after = snapshot(path)
    assert all(after[name] == content for name, content in before.items() if "/c/" in name)


@pytest.fixture(scope="module")
def more_music(tmp_path_factory) -> tuple[Path, Path]:
    """Enough work that a run can be met in the middle: the folder, and its undisturbed store."""
    folder = make_collection(tmp_path_factory.mktemp("more"), n_tracks=60, seconds=(2.0, 12.0))
    path = tmp_path_factory.mktemp("undisturbed") / "s.zarr"
    run(folder, path)
    return folder, path


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.0, 0.35, 0.7])
def test_killed_and_run_again_gives_the_same_bytes(more_music, tmp_path, moment: float) -> None:
    """kill -9 of the whole process group while shards are being written, at three stages of the work."""
    music, undisturbed = more_music
    path = tmp_path / "s.zarr"
    total = len(list((undisturbed / "commits").rglob("*.json")))
    table = tmp_path / "tracks.parquet"
    table_of(music).write(table)
    command = [
        sys.executable,
        "-m",
        "featstore_cli.main",
        "extract",
        str(table),
        "-s",
        str(path),
        "--shard-tracks",
        "3",
    ]
    command += ["-j", "2", *(word for feature in FEATURES for word in ("-f", feature))]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if len(list(path.glob("commits/*/*.json"))) > moment * total:
            break
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(path.glob("commits/*/*.json")))
    assert moment * total < done < total, "the run was not met in the middle"
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert snapshot(path) == snapshot(undisturbed)
    assert not list(path.glob("leases/*/*.json")) and not list(path.glob("staging/*"))


def test_a_store_that_another_run_writes_is_left_alone(music, tmp_path, monkeypatch) -> None:
    import featstore.extract.run as runner

    path = tmp_path / "s.zarr"
    run(music, path, options=ExtractOptions(scheduler="sync", shard_tracks=3, limit=1))
    store = open_store(path)
    key = next(iter(store.arrays))
    monkeypatch.setattr(runner, "WAIT_S", 0.1)
    with write_shard(store, 1, [key]), pytest.raises(StoreLocked, match=r"another run .* is writing 1 of the shards"):
        run(music, path)
    assert run(music, path).status["ok"] == 11


def test_no_space_left_is_told_and_loses_nothing(music, reference, tmp_path, monkeypatch) -> None:
    import errno

    from featstore.store.zarr_store import ZarrSlabWriter

    path = tmp_path / "s.zarr"
    calls = {"n": 0}
    plain = ZarrSlabWriter.append

    def failing(self, slot, chunk, values):
        calls["n"] += 1
        if calls["n"] > 12:
            from featstore.atomic import disk_errors

            with disk_errors(self.path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(self, slot, chunk, values)

    monkeypatch.setattr(ZarrSlabWriter, "append", failing)
    with pytest.raises(StoreError, match=r"No space left on device.*Free some space"):
        run(music, path)
    monkeypatch.undo()
    run(music, path)
    assert snapshot(path) == snapshot(reference)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean processes"):
        ExtractOptions(scheduler="process")
    with pytest.raises(ConfigError, match=r"shard_range=3/3 is out of range"):
        ExtractOptions(shard_range=(3, 3))
    with pytest.raises(ConfigError, match="retry='fialed'"):
        ExtractOptions(retry=("fialed",))


def test_strict_refuses_mixed_versions(music, tmp_path, monkeypatch, caplog) -> None:
    import featstore.extract.run as runner

    path = tmp_path / "s.zarr"
    run(music, path, options=ExtractOptions(scheduler="sync", shard_tracks=3, limit=1))
    monkeypatch.setattr(runner, "versions_of", lambda store, keys: {"numpy": "0.0"})
    with pytest.raises(PlanError, match=r"here 0\.0"):
        run(music, path, options=ExtractOptions(scheduler="sync", strict=True))
    run(music, path)
    assert "mixes versions" in caplog.text
