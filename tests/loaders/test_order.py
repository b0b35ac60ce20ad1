"""Orders are permutations, and functions of (seed, epoch) alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import ConfigError
from featstore.loaders.order import (
    Purpose,
    bucket_order,
    buffered_order,
    crop_starts,
    permutation,
    random_bits,
    rank_slice,
    read_order,
)

seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(0, 10**6)


@given(n=st.integers(0, 300), seed=seeds, epoch=epochs)
def test_permutation_is_one_and_repeats(n, seed, epoch):
    order = permutation(n, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, permutation(n, seed=seed, epoch=epoch))


def test_permutations_differ_between_epochs_seeds_and_purposes():
    draws = [permutation(64, seed=s, epoch=e).tolist() for s in range(3) for e in range(3)]
    draws.append(permutation(64, seed=0, epoch=0, purpose=Purpose.BUCKETS).tolist())
    assert len({tuple(draw) for draw in draws}) == len(draws)


def test_the_stream_is_pinned():
    """A resumed run must find the same order under any numpy: the raw Philox stream is promised to stay."""
    assert permutation(8, seed=1, epoch=2).tolist() == PINNED
    assert random_bits(2, seed=1, epoch=2, purpose=Purpose.ITEMS).tolist() == PINNED_BITS


PINNED = [5, 6, 3, 4, 0, 2, 7, 1]
PINNED_BITS = [6539367678650157883, 16673001561282503781]


@given(n=st.integers(1, 50), more=st.integers(0, 50), seed=seeds, epoch=epochs, grid=st.integers(1, 7))
def test_starts_fit_and_do_not_depend_on_other_tracks(n, more, seed, epoch, grid):
    tracks = np.arange(n + more)
    starts = crop_starts(tracks * 3, tracks, seed=seed, epoch=epoch, grid=grid)
    assert (starts >= 0).all() and (starts <= tracks * 3).all() and (starts % grid == 0).all()
    some = tracks[tracks % 3 != 1]
    assert np.array_equal(starts[some], crop_starts(some * 3, some, seed=seed, epoch=epoch, grid=grid))


def test_starts_are_uniform():
    starts = crop_starts(np.full(40000, 9), np.arange(40000), seed=3, epoch=0)
    counts = np.bincount(starts, minlength=10)
    assert counts.min() > 3750 and counts.max() < 4250  # 4000 expected, 4 standard deviations are 240


@given(st.lists(st.integers(0, 6), max_size=80), seeds, epochs, st.integers(1, 40))
def test_shard_order_keeps_shards_whole_and_the_buffer_bounded(shards, seed, epoch, buffer):
    shard = np.array(sorted(shards), dtype=np.int64)
    n = len(shard)
    reading = read_order(shard, np.arange(n), seed=seed, epoch=epoch)
    assert sorted(reading.tolist()) == list(range(n))
    runs = shard[reading][np.flatnonzero(np.diff(shard[reading], prepend=-1))]
    assert len(set(runs.tolist())) == len(runs)  # each shard is one unbroken stretch
    use = buffered_order(reading, buffer=buffer, seed=seed, epoch=epoch)
    assert sorted(use.tolist()) == list(range(n))
    place = np.empty(n, dtype=np.int64)
    place[reading] = np.arange(n)
    displacement = place[use] - np.arange(n)
    assert (np.abs(displacement) <= buffer).all()


@given(st.lists(st.integers(1, 1000), max_size=200), seeds, epochs, st.integers(1, 9))
def test_buckets_hold_everything_once(lengths, seed, epoch, batch_size):
    lengths = np.array(lengths, dtype=np.int64)
    order = permutation(len(lengths), seed=seed, epoch=epoch)
    for pool in (None, 4):
        arranged = bucket_order(lengths, order, batch_size=batch_size, seed=seed, epoch=epoch, pool_batches=pool)
        assert sorted(arranged.tolist()) == list(range(len(lengths)))


def test_buckets_save_padding():
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 1000, 1024)
    order = permutation(1024, seed=0, epoch=0)

    def padding(some):
        batches = lengths[some].reshape(-1, 16)
        return float((batches.max(axis=1, keepdims=True) - batches).sum() / lengths.sum())

    assert padding(bucket_order(lengths, order, batch_size=16, seed=0, epoch=0)) < 0.1 * padding(order)


@given(st.integers(0, 100), st.integers(1, 9))
def test_rank_slices_join_to_the_batch(n, world_size):
    batch = list(range(n))
    parts = [batch[rank_slice(n, rank=rank, world_size=world_size)] for rank in range(world_size)]
    assert [item for part in parts for item in part] == batch
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("seed", "epoch"), [(-1, 0), (2**63, 0), (0, -1)])
def test_seed_out_of_range(seed, epoch):
    with pytest.raises(ConfigError, match="out of range"):
        permutation(3, seed=seed, epoch=epoch)


@settings(max_examples=80, deadline=None)
@given(
    lasts=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    per_track=st.integers(1, 6),
    grid=st.integers(1, 7),
    seed=st.integers(0, 50),
)
def test_distinct_starts_fit_and_differ_while_there_is_room(lasts, per_track, grid, seed):
    last = np.repeat(np.array(lasts), per_track)
    draws = np.arange(len(last))
    starts = crop_starts(last, draws, per_track=per_track, seed=seed, epoch=0, grid=grid)
    assert (starts % grid == 0).all() and (starts >= 0).all() and (starts <= last).all()
    for k, most in enumerate(lasts):
        own = starts[k * per_track : (k + 1) * per_track]
        assert len(set(own.tolist())) == min(per_track, most // grid + 1)
    alone = crop_starts(last[:per_track], draws[:per_track], per_track=per_track, seed=seed, epoch=0, grid=grid)
    assert np.array_equal(alone, starts[:per_track])  # other tracks have no say


def test_every_set_of_distinct_starts_is_as_likely():
    n = 30_000
    last = np.repeat(np.full(n, 4), 2)
    starts = crop_starts(last, np.arange(2 * n), per_track=2, seed=0, epoch=0)
    pairs, counts = np.unique(np.sort(starts.reshape(-1, 2), axis=1), axis=0, return_counts=True)
    assert len(pairs) == 10
    assert np.abs(counts - n / 10).max() < 5 * (n / 10) ** 0.5
