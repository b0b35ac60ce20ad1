"""One worker process whose threads do the shards: for work that lets other threads run, without Dask.

The process is forked, so that it has everything imported and starts in milliseconds; where its work needs torch, whose
threads do not survive a fork, and on systems whose libraries do not, a fresh one is spawned. Like a worker of a cluster
it may be lost: a track that crashes it, or hangs and is ended with it, costs the shards in work and not the run.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from featstore.errors import FeatstoreError
from featstore.extract.worker import ShardReport, ShardTask
from featstore.stopping import STOP_SIGNALS

__all__ = ["ThreadWorker", "WorkerLost"]

logger = logging.getLogger(__name__)

END_S = 10.0  # for the process to end by itself
SWITCH_S = 0.0005  # between threads: those that come back from compiled code need the lock for moments only

RunShard = Callable[[ShardTask, Callable[[], None]], ShardReport]


class WorkerLost(Exception):
    """The process ended with work unfinished; ``tasks`` are those that it had."""

    def __init__(self, tasks: list[ShardTask]) -> None:
        super().__init__(f"{len(tasks)} shards in work")
        self.tasks = tasks


class ThreadWorker:
    """A worker process with some threads; use as a context manager.

    While a shard is flushed and committed, the next one is computed: twice as many are in work as are computed.

    Parameters
    ----------
    threads : int
        Shards that are computed at a time.
    run_shard : callable
        Does a task, given a callable that it calls when nothing is left but to commit.
    fresh : bool
        Whether the process has to import everything itself.

    Attributes
    ----------
    running : dict
        Tasks that it has, by shard.
    most_running : int
        As many as it takes at a time.
    """

    def __init__(self, threads: int, run_shard: RunShard, *, fresh: bool) -> None:
        context: Any = multiprocessing.get_context("spawn" if fresh or not sys.platform.startswith("linux") else "fork")
        self._end, theirs = context.Pipe()
        own = None if context.get_start_method() == "spawn" else self._end  # a forked process has a copy of it
        self._process = context.Process(
            target=_serve, args=(theirs, own, threads, run_shard), name="featstore-extract", daemon=False
        )
        self._theirs, self.most_running = theirs, 2 * threads
        self.running: dict[int, ShardTask] = {}

    def __enter__(self) -> ThreadWorker:
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end.close()  # it notices
        if kind is None:
            self._process.join(END_S)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def submit(self, task: ShardTask) -> None:
        """Give the process a task."""
        self.running[task.shard] = task
        try:
            self._end.send(task)
        except (BrokenPipeError, ConnectionResetError):
            raise WorkerLost(list(self.running.values())) from None

    def result(self, timeout_s: float) -> ShardReport | None:
        """Report of a task, None when none is finished in time.

        Raises
        ------
        WorkerLost
            When the process has ended.
        Exception
            Whatever a task raised.
        """
        try:
            if not self._end.poll(timeout_s):
                return None
            shard, report, error = self._end.recv()
        except (EOFError, ConnectionResetError):
            raise WorkerLost(list(self.running.values())) from None
        self.running.pop(shard)
        if error is not None:
            raise error
        found: ShardReport = report
        return found


def _serve(end: Connection, parents_end: Connection | None, threads: int, run_shard: RunShard) -> None:
    """Do tasks until the parent closes its end, or is gone."""
    if parents_end is not None:
        parents_end.close()
    for number in STOP_SIGNALS:  # a terminal sends them to all: the parent decides, and ends this process
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what is imported stays: looking through all of it for garbage takes tens of milliseconds
    lock = threading.Lock()

    places = threading.Semaphore(threads)

    def work(task: ShardTask) -> None:
        report, error = None, None
        with ExitStack() as place:  # where a shard is computed; given up, once, as soon as it is not needed any more
            place.enter_context(places)
            try:
                report = run_shard(task, place.close)
            except BaseException as raised:
                logger.debug("shard %d failed", task.shard, exc_info=True)
                error = raised
        with lock:
            _answer(end, task.shard, report, error)

    with ThreadPoolExecutor(2 * threads, thread_name_prefix="featstore-extract") as pool:
        while True:
            try:
                task = end.recv()
            except (EOFError, OSError):
                os._exit(0)  # what is in work now is not wanted any more, and is done again when it is
            pool.submit(work, task)


def _answer(end: Connection, shard: int, report: ShardReport | None, error: BaseException | None) -> None:
    message: tuple[int, Any, BaseException | None] = (shard, report, error)
    try:
        end.send(message)
    except OSError:  # the parent is gone
        os._exit(0)
    except Exception as why:  # an error that cannot be sent: its text can
        fix = "Run again with -vv"
        end.send((shard, None, FeatstoreError(f"{type(error).__name__}: {error} ({why})", f"shard {shard}", fix)))
