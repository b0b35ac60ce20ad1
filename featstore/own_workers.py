"""Worker processes of this machine, without Dask.

They are forked, so that they have everything imported and start in milliseconds; where their work needs torch, whose
threads do not survive a fork, and on systems whose libraries do not, fresh ones are spawned. Like a worker of a cluster
one may be lost: a track that crashes it, or hangs and is ended with it, costs the tasks in work and not the run.
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
from typing import Any, Generic, TypeVar

from featstore.errors import FeatstoreError
from featstore.stopping import STOP_SIGNALS

__all__ = ["OwnWorkers", "ThreadWorker", "WorkerLost", "may_have_workers"]

logger = logging.getLogger(__name__)

END_S = 10.0  # for the process to end by itself
SWITCH_S = 0.0005  # between threads: those that come back from compiled code need the lock for moments only

Task = TypeVar("Task")
Report = TypeVar("Report")
Work = Callable[[Task, Callable[[], None]], Report]


def may_have_workers() -> bool:
    """Whether this process may start others; one of a ``multiprocessing.Pool``, for example, may not."""
    return not multiprocessing.current_process().daemon


class WorkerLost(Exception):
    """The process ended with work unfinished; ``tasks`` are those that it had."""

    def __init__(self, tasks: list[Any]) -> None:
        super().__init__(f"{len(tasks)} tasks in work")
        self.tasks = tasks


class ThreadWorker(Generic[Task, Report]):
    """A worker process with some threads; use as a context manager.

    While results of a task are flushed and committed, the next one is computed: twice as many are in work as are
    computed.

    Parameters
    ----------
    threads : int
        Tasks that are computed at a time.
    work : callable
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
        Tasks that it has, by number.
    most_running : int
        As many as it takes at a time.
    """

    def __init__(
        self, threads: int, work: Work[Task, Report], *, fresh: bool, others: Iterable[ThreadWorker[Task, Report]] = ()
    ) -> None:
        context: Any = multiprocessing.get_context("spawn" if fresh or not sys.platform.startswith("linux") else "fork")
        self.end, theirs = context.Pipe()
        # a forked process has copies of all ends on this side: as long as it does, nobody sees that they are closed
        copies = [] if context.get_start_method() == "spawn" else [self.end, *(other.end for other in others)]
        self._process = context.Process(
            target=_serve, args=(theirs, copies, threads, work), name="featstore-worker", daemon=False
        )
        self._theirs, self.most_running = theirs, 2 * threads
        self.running: dict[int, Task] = {}

    def __enter__(self) -> ThreadWorker[Task, Report]:
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

    def submit(self, number: int, task: Task) -> None:
        """Give the process a task, under a number that no other in work has."""
        self.running[number] = task
        try:
            self.end.send((number, task))
        except OSError:
            raise WorkerLost(list(self.running.values())) from None

    def result(self, timeout_s: float) -> Report | None:
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
            number, report, error = self.end.recv()
        except (EOFError, OSError):  # also in the middle of a message
            raise WorkerLost(list(self.running.values())) from None
        self.running.pop(number)
        if error is not None:
            raise error
        found: Report = report
        return found


class OwnWorkers(Generic[Task, Report]):
    """Worker processes that are started as there is work for them; use as a context manager.

    Parameters
    ----------
    processes, threads : int
        Processes, and threads of each. Once one with several threads is lost, all that are started have one thread:
        what ends its process costs the fewest tasks then.
    work : callable
        As for :class:`ThreadWorker`.
    fresh : bool
        As for :class:`ThreadWorker`.
    """

    def __init__(self, processes: int, threads: int, work: Work[Task, Report], *, fresh: bool) -> None:
        self._processes, self._threads = processes, threads
        self._work, self._fresh = work, fresh
        self._workers: list[ThreadWorker[Task, Report]] = []

    def __enter__(self) -> OwnWorkers[Task, Report]:
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

    def submit(self, number: int, task: Task) -> None:
        """Give a task to the worker with the fewest, a new one as long as there may be more.

        Parameters
        ----------
        number : int
            One that no other task in work has.
        task : object

        Raises
        ------
        WorkerLost
            When that worker has ended. It is forgotten.
        """
        if len(self._workers) < self._processes:
            worker = ThreadWorker(self._threads, self._work, fresh=self._fresh, others=self._workers)
            self._workers.append(worker.__enter__())
        else:
            worker = min(self._workers, key=lambda each: len(each.running))
        try:
            worker.submit(number, task)
        except WorkerLost as lost:
            self._forget(worker, lost)
            raise

    def result(self, timeout_s: float) -> Report | None:
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

    def _forget(self, worker: ThreadWorker[Task, Report], lost: WorkerLost) -> None:
        worker.__exit__(type(lost))  # gone from the system too: its leases are free then
        self._workers.remove(worker)
        self._processes, self._threads = self._processes * self._threads, 1


def _serve(end: Connection, copies: Iterable[Connection], threads: int, work: Work[Any, Any]) -> None:
    """Do tasks until the parent closes its end, or is gone."""
    for copy in copies:
        copy.close()
    for number in STOP_SIGNALS:  # a terminal sends them to all: the parent decides, and ends this process
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what is imported stays: looking through all of it for garbage takes tens of milliseconds
    lock = threading.Lock()

    places = threading.Semaphore(threads)

    def do(number: int, task: Any) -> None:
        report, error = None, None
        with ExitStack() as place:  # where a task is computed; given up, once, as soon as it is not needed any more
            place.enter_context(places)
            try:
                report = work(task, place.close)
            except BaseException as raised:
                logger.debug("task %d failed", number, exc_info=True)
                error = raised
        with lock:
            _answer(end, number, report, error)

    with ThreadPoolExecutor(2 * threads, thread_name_prefix="featstore-worker") as pool:
        while True:
            try:
                number, task = end.recv()
            except (EOFError, OSError):
                os._exit(0)  # what is in work now is not wanted any more, and is done again when it is
            pool.submit(do, number, task)


def _answer(end: Connection, number: int, report: Any, error: BaseException | None) -> None:
    message: tuple[int, Any, BaseException | None] = (number, report, error)
    try:
        end.send(message)
    except OSError:  # the parent is gone
        os._exit(0)
    except Exception as why:  # an error that cannot be sent: its text can
        fix = "Run again with -vv"
        end.send((number, None, FeatstoreError(f"{type(error).__name__}: {error} ({why})", f"task {number}", fix)))
