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


def side_by_side(
    work: Callable[[Piece], str],
    pieces: Sequence[Piece],
    *,
    jobs: int | None = None,
    start: Callable[[], None] | None = None,
) -> Iterator[str]:
    """What went wrong with each piece of work, in order; empty where nothing did.

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
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=start) as pool:
        for future in [pool.submit(work, piece) for piece in pieces]:
            try:
                yield future.result()
            except BrokenProcessPool:
                yield "a worker process died: run again, with fewer jobs where memory is short"


def one_core_quietly() -> None:
    """Keep a worker to one core, and its progress off the terminal."""
    import torch

    os.environ["FEATSTORE_PROGRESS"] = "0"
    torch.set_num_threads(1)
