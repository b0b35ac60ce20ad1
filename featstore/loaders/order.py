"""Order of an epoch: pure functions of the seed, the epoch and what is loaded; nothing else.

No function here knows of threads, workers or ranks, so every number of them walks through the same global batches.
Random bits come straight from the Philox counter generator, keyed by (seed, epoch, purpose): numpy promises to keep its
raw stream, while the methods of ``numpy.random.Generator`` may change with a release, and a resumed run's order too.
"""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError

__all__ = [
    "Purpose",
    "bucket_order",
    "buffered_order",
    "crop_starts",
    "permutation",
    "random_bits",
    "rank_slice",
    "read_order",
]

_MAX_SEED = 2**63


class Purpose(enum.IntEnum):
    """What random bits are for; each purpose draws from a stream of its own."""

    ITEMS = 0
    STARTS = 1
    SHARDS = 2
    BUFFER = 3
    BUCKETS = 4


def random_bits(n: int, *, seed: int, epoch: int, purpose: Purpose) -> NDArray[np.uint64]:
    """Random 64-bit words; word ``i`` depends on (seed, epoch, purpose, i) and not on ``n``.

    Returns
    -------
    numpy.ndarray
        uint64 ``(n,)``.

    Raises
    ------
    ConfigError
        When seed or epoch is negative or does not fit in 63 (epoch: 48) bits.
    """
    if not 0 <= seed < _MAX_SEED or not 0 <= epoch < 2**48:
        raise ConfigError(
            f"seed={seed}, epoch={epoch} out of range",
            "order of an epoch",
            "Use 0 <= seed < 2**63 and 0 <= epoch < 2**48",
        )
    key = np.array([seed, (epoch << 8) | int(purpose)], dtype=np.uint64)
    return np.asarray(np.random.Philox(key=key).random_raw(n), dtype=np.uint64)


def permutation(n: int, *, seed: int, epoch: int, purpose: Purpose = Purpose.ITEMS) -> NDArray[np.int64]:
    """Uniform permutation of ``range(n)``.

    Returns
    -------
    numpy.ndarray
        int64 ``(n,)``.

    Examples
    --------
    >>> sorted(permutation(5, seed=0, epoch=3).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.argsort(random_bits(n, seed=seed, epoch=epoch, purpose=purpose), kind="stable")


def crop_starts(
    last_starts: NDArray[np.int64],
    draws: NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    grid: int = 1,
    per_track: int = 1,
) -> NDArray[np.int64]:
    """Random start of each crop, uniform over the multiples of ``grid`` in ``0 … last_starts[i]``.

    Several crops of a track start at different places while it has that many, each set of places as likely as any other
    (R. Floyd's sampling: Communications of the ACM 30, 1987).

    Parameters
    ----------
    last_starts : numpy.ndarray
        int64 ``(n,)``, the largest allowed start of each item, frames, below 2**32.
    draws : numpy.ndarray
        int64 ``(n,)``, which draw of the epoch decides each item: a number that is the track's own, so that its crops
        stay when other tracks come or go.
    grid : int
        Starts are multiples of it, frames.
    per_track : int
        Entries in a row that belong to one track and start at different places; 1 lets each fall where it will.

    Returns
    -------
    numpy.ndarray
        int64 ``(n,)``; entry ``i`` depends on (seed, epoch, draws[i], last_starts[i], grid) and on those of its track
        alone.
    """
    bits = random_bits(int(draws.max(initial=-1)) + 1, seed=seed, epoch=epoch, purpose=Purpose.STARTS)
    words = (bits[draws] >> np.uint64(32)).reshape(-1, per_track)
    choices = np.asarray(last_starts, dtype=np.int64).reshape(-1, per_track)[:, 0] // grid + 1
    wanted = np.minimum(per_track, choices)
    found = np.full(words.shape, -1, dtype=np.int64)
    for j in range(per_track):
        distinct = j < wanted
        highest = np.where(distinct, choices - wanted + j, choices - 1)
        drawn = ((words[:, j] * (highest + 1).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
        taken = (found[:, :j] == drawn[:, None]).any(axis=1) & distinct
        found[:, j] = np.where(taken, highest, drawn)
    return found.reshape(-1) * grid


def read_order(shard: NDArray[np.int64], place: NDArray[np.int64], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Items with whole shards in shuffled order, and inside a shard as they are stored.

    Parameters
    ----------
    shard, place : numpy.ndarray
        int64 ``(n,)``: number of the shard that holds each item, and its place in storage.

    Returns
    -------
    numpy.ndarray
        int64 ``(n,)`` item numbers in the order of reading.
    """
    if len(shard) == 0:
        return np.zeros(0, dtype=np.int64)
    rank = np.empty(int(shard.max()) + 1, dtype=np.int64)
    rank[permutation(len(rank), seed=seed, epoch=epoch, purpose=Purpose.SHARDS)] = np.arange(len(rank))
    return np.lexsort((np.arange(len(shard)), place, rank[shard]))


def buffered_order(reading: NDArray[np.int64], *, buffer: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Shuffle a reading order through a buffer of ``buffer`` items.

    Each item is put off by a uniform number of places in ``[0, buffer)`` and the items leave in that order: the one
    read as number ``p`` leaves at a place within ``p ± buffer``, so no more than ``buffer`` items wait at any time.

    Returns
    -------
    numpy.ndarray
        int64 ``(n,)`` item numbers in the order of use.
    """
    n = len(reading)
    delay = (random_bits(n, seed=seed, epoch=epoch, purpose=Purpose.BUFFER) >> np.uint64(11)) * (buffer * 2.0**-53)
    return reading[np.argsort(np.arange(n) + delay, kind="stable")]


def bucket_order(
    lengths: NDArray[np.int64],
    order: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    pool_batches: int | None = 64,
) -> NDArray[np.int64]:
    """Rearrange ``order`` so that each batch holds items of similar length.

    The order is cut into pools of ``pool_batches`` batches, each pool is sorted by length and cut into batches, and the
    full batches are shuffled over the epoch; a last batch that is not full stays last.

    Parameters
    ----------
    lengths : numpy.ndarray
        int64 ``(n,)`` frames of each item.
    order : numpy.ndarray
        int64 ``(n,)`` item numbers, already shuffled if wanted.
    pool_batches : int or None
        None sorts the whole epoch and keeps the batches sorted, shortest first (an order without chance).
    """
    if pool_batches is None:
        return order[np.argsort(lengths[order], kind="stable")]
    pool = np.arange(len(order)) // (pool_batches * batch_size)
    arranged = order[np.lexsort((np.arange(len(order)), lengths[order], pool))]
    full = len(arranged) // batch_size
    batches = arranged[: full * batch_size].reshape(full, batch_size)
    shuffled = batches[permutation(full, seed=seed, epoch=epoch, purpose=Purpose.BUCKETS)]
    return np.concatenate([shuffled.reshape(-1), arranged[full * batch_size :]])


def check_share(batch_size: int, *, rank: int, world_size: int) -> None:
    """Refuse a batch size or a rank that cannot be."""
    if batch_size < 1 or not 0 <= rank < world_size:
        found = f"batch_size={batch_size}, rank={rank}, world_size={world_size}"
        raise ConfigError(found, "loader", "Use a batch_size of at least 1, and a rank from 0 to world_size - 1")


def rank_slice(n: int, *, rank: int, world_size: int) -> slice:
    """The part of a global batch of ``n`` items that a rank takes; the parts of all ranks, joined, are the batch.

    A short last batch is shared out evenly too, so a part may be empty.

    Examples
    --------
    >>> [rank_slice(10, rank=rank, world_size=4) for rank in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(n * rank // world_size, n * (rank + 1) // world_size)
