"""Who does the work when nobody was named: threads of one process, or a cluster of processes on this machine."""

from __future__ import annotations

from collections.abc import Iterable

from featstore.cluster import cpu_count
from featstore.extract.options import ExtractOptions
from featstore.specs import FeatureSpec
from featstore.store.location import FolderLocation, Location
from featstore.store.memory_store import MemoryLocation

__all__ = ["choose_scheduler"]

MOST_THREADS = 4  # that share Python's lock without waiting for it: a fifth or less of the work holds it
START_S = 3.0  # until a cluster of processes is at work
_AUDIO_PER_S = 2000.0  # seconds of audio that one core decodes in a second
_ARRAYS = 4  # that take as long to compute as the decoding does


def choose_scheduler(
    options: ExtractOptions, location: Location | None, specs: Iterable[FeatureSpec], n_shards: int, audio_s: float
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
    audio_s : float
        Seconds of audio in them, as far as headers tell.
    """
    if isinstance(location, MemoryLocation):
        return "sync"  # another process could not write there
    if options.cluster is not None:
        return "processes"
    if options.scheduler != "auto":
        return options.scheduler
    specs = list(specs)
    jobs = min(options.jobs or cpu_count(), max(1, n_shards))
    if not isinstance(location, FolderLocation | None):
        return "processes"
    if jobs == 1:
        return "threads"
    # memory is counted by process; other libraries keep Python's lock, or have threads of their own
    if options.track_memory or any(spec.engine != "native" or spec.wants_device for spec in specs):
        return "processes"
    seconds = audio_s / _AUDIO_PER_S * (1 + len(specs) / _ARRAYS)
    wins = seconds / MOST_THREADS - seconds / jobs > START_S
    return "processes" if jobs > MOST_THREADS and wins else "threads"
