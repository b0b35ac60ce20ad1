"""What an extraction would cost: bytes and files by arithmetic, seconds from a timed sample."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featstore.cluster import cpu_count
from featstore.datasets import TrackTable
from featstore.errors import DecodeError
from featstore.extract.execute import run_track
from featstore.extract.plan import Plan, make_plan
from featstore.features import describe, steps_of
from featstore.specs import FeatureRequest
from featstore.store.layout import choose_layout, choose_shard_tracks

__all__ = ["Forecast", "forecast"]

DEFAULT_DURATION_S = 240.0  # of a track that could not be probed
RECORD_BYTES = 36  # of one track in one commit record


@dataclass(slots=True)
class Forecast:
    """Cost of a plan for a number of tracks.

    Attributes
    ----------
    arrays : list of dict
        ``key``, ``name`` and ``bytes`` of each array to store.
    features : list of dict
        ``name``, whether it is stored or a view, and of what.
    n_files : int
        Files of a finished store.
    core_s : float or None
        Seconds of one core, None without a timed sample.
    sampled : int
        Tracks that were timed.
    """

    n_tracks: int
    duration_s: float
    shard_tracks: int
    arrays: list[dict[str, Any]] = field(default_factory=list)
    features: list[dict[str, Any]] = field(default_factory=list)
    graph: str = ""
    n_steps: int = 0
    n_bytes: int = 0
    n_files: int = 0
    core_s: float | None = None
    sampled: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        return {
            "tracks": self.n_tracks,
            "audio_s": self.duration_s,
            "shard_tracks": self.shard_tracks,
            "shards": -(-self.n_tracks // self.shard_tracks),
            "arrays": self.arrays,
            "features": self.features,
            "steps": self.n_steps,
            "graph": self.graph,
            "bytes": self.n_bytes,
            "files": self.n_files,
            "core_hours": None if self.core_s is None else self.core_s / 3600,
            "seconds": None if self.core_s is None else self.core_s / cpu_count(),
            "sampled": self.sampled,
        }

    def as_text(self) -> str:
        """Return the graph and the cost for people."""
        views = sum(1 for feature in self.features if not feature["stored"])
        lines = [
            f"{len(self.features)} features: {len(self.arrays)} arrays stored, {views} views of them; "
            f"{self.n_steps} steps a track",
            "",
            self.graph,
            "",
            f"{self.n_tracks:,} tracks, {self.duration_s / 3600:,.1f} h of audio, shards of {self.shard_tracks} tracks",
            f"{self.n_bytes / 1e9:,.3f} GB in {self.n_files:,} files",
        ]
        if self.core_s is not None:
            cores = cpu_count()
            lines.append(
                f"{self.core_s / 3600:,.3f} core-hours ({self.core_s / cores:,.0f} s on the {cores} cores here), "
                f"from {self.sampled} timed tracks"
            )
        return "\n".join(lines)


def forecast(
    tracks: TrackTable, requests: Sequence[FeatureRequest], *, n_tracks: int | None = None, sample: int = 3
) -> Forecast:
    """Predict bytes, files and core-hours of an extraction.

    Parameters
    ----------
    tracks : TrackTable
        Its durations stand for the whole collection.
    requests : sequence of FeatureRequest
    n_tracks : int, optional
        Size of the collection; the table's own by default.
    sample : int
        Tracks to time on this machine; 0 for none.
    """
    plan = make_plan(requests)
    frame = tracks.frame
    durations = np.nan_to_num(frame["duration_s"].to_numpy(dtype=np.float64), nan=DEFAULT_DURATION_S)
    total = len(frame) if n_tracks is None else n_tracks
    repeats = total / max(1, len(frame))
    shard_tracks = choose_shard_tracks(plan.headers, durations, total)
    result = Forecast(total, float(durations.sum() * repeats), shard_tracks, graph=describe(_leaves(plan)))
    result.n_steps = plan.graph.n_nodes
    result.n_files = 5 + len(plan.headers) * 3
    n_shards = -(-total // shard_tracks)
    for header in plan.headers:
        rate = header.spec.sample_rate
        lengths = [max(0, steps_of(header.spec, round(s * rate))) for s in durations]
        layout = choose_layout(header, shard_tracks)
        slabs = max(1, layout.n_slabs(max(lengths, default=0)))
        size = round(layout.data_bytes(header, lengths) * repeats) + n_shards * (4 * shard_tracks + 4 + 300)
        size += total * RECORD_BYTES
        result.arrays.append({"key": header.key, "name": header.name, "bytes": size})
        result.n_bytes += size
        result.n_files += n_shards * (slabs + 2)
    stored = {header.key: header.name for header in plan.headers}
    for name, (key, view) in plan.views.items():
        result.features.append({"name": name, "stored": view.is_identity, "base": stored[key], "exact": view.exact})
    if sample:
        _time(result, plan, [str(path) for path in frame["path"]], durations, sample)
    return result


def _leaves(plan: Plan) -> list[Any]:
    return list(plan.graph.sinks)


def _time(result: Forecast, plan: Plan, paths: list[str], durations: Any, sample: int) -> None:
    """Run the graph on some tracks spread over the table; the first one warms up and is not counted."""
    order = np.linspace(0, len(paths) - 1, min(len(paths), sample + 1)).astype(int)
    spent, heard = 0.0, 0.0
    for place, index in enumerate([order[0], *order]):
        started = time.perf_counter()
        try:
            report = run_track(paths[index], plan.graph, lambda key, block: None)
        except DecodeError:
            continue
        if place:
            spent += time.perf_counter() - started
            heard += report.duration_s
            result.sampled += 1
    if heard:
        result.core_s = spent / heard * result.duration_s
