"""Shards to workers: in this process, in others of this machine, or through Dask, with what happens to the workers."""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from featstore.cluster import GPU, JobKeeper, cpu_count, dask_client, gpu_count
from featstore.errors import FeatstoreError, StoreLocked
from featstore.extract.failures import FailurePolicy
from featstore.extract.options import ExtractOptions
from featstore.extract.worker import ShardReport, ShardTask, run_shard
from featstore.own_workers import OwnWorkers, WorkerLost

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Dispatch"]

logger = logging.getLogger(__name__)

TICK_S = 1.0
LOCKED_S = 120.0  # for the lease of a lost worker on another machine to grow old
LOOK_S = 5.0  # between two counts of the workers
GPU_PATIENCE_S = 60.0  # for the last worker with a GPU to come back
REPORT_S = 10.0  # for a report to come from the worker that holds it, which may be lost with it
_LOCK_PAUSE_S = 2.0

RunShard = Callable[..., ShardReport]


class Dispatch:
    """Runs tasks and yields their reports; a lost worker costs a retry, not the run.

    Parameters
    ----------
    tasks : sequence of ShardTask
    options : ExtractOptions
    policy : FailurePolicy
    on_tick : callable
        Called about once a second, with the number of shards in flight and of worker threads.
    on_start : callable
        Called with the dashboard's address (or an empty string) once the workers are there.
    run_shard : callable
        What a worker does with a task.

    Attributes
    ----------
    most_in_flight : int
        Futures that were alive at a time.
    """

    def __init__(
        self,
        tasks: Sequence[ShardTask],
        options: ExtractOptions,
        policy: FailurePolicy,
        *,
        on_tick: Callable[[int, int], None] = lambda in_flight, threads: None,
        on_start: Callable[[str], None] = lambda address: None,
        run_shard: RunShard = run_shard,
    ) -> None:
        self._waiting = deque(tasks)
        self._options, self._policy, self._run_shard = options, policy, run_shard
        self._on_tick, self._on_start = on_tick, on_start
        self._delayed: list[tuple[float, ShardTask]] = []
        self._locked_since: dict[int, float] = {}
        self.most_in_flight = 0

    def reports(self) -> Iterator[ShardReport]:
        """Reports as shards finish, in any order."""
        if not self._waiting:
            return
        jobs = min(self._options.jobs or cpu_count(), len(self._waiting))
        chosen = self._options.scheduler
        if chosen == "sync":
            yield from self._here()
        elif chosen == "forks":
            yield from self._on_this_machine(jobs, 1)
        elif chosen == "threads":
            yield from self._on_this_machine(1, jobs)
        else:
            store = self._waiting[0].store
            with dask_client(
                jobs,
                chosen if "://" in chosen else None,
                cluster=self._options.cluster,
                log_directory=None if "://" in store else f"{store}/log/jobs",
            ) as client:
                self._on_start(_dashboard(client))
                yield from self._through_dask(client)

    def _here(self) -> Iterator[ShardReport]:
        self._on_start("")
        while self._waiting:
            yield self._run_shard(self._policy.prepare(self._waiting.popleft()))
            self._on_tick(len(self._waiting), 1)

    def _on_this_machine(self, processes: int, threads: int) -> Iterator[ShardReport]:
        """Processes with some threads each; another takes the place of one that is lost."""
        self._on_start("")
        fresh = any(task.device for task in self._waiting)
        workers: OwnWorkers[ShardTask, ShardReport]
        with OwnWorkers(processes, threads, self._run_shard, fresh=fresh) as workers:
            while self._waiting or workers.n_running:
                report = None
                try:
                    while self._waiting and workers.has_room:
                        task = self._policy.prepare(self._waiting.popleft())
                        workers.submit(task.shard, task)
                    report = workers.result(TICK_S)
                except WorkerLost as lost:
                    logger.warning("a worker process was lost, and another takes its place")
                    self._waiting.extendleft(reversed(self._policy.after_loss(lost.tasks)))
                if report is not None:
                    yield report
                self._on_tick(workers.n_running, processes * threads)

    def _through_dask(self, client: Client) -> Iterator[ShardReport]:
        """Keep two tasks a thread in flight: enough to keep workers busy, and a bound on what a scheduler holds."""
        done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        running: dict[Future[Any], ShardTask] = {}
        crew = _Crew(client)
        ticked = time.monotonic()
        while self._waiting or running or self._delayed:
            self._wake_delayed()
            while self._waiting and len(running) < 2 * max(1, crew.threads):
                task = self._policy.prepare(self._waiting.popleft())
                name = f"shard-{task.shard}-{secrets.token_hex(3)}"
                wanted = {GPU: 1} if task.device and crew.gpus else None  # without any, the work is done anywhere
                future = client.submit(self._run_shard, task, pure=False, key=name, retries=0, resources=wanted)
                running[future] = task
                future.add_done_callback(done.put)
            self.most_in_flight = max(self.most_in_flight, len(running))
            with contextlib.suppress(queue.Empty):
                future = done.get(timeout=TICK_S)
                ended = running.pop(future, None)  # None: it was called back
                report = None
                if ended is not None:
                    try:
                        report = self._result(future, ended)
                    except TimeoutError:
                        if future.status == "error":  # the shard's own, as of a file system that does not answer
                            raise
                        running[future] = ended  # lost with its worker: the scheduler has the shard done once more
                        future.add_done_callback(done.put)
                if report is not None:
                    yield report
            if time.monotonic() - ticked >= TICK_S:
                ticked = time.monotonic()
                crew.look()
                if crew.has_lost_gpus:
                    self._call_back(running)
                self._on_tick(len(running), crew.threads)

    def _call_back(self, running: dict[Future[Any], ShardTask]) -> None:
        """Give shards that wait for a GPU to any worker: none announces one any more."""
        stuck = [future for future, task in running.items() if task.device and not future.done()]
        for future in stuck:
            self._waiting.appendleft(running.pop(future))
            future.cancel()
        if stuck:
            logger.warning("no worker announces a GPU any more: %d shards go to any worker", len(stuck))

    def _result(self, future: Future[Any], task: ShardTask) -> ShardReport | None:
        """Report of a finished task; None when it has to be tried again, or is given up.

        Raises TimeoutError when the report does not come: a lost worker takes those with it that it still held.
        """
        from distributed import CancelledError
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker

        try:
            report: ShardReport = future.result(REPORT_S)
            return report
        except KilledWorker:
            self._waiting.extendleft(self._policy.after_death(task))
        except StoreLocked:
            # a worker that was lost on another machine still seems alive for a minute; one that gives its place up in
            # good order may still be at the shard that the scheduler has handed on
            since = self._locked_since.setdefault(task.shard, time.monotonic())
            if time.monotonic() - since > LOCKED_S:
                raise
            self._delayed.append((time.monotonic() + _LOCK_PAUSE_S, task))
        except (CancelledError, CommClosedError) as error:
            raise FeatstoreError(
                "the Dask scheduler was lost",
                str(self._options.scheduler),
                "Everything committed is safe: start the scheduler again and run the same command",
            ) from error
        return None

    def _wake_delayed(self) -> None:
        now = time.monotonic()
        self._waiting.extendleft(task for at, task in self._delayed if at <= now)
        self._delayed = [(at, task) for at, task in self._delayed if at > now]


class _Crew:
    """How many worker threads there are, asked now and then; jobs of a queue that were lost are ordered again."""

    def __init__(self, client: Client) -> None:
        self._client, self._keeper = client, JobKeeper(client)
        self._asked = 0.0
        self._alone_since = time.monotonic()
        self._gpus_gone_since: float | None = None
        self.threads = self.gpus = 0
        self.look()

    def look(self) -> None:
        """Count again, every few seconds."""
        now = time.monotonic()
        if self.threads and now - self._asked < LOOK_S:
            return
        self._asked = now
        with contextlib.suppress(OSError, TimeoutError):  # a scheduler that is gone shows in its futures
            self.threads = sum(self._client.nthreads().values())
            gpus, self.gpus = self.gpus, gpu_count(self._client)
            if self.gpus:
                self._gpus_gone_since = None
            elif gpus:
                self._gpus_gone_since = now
        self._keeper.look()
        if self.threads:
            self._alone_since = now
        elif now - self._alone_since > 60:
            logger.warning("still waiting for workers: none has been there for %.0f s", now - self._alone_since)
            self._alone_since = now

    @property
    def has_lost_gpus(self) -> bool:
        """Whether there were GPUs, and have been none for longer than a worker takes to restart; true only once."""
        gone = self._gpus_gone_since
        if gone is None or time.monotonic() - gone < GPU_PATIENCE_S:
            return False
        self._gpus_gone_since = None
        return True


def _dashboard(client: Client) -> str:
    """Address of the scheduler's dashboard; empty without bokeh."""
    import importlib.util

    if importlib.util.find_spec("bokeh") is None:
        return ""
    with contextlib.suppress(KeyError, AttributeError, ValueError, TypeError):
        return str(client.dashboard_link or "")
    return ""
