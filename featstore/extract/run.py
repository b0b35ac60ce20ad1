"""An extraction from track table to finished store: what is missing is computed, serially or through Dask."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from featstore.atomic import canonical_json
from featstore.audio import decoder_versions
from featstore.datasets import TrackTable
from featstore.dsp.essentia_engine import import_essentia
from featstore.errors import PlanError, StoreError, StoreLocked
from featstore.extract.dispatch import Dispatch
from featstore.extract.failures import FailurePolicy
from featstore.extract.limits import TrackLimits
from featstore.extract.options import ExtractOptions
from featstore.extract.plan import Graph, Plan, check_clips, graph_for, make_plan
from featstore.extract.report import ExtractReport
from featstore.extract.run_progress import RunProgress, runs_under_way
from featstore.extract.scheduler_choice import choose_scheduler
from featstore.extract.sources import audit_sources, changed_pairs, moved_files
from featstore.extract.weights import check_licences, keep_codebooks
from featstore.extract.worker import ShardTask, versions_of
from featstore.specs import FeatureRequest
from featstore.store.backends import backend_at, backend_named_by
from featstore.store.consolidate import consolidate
from featstore.store.garbage import swept
from featstore.store.leases import live_leases
from featstore.store.ledger import read_status
from featstore.store.location import open_location
from featstore.store.missing import find_missing
from featstore.store.opening import create_store, open_store
from featstore.store.store import Store
from featstore.store.writing import add_arrays, add_tracks, note_request

__all__ = ["compute_missing", "dry_run", "extract", "make_tasks", "prepare"]

logger = logging.getLogger(__name__)

WAIT_S = 15.0  # for another run's leases: workers of a killed run notice within seconds


def extract(
    tracks: TrackTable,
    requests: Sequence[FeatureRequest] | Plan,
    store_path: str | os.PathLike[str],
    options: ExtractOptions | None = None,
) -> ExtractReport:
    """Bring a store to the point where it answers for all requested features of all tracks.

    Run again, it does only what is missing; killed at any moment, it has lost at most the shards in flight.

    Parameters
    ----------
    tracks : TrackTable
        New tracks are added behind those that the store knows.
    requests : sequence of FeatureRequest, or the Plan made from them
    store_path : path
    options : ExtractOptions

    Raises
    ------
    StoreLocked
        When another run is writing the same shards.
    StoreError, SpecError, PlanError
        When the store cannot be written or the features cannot be computed; nothing is lost then.

    See Also
    --------
    make_plan : Forecasts seconds and bytes without computing.
    ExtractOptions : How it runs.
    featstore.open_store : Reads what was written.
    """
    options = options or ExtractOptions()
    started = time.perf_counter()
    plan = make_plan(requests)
    for decoder in {header.spec.decoder for header in plan.headers}:
        decoder_versions(decoder=decoder)  # where its package is missing, no store is made
    if any(header.spec.engine == "essentia" for header in plan.headers):
        import_essentia()
    check_clips(plan, tracks)
    again = _changed(tracks, store_path, options)
    store = prepare(tracks, plan, store_path, options)
    keys = [*plan.keys, *sorted({key for key, _ in again} - set(plan.keys))]
    report = compute_missing(store, keys, options, tracks, again)
    report.seconds = time.perf_counter() - started
    _log(store, report, keys)
    return report


def _changed(tracks: TrackTable, store_path: str | os.PathLike[str], options: ExtractOptions) -> set[tuple[str, int]]:
    """Pairs to compute again because their audio files changed; refused before the store is touched."""
    if backend_at(open_location(store_path)) is None:
        return set()
    return changed_pairs(open_store(store_path), tracks, "recompute" if "changed" in options.retry else options.changed)


def compute_missing(
    store: Store,
    keys: Sequence[str],
    options: ExtractOptions,
    tracks: TrackTable | None = None,
    again: Collection[tuple[str, int]] = (),
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
    again : collection of (str, int)
        Pairs of array key and shard to compute again although they are there.
    """
    started = time.perf_counter()
    if "changed" in options.retry:
        again = {*again, *audit_sources(store, tracks, keys).pairs}
    missing = find_missing(store, keys, retry=options.retry, again=again, limit=options.limit)
    todo = _own_part(missing, options.shard_range)
    _refuse_if_taken(store, todo)
    _check_versions(store, keys, options.strict)
    report = ExtractReport(str(store.location), sorted({key for _, lacking in todo for key in lacking}))
    if options.shard_range is not None:
        report.part_shards = len(range(options.shard_range[0], store.n_shards, options.shard_range[1]))
        report.left_shards = len(missing) - len(todo)
    run = secrets.token_hex(4)
    options = replace(options, scheduler=_scheduler(store, todo, options))
    tasks = make_tasks(store, tracks, todo, options, run)
    policy = FailurePolicy(store.location, run, report)
    if tasks:
        policy.suspect_leftovers()
        runs_under_way(store.location, tidy=True)
    with swept(store.location):
        if tasks:
            n_tracks = sum(len(store.shard_rows(task.shard)) for task in tasks)
            with RunProgress(store.location, run, report, n_tracks, options.progress) as bar:
                _dispatch(tasks, options, policy, report, bar)
    store.refresh()
    consolidate(store)
    report.seconds = time.perf_counter() - started
    report.status, report.asked = read_status(store), read_status(store, keys)
    return report


def _dispatch(
    tasks: Sequence[ShardTask], options: ExtractOptions, policy: FailurePolicy, report: ExtractReport, bar: RunProgress
) -> None:
    try:
        for part in Dispatch(tasks, options, policy, on_start=bar.start, on_tick=bar.tick).reports():
            report.add(part)
            bar.update()
    finally:
        policy.clean_up()


def _scheduler(store: Store, todo: list[tuple[int, list[str]]], options: ExtractOptions) -> str:
    specs = [store.arrays[key].spec for key in sorted({key for _, keys in todo for key in keys})]
    return choose_scheduler(options, store.location, specs, len(todo))


def prepare(tracks: TrackTable, plan: Plan, store_path: str | os.PathLike[str], options: ExtractOptions) -> Store:
    """Make or open the store and give it all tracks and arrays of the plan."""
    frame = tracks.frame
    if frame.empty:
        raise PlanError("the track table is empty", "", "Index a folder that holds audio: featstore datasets index")
    if options.licence_allow:
        check_licences([header.spec for header in plan.headers], options.licence_allow)
    there = backend_at(open_location(store_path))
    backend = options.backend or (there.name if there else backend_named_by(store_path) or "zarr")
    store = create_store(store_path, frame, plan.headers, shard_tracks=options.shard_tracks, backend=backend)
    if options.shard_tracks is not None and options.shard_tracks != store.shard_tracks:
        logger.warning(
            "the store has %d tracks a shard since its creation; --shard-tracks is ignored", store.shard_tracks
        )
    added = add_tracks(store, frame)
    if added:
        logger.info("%d new tracks appended", added)
    add_arrays(store, plan.headers, options.compression)
    keep_codebooks(store, [header.spec for header in plan.headers])
    note_request(store, plan.names)
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
    for key in keys:
        own = versions_of(store, [key])  # a record may name more: what its task made of other arrays
        feature = store.arrays[key].spec.short()
        for record in store.records(key).values():
            other = {name: record.versions.get(name) for name, here in own.items() if record.versions.get(name) != here}
            if other:
                listed = ", ".join(f"{name} {made} (here {own[name]})" for name, made in sorted(other.items()))
                what = f"shard {record.shard} was made with {listed}"
                if strict:
                    raise PlanError(what, feature, "Use those, or drop --strict")
                logger.warning("%s mixes versions: %s", feature, what)
                break


def make_tasks(
    store: Store, tracks: TrackTable | None, todo: list[tuple[int, list[str]]], options: ExtractOptions, run: str
) -> list[ShardTask]:
    """Tasks of the shards that lack something; a few kilobytes each."""
    where = str(store.location)
    if "://" not in where:
        where = os.path.abspath(where)  # workers may stand elsewhere
    moved = moved_files(store, tracks)
    graphs: dict[tuple[str, ...], Graph] = {}
    tasks = []
    for shard, keys in todo:
        headers = [store.arrays[key].header for key in keys]
        if tuple(keys) not in graphs:
            graphs[tuple(keys)] = graph_for(headers)
        inside = store.table.pairs(store.shard_rows(shard)) if moved else ()
        records = [store.records(key).get(shard) for key in keys]
        tasks.append(
            ShardTask(
                where,
                shard,
                tuple(keys),
                graphs[tuple(keys)],
                limit=options.limit,
                short_decode=options.short_decode,
                run=run,
                paths=tuple(moved.get(track, path) for track, path in inside),
                generations=tuple(0 if record is None else record.generation for record in records),
                limits=TrackLimits(options.track_timeout, options.track_memory),
                own_process=options.scheduler != "sync",
                batches=options.token_batches,
                device=any(header.spec.wants_device for header in headers),
            )
        )
    return tasks


def _log(store: Store, report: ExtractReport, keys: Sequence[str]) -> None:
    """Keep times and hosts of this run beside the data, outside all hashes."""
    import socket

    entry = report.as_json() | {
        "keys": list(keys),
        "host": socket.gethostname(),
        "finished": time.time(),
        "versions": versions_of(store, keys),
    }
    if report.shards:
        name = f"log/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}.json"
        store.location.write(name, canonical_json(entry))


def dry_run(
    tracks: TrackTable,
    requests: Sequence[FeatureRequest] | Plan,
    store_path: str | os.PathLike[str],
    options: ExtractOptions,
) -> dict[str, Any]:
    """Say what :func:`extract` would do, writing nothing: arrays to make, shards and tracks to compute."""
    plan = make_plan(requests)
    check_clips(plan, tracks)
    found = {"store": str(store_path), "steps": plan.graph.n_nodes}
    try:
        store = open_store(store_path)
    except StoreError:
        return found | {"exists": False, "arrays": plan.keys, "tracks": len(tracks.frame)}
    new = int((~tracks.frame["track_id"].isin(store.tracks.index)).sum())
    todo = _own_part(find_missing(store, plan.keys, retry=options.retry, limit=options.limit), options.shard_range)
    return found | {
        "exists": True,
        "arrays": [key for key in plan.keys if key not in store.arrays],
        "shards": len(todo),
        "tracks": new + sum(len(store.shard_rows(shard)) for shard, _ in todo),
    }
