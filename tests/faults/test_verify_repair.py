"""Every kind of file with one bit flipped, cut, emptied or deleted: noticed, named, mended to the same bytes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from featstore.errors import StoreError
from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.store.convert import convert
from featstore.store.pack import pack
from featstore.store.verify import verify
from featstore.testing.audio import make_collection
from featstore.workflows.indexing import index_tracks
from featstore.workflows.repair import repair
from tests.faults.small import snapshot

FEATURES = ["mel(n_mels=16,scale=db)", "mel(n_mels=8,scale=db)@uint8"]
SYNC = ExtractOptions(scheduler="sync", shard_tracks=3)


@pytest.fixture(scope="module", params=["zarr", "hdf5"])
def backend(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def sound(tmp_path_factory, backend):
    """A track table and a healthy store made from it."""
    folder = make_collection(tmp_path_factory.mktemp("music"), n_tracks=7, seconds=(0.5, 1.5))
    (folder / "a" / "broken.wav").write_bytes(b"")
    table = index_tracks("folder", folder)
    path = tmp_path_factory.mktemp("store") / "s"
    options = ExtractOptions(scheduler="sync", shard_tracks=3, backend=backend)
    extract(table, expand_features(FEATURES), path, options)
    return table, path


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


SHARED = {
    "tracks": "tracks.parquet",
    "manifest": "manifest.json",
    "request": "requests/*.json",
    "record": "commits/*/1.json",
}
KINDS = {
    "zarr": SHARED
    | {
        "root": "zarr.json",
        "features group": "features/zarr.json",
        "array group": "features/*/zarr.json",
        "data metadata": "features/*/data/zarr.json",
        "frames metadata": "features/*/n_frames/zarr.json",
        "data": "features/*/data/c/1/0/0",
        "frames": "features/*/n_frames/c/2",
    },
    "hdf5": SHARED
    | {
        "root": "store.json",
        "master": "master.h5",
        "array group": "features/*/array.json",
        "data": "features/*/1.h5",
    },
}


def test_a_healthy_store_has_no_problems(sound) -> None:
    _, path = sound
    assert verify(path) == [] and verify(path, quick=True) == []


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "delete"])
@pytest.mark.parametrize("kind", sorted(KINDS["zarr"] | KINDS["hdf5"]))
def test_damage_is_noticed_named_and_mended(sound, backend: str, tmp_path: Path, kind: str, how: str, tally) -> None:
    if kind not in KINDS[backend]:
        return  # a kind of file that this backend does not have
    table, healthy = sound
    path = tmp_path / "s.zarr"
    shutil.copytree(healthy, path)
    victim = sorted(path.glob(KINDS[backend][kind]))[0]
    name = str(victim.relative_to(path))
    damage(victim, how)
    problems = verify(path)
    assert any(name in problem.file for problem in problems), [str(problem) for problem in problems]
    if kind not in ("data", "frames") or how != "flip":
        assert verify(path, quick=True)
    report = repair(path, tracks=table, options=SYNC)
    assert report.found and report.left == []
    expected = snapshot(healthy)
    mended = snapshot(path)
    if kind == "request":
        del expected[name]  # which views were asked for is known to nobody else
        mended.pop(name, None)
        expected.pop("manifest.json"), mended.pop("manifest.json")
    assert mended == expected
    assert report.shards == (1 if kind in ("record", "data", "frames") else 0)
    word = {"flip": "one bit flipped", "cut": "cut in half", "empty": "emptied", "delete": "deleted"}[how]
    tally(
        f"a file {word}, {backend}: {len(KINDS[backend])} kinds of file", faults=1, reported=1, same_bytes_afterwards=1
    )


def test_damaged_tracks_are_named(sound, backend: str, tmp_path: Path) -> None:
    _, healthy = sound
    path = tmp_path / "s.zarr"
    shutil.copytree(healthy, path)
    victim = sorted(path.glob(KINDS[backend]["data"]))[0]
    content = bytearray(victim.read_bytes())
    content[8 if backend == "zarr" else len(content) // 2] ^= 1
    victim.write_bytes(content)
    (problem,) = verify(path)
    assert len(problem.tracks) == 1 and problem.shard == 1 and "bytes differ" in problem.what


def test_a_lost_root_without_a_manifest_is_reported(sound, tmp_path: Path) -> None:
    table, healthy = sound
    path = tmp_path / "s.zarr"
    shutil.copytree(healthy, path)
    (path / open_store(path).backend.root).unlink()
    (path / "manifest.json").unlink()
    with pytest.raises(StoreError, match="no manifest to restore it from"):
        repair(path, tracks=table, options=SYNC)


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    code = "import os, sys\nfrom featstore.atomic import atomic_path\nwith atomic_path(sys.argv[1]): os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "report.html")], check=False)
    (tmp_path / "song.wav").write_bytes(b"music")
    [left] = tmp_path.glob(".*.part")
    with pytest.raises(StoreError, match="there is no store"):
        repair(tmp_path)
    assert left.exists()


def test_what_copies_a_store_names_a_table_that_is_lost(sound, tmp_path: Path) -> None:
    shutil.copytree(sound[1], tmp_path / "s")
    (tmp_path / "s" / "tracks.parquet").unlink()
    for copies in (convert, pack):
        with pytest.raises(StoreError, match=r"the track table cannot be read.*tracks\.parquet\]\. Restore it"):
            copies(tmp_path / "s", tmp_path / "copy.h5")
