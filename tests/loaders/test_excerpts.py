"""Features with an axis of excerpts: each excerpt is a segment of its track."""

from __future__ import annotations

import numpy as np
import pytest

from featstore.errors import ConfigError
from featstore.extract import ExtractOptions, extract
from featstore.loaders import BatchLoader, band_statistics, torch_dataset
from featstore.loaders.gather import Rooms
from featstore.loaders.inputs import Input
from featstore.loaders.tiers import DiskTier
from featstore.specs import expand_features
from featstore.store import open_store
from featstore.testing.audio import make_collection
from featstore.workflows.indexing import index_tracks

MEL = "mel(sample_rate=8000,n_fft=256,hop_length=64,n_mels=12,clip=every(0.8 s, 0.3 s))"
VIEW = "mel(sample_rate=8000,n_fft=256,hop_length=192,n_mels=12,scale=db,clip=every(0.8 s, 0.3 s))"
COARSE = VIEW.replace("scale=db,", "")
WHOLE = "mel(sample_rate=8000,n_fft=256,hop_length=64,n_mels=12)"


@pytest.fixture(scope="module", params=["none", "zstd"])
def store(request, tmp_path_factory):
    folder = make_collection(tmp_path_factory.mktemp("music"), n_tracks=8, seconds=(1.0, 4.0))
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    options = ExtractOptions(scheduler="sync", shard_tracks=3, compression=request.param)
    extract(index_tracks("folder", folder), expand_features([MEL, VIEW, WHOLE]), path, options)
    return open_store(path)


@pytest.mark.parametrize("tier", ["disk", "ram", "gpu"])
@pytest.mark.parametrize("feature", [MEL, VIEW])
def test_windows_are_all_excerpts(store, tier, feature) -> None:
    reader = store[feature]
    frames = reader.clip_frames
    settings = {"batch_size": 5, "crop_frames": frames, "mode": "windows", "shuffle": False, "tier": tier}
    loader = BatchLoader({"x": reader}, reader.track_ids, **settings)
    seen = 0
    for batch in loader:
        for x, index, start in zip(batch["x"].numpy(), batch["index"], batch["start"], strict=True):
            excerpt = reader[reader.track_ids[index]][int(start) // frames]
            assert start % frames == 0 and x.shape == (12, frames)
            assert np.allclose(x, excerpt, rtol=1e-6, atol=1e-4)
            seen += 1
    assert seen == int(reader.lengths.sum())


@pytest.mark.parametrize("tier", ["disk", "ram", "gpu"])
def test_random_crops_are_excerpts(store, tier) -> None:
    reader = store[MEL]
    settings = {"batch_size": 8, "crop_frames": reader.clip_frames, "seed": 3, "tier": tier, "crops_per_track": 4}
    loader = BatchLoader({"x": reader}, reader.track_ids, **settings)
    starts = set()
    for batch in loader:
        for x, index, start in zip(batch["x"].numpy(), batch["index"], batch["start"], strict=True):
            place = int(start) // reader.clip_frames
            starts.add((int(index), place))
            assert np.array_equal(x, reader[reader.track_ids[index]][place])
    assert len(starts) > 8
    dataset = torch_dataset(store, MEL, split=None, crop_frames=reader.clip_frames, tier=tier)
    item = dataset[2]
    excerpt = reader[dataset.track_ids[2]][item["start"] // reader.clip_frames]
    assert np.array_equal(item["mel"].numpy(), excerpt)


def test_moments_are_those_of_all_excerpts(store) -> None:
    reader = store[MEL]
    values = np.concatenate([np.moveaxis(reader[track], 1, 0).reshape(12, -1) for track in reader.track_ids], axis=1)
    found = band_statistics(reader, reader.track_ids, block_frames=70)
    assert found.n_frames == values.shape[1]
    assert np.allclose(found.mean, values.mean(axis=1)) and np.allclose(found.std, values.std(axis=1))


def test_joined_frames(store) -> None:
    reader = store[VIEW]
    track = reader.track_ids[-1]
    source, frames = Input.bind("x", reader, [track]), reader.clip_frames
    whole = np.moveaxis(reader[track], 0, 1).reshape(12, -1)
    assert np.array_equal(source.values(0, 3, whole.shape[1] - 8), whole[:, 3 : whole.shape[1] - 5])
    assert source.lengths[0] == whole.shape[1] == reader.lengths[reader.row_of(track)] * frames


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_frames": 50}, r"crop_frames=50: the feature is excerpts of 101 frames .*Use crop_frames=101"),
        ({"mode": "whole"}, r"mode='whole' with crop_frames=None: the feature is excerpts of 101 frames"),
        ({"crop_frames": 101, "mode": "windows", "window_stride": 60}, r"window_stride=60 is no whole number of exc"),
    ],
)
def test_what_is_no_excerpt_is_refused(store, settings, message) -> None:
    reader = store[MEL]
    with pytest.raises(ConfigError, match=message):
        BatchLoader({"x": reader}, reader.track_ids, batch_size=4, **settings)


def test_excerpts_do_not_meet_tracks(store) -> None:
    readers = {"a": store[MEL], "b": store[WHOLE]}
    with pytest.raises(ConfigError, match="cannot be cut to the same seconds"):
        BatchLoader(readers, store[MEL].track_ids, batch_size=4, crop_frames=101)


def test_remote_files_of_excerpts_are_staged(store, monkeypatch) -> None:
    reader, calls = store[MEL], []
    monkeypatch.setattr(reader.base, "stage", lambda: calls.append("staged"))
    DiskTier(Input.bind("x", reader, reader.track_ids))
    assert calls == ["staged"]


def test_excerpts_of_a_view_stay_mapped(store) -> None:
    reader = store[COARSE]
    assert reader.view.stride > 1
    tier = DiskTier(Input.bind("x", reader, reader.track_ids))
    for _ in range(2):
        out = np.empty((3, *reader.shape_of_item, reader.clip_frames), dtype=np.float32)
        where = np.array([0, 1, 0]), np.array([0, 1, 1]) * reader.clip_frames, np.full(3, reader.clip_frames)
        tier.fill(Rooms.of(out, tier._source.decoder), *where)
        for values, track, start in zip(out, *where[:2], strict=True):
            assert np.array_equal(values, reader[reader.track_ids[track]][start // reader.clip_frames])
        assert np.count_nonzero(tier._checked.addresses) == 3 * reader.base.mapped


def test_another_thread_may_check_a_chunk_at_any_moment(store, monkeypatch) -> None:
    """What is known of chunks that stay mapped is read in the order in which it is written."""
    reader = store[COARSE]
    tier, cut = DiskTier(Input.bind("x", reader, reader.track_ids)), DiskTier._cut
    out = np.empty((2, 1, *reader.shape_of_item, reader.clip_frames), dtype=np.float32)
    where = np.array([0]), np.array([0]), np.array([reader.clip_frames])

    def cut_while_the_other_one_fills(*args):
        pieces = cut(*args)
        monkeypatch.setattr(DiskTier, "_cut", cut)
        tier.fill(Rooms.of(out[1], tier._source.decoder), *where)
        return pieces

    monkeypatch.setattr(DiskTier, "_cut", cut_while_the_other_one_fills)
    tier.fill(Rooms.of(out[0], tier._source.decoder), *where)
    assert np.array_equal(out[0, 0], reader[reader.track_ids[0]][0]) and np.array_equal(out[0], out[1])
