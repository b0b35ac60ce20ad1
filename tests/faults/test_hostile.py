"""Stores and track tables that were tampered with: nothing outside the store is read, written or removed."""

import base64
import hashlib
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from featstore.atomic import canonical_json
from featstore.datasets import TrackTable
from featstore.errors import CorruptFeature, StoreError
from featstore.extract import ExtractOptions, extract
from featstore.owner import Owner
from featstore.specs import expand_features
from featstore.store import create_store, open_store
from featstore.store.garbage import collect_garbage
from featstore.store.verify import verify
from featstore.store.writing import add_arrays
from featstore.testing.audio import make_collection
from featstore.workflows.indexing import index_tracks
from tests.faults.small import HEADERS, SPEC, build

NAMES = ["../../outside", "/etc/passwd", "features/../../outside", "a\0b", "x" * 300, "new\nline\x07", "\udcff"]


def signed(content: dict) -> bytes:
    """JSON with a digest that fits: an attacker can compute it, too."""
    content.pop("digest", None)
    return canonical_json(content | {"digest": hashlib.sha256(canonical_json(content)).hexdigest()})


@pytest.mark.parametrize("name", NAMES[:-1])
def test_names_in_a_manifest_cannot_leave_the_store(name: str, tmp_path: Path, tally) -> None:
    build(tmp_path / "s", "zarr", arrays=1)
    (tmp_path / "outside").write_text("secret")
    path = tmp_path / "s" / "manifest.json"
    content = json.loads(path.read_text())
    content["files"][name] = [6, hashlib.sha256(b"secret").hexdigest()]
    path.write_bytes(signed(content))
    problems = verify(tmp_path / "s")
    assert problems, "reported, never followed"
    tally("hostile name in a manifest or record", faults=1, reported=1)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_names_in_a_record_cannot_leave_the_store(name: str, tmp_path: Path, tally) -> None:
    store = build(tmp_path / "s", "zarr", arrays=1)
    (tmp_path / "outside").write_text("secret")
    path = tmp_path / "s" / "commits" / HEADERS[0].key / "0.json"
    content = json.loads(path.read_text())
    content["files"] = {name: [6, hashlib.sha256(b"secret").hexdigest()]}
    path.write_bytes(signed(content))
    (tmp_path / "s" / "manifest.json").unlink()
    assert verify(tmp_path / "s")
    assert (tmp_path / "outside").read_text() == "secret" and store.location.exists("tracks.parquet")
    tally("hostile name in a manifest or record", faults=1, reported=1)


@pytest.mark.parametrize("key", ["mel-0000000000000000", "..", "mel-\n"])
def test_records_of_arrays_that_are_not_there(key: str, tmp_path: Path) -> None:
    build(tmp_path / "s", "zarr", arrays=1)
    if key == "..":
        return  # no folder can be called so
    (tmp_path / "s" / "commits" / key).mkdir()
    (tmp_path / "s" / "commits" / key / "0.json").write_text("{}")
    assert any("lost its metadata" in problem.what for problem in verify(tmp_path / "s"))
    assert open_store(tmp_path / "s")[SPEC].read_row(3).shape[0] == 4


def test_attributes_are_read_and_never_run(tmp_path: Path, tally) -> None:
    build(tmp_path / "s", "zarr", arrays=1)
    path = tmp_path / "s" / "features" / HEADERS[0].key / "zarr.json"
    for spec in (
        "__import__('os').system('touch ran')",
        "mel(n_mels=__import__)",
        "!!python/object:os.system",
        "x" * 10**5,
    ):
        content = json.loads(path.read_text())
        content["attributes"]["spec"] = spec
        path.write_text(json.dumps(content))
        with pytest.raises(CorruptFeature, match="array metadata cannot be read"):
            _ = open_store(tmp_path / "s").arrays
        tally("code in a name", faults=1, reported=1)
    assert not (tmp_path / "ran").exists() and not Path("ran").exists()


def test_garbage_is_not_collected_through_links(tmp_path: Path, tally) -> None:
    store = build(tmp_path / "s", "zarr", arrays=1)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("precious")
    (precious / ".x.part").write_text("precious")
    owner = Owner.this_process()
    gone = f"{owner.host}-999999-100-deadbeef"
    (tmp_path / "s" / "staging").mkdir(exist_ok=True)
    (tmp_path / "s" / "staging" / gone).symlink_to(precious)
    (tmp_path / "s" / "features" / "elsewhere").symlink_to(precious)
    collect_garbage(store.location)
    assert sorted(file.name for file in precious.iterdir()) == [".x.part", "thesis.tex"]
    tally("link in a store", faults=2, reported=0, harmless=2)


HOSTILE = ["-rf.wav", "new\nline.wav", "bell\x07.wav", "ü" * 100 + ".wav", "x" * 251 + ".wav", "a;b|c$(d).wav", "..wav"]


def test_file_names_of_all_kinds_are_extracted(tmp_path: Path, tally) -> None:
    folder = make_collection(tmp_path / "music", n_tracks=1, seconds=(0.3, 0.4))
    sound = next(folder.rglob("*.wav")).read_bytes()
    for name in HOSTILE:
        (folder / "a" / name).write_bytes(sound)
    odd = os.path.join(os.fsencode(folder / "a"), b"\xff\xfe.wav")
    with open(odd, "wb") as file:
        file.write(sound)
    table = index_tracks("folder", folder)
    table.write(tmp_path / "tracks.parquet")
    options = ExtractOptions(scheduler="sync")
    report = extract(
        TrackTable.read(tmp_path / "tracks.parquet"), expand_features(["mel(n_mels=4)"]), tmp_path / "s", options
    )
    assert (
        report.status["tracks"] >= len(HOSTILE)
        and report.status["ok"] + report.status["failed"] == report.status["tracks"]
    )
    assert report.status["ok"] >= len(HOSTILE) and verify(tmp_path / "s") == []
    tally("file name that is hard to handle", faults=len(HOSTILE) + 1, reported=0, harmless=len(HOSTILE) + 1)


def test_hostile_ids_stay_in_the_table(tmp_path: Path, tally) -> None:
    ids = ["../../etc", "/abs", "a\nb", "\x1b[31mred", "x" * 255, base64.b64encode(b"\0").decode(), "a" * 5000]
    frame = pd.DataFrame({"track_id": ids, "path": ["/nowhere"] * len(ids)})
    store = create_store(tmp_path / "s", frame, HEADERS[:1])
    add_arrays(store, HEADERS[:1])
    assert set(open_store(tmp_path / "s").tracks.index) == set(ids)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
    with pytest.raises(StoreError):
        store.location.read("../x")
    tally("hostile track id", faults=len(ids), reported=0, harmless=len(ids))
