"""BatchLoader: what the batches hold, in which order, and what is left after a stop."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import CheckpointError, ConfigError, CorruptFeature, DatasetError
from featstore.loaders import BatchLoader
from tests.loaders.fakes import FakeReader, make_arrays

MEL = "mel(n_mels=8,hop_length=256)"
TIERS = ("disk", "ram", "gpu")  # the gpu tier runs on any torch device, here on the CPU

torch.set_num_threads(1)


def build(lengths=(20, 25, 30, 22, 40, 31, 28), *, want=MEL, base=None, encoding="float32", **settings):
    arrays = make_arrays(lengths, bands=8)
    reader = FakeReader(arrays, want, base=base, encoding=encoding, shard_tracks=3)
    settings = {"batch_size": 3, "crop_frames": 10, "seed": 5} | settings
    return reader, BatchLoader({"mel": reader}, list(arrays), **settings)


def items(batches):
    """(track position, start) of every item, in order."""
    return [pair for b in batches for pair in zip(b["index"].tolist(), b["start"].tolist(), strict=True)]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    ("want", "base", "encoding"),
    [
        (MEL, None, "float32"),
        (MEL, None, "float16"),
        ("mel(n_mels=8,scale=db)", None, "uint8"),
        ("mel(n_mels=8,scale=db)", None, "uint16"),
        ("mel(n_mels=8,hop_length=768,scale=log10_1p)", MEL, "float32"),
        ("mel(n_mels=8,hop_length=512,scale=log10_1p)", "mel(n_mels=8,scale=db)", "uint8"),
    ],
)
@pytest.mark.parametrize("mode", ["random", "windows"])
def test_crops_are_what_the_reader_gives(tier, want, base, encoding, mode):
    reader, loader = build((60, 75, 90, 66), want=want, base=base, encoding=encoding, tier=tier, mode=mode)
    seen = 0
    for batch in loader:
        assert batch["mel"].dtype == torch.float32 and batch["mel"].shape[1:] == (8, 10)
        for values, track, start in zip(batch["mel"], batch["index"].tolist(), batch["start"].tolist(), strict=True):
            expected = reader.read_row(track, start, start + 10)
            np.testing.assert_allclose(values.numpy(), expected, rtol=2e-6, atol=2e-6)  # torch's and numpy's log10
            seen += 1
    assert seen == len(loader.plan)


def test_float32_is_bit_for_bit():
    for tier in TIERS:
        reader, loader = build(tier=tier)
        for batch in loader:
            for values, track, start in zip(batch["mel"], batch["index"], batch["start"], strict=True):
                assert np.array_equal(values.numpy(), reader.read_row(int(track), int(start), int(start) + 10))


def test_every_tier_gives_the_same_batches_in_the_same_order():
    runs = [list(build(tier=tier, shuffle="global")[1]) for tier in TIERS]
    for other in runs[1:]:
        for ours, theirs in zip(runs[0], other, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("tier", TIERS)
def test_random_mode_takes_each_track_once_an_epoch(tier):
    _, loader = build(tier=tier)
    epochs = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        got = items(loader)
        assert sorted(track for track, _ in got) == list(range(7))
        assert got == items(loader)  # the same epoch again is the same epoch
        epochs.append(tuple(got))
    assert len(set(epochs)) == 3


def test_starts_do_not_depend_on_tier_batch_size_or_order():
    reference = dict(items(build(tier="ram")[1]))
    for options in ({"tier": "disk"}, {"batch_size": 5}, {"shuffle": False}, {"world_size": 2}):
        part = dict(items(build(**options)[1]))
        assert part.items() <= reference.items()


def test_starts_stay_when_other_tracks_fall_away():
    whole = dict(items(build((20, 25, 30, 22, 40))[1]))
    some = dict(items(build((20, 6, 30, 22, 40), ragged="skip")[1]))
    assert some.keys() == {0, 2, 3, 4} and some.items() <= whole.items()


def test_crops_per_track():
    _, loader = build(crops_per_track=4)
    got = items(loader)
    assert len(got) == 28 and len({start for track, start in got if track == 4}) > 1


def test_without_shuffling_the_order_is_that_of_the_list():
    for tier in TIERS:
        assert [track for track, _ in items(build(tier=tier, shuffle=False)[1])] == list(range(7))


def test_disk_reads_shards_one_after_the_other():
    reader, loader = build([20] * 30, tier="disk", threads=0, shuffle_buffer=5)
    got = [track for track, _ in items(loader)]
    shards = [row // 3 for row in reader.base.reads]
    assert sorted(got) == list(range(30)) and got != reader.base.reads
    assert sum(a != b for a, b in pairwise(shards)) == 9  # ten shards, each in one stretch


def test_windows_cover_every_frame():
    _, loader = build(mode="windows", shuffle=False)
    covered = {track: np.zeros(n, dtype=int) for track, n in enumerate((20, 25, 30, 22, 40, 31, 28))}
    for track, start in items(loader):
        covered[track][start : start + 10] += 1
    assert all(count.min() >= 1 for count in covered.values())
    assert items(loader)[2:5] == [(1, 0), (1, 10), (1, 15)]  # the last one is aligned to the end
    dropped = items(build(mode="windows", shuffle=False, tail="drop")[1])
    assert dropped[2:4] == [(1, 0), (1, 10)] and len(dropped) < len(loader.plan)
    half = items(build(mode="windows", shuffle=False, window_stride=5)[1])
    assert half[:3] == [(0, 0), (0, 5), (0, 10)]


@pytest.mark.parametrize("tier", TIERS)
def test_whole_tracks_padded_with_a_mask(tier):
    reader, loader = build(tier=tier, mode="whole", crop_frames=None, ragged="pad", pad_value=-7.0)
    for batch in loader:
        lengths = reader.lengths[batch["index"].numpy()]
        assert batch["mel"].shape[-1] == lengths.max()
        assert batch["mel_mask"].sum(dim=1).tolist() == lengths.tolist()
        for values, mask, track in zip(batch["mel"], batch["mel_mask"], batch["index"].tolist(), strict=True):
            assert np.array_equal(values[:, mask].numpy(), reader.read_row(track, 0, int(reader.lengths[track])))
            assert (values[:, ~mask] == -7.0).all()


@pytest.mark.parametrize("tier", TIERS)
def test_buckets_hold_tracks_of_similar_length(tier):
    lengths = np.random.default_rng(1).integers(10, 400, 64).tolist()
    settings = {"tier": tier, "mode": "whole", "crop_frames": None, "batch_size": 8}
    frames = {}
    for ragged in ("pad", "bucket"):
        _, loader = build(lengths, ragged=ragged, **settings)
        batches = list(loader)
        assert sorted(track for track, _ in items(batches)) == list(range(64))
        frames[ragged] = sum(batch["mel"].shape[-1] for batch in batches)
    assert frames["bucket"] < 0.75 * frames["pad"]


@pytest.mark.parametrize("tier", TIERS)
def test_tracks_shorter_than_the_crop(tier):
    with pytest.raises(
        DatasetError, match=r"track t01 has 6 frames, the crop needs 10.*1 of 3 tracks.*longest track has 30"
    ):
        build((20, 6, 30), tier=tier)
    reader, loader = build((20, 6, 30), tier=tier, ragged="pad", batch_size=1, shuffle=False)
    batch = list(loader)[1]
    assert batch["mel_mask"].tolist() == [[True] * 6 + [False] * 4] and int(batch["start"]) == 0
    assert np.array_equal(batch["mel"][0, :, :6].numpy(), reader.read_row(1, 0, 6)) and not batch["mel"][0, :, 6:].any()
    assert [track for track, _ in items(build((20, 6, 30), tier=tier, ragged="skip", shuffle=False)[1])] == [0, 2]


def test_a_crop_longer_than_every_track_is_refused_even_when_skipping():
    for ragged in ("error", "skip"):
        with pytest.raises(DatasetError, match=r"crop needs 99.*longest track has 40"):
            build(crop_frames=99, ragged=ragged)


def test_targets_go_with_their_tracks():
    arrays = make_arrays([20] * 9)
    targets = np.eye(9, dtype=np.float32)
    for tier in TIERS:
        loader = BatchLoader(
            {"x": FakeReader(arrays, "mel(n_mels=3)")},
            list(arrays),
            targets=targets,
            batch_size=4,
            crop_frames=5,
            tier=tier,
        )
        for batch in loader:
            assert batch["target"].argmax(dim=1).tolist() == batch["index"].tolist()
            assert batch["target"].dtype == torch.float32


@pytest.mark.parametrize("tier", TIERS)
def test_several_inputs_are_cut_to_the_same_seconds(tier):
    ramp = {f"t{i}": np.arange(n, dtype=np.float32)[None] for i, n in enumerate((96, 120, 200))}
    fine = FakeReader(ramp, "mel(n_mels=1,hop_length=256)")
    double = FakeReader(ramp, "mel(n_mels=1,hop_length=512)", base="mel(n_mels=1,hop_length=256)")
    triple = FakeReader(ramp, "mel(n_mels=1,hop_length=768)", base="mel(n_mels=1,hop_length=256)")
    readers = {"fine": fine, "double": double, "triple": triple}
    loader = BatchLoader(readers, list(ramp), batch_size=2, crop_frames=24, crops_per_track=5, tier=tier)
    for batch in loader:
        for key, frames in (("fine", 24), ("double", 12), ("triple", 8)):
            assert batch[key].shape[1:] == (1, frames)
            assert torch.equal(batch[key][:, 0, 0], batch["start"].float())  # values are frame numbers of the finest
    coarse_first = BatchLoader({"triple": triple, "fine": fine}, list(ramp), batch_size=2, crop_frames=8, tier=tier)
    for batch in coarse_first:
        assert batch["fine"].shape[-1] == 24 and torch.equal(batch["fine"][:, 0, 0], 3 * batch["start"].float())


def test_rates_without_a_common_grid_meet_within_half_a_frame():
    arrays = make_arrays((500, 700), bands=2)
    mel = FakeReader(arrays, "mel(n_mels=2,sample_rate=16000,hop_length=256)")
    other = FakeReader(make_arrays((600, 800), bands=2), "mel(n_mels=2,sample_rate=22050,hop_length=300)")
    loader = BatchLoader({"mel": mel, "other": other}, list(arrays), batch_size=2, crop_frames=100)
    starts = loader.plan.starts(seed=0, epoch=0)
    seconds = starts * 256 / 16000 - loader.plan.starts_of(1, starts) * 300 / 22050
    assert np.abs(seconds).max() <= 0.5 * 300 / 22050 + 1e-12
    assert next(iter(loader))["other"].shape[-1] == round(100 * 256 / 16000 / (300 / 22050))


# ---- ranks and resuming ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_share_the_global_batches(tier, world_size, drop_last):
    lengths = [20 + i for i in range(14)]
    alone = list(build(lengths, tier=tier, batch_size=5, drop_last=drop_last)[1])
    ranks = [
        list(build(lengths, tier=tier, batch_size=5, drop_last=drop_last, rank=r, world_size=world_size)[1])
        for r in range(world_size)
    ]
    assert {len(rank) for rank in ranks} == {len(alone)}
    for k, whole in enumerate(alone):
        for key in whole:
            assert torch.equal(torch.cat([rank[k][key] for rank in ranks]), whole[key])


@pytest.mark.parametrize("tier", TIERS)
def test_whole_tracks_are_padded_alike_on_all_ranks(tier):
    settings = {"tier": tier, "mode": "whole", "crop_frames": None, "ragged": "pad", "batch_size": 4}
    alone = list(build(**settings)[1])
    ranks = [list(build(**settings, rank=r, world_size=3)[1]) for r in range(3)]
    for k, whole in enumerate(alone):
        assert torch.equal(torch.cat([rank[k]["mel"] for rank in ranks]), whole["mel"])


@pytest.mark.parametrize("threads", range(5))
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("tier", ["disk", "ram"])
def test_resume_at_every_step(tier, threads, world_size):
    lengths = [20 + i for i in range(13)]

    def make(rank):
        settings = {"batch_size": 4, "threads": threads, "rank": rank, "world_size": world_size, "shuffle_buffer": 6}
        loader = build(lengths, tier=tier, **settings)[1]
        loader.set_epoch(3)
        return loader

    for rank in range(world_size):
        whole = items(list(make(rank)))
        n = len(make(rank))
        for stop in range(n + 1):
            loader, taken = make(rank), []
            stream = iter(loader)
            for _ in range(stop):
                taken.append(next(stream))
            state = json.loads(json.dumps(loader.state_dict()))
            stream.close()
            again = make(rank)
            again.set_epoch(0)
            again.load_state_dict(state)
            again.set_epoch(3)  # what a training loop does at the top of the epoch it resumes
            rest = list(again)
            assert len(rest) == n - stop
            assert items(taken) + items(rest) == whole
            assert items(again) == whole  # the pass after the resumed one is a full one


def test_a_state_moves_to_another_tier_and_world_size():
    whole = list(build(tier="disk", shuffle_buffer=4)[1])
    loader = build(tier="disk", shuffle_buffer=4)[1]
    next(iter(loader))
    state = loader.state_dict()
    parts = []
    for rank in range(2):
        other = build(tier="gpu", rank=rank, world_size=2)[1]
        other.load_state_dict(state)
        parts.append(list(other))
    for k, batch in enumerate(whole[1:]):
        assert torch.equal(torch.cat([part[k]["mel"] for part in parts]), batch["mel"])


def test_a_foreign_state_is_refused():
    state = build()[1].state_dict()
    for options, message in (
        ({"seed": 6}, "seed 5, this loader 6"),
        ({"batch_size": 2}, "other tracks, crops or batches"),
        ({"crop_frames": 11}, "other tracks, crops or batches"),
        ({"lengths": (20, 25, 30, 22, 40, 31)}, "other tracks, crops or batches"),
    ):
        with pytest.raises(CheckpointError, match=message):
            build(**options)[1].load_state_dict(state)
    arrays = make_arrays((20, 25, 30, 22, 40, 31, 28), bands=8)
    options = {"batch_size": 3, "crop_frames": 10, "seed": 5}
    other = BatchLoader({"mel": FakeReader(arrays, MEL, shard_tracks=2)}, list(arrays), **options)
    other.load_state_dict(state)  # a global order does not care
    with pytest.raises(CheckpointError, match="a store that is laid out otherwise"):
        other.load_state_dict(build(tier="disk")[1].state_dict())
    with pytest.raises(CheckpointError, match="version 99"):
        build()[1].load_state_dict(state | {"version": 99})
    with pytest.raises(CheckpointError, match="next_batch=9 of 3"):
        build()[1].load_state_dict(state | {"next_batch": 9})


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(4, 30), min_size=1, max_size=20),
    batch_size=st.integers(1, 8),
    buffer=st.integers(1, 30),
    threads=st.integers(0, 2),
    data=st.data(),
)
def test_stopping_and_resuming_yields_the_same_batches(lengths, batch_size, buffer, threads, data):
    options = {"crop_frames": 4, "batch_size": batch_size, "shuffle_buffer": buffer, "threads": threads, "tier": "disk"}
    _, loader = build(lengths, **options)
    whole = list(loader)
    stop = data.draw(st.integers(0, len(loader)))
    stream = iter(loader)
    for _ in range(stop):
        next(stream)
    again = build(lengths, **options)[1]
    again.load_state_dict(loader.state_dict())
    stream.close()
    rest = list(again)
    assert len(rest) == len(whole) - stop
    for ours, theirs in zip(rest, whole[stop:], strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


# ---- wrong use and damaged stores ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "randm"}, ConfigError, "Use random, windows or whole"),
        ({"mode": "whole"}, ConfigError, "crop_frames=10"),
        ({"crop_frames": None}, ConfigError, "Give crop_frames"),
        ({"crop_frames": 0}, ConfigError, "crop_frames=0 is not a positive whole number"),
        ({"crop_frames": 40.0}, ConfigError, "crop_frames=40.0 is not a positive whole number"),
        ({"ragged": "bucket"}, ConfigError, "does not go with mode='random'"),
        ({"batch_size": 0}, ConfigError, "batch_size=0"),
        ({"rank": 2, "world_size": 2}, ConfigError, "rank=2"),
        ({"tier": "tape"}, ConfigError, "Use auto, disk, ram or gpu"),
        ({"shuffle": "some"}, ConfigError, "shuffle='some'"),
        ({"batch_size": 50, "drop_last": True}, DatasetError, "7 items make no full batch of 50"),
        ({"mode": "whole", "crop_frames": None}, DatasetError, "t00 has 20 frames, t01 has 25"),
        ({"targets": np.zeros(3)}, ConfigError, "3 targets for 7 tracks"),
    ],
)
def test_wrong_settings(options, error, message):
    with pytest.raises(error, match=message):
        build(**options)


def test_wrong_inputs_and_tracks():
    reader = FakeReader(make_arrays([20, 20]), "mel(n_mels=3)")
    options = {"batch_size": 1, "crop_frames": 5}
    with pytest.raises(ConfigError, match="no input"):
        BatchLoader({}, ["t00"], **options)
    with pytest.raises(ConfigError, match="'target' is taken"):
        BatchLoader({"target": reader}, ["t00"], **options)
    with pytest.raises(DatasetError, match="track list is empty"):
        BatchLoader({"x": reader}, [], **options)
    with pytest.raises(DatasetError, match="names a track twice"):
        BatchLoader({"x": reader}, ["t00", "t00"], **options)


def test_tracks_that_are_not_stored(caplog):
    reader = FakeReader(make_arrays([20, 20, 20]), "mel(n_mels=3)")
    reader.lengths = np.array([20, -1, 20])
    tracks = ["t02", "t01", "unknown", "t00"]
    options = {"batch_size": 4, "crop_frames": 5, "shuffle": False}
    with pytest.raises(DatasetError, match=r"2 of 4 tracks are not stored: t01, unknown.*--retry"):
        BatchLoader({"x": reader}, tracks, **options)
    loader = BatchLoader({"x": reader}, tracks, missing="skip", **options)
    assert "2 of 4 tracks are not stored" in caplog.text
    (batch,) = loader
    assert batch["index"].tolist() == [0, 3]  # positions in the list that was given
    with pytest.raises(DatasetError, match="2 of 2"):
        BatchLoader({"x": reader}, ["t01", "unknown"], missing="skip", **options)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("encoding", "hole"), [("float32", np.nan), ("float16", np.nan), ("uint8", 255)])
def test_a_hole_in_a_stored_track_is_named(tier, encoding, hole):
    reader = FakeReader(make_arrays([20] * 6), "mel(n_mels=3,scale=db)", encoding=encoding)
    reader.base.rows[4][1, 7] = hole
    with pytest.raises(CorruptFeature, match=r"track t04 holds no value \(NaN or fill\) at stored frame 7"):
        list(BatchLoader({"x": reader}, reader.track_ids, batch_size=2, crop_frames=20, tier=tier))


def test_an_error_in_a_thread_reaches_the_caller_and_threads_end():
    import threading

    reader = FakeReader(make_arrays([20] * 40), "mel(n_mels=3)")
    before = threading.active_count()
    reader.base.rows[33][0, 0] = np.nan
    with pytest.raises(CorruptFeature, match="t33"):
        list(BatchLoader({"x": reader}, reader.track_ids, batch_size=2, crop_frames=20, tier="disk", threads=3))
    stream = iter(
        BatchLoader({"x": reader}, reader.track_ids[:30], batch_size=2, crop_frames=20, tier="disk", threads=3)
    )
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_three_pieces_of_each_track_once_an_epoch():
    reader = FakeReader(make_arrays([30 + i for i in range(6)]), "mel(n_mels=3)")
    options = {"crop_frames": 10, "start_grid": 10, "crops_per_track": 3, "distinct": True}
    loader = BatchLoader({"x": reader}, reader.track_ids, batch_size=4, **options)
    for epoch in range(3):
        loader.set_epoch(epoch)
        found = [pair for b in loader for pair in zip(b["index"].tolist(), b["start"].tolist(), strict=True)]
        assert sorted(found) == [(track, start) for track in range(6) for start in (0, 10, 20)]
    state = loader.state_dict()
    with pytest.raises(CheckpointError, match="other tracks, crops or batches"):
        options["distinct"] = False
        BatchLoader({"x": reader}, reader.track_ids, batch_size=4, **options).load_state_dict(state)
    with pytest.raises(ConfigError, match="start_grid=0 is not a positive"):
        BatchLoader({"x": reader}, reader.track_ids, batch_size=4, crop_frames=10, start_grid=0)
