"""Worker processes of this machine, without Dask.

They are forked, so that they have everything imported and start in milliseconds; where their work needs torch, whose
threads do not survive a fork, and on systems whose libraries do not, fresh ones are spawned. Like a worker of a cluster
one may be lost: a track that crashes it, or hangs and is ended with it, costs the shards in work and not the run.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from typing import Any

from featstore.errors import FeatstoreError
from featstore.extract.worker import ShardReport, ShardTask
from featstore.stopping import STOP_SIGNALS

__all__ = ["OwnWorkers", "ThreadWorker", "WorkerLost"]

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
    others : iterable of ThreadWorker
        Those that were started before.

    Attributes
    ----------
    end : Connection
        Where its reports come from.
    running : dict
        Tasks that it has, by shard.
    most_running : int
        As many as it takes at a time.
    """

    def __init__(self, threads: int, run_shard: RunShard, *, fresh: bool, others: Iterable[ThreadWorker] = ()) -> None:
        context: Any = multiprocessing.get_context("spawn" if fresh or not sys.platform.startswith("linux") else "fork")
        self.end, theirs = context.Pipe()
        # a forked process has copies of all ends on this side: as long as it does, nobody sees that they are closed
        copies = [] if context.get_start_method() == "spawn" else [self.end, *(other.end for other in others)]
        self._process = context.Process(
            target=_serve, args=(theirs, copies, threads, run_shard), name="featstore-extract", daemon=False
        )
        self._theirs, self.most_running = theirs, 2 * threads
        self.running: dict[int, ShardTask] = {}

    def __enter__(self) -> ThreadWorker:
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end.close()  # it notices
        if kind is None:
            self._process.join(END_S)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def submit(self, task: ShardTask) -> None:
        """Give the process a task."""
        self.running[task.shard] = task
        try:
            self.end.send(task)
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
            if not self.end.poll(timeout_s):
                return None
            shard, report, error = self.end.recv()
        except (EOFError, ConnectionResetError):
            raise WorkerLost(list(self.running.values())) from None
        self.running.pop(shard)
        if error is not None:
            raise error
        found: ShardReport = report
        return found


class OwnWorkers:
    """Worker processes that are started as there is work for them; use as a context manager.

    Parameters
    ----------
    processes, threads : int
        Processes, and threads of each. Once one with several threads is lost, all that are started have one thread: a
        track that ends its process costs the fewest shards then.
    run_shard : callable
        As for :class:`ThreadWorker`.
    fresh : bool
        As for :class:`ThreadWorker`.
    """

    def __init__(self, processes: int, threads: int, run_shard: RunShard, *, fresh: bool) -> None:
        self._processes, self._threads = processes, threads
        self._run_shard, self._fresh = run_shard, fresh
        self._workers: list[ThreadWorker] = []

    def __enter__(self) -> OwnWorkers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for worker in self._workers:
            worker.end.close()  # all notice at once
        for worker in self._workers:
            worker.__exit__(kind)

    @property
    def n_running(self) -> int:
        """Tasks in work."""
        return sum(len(worker.running) for worker in self._workers)

    @property
    def has_room(self) -> bool:
        """Whether one takes another task."""
        is_full = (len(worker.running) >= worker.most_running for worker in self._workers)
        return len(self._workers) < self._processes or not all(is_full)

    def submit(self, task: ShardTask) -> None:
        """Give a task to the worker with the fewest, a new one as long as there may be more.

        Raises
        ------
        WorkerLost
            When that worker has ended. It is forgotten.
        """
        if len(self._workers) < self._processes:
            worker = ThreadWorker(self._threads, self._run_shard, fresh=self._fresh, others=self._workers)
            self._workers.append(worker.__enter__())
        else:
            worker = min(self._workers, key=lambda each: len(each.running))
        try:
            worker.submit(task)
        except WorkerLost as lost:
            self._forget(worker, lost)
            raise

    def result(self, timeout_s: float) -> ShardReport | None:
        """Report of a task, None when none is finished in time.

        Raises
        ------
        WorkerLost
            When a process has ended. It is forgotten.
        Exception
            Whatever a task raised.
        """
        ready = wait([worker.end for worker in self._workers], timeout_s)
        for worker in self._workers:
            if worker.end in ready:
                try:
                    return worker.result(0)
                except WorkerLost as lost:
                    self._forget(worker, lost)
                    raise
        return None

    def _forget(self, worker: ThreadWorker, lost: WorkerLost) -> None:
        worker.__exit__(type(lost))  # gone from the system too: its leases are free then
        self._workers.remove(worker)
        self._processes, self._threads = self._processes * self._threads, 1


def _serve(end: Connection, copies: Iterable[Connection], threads: int, run_shard: RunShard) -> None:
    """Do tasks until the parent closes its end, or is gone."""
    for copy in copies:
        copy.close()
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
