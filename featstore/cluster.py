"""The one place that makes a Dask client: for extraction and for sweeps alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from featstore.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["cpu_count", "dask_client"]


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def dask_client(jobs: int, scheduler: str | None = None) -> Iterator[Client]:
    """Client of a running scheduler, or of a local cluster of ``jobs`` single-threaded processes made for the block.

    Parameters
    ----------
    jobs : int
        Worker processes of the local cluster.
    scheduler : str, optional
        Address of a running scheduler, ``tcp://HOST:PORT``.

    Raises
    ------
    ConfigError
        When no scheduler answers there.
    """
    import dask

    # read when distributed is first imported: its own log lines are not for people who extract features
    dask.config.set({"logging": {"distributed": "error", "bokeh": "error", "tornado": "error"}})
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": 3,
        "distributed.worker.daemon": True,
        "distributed.admin.large-graph-warning-threshold": "100MB",
        # numerical libraries stay on one thread: the workers are the parallelism
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), 1
        ),
    }
    with dask.config.set(settings):
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout="15s")
            except (OSError, TimeoutError, ValueError) as error:
                raise ConfigError(
                    f"no Dask scheduler answers at {scheduler}",
                    "",
                    "Start one with: dask scheduler, or leave --scheduler out",
                ) from error
            with client:
                yield client
            return
        with (
            LocalCluster(
                n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="ERROR"
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
