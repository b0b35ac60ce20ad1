"""Settings of an extraction, checked once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from featstore.errors import ConfigError, check_known
from featstore.store.backends import STORES
from featstore.store.layout import COMPRESSIONS
from featstore.store.records import STATUSES

__all__ = ["TRACK_TIMEOUT_S", "ExtractOptions"]

TRACK_TIMEOUT_S = 1800.0  # a track of three hours through every representation takes minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractOptions:
    """How an extraction runs; none of it changes what the arrays hold, but for ``short_decode``.

    Attributes
    ----------
    jobs : int or None
        Workers; None takes one for each core.
    scheduler : str
        ``forks`` (processes forked from this one), ``threads`` (of one such process), ``processes`` (a local Dask
        cluster), ``sync`` (this process), or the address of a running scheduler; ``auto`` takes forks where all that
        is computed survives a fork, else processes.
    cluster : str or None
        A cluster file: jobs of a batch system, instead of ``scheduler``.
    compression : str
        Of new arrays: ``none``, ``lz4`` or ``zstd``.
    backend : str or None
        Of a new store: ``zarr`` or ``hdf5``; by default what its name ends in (``.h5`` is HDF5), else ``zarr``. An
        existing store keeps its own.
    shard_tracks : int or None
        Tracks a shard, for a new store.
    shard_range : tuple of int, optional
        ``(i, n)``: do the i-th of n parts of the work, counted from 0.
    retry : tuple of str
        Statuses whose shards are computed again; ``all`` takes every failure, ``changed`` the shards with an audio
        file that is not the one they were made from.
    limit : int or None
        Number of tracks, in the store's order, after which to stop.
    short_decode : str
        For a file that yields less audio than it declares: ``fail``, ``flag`` (keep it, and say so) or ``keep``.
    changed : str
        For audio files that are not those that stored values were made from: ``refuse`` to go on, ``recompute`` all
        features of their shards, or ``keep`` what is stored, which may leave a track with features of two versions.
    strict : bool
        Refuse to mix library versions in one array.
    track_timeout : float
        Seconds that one track may take; 0 for no limit.
    track_memory : int
        Bytes that a worker may grow to over one track; 0 for no limit.
    progress : str
        ``bar``, ``json`` (lines on stderr) or ``none``.
    token_batches : bool or None
        Compute the tokens of several tracks together; None does where they are computed on a GPU.
    licence_allow : tuple of str
        Licences that weights of encoders may have; empty allows all.

    See Also
    --------
    extract : Takes them.
    """

    jobs: int | None = None
    scheduler: str = "auto"
    compression: str = "none"
    backend: str | None = None
    shard_tracks: int | None = None
    shard_range: tuple[int, int] | None = None
    retry: tuple[str, ...] = field(default=())
    limit: int | None = None
    short_decode: str = "fail"
    changed: str = "refuse"
    strict: bool = False
    cluster: str | None = None
    track_timeout: float = TRACK_TIMEOUT_S
    track_memory: int = 0
    progress: str = "bar"
    token_batches: bool | None = None
    licence_allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def one_of(name: str, value: str, allowed: Collection[str]) -> None:
            check_known(value, allowed, f"{name}={value!r} is unknown")

        one_of("compression", self.compression, COMPRESSIONS)
        if self.backend is not None:
            one_of("backend", self.backend, STORES)
        one_of("short_decode", self.short_decode, ("fail", "flag", "keep"))
        one_of("changed", self.changed, ("refuse", "recompute", "keep"))
        if "://" not in self.scheduler:
            one_of("scheduler", self.scheduler, ("auto", "forks", "threads", "processes", "sync"))
        one_of("progress", self.progress, ("bar", "json", "none"))
        if self.cluster is not None and self.scheduler not in ("auto", "processes"):
            raise ConfigError(
                f"scheduler={self.scheduler} and cluster={self.cluster} exclude each other", "", "Give one of them"
            )
        for name, value in (("track_timeout", self.track_timeout), ("track_memory", self.track_memory)):
            if not 0 <= value < float("inf"):
                raise ConfigError(f"{name}={value} is out of range", "", "Give 0 for no limit, or more")
        for status in self.retry:
            one_of("retry", status, (*(s for s in STATUSES if s not in ("ok", "pending")), "all", "changed"))
        for name in ("jobs", "shard_tracks", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value} is too small", "", "Give at least 1")
        if self.shard_range is not None:
            part, parts = self.shard_range
            if not 0 <= part < parts:
                raise ConfigError(
                    f"shard_range={part}/{parts} is out of range", "", f"Give 0/{parts} to {parts - 1}/{parts}"
                )
