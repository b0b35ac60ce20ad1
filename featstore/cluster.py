"""The one place that makes a Dask client: for extraction and for sweeps alike."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from featstore.cluster_file import THREAD_SETTINGS, ClusterConfig, read_cluster
from featstore.errors import ConfigError, FeatstoreError
from featstore.log import NOISY_LOGGERS
from featstore.stopping import StopRequest, unheard_by_children

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["GPU", "JobKeeper", "cpu_count", "dask_client", "gpu_count"]

logger = logging.getLogger(__name__)

GPU = "GPU"
"""Resource that workers with a device announce: ``dask worker … --resources GPU=1``."""

START_S = "180s"  # for a process to import everything on a busy machine
CLOSE_S = 30.0  # for workers to end: longer than Dask takes until it kills them
STARTS = 3  # of a local cluster: a worker may be killed while it starts
LOST_JOB_S = 20.0  # a job whose workers came and have been gone for so long is ordered again


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def dask_client(
    jobs: int,
    scheduler: str | None = None,
    *,
    cluster: str | os.PathLike[str] | ClusterConfig | None = None,
    log_directory: str | None = None,
) -> Iterator[Client]:
    """Client of a running scheduler, of jobs in a batch system, or of a local cluster made for the block.

    Parameters
    ----------
    jobs : int
        Single-threaded worker processes of the local cluster.
    scheduler : str, optional
        Address of a running scheduler, ``tcp://HOST:PORT``.
    cluster : path or ClusterConfig, optional
        A cluster file: see :mod:`featstore.cluster_file`.
    log_directory : str, optional
        For the logs of its jobs, where the file names none.

    Raises
    ------
    ConfigError
        When no scheduler answers there, or the cluster file is at fault.
    FeatstoreError
        When the worker processes do not start.
    """
    import dask
    import distributed

    for name in NOISY_LOGGERS:
        if name != "asyncio":  # others use it in this process
            logging.getLogger(name).setLevel(logging.CRITICAL)
    quiet = dask.config.serialize({"logging": dict.fromkeys(NOISY_LOGGERS, "critical")})
    settings = {
        "distributed.scheduler.allowed-failures": 0,  # every lost worker is reported; who tries again is decided by us
        "distributed.worker.daemon": True,
        "distributed.comm.timeouts.connect": START_S,
        "distributed.admin.large-graph-warning-threshold": "100MB",
        # numerical libraries stay on one thread: the workers are the parallelism
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREAD_SETTINGS, 1)
        | {"DASK_INTERNAL_INHERIT_CONFIG": quiet},
    }
    with dask.config.set(settings), ExitStack() as stack:
        with StopRequest() as stop, unheard_by_children():
            if scheduler is not None:
                client = _connect(scheduler)
            else:
                cluster_object = _start(jobs, cluster, log_directory)
                stack.callback(_close, cluster_object)
                client = distributed.Client(cluster_object)
            stack.callback(_close, client)
        if stop.requested:
            raise KeyboardInterrupt
        yield client


def _connect(scheduler: str) -> Client:
    from distributed import Client

    try:
        return Client(scheduler, timeout="15s")
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at {scheduler}",
            "",
            "Start one with: dask scheduler, or leave --scheduler out",
        ) from error


def _start(jobs: int, cluster: str | os.PathLike[str] | ClusterConfig | None, log_directory: str | None) -> Any:
    """Jobs of a batch system, or worker processes on this machine."""
    from distributed import LocalCluster

    if cluster is not None:
        return (cluster if isinstance(cluster, ClusterConfig) else read_cluster(cluster)).start(log_directory)
    for start in range(STARTS):
        try:
            return LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",
                silence_logs="CRITICAL",
            )
        except RuntimeError as error:
            cause = error.__cause__ or error
            logger.warning("worker processes could not be started (%s)", str(cause) or type(cause).__name__)
            if start == STARTS - 1:
                fix = "Free memory, or work in this process: --scheduler sync to extract, -j 1 to train"
                raise FeatstoreError(f"{jobs} worker processes do not start: {cause}", "", fix) from error
    raise AssertionError


def _close(either: Any) -> None:
    """Close a client or a cluster; that workers do not answer any more is no reason to fail then."""
    try:
        either.close(timeout=CLOSE_S)
    except Exception as error:  # whatever a library raises while it ends: the work is done, or was interrupted
        logger.debug("closing %r: %s", either, error)


def gpu_count(client: Client) -> int:
    """Devices that the workers announce; 0 where none does."""
    try:
        known = client.scheduler_info(n_workers=-1)
    except TypeError:  # older versions tell of all workers unasked
        known = client.scheduler_info()
    return int(sum(worker.get("resources", {}).get(GPU, 0) for worker in known["workers"].values()))


class JobKeeper:
    """Orders jobs of a batch system again when they are lost; does nothing for other clusters.

    Parameters
    ----------
    client : Client
    """

    def __init__(self, client: Client) -> None:
        cluster = getattr(client, "cluster", None)
        self._cluster: Any = cluster if hasattr(cluster, "job_cls") else None
        self._adaptive = getattr(self._cluster, "_adaptive", None) is not None
        self._wanted = len(self._cluster.worker_spec) if self._cluster is not None else 0
        self._last_seen: dict[str, float] = {}
        self.reordered = 0

    def look(self) -> None:
        """Compare the jobs that were asked for with the workers that are there."""
        if self._cluster is None:
            return
        cluster, now = self._cluster, time.monotonic()
        with suppress(OSError, TimeoutError):
            there = [str(worker["name"]) for worker in cluster.scheduler_info["workers"].values()]
            for job in list(cluster.worker_spec):
                if any(name == str(job) or name.startswith(f"{job}-") for name in there):
                    self._last_seen[job] = now
                elif now - self._last_seen.get(job, now) > LOST_JOB_S:
                    self._forget(job)
            if not self._adaptive and self.reordered:
                cluster.scale(jobs=self._wanted)  # opens what is lacking, and nothing else

    def _forget(self, job: str) -> None:
        """Strike a job off the list, so that another is asked for in its place."""
        logger.warning("the job %s is gone and is ordered again", job)
        del self._last_seen[job]
        self.reordered += 1
        lost = self._cluster.workers.pop(job, None)
        if lost is not None:
            self._cluster.sync(lost.close)
        if self._adaptive:
            self._cluster.worker_spec.pop(job, None)
