"""Many pieces of work in processes side by side: what fails, a process among it, costs its own piece alone."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from featstore.cluster import cpu_count

__all__ = ["one_core_quietly", "side_by_side"]

Piece = TypeVar("Piece")
Start = Callable[[], None] | None


def side_by_side(
    work: Callable[[Piece], str], pieces: Sequence[Piece], *, jobs: int | None = None, start: Start = None
) -> Iterator[str]:
    """What went wrong with each piece of work, in order; empty where nothing did.

    Where a process dies, nobody knows at which piece: all that were not returned are done again, one at a time.

    Parameters
    ----------
    work : callable
        Of a module, as it is imported in the processes; returns its error.
    pieces : sequence
        What travels there.
    jobs : int, optional
        Processes, all cores by default; 1 works in this process.
    start : callable, optional
        Called first in every other process.
    """
    jobs = min(jobs or cpu_count(), len(pieces))
    if jobs < 2:
        yield from map(work, pieces)
        return
    done = 0
    try:
        with _processes(jobs, start) as pool:
            for future in [pool.submit(work, piece) for piece in pieces]:
                yield future.result()
                done += 1
    except BrokenProcessPool:
        yield from _one_at_a_time(work, pieces[done:], start)


def _one_at_a_time(work: Callable[[Piece], str], pieces: Sequence[Piece], start: Start) -> Iterator[str]:
    waiting = list(reversed(pieces))
    while waiting:
        with _processes(1, start) as pool:
            try:
                while waiting:
                    yield pool.submit(work, waiting.pop()).result()
            except BrokenProcessPool:
                yield "its process died: run again where there is more memory"


def _processes(jobs: int, start: Start) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=start)


def one_core_quietly() -> None:
    """Keep a worker to one core, and its progress off the terminal."""
    import torch

    os.environ["FEATSTORE_PROGRESS"] = "0"
    torch.set_num_threads(1)
