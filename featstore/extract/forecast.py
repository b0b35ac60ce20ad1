"""What an extraction would cost: bytes and files by arithmetic, seconds from a timed sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.cluster import cpu_count
from featstore.datasets import TrackTable
from featstore.errors import ConfigError
from featstore.extract.options import ExtractOptions
from featstore.extract.plan import Plan, check_clips, make_plan
from featstore.extract.scheduler_choice import choose_scheduler
from featstore.extract.timing import Cost, expected_durations, time_sample
from featstore.features import describe, steps_of
from featstore.html_repr import html_card
from featstore.specs import FeatureRequest, parse_feature
from featstore.store.backends import STORES, Backend
from featstore.store.layout import STORE_FILES, choose_layout, choose_shard_tracks
from featstore.store.pack_records import packs
from featstore.store.stored_tracks import ordered
from featstore.units import counted, format_bytes, format_seconds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Forecast", "forecast"]

RECORD_BYTES = 36  # of one track in one commit record
SHOWN = 40  # lines of arrays for people


@dataclass(slots=True)
class Forecast:
    """Cost of a plan for a number of tracks.

    Attributes
    ----------
    plan : Plan
    n_tracks, shard_tracks : int
    duration_s : float
        Seconds of audio.
    jobs : int
        Worker processes that :attr:`seconds` are for.
    arrays : list of dict
        ``key``, ``name``, ``bytes`` and number of ``views`` of each array to store.
    features : list of dict
        ``name``, whether it is stored or a view, and of what.
    n_bytes, n_files : int
        Of a finished store.
    core_s : float or None
        Seconds of one core, None without a timed sample.
    sampled : int
        Tracks that were timed.
    start_s : float
        Until a local cluster of processes is at work; 0 where threads do the work.
    """

    plan: Plan
    n_tracks: int
    duration_s: float
    shard_tracks: int
    jobs: int
    arrays: list[dict[str, Any]] = field(default_factory=list)
    features: list[dict[str, Any]] = field(default_factory=list)
    n_bytes: int = 0
    n_files: int = 0
    core_s: float | None = None
    sampled: int = 0
    start_s: float = 0.0

    @property
    def n_shards(self) -> int:
        """Shards of every array: the tasks of an extraction."""
        return -(-self.n_tracks // self.shard_tracks)

    @property
    def seconds(self) -> float | None:
        """Seconds until the last worker is done: the shards are shared out whole, and a cluster starts first."""
        if self.core_s is None:
            return None
        workers = min(self.jobs, self.n_shards)
        rounds = math.ceil(self.n_shards / workers) / self.n_shards
        return self.core_s * rounds + self.start_s

    @property
    def core_time(self) -> str:
        """Time of one core in words; empty where nothing was timed."""
        if self.core_s is None:
            return ""
        hours = self.core_s / 3600
        return f"{hours:,.2f} core-hours" if hours >= 0.1 else f"{format_seconds(self.core_s)} of one core"

    def as_json(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        return {
            "tracks": self.n_tracks,
            "audio_s": self.duration_s,
            "shard_tracks": self.shard_tracks,
            "shards": self.n_shards,
            "arrays": self.arrays,
            "features": self.features,
            "steps": self.plan.graph.n_nodes,
            "graph": describe(self.plan.graph.sinks),
            "bytes": self.n_bytes,
            "files": self.n_files,
            "core_hours": None if self.core_s is None else self.core_s / 3600,
            "jobs": self.jobs,
            "seconds": self.seconds,
            "sampled": self.sampled,
        }

    def _repr_html_(self) -> str:
        size = f"{format_bytes(self.n_bytes)} in {counted(self.n_files, 'file')}"
        time = self.core_time and f", {self.core_time}"
        rows = (
            (parse_feature(each["name"]).spec.short(), "stored" if each["stored"] else "view") for each in self.features
        )
        title = f"{counted(self.n_tracks, 'track')}, {format_seconds(self.duration_s)}: {size}{time}"
        return html_card(title, rows, ("feature", "kept"), total=len(self.features))

    def as_text(self) -> str:
        """Return the graph and the cost for people."""
        views = sum(1 for feature in self.features if not feature["stored"])
        lines = [
            f"{counted(len(self.features), 'feature')}: {counted(len(self.arrays), 'array')} stored, "
            f"{counted(views, 'view')} of them; {self.plan.graph.n_nodes} steps a track",
            "",
            describe(self.plan.graph.sinks),
            "",
            *self._array_lines(),
            "",
            f"{counted(self.n_tracks, 'track')}, {format_seconds(self.duration_s)} of audio, "
            f"shards of {counted(self.shard_tracks, 'track')}",
            f"{format_bytes(self.n_bytes)} in {counted(self.n_files, 'file')}",
        ]
        if self.core_s is not None and self.seconds is not None:
            wait = f"{format_seconds(self.seconds)} with {counted(self.jobs, 'worker')} like this one"
            lines.append(f"{self.core_time} ({wait}), from {counted(self.sampled, 'timed track')}")
        return "\n".join(lines)

    def _array_lines(self) -> Iterator[str]:
        for array in self.arrays[:SHOWN]:
            request = parse_feature(array["name"])
            views = f", {counted(array['views'], 'view')}" if array["views"] else ""
            yield f"{request.spec.short()}@{request.encoding}: {format_bytes(array['bytes'])}{views}"
        if len(self.arrays) > SHOWN:
            yield f"… and {len(self.arrays) - SHOWN} more (--json lists them all)"


def forecast(
    tracks: TrackTable,
    requests: Sequence[FeatureRequest] | Plan,
    *,
    n_tracks: int | None = None,
    sample: int = 8,
    jobs: int | None = None,
    backend: str = "zarr",
    compression: str = "none",
    shard_tracks: int | None = None,
) -> Forecast:
    """Predict bytes, files and core-hours of an extraction.

    Parameters
    ----------
    tracks : TrackTable
        Its durations stand for the whole collection; see :func:`featstore.extract.timing.expected_durations` for the
        unknown ones.
    requests : sequence of FeatureRequest, or Plan
    n_tracks : int, optional
        Size of the collection; the table's own by default.
    sample : int
        Tracks to time on this machine, 20 s at most; 0 for none.
    jobs : int, optional
        Worker processes; one for each core by default.
    backend, compression, shard_tracks
        As for the extraction; what a compression saves is measured on the sample.

    Raises
    ------
    SpecError, PlanError
        When the features cannot be computed of such tracks.
    ConfigError
        For numbers that make no sense, or a compression without a sample to measure it on.
    """
    options = ExtractOptions(jobs=jobs, backend=backend, compression=compression, shard_tracks=shard_tracks)
    if n_tracks is not None and n_tracks < 1:
        raise ConfigError(f"tracks={n_tracks} is too small", "plan", "Give at least 1")
    if sample < 0:
        raise ConfigError(f"sample={sample} is too small", "plan", "Give 0 for no seconds, or a few tracks")
    if compression != "none" and not sample:
        raise ConfigError(f"compression={compression} without a sample", "plan", "Raise --sample: bytes depend on it")
    plan = make_plan(requests)
    check_clips(plan, tracks)
    frame = tracks.frame
    rows = _rows(frame, len(frame) if n_tracks is None else n_tracks)
    shard_tracks = shard_tracks or choose_shard_tracks(plan.headers, frame["duration_s"], len(rows))
    result = Forecast(plan, len(rows), float(rows.sum()), shard_tracks, jobs or cpu_count())
    cost: Cost | None = None
    if sample:
        cost = time_sample(plan, frame, sample=sample, compression=compression, backend=backend)
    data_bytes = _weigh(result, plan, rows, backend, cost.ratio if cost else 1.0)
    stored = {header.key: header.name for header in plan.headers}
    for name, (key, view) in plan.views.items():
        result.features.append({"name": name, "stored": view.is_identity, "base": stored[key], "exact": view.exact})
    if cost:
        specs = [header.spec for header in plan.headers]
        chosen = choose_scheduler(options, None, specs, result.n_shards)
        result.start_s = cost.start_s if chosen == "processes" else 0.0
        result.sampled, result.core_s = cost.tracks, cost.seconds(result.duration_s, result.n_shards, data_bytes)
    return result


def _weigh(result: Forecast, plan: Plan, rows: np.ndarray, backend: str, ratio: float) -> float:
    """Fill in bytes and files, given the seconds of the track in each row; the bytes of all data files."""
    files: type[Backend] = STORES.load(backend)
    views = [key for key, view in plan.views.values() if not view.is_identity]
    result.n_files = STORE_FILES
    total_data = 0.0
    seconds, track_of = np.unique(rows, return_inverse=True)
    for header in plan.headers:
        rate = header.spec.sample_rate
        each = np.array([max(0, steps_of(header.spec, round(float(s) * rate))) for s in seconds], dtype=np.int64)
        lengths = each[track_of]
        layout = choose_layout(header, result.shard_tracks)
        data = layout.data_bytes(header, lengths) * ratio
        counts = 4 * result.shard_tracks + files.lengths_bytes
        size = round(data) + result.n_shards * (counts + 300) + result.n_tracks * RECORD_BYTES
        result.arrays.append({"key": header.key, "name": header.name, "bytes": size, "views": views.count(header.key)})
        result.n_bytes += size
        records = 1 if packs(result.n_shards) else result.n_shards
        result.n_files += layout.n_files(lengths) + records + files.metadata_count(header, result.n_shards)
        total_data += data
    return total_data


def _rows(frame: pd.DataFrame, total: int) -> np.ndarray:
    """Seconds of the track in each row of a store: in the store's own order, or drawn from the table for any number."""
    known = frame.assign(duration_s=expected_durations(frame))
    if total == len(frame):
        in_order: np.ndarray = ordered(known, 0, 0)["duration_s"].to_numpy(dtype=np.float64)
        return in_order
    drawn = np.random.default_rng(0).permutation(np.arange(total) % len(frame))
    seconds: np.ndarray = known["duration_s"].to_numpy(dtype=np.float64)[drawn]
    return seconds
