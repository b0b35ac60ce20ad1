"""An extraction from track table to finished store: what is missing is computed, serially or through Dask."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featstore.atomic import canonical_json
from featstore.cluster import cpu_count
from featstore.datasets import TrackTable
from featstore.errors import PlanError, StoreLocked
from featstore.extract.options import ExtractOptions
from featstore.extract.plan import Plan, make_plan
from featstore.extract.worker import ShardReport, ShardTask, run_shard, versions
from featstore.log import progress_bar
from featstore.specs import FeatureRequest
from featstore.store.backends import backend_at
from featstore.store.creating import create_store
from featstore.store.garbage import collect_garbage
from featstore.store.leases import live_leases
from featstore.store.location import open_location
from featstore.store.store import Store

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["ExtractReport", "compute_missing", "dry_run", "extract", "prepare"]

logger = logging.getLogger(__name__)

WAIT_S = 15.0  # for another run's leases: workers of a killed run notice within seconds


@dataclass(slots=True)
class ExtractReport:
    """What an extraction did in this run, and where the store stands."""

    store: str
    shards: int = 0
    tracks: int = 0
    audio_s: float = 0.0
    written_bytes: int = 0
    seconds: float = 0.0
    worker_s: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    status: dict[str, Any] = field(default_factory=dict)

    def add(self, part: ShardReport) -> None:
        """Count a finished shard."""
        self.shards += 1
        self.tracks += part.tracks
        self.audio_s += part.audio_s
        self.written_bytes += part.written_bytes
        self.worker_s += part.seconds
        self.statuses.update(part.statuses)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        return {
            "store": self.store,
            "shards_done": self.shards,
            "tracks_done": self.tracks,
            "audio_s": round(self.audio_s, 3),
            "written_bytes": self.written_bytes,
            "seconds": round(self.seconds, 3),
            "worker_seconds": round(self.worker_s, 3),
            **self.status,
        }


def extract(
    tracks: TrackTable,
    requests: Sequence[FeatureRequest],
    store_path: str | os.PathLike[str],
    options: ExtractOptions | None = None,
) -> ExtractReport:
    """Bring a store to the point where it answers for all requested features of all tracks.

    Run again, it does only what is missing; killed at any moment, it has lost at most the shards in flight.

    Parameters
    ----------
    tracks : TrackTable
        New tracks are added behind those that the store knows.
    requests : sequence of FeatureRequest
    store_path : path
    options : ExtractOptions

    Raises
    ------
    StoreLocked
        When another run is writing the same shards.
    StoreError, SpecError, PlanError
        When the store cannot be written or the features cannot be computed; nothing is lost then.
    """
    options = options or ExtractOptions()
    started = time.perf_counter()
    plan = make_plan(requests)
    store = prepare(tracks, plan, store_path, options)
    report = compute_missing(store, plan.keys, options, tracks)
    report.seconds = time.perf_counter() - started
    _log(store, report, plan.keys)
    return report


def compute_missing(
    store: Store, keys: Sequence[str], options: ExtractOptions, tracks: TrackTable | None = None
) -> ExtractReport:
    """Compute what some arrays of a store lack, then bring its metadata in line.

    Parameters
    ----------
    store : Store
    keys : sequence of str
        Arrays of the store.
    options : ExtractOptions
    tracks : TrackTable, optional
        Where the audio files are now; the store's own paths by default.
    """
    started = time.perf_counter()
    todo = _own_part(store.missing(keys, retry=options.retry, limit=options.limit), options.shard_range)
    _refuse_if_taken(store, todo)
    _check_versions(store, keys, options.strict)
    report = ExtractReport(str(store.location))
    tasks = _tasks(store, tracks, todo, options)
    n_tracks = sum(len(store.shard_rows(task.shard)) for task in tasks)
    with progress_bar(total=n_tracks, desc="extract", unit="track") as bar:
        for part in _run_all(tasks, options):
            report.add(part)
            bar.update(part.tracks)
            speed = report.audio_s / max(1e-9, time.perf_counter() - started)
            bar.set_postfix_str(f"{speed:.0f}x real time, {_failures(report.statuses)} failed", refresh=False)
    _finish(store)
    report.seconds = time.perf_counter() - started
    report.status = store.status()
    return report


def prepare(tracks: TrackTable, plan: Plan, store_path: str | os.PathLike[str], options: ExtractOptions) -> Store:
    """Make or open the store and give it all tracks and arrays of the plan."""
    frame = tracks.frame
    if frame.empty:
        raise PlanError("the track table is empty", "", "Index a folder that holds audio: featstore datasets index")
    there = backend_at(open_location(store_path))
    backend = options.backend or (there.name if there else "zarr")
    store = create_store(store_path, frame, plan.headers, shard_tracks=options.shard_tracks, backend=backend)
    if options.shard_tracks is not None and options.shard_tracks != store.shard_tracks:
        logger.warning(
            "the store has %d tracks a shard since its creation; --shard-tracks is ignored", store.shard_tracks
        )
    added = store.add_tracks(frame)
    if added:
        logger.info("%d new tracks appended", added)
    store.add_arrays(plan.headers, options.compression)
    store.note_request(plan.names)
    return store


def _own_part(todo: list[tuple[int, list[str]]], part: tuple[int, int] | None) -> list[tuple[int, list[str]]]:
    if part is None:
        return todo
    index, parts = part
    return [(shard, keys) for shard, keys in todo if shard % parts == index]


def _refuse_if_taken(store: Store, todo: list[tuple[int, list[str]]]) -> None:
    """Leave with a clear message when another run is at the same work; orphaned workers get a moment to notice."""
    wanted = {(key, shard) for shard, keys in todo for key in keys}
    deadline = time.monotonic() + WAIT_S
    while True:
        taken = [(key, shard, owner) for key, shard, owner in live_leases(store.location) if (key, shard) in wanted]
        if not taken:
            return
        if time.monotonic() > deadline:
            key, shard, owner = taken[0]
            raise StoreLocked(
                f"another run (process {owner.pid} on {owner.host}) is writing {len(taken)} of the shards wanted here, "
                f"shard {shard} of {key} among them",
                str(store.location),
                "Wait for it to finish, then run again: only what is missing will be done",
            )
        time.sleep(0.25)


def _check_versions(store: Store, keys: Sequence[str], strict: bool) -> None:
    own = versions()
    for key in keys:
        for record in store.records(key).values():
            other = {name: version for name, version in record.versions.items() if own.get(name) != version}
            if other:
                told = ", ".join(f"{name} {version} (here {own.get(name)})" for name, version in sorted(other.items()))
                if strict:
                    raise PlanError(
                        f"shard {record.shard} was made with {told}",
                        store.arrays[key][0].spec.short(),
                        "Use those, or drop --strict",
                    )
                logger.warning(
                    "%s mixes versions: shard %d was made with %s",
                    store.arrays[key][0].spec.short(),
                    record.shard,
                    told,
                )
                break


def _tasks(
    store: Store, tracks: TrackTable | None, todo: list[tuple[int, list[str]]], options: ExtractOptions
) -> list[ShardTask]:
    run = secrets.token_hex(4)
    here = {} if tracks is None else dict(zip(tracks.frame["track_id"], tracks.frame["path"], strict=True))
    known = store.track_rows
    moved = {track: here[track] for track, path in known["path"].items() if here.get(track, path) != path}
    tasks = []
    for shard, keys in todo:
        rows = store.shard_rows(shard)
        paths: tuple[str, ...] = ()
        if moved:
            inside = known[(known["row"] >= rows.start) & (known["row"] < rows.stop)].sort_values("row")
            paths = tuple(moved.get(track, path) for track, path in inside["path"].items())
        tasks.append(
            ShardTask(str(store.location), shard, tuple(keys), options.limit, options.short_decode, run, paths)
        )
    return tasks


def _run_all(tasks: Sequence[ShardTask], options: ExtractOptions) -> Iterator[ShardReport]:
    """Reports of the tasks as they finish."""
    jobs = min(options.jobs or cpu_count(), max(1, len(tasks)))
    remote = "://" in options.scheduler
    if not tasks:
        return
    if options.scheduler == "sync" or (jobs == 1 and not remote):
        yield from map(run_shard, tasks)
        return
    from featstore.cluster import dask_client

    with dask_client(jobs, options.scheduler if remote else None) as client:
        yield from _through_dask(client, tasks)


def _through_dask(client: Client, tasks: Iterable[ShardTask]) -> Iterator[ShardReport]:
    """Keep two tasks a thread in flight: enough to keep workers busy, and a bound on what a scheduler holds."""
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    waiting = iter(tasks)
    bound = 2 * max(1, sum(client.nthreads().values()))
    running = {}

    def submit(task: ShardTask) -> Any:
        future = client.submit(run_shard, task, pure=False, key=f"shard-{task.shard}-{secrets.token_hex(3)}")
        running[future] = task
        return future

    first = [submit(task) for _, task in zip(range(bound), waiting, strict=False)]
    queue = as_completed(first)
    for future in queue:
        task = running.pop(future)
        try:
            yield future.result()
        except KilledWorker:
            raise PlanError(
                f"shard {task.shard} killed its worker process four times",
                task.store,
                "Look for a damaged file among its tracks, or give the workers more memory; the other shards are safe",
            ) from None
        following = next(waiting, None)
        if following is not None:
            queue.add(submit(following))


def _finish(store: Store) -> None:
    """Clear up after dead writers and bring metadata in line; the manifest is for a store with nothing missing."""
    collect_garbage(store.location)
    store.refresh()
    store.consolidate(finished=not store.missing(list(store.arrays)))


def _failures(statuses: Counter[str]) -> int:
    return sum(count for status, count in statuses.items() if status not in ("ok", "silent", "clipped"))


def _log(store: Store, report: ExtractReport, keys: Sequence[str]) -> None:
    """Keep times and hosts of this run beside the data, outside all hashes."""
    import socket

    entry = report.as_json() | {
        "keys": list(keys),
        "host": socket.gethostname(),
        "finished": time.time(),
        "versions": versions(),
    }
    if report.shards:
        name = f"log/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}.json"
        store.location.write(name, canonical_json(entry))


def dry_run(
    tracks: TrackTable, requests: Sequence[FeatureRequest], store_path: str | os.PathLike[str], options: ExtractOptions
) -> dict[str, Any]:
    """Say what :func:`extract` would do, writing nothing: arrays to make, shards and tracks to compute."""
    from featstore.errors import StoreError
    from featstore.store.store import open_store

    plan = make_plan(requests)
    try:
        store = open_store(store_path)
    except StoreError:
        return {
            "store": str(store_path),
            "exists": False,
            "arrays": plan.keys,
            "tracks": len(tracks.frame),
            "steps": plan.graph.n_nodes,
        }
    new = int((~tracks.frame["track_id"].isin(store.tracks.index)).sum())
    todo = _own_part(store.missing(plan.keys, retry=options.retry, limit=options.limit), options.shard_range)
    return {
        "store": str(store_path),
        "exists": True,
        "arrays": [key for key in plan.keys if key not in store.arrays],
        "shards": len(todo),
        "tracks": new + sum(len(store.shard_rows(shard)) for shard, _ in todo),
        "steps": plan.graph.n_nodes,
    }
