"""Derived arrays equal their views, weigh what was forecast, and keep the ledger."""

from pathlib import Path

import numpy as np
import pytest

from featstore.errors import MissingFeature
from featstore.extract import ExtractOptions, extract
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.store.ledger import read_status
from featstore.store.manifest import open_manifest
from featstore.store.verify import verify
from featstore.testing.audio import make_collection
from featstore.workflows.derive import derive
from featstore.workflows.indexing import index_tracks

BASE = "mel(n_mels=16)"
VIEWS = [
    "mel(n_mels=16,scale=db,hop_length=768)",
    "mel(n_mels=16,scale=log10_1p)@float16",
    "mel(n_mels=16,scale=db)@uint8",
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = make_collection(tmp_path / "m", n_tracks=7)
    (folder / "a" / "bad.wav").write_bytes(b"")
    path = tmp_path / "s.zarr"
    options = ExtractOptions(scheduler="sync", shard_tracks=3)
    extract(index_tracks("folder", folder), expand_features([BASE]), path, options)
    return path


def test_views_written_out_read_the_same(store: Path) -> None:
    before = open_store(store)
    view = before[VIEWS[0]]
    expected = {track: view[track] for track in view.track_ids}
    forecast = view.bytes_alone
    assert set(derive(str(store), expand_features(VIEWS)).values()) == {3}
    after = open_store(store)
    reader = after[VIEWS[0]]
    assert reader.view.is_identity and reader.bytes_alone == forecast
    assert all(np.array_equal(reader[track], values) for track, values in expected.items())
    coarse = after[VIEWS[2]]
    exact = after["mel(n_mels=16,scale=db)"]
    assert max(np.abs(coarse[t] - exact[t]).max() for t in coarse.track_ids) <= coarse.view.bound + 1e-4
    assert read_status(after) == {"tracks": 8, "ok": 7, "failed": 1, "pending": 0, "by_reason": {"failed": 1}}
    assert verify(str(store)) == []
    assert set(derive(str(store), expand_features(VIEWS)).values()) == {0}


def test_a_derivation_that_was_killed_hides_nothing_and_goes_on(store: Path) -> None:
    feature = "mel(n_mels=16,scale=db)"
    before = open_store(store)[feature]
    expected = {track: before[track] for track in before.track_ids}
    derive(str(store), expand_features([feature]))
    derived = open_store(store)[feature]
    assert derived.view.is_identity
    open_manifest(open_store(store).backend)
    record = store / "commits" / derived.base.header.key / "1.json"
    record.unlink()
    reader = open_store(store)[feature]
    assert not reader.view.is_identity and list(reader.track_ids) == list(expected)
    assert all(np.array_equal(reader[track], values) for track, values in expected.items())
    assert set(derive(str(store), expand_features([feature])).values()) == {1}
    assert record.exists() and verify(str(store)) == []
    assert open_store(store)[feature].view.is_identity


def test_what_does_not_derive_is_refused(store: Path) -> None:
    with pytest.raises(MissingFeature, match="nothing it derives from"):
        derive(str(store), expand_features(["mel(n_mels=8)"]))
