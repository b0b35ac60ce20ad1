"""Extraction into a bucket, from files on disk and in a bucket, through the command line and its processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from featstore.datasets import TrackTable
from featstore.extract import ExtractOptions
from featstore.extract.run import extract
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.store.ledger import read_ledger
from featstore.store.location import open_location
from featstore.store.verify import verify
from featstore.testing.audio import make_collection, make_faulty
from featstore.testing.s3_server import S3Server
from featstore.workflows.indexing import index_tracks
from featstore.workflows.repair import repair

FEATURE = "mel(n_mels=24,scale=db)"
PROGRAM = (sys.executable, "-m", "featstore_cli.main")
SMALL = "mel(n_mels=12,scale=db)"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def featstore(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *map(str, arguments)]
    env = os.environ | {"FEATSTORE_PROGRESS": "0"}
    result = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert not check or result.returncode in (0, 2), result.stderr[-3000:]
    return result


def content(files: dict[str, bytes]) -> dict[str, bytes]:
    """What must not depend on where, how and how often a store was made."""
    return {name: data for name, data in files.items() if not name.startswith("log/")}


def on_disk(path: Path) -> dict[str, bytes]:
    return content({str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()})


def make_table(tmp_path: Path, n_tracks: int = 8, faulty: bool = False) -> Path:
    music = make_collection(tmp_path / "music", n_tracks=n_tracks)
    if faulty:
        make_faulty(music / "a")
    index_tracks("folder", music).write(tmp_path / "tracks.parquet")
    return tmp_path / "tracks.parquet"


def upload(server: S3Server, table: Path, url: str) -> TrackTable:
    """The same tracks, their files and their table in a bucket."""
    tracks = TrackTable.read(table)
    for path in tracks.frame["path"]:
        server.replace(url, "/".join(Path(path).parts[-2:]), Path(path).read_bytes())
    moved = tracks.frame.assign(path=[f"{url}/{'/'.join(Path(path).parts[-2:])}" for path in tracks.frame["path"]])
    TrackTable(moved, tracks.info).write(f"{url}/tracks.parquet")
    return TrackTable.read(f"{url}/tracks.parquet")


@pytest.mark.slow
def test_audio_table_and_store_in_a_bucket(s3: S3Server, tmp_path: Path, scratch: Path) -> None:
    table = make_table(tmp_path, faulty=True)
    url = f"s3://{s3.new_bucket()}/data"
    remote = upload(s3, table, url)
    assert all(path.startswith(url) for path in remote.frame["path"])
    options = ExtractOptions(scheduler="sync", shard_tracks=6)
    requests = expand_features([FEATURE, SMALL], None)
    here = extract(TrackTable.read(table), requests, tmp_path / "x.zarr", options)
    there = extract(remote, requests, f"{url}/x.zarr", options)
    assert there.status == here.status and there.status["failed"] > 3
    disk, bucket = on_disk(tmp_path / "x.zarr"), content(s3.objects(f"{url}/x.zarr"))
    data = [name for name in disk if "/c/" in name]
    assert len(data) >= 8 and {name: bucket[name] for name in data} == {name: disk[name] for name in data}
    ledgers = [read_ledger(open_store(place)) for place in (tmp_path / "x.zarr", f"{url}/x.zarr")]
    assert ledgers[0]["status"].tolist() == ledgers[1]["status"].tolist()
    assert all(path.startswith("s3://") for path in ledgers[1]["path"] if path)
    assert not [path for path in scratch.rglob("*") if path.is_file()]
    s3.replace(url, remote.frame["path"].iloc[0].removeprefix(f"{url}/"), None)
    again = extract(remote, expand_features(["mel(n_mels=8)"], None), f"{url}/x.zarr", options)
    assert again.status["failed"] >= here.status["failed"]
    assert any("no such object" in error for error in read_ledger(open_store(f"{url}/x.zarr"))["error"])


@pytest.mark.slow
def test_repair_in_a_bucket(s3: S3Server, tmp_path: Path) -> None:
    table = TrackTable.read(make_table(tmp_path))
    url = f"s3://{s3.new_bucket()}/x.zarr"
    options = ExtractOptions(scheduler="sync", shard_tracks=4)
    extract(table, expand_features([FEATURE], None), url, options)
    whole = content(s3.objects(url))
    names = [next(n for n in whole if part in n) for part in ("/data/c/1", "/n_frames/c/1", "commits/", "manifest")]
    for name in names:
        s3.replace(url, name, bytes(reversed(whole[name])))
    assert {problem.file for problem in verify(url)} >= set(names)
    report = repair(url, options=options)
    assert report.left == [] and report.shards == 2
    assert content(s3.objects(url)) == whole


@pytest.mark.slow
def test_the_command_line_with_two_processes_and_with_parts(s3: S3Server, tmp_path: Path) -> None:
    table = make_table(tmp_path, 12)
    common = ("extract", table, "-f", FEATURE, "-f", SMALL, "--shard-tracks", 3)
    featstore(*common, "-s", tmp_path / "x.zarr", "-j", 1)
    disk = on_disk(tmp_path / "x.zarr")
    bucket = s3.new_bucket()
    told = json.loads(featstore(*common, "-s", f"s3://{bucket}/wide.zarr", "-j", 2, "--json").stdout)
    assert told["ok"] == 12 and content(s3.objects(f"s3://{bucket}/wide.zarr")) == disk
    url = f"s3://{bucket}/parts.zarr"
    env = os.environ | {"FEATSTORE_PROGRESS": "0"}
    parts = [
        subprocess.Popen(
            [*PROGRAM, *map(str, common), "-s", url, "-j", "1", "--shard-range", f"{part}/2"],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for part in range(2)
    ]
    for part in parts:
        _, errors = part.communicate(timeout=300)
        assert part.returncode == 0, errors.decode()[-3000:]
    made = content(s3.objects(url))
    records = {name for name in disk if name.startswith("commits/")}
    assert {n: d for n, d in made.items() if "/c/" in n} == {n: d for n, d in disk.items() if "/c/" in n}
    assert records <= set(made) and verify(url) == []
    assert featstore("store", "verify", url, "--quick").returncode == 0
    assert json.loads(featstore("status", url, "--json").stdout)["ok"] == 12


@pytest.mark.slow
def test_killed_at_random_and_run_again_gives_the_same_bytes(s3: S3Server, tmp_path: Path) -> None:
    table = make_table(tmp_path, 12)
    url = f"s3://{s3.new_bucket()}/x.zarr"
    common = ("extract", table, "-f", FEATURE, "-f", SMALL, "--shard-tracks", 2, "-j", 2)
    featstore(*common, "-s", tmp_path / "x.zarr")
    disk = on_disk(tmp_path / "x.zarr")
    rng = np.random.default_rng(0)
    for _ in range(2):
        run = subprocess.Popen(
            [*PROGRAM, *map(str, common), "-s", url],
            env=os.environ | {"FEATSTORE_PROGRESS": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        location = open_location(url)
        n_before = len(list(location.walk("commits")))
        while time.monotonic() < deadline and run.poll() is None:
            if location.list("leases") and len(list(location.walk("commits"))) >= n_before + rng.integers(0, 2):
                break
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.3))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        opened = open_store(url)
        for feature in (FEATURE, SMALL):
            if feature in opened:
                reader = opened[feature]
                assert all(np.isfinite(reader[track]).all() for track in reader.track_ids)
    featstore(*common, "-s", url)
    made = content(s3.objects(url))
    assert made == disk
    assert verify(url) == []


@pytest.mark.slow
def test_a_store_in_a_bucket_that_cannot_be_is_refused_in_one_sentence(s3: S3Server, tmp_path: Path) -> None:
    table = make_table(tmp_path, 2)
    result = featstore("extract", table, "-f", FEATURE, "-s", "s3://no-such-bucket/x.zarr", check=False)
    assert result.returncode == 1 and "there is no bucket 'no-such-bucket'" in result.stderr
    assert "Traceback" not in result.stderr
