"""Reading ahead: crops are read in storage order by threads and land in the batches that will use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["plan_reads", "read_ahead"]

Task = NDArray[np.int64]


def plan_reads(
    batch: NDArray[np.int64], place: NDArray[np.int64] | None, *, n_batches: int, task_items: int
) -> tuple[Sequence[Task], NDArray[np.int64]]:
    """Cut entries into reading tasks.

    Parameters
    ----------
    batch : numpy.ndarray
        int64 ``(n,)`` batch of each entry, not decreasing.
    place : numpy.ndarray or None
        int64 ``(n,)`` place of each entry in the order of reading; None reads batch by batch.
    task_items : int
        Entries of one task, where the order of reading is given.

    Returns
    -------
    tasks : sequence of numpy.ndarray
        Each int64 ``(k,)``: entries (places in a rank's part of the epoch) that one thread reads in one go.
    needed : numpy.ndarray
        int64 ``(n_batches,)``: number of leading tasks that must be done before a batch is complete.
    """
    if place is None:
        edges = np.searchsorted(batch, np.arange(n_batches + 1))
        return [np.arange(a, b) for a, b in pairwise(edges.tolist())], np.arange(1, n_batches + 1)
    reading = np.argsort(place, kind="stable")
    tasks = [reading[at : at + task_items] for at in range(0, len(reading), task_items)]
    needed = np.zeros(n_batches, dtype=np.int64)
    np.maximum.at(needed, batch[reading], np.arange(len(reading)) // task_items + 1)
    return tasks, needed


@contextmanager
def read_ahead(
    tasks: Sequence[Task],
    *,
    prepare: Callable[[Task], None],
    work: Callable[[Task], None],
    threads: int,
    ahead: int,
) -> Iterator[Callable[[int], None]]:
    """Yield a function ``wait(n)`` that returns when the first ``n`` tasks are done.

    ``prepare`` runs in the caller's thread when a task is handed out, ``work`` in one of the threads, which go up to
    ``ahead`` tasks beyond those waited for; with ``threads=0`` the caller does the work when it waits. ``wait`` raises
    the first error of a task. On leaving, tasks that have not begun are dropped.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="featstore-read") if threads else None
    futures: list[Future[None]] = []
    done = handed = 0

    def wait(n: int) -> None:
        nonlocal done, handed
        for task in tasks[handed : n + ahead if pool else n]:
            prepare(task)
            if pool:
                futures.append(pool.submit(work, task))
            else:
                work(task)
            handed += 1
        if pool:
            for future in futures[done:n]:
                future.result()
        done = max(done, n)

    try:
        yield wait
    finally:
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)
