"""What one track may take, and how much patience there is with one that takes more: all limits of an extraction.

``guard.py`` watches a track in its worker, ``failures.py`` counts the workers that a shard has cost, ``trial.py`` tries
a suspect track in a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BLIND_DEATHS", "MOST_BYSTANDS", "MOST_DEATHS", "NO_LIMITS", "STRIKES", "TrackLimits"]

STRIKES = 3  # times that a track may kill or hang its process
MOST_DEATHS = 8  # of workers over one shard, before it is left for another run
BLIND_DEATHS = 3  # where notes cannot be seen: before every track of the shard is tried by itself
MOST_BYSTANDS = 64  # deaths of workers that had not begun the shard: caused by another one, within reason
_LEAST_TRIAL_S = 600.0  # for a trial where tracks have no limit of time
_HARD_MEMORY = 1.25  # of the limit: from there on the process is ended at once


@dataclass(frozen=True, slots=True)
class TrackLimits:
    """What one track may take.

    Attributes
    ----------
    seconds : float
        Wall-clock time; 0 for no limit.
    memory_bytes : int
        Resident memory of the worker process; 0 for no limit.
    """

    seconds: float = 0.0
    memory_bytes: int = 0

    @property
    def grace_s(self) -> float:
        """Seconds that a track over its time, once reported, has to stop by itself."""
        return min(10.0, max(1.0, self.seconds / 2))

    @property
    def hard_memory_bytes(self) -> float:
        """Memory at which the process is ended at once."""
        return _HARD_MEMORY * self.memory_bytes

    @property
    def trial_s(self) -> float:
        """Seconds of a trial."""
        return self.seconds or _LEAST_TRIAL_S


NO_LIMITS = TrackLimits()
