"""Who does the work when nobody was named: processes forked from this one, or a local cluster of fresh ones."""

from __future__ import annotations

from collections.abc import Iterable

from featstore.cluster import cpu_count
from featstore.extract.options import ExtractOptions
from featstore.own_workers import may_have_workers
from featstore.specs import FeatureSpec
from featstore.store.location import FolderLocation, Location
from featstore.store.memory_store import MemoryLocation

__all__ = ["choose_scheduler"]


def choose_scheduler(
    options: ExtractOptions, location: Location | None, specs: Iterable[FeatureSpec], n_shards: int
) -> str:
    """Scheduler of an extraction: what was asked for, else the one that is done first.

    Parameters
    ----------
    options : ExtractOptions
    location : Location or None
        Of the store; None stands for a folder.
    specs : iterable of FeatureSpec
        Features to compute.
    n_shards : int
        Shards with work.
    """
    if isinstance(location, MemoryLocation):
        return "sync"  # another process could not write there
    if options.cluster is not None:
        return "processes"
    if options.scheduler != "auto":
        return options.scheduler
    if not may_have_workers():
        return "sync"
    if not isinstance(location, FolderLocation | None):
        return "processes"
    if min(options.jobs or cpu_count(), n_shards) <= 1:
        return "forks"
    # memory is counted by process; other libraries have threads of their own, which do not survive a fork
    is_foreign = any(spec.engine != "native" or spec.wants_device for spec in specs)
    return "processes" if options.track_memory or is_foreign else "forks"
