"""One task: decode the tracks of a shard and compute all arrays that it lacks."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from featstore.audio import decoder_versions
from featstore.errors import DecodeError, StoreError
from featstore.extract.execute import TrackReport, run_track
from featstore.extract.guard import Guard
from featstore.extract.limits import NO_LIMITS, TrackLimits
from featstore.extract.plan import Graph
from featstore.extract.trial import Verdict, try_track
from featstore.extract.weights import find_weights
from featstore.extract.window_batches import COMPUTE_ERRORS, BatchedWriter, failure_of, wants_batches
from featstore.extract.work_notes import WorkNote
from featstore.features import make_stream
from featstore.process_memory import keep_freed_memory
from featstore.store.location import Location, open_location
from featstore.store.opening import open_store
from featstore.store.records import CommitRecord, read_record
from featstore.store.store import Store
from featstore.store.stored_tracks import TRACKS
from featstore.store.writer import ShardWriter
from featstore.store.writing import write_shard
from featstore.version import __version__

__all__ = ["ShardReport", "ShardTask", "run_shard", "versions", "versions_of"]

logger = logging.getLogger(__name__)

CLIPPED_SHARE = 0.001  # of all samples at full scale, before a track is called clipped
SHORT_TOLERANCE_S = 0.25  # encoder delay and padding make mp3 files a little shorter than they say


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What a worker gets: plain values and the graph, a few kilobytes whatever the size of the collection.

    Attributes
    ----------
    store : str
    shard : int
    keys : tuple of str
        Arrays to compute.
    graph : Graph
        Their steps; of arrays that another run has committed meanwhile, nothing is kept.
    limit : int or None
        Rows from this one on are left for a later run.
    short_decode : str
    run : str
        Label of the run, shown in leases.
    paths : tuple of str
        Files of the shard's rows, where they moved since the store was made; empty takes the store's own.
    generations : tuple of int
        For each key, the generation of the record that is there before this run, 0 for none.
    attempt : int
        How often the shard was tried before in this run.
    suspects : tuple of (int, int)
        Slots whose worker died at them, and how many did: such a track is first tried in a process of its own. A slot
        of -1 stands for every track.
    limits : TrackLimits
    own_process : bool
        Whether the process may be ended when a track does not stop.
    batches : bool or None
        Whether windows of several tracks go through a codec together; None leaves it to the device.
    device : bool
        Whether the shard has work for a GPU.
    """

    store: str
    shard: int
    keys: tuple[str, ...]
    graph: Graph
    limit: int | None = None
    short_decode: str = "fail"
    run: str = ""
    paths: tuple[str, ...] = ()
    generations: tuple[int, ...] = ()
    attempt: int = 0
    suspects: tuple[tuple[int, int], ...] = ()
    limits: TrackLimits = NO_LIMITS
    own_process: bool = False
    batches: bool | None = None
    device: bool = False


@dataclass(slots=True)
class ShardReport:
    """What a task says when it is done."""

    shard: int
    tracks: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    audio_s: float = 0.0
    written_bytes: int = 0
    seconds: float = 0.0


@functools.cache
def versions() -> dict[str, str]:
    """Versions of everything that can change the numbers."""
    import numpy
    import scipy

    return {"featstore": __version__, "numpy": numpy.__version__, "scipy": scipy.__version__} | decoder_versions()


def versions_of(store: Store, keys: Sequence[str]) -> dict[str, str]:
    """Versions of everything that can change the numbers of some arrays, their decoders and codecs included."""
    specs = [store.arrays[key].spec for key in keys]
    made = versions() | {name: importlib.metadata.version(name) for spec in specs for name in spec.libraries}
    for decoder in sorted({spec.decoder for spec in specs} - {"soundfile"}):
        made |= decoder_versions(decoder=decoder)
    return made


@functools.lru_cache(maxsize=4)
def _opened(path: str, keys: tuple[str, ...], stamp: str) -> Store:
    """Return the store, kept between the tasks of one run in one process, and note where its weights are."""
    keep_freed_memory()  # once a process: blocks of one size come and go, and fresh pages cost a third of the time
    store = open_store(path)
    find_weights(store.location, [store.arrays[key].spec for key in keys])
    return store


def run_shard(task: ShardTask, computed: Callable[[], None] = lambda: None) -> ShardReport:
    """Compute and commit one shard.

    Parameters
    ----------
    task : ShardTask
    computed : callable
        Called when nothing is left to do but to flush and to commit: another shard may be computed meanwhile.

    Raises
    ------
    StoreLocked
        When a living process writes the same.
    StoreError
        When the disk refuses. A track that fails is recorded, never raised.
    """
    while True:
        with suppress(_Overtaken):
            return _run_shard(task, computed)


class _Overtaken(Exception):
    """Another run committed part of the shard while this one was on its way to the lease."""


def _run_shard(task: ShardTask, computed: Callable[[], None]) -> ShardReport:
    started = time.perf_counter()
    location = open_location(task.store)
    asked, done = task, _done_before(location, task)
    if len(done) == len(task.keys):
        return _report_of(task, done)
    task = replace(task, keys=tuple(key for key in task.keys if key not in done))
    stamp = location.stamp(TRACKS)
    store, graph = _opened(task.store, task.keys, stamp), task.graph.without(set(done))
    rows = store.shard_rows(task.shard)
    paths = task.paths or tuple(path for _, path in store.table.pairs(rows))
    report = ShardReport(task.shard)
    verdicts = _try_suspects(store, task, paths)
    note = WorkNote(store.location, task.run, task.shard, task.attempt)
    with (
        Guard(note, task.limits, may_end_process=task.own_process) as guard,
        write_shard(store, task.shard, task.keys, task.run) as shard_writer,
    ):
        if len(_done_before(location, asked)) > len(done):
            raise _Overtaken
        batched = BatchedWriter(shard_writer, paths, graph) if wants_batches(graph, task.batches) else None
        writer = batched or shard_writer
        became: dict[int, tuple[str, float]] = {}
        for slot, path in enumerate(paths):
            if task.limit is not None and rows.start + slot >= task.limit:
                writer.fail(slot, "pending", "", "left for a later run by --limit")
                continue
            if slot in verdicts:
                became[slot] = verdicts[slot].status, 0.0
                writer.fail(slot, verdicts[slot].status, "decode", f"{path}: {verdicts[slot].what}", path)
            else:
                became[slot] = _run_slot(writer, slot, path, graph, task, guard)
        if batched is not None:
            batched.flush()
            became |= {slot: (status, 0.0) for slot, status in batched.lost.items()}
        computed()
        records = shard_writer.commit(versions_of(store, task.keys))
    report.tracks = len(became)
    report.statuses.update(status for status, _ in became.values())
    report.audio_s = sum(audio_s for _, audio_s in became.values())
    report.written_bytes = sum(size for record in records for size, _ in record.files.values())
    report.seconds = time.perf_counter() - started
    return report


def _done_before(location: Location, task: ShardTask) -> dict[str, CommitRecord]:
    """Records that a worker committed for this very task before it was lost."""
    found = {}
    for key, known in zip(task.keys, task.generations, strict=False):
        with suppress(StoreError):  # a damaged record is written again
            record = read_record(location, key, task.shard)
            if record is not None and record.generation > known:
                found[key] = record
    return found


def _report_of(task: ShardTask, records: dict[str, CommitRecord]) -> ShardReport:
    """Report of a shard that is there already; how long it took is not known any more."""
    record = next(iter(records.values()))
    states = Counter(outcome.status for outcome in record.outcomes)
    tracks = len(record.n_frames) - states.pop("pending", 0)
    written = sum(size for each in records.values() for size, _ in each.files.values())
    report = ShardReport(task.shard, tracks=tracks, written_bytes=written, statuses=states)
    states["ok"] = tracks - states.total()
    return report


def _try_suspects(store: Store, task: ShardTask, paths: Sequence[str]) -> dict[int, Verdict]:
    """Slots that must be left out, and why: workers died at them, and so did every trial."""
    named = dict(task.suspects)
    everyone = named.pop(-1, None)
    if everyone is not None:
        named = dict.fromkeys(range(len(paths)), 0) | named
    headers = [store.arrays[key].header for key in task.keys]
    verdicts = {}
    for slot, strikes in sorted(named.items()):
        if slot < len(paths):
            verdict = try_track(paths[slot], headers, task.limits, strikes, store=task.store)
            if verdict is not None:
                verdicts[slot] = verdict
    return verdicts


def _run_slot(
    writer: ShardWriter | BatchedWriter, slot: int, path: str, graph: Graph, task: ShardTask, guard: Guard
) -> tuple[str, float]:
    """Compute one track; (status, seconds of audio)."""
    make = writer.make_stream if isinstance(writer, BatchedWriter) else make_stream
    writer.begin(slot)
    guard.begin(slot, path)
    try:
        result = run_track(path, graph, guard.checked(writer.append), make)
    except (DecodeError, *COMPUTE_ERRORS) as error:
        status, stage, what = failure_of(error)
        writer.fail(slot, status, stage, what, path)
        logger.debug("track %s: %s", path, what, exc_info=stage == "compute")
        return status, 0.0
    finally:
        guard.end()
    status, what = judge(result, task.short_decode)
    if status == "short" and task.short_decode == "fail":
        writer.fail(slot, status, "decode", what, path)
        return status, 0.0
    frames = writer.end(
        status,
        source=result.fingerprint,
        error=what,
        path=path,
        silent=result.silent if status == "ok" else {},
        short=result.short,
        source_rate=result.sample_rate,
        near_ties=result.near_ties,
    )
    if frames is not None and not all(frames.values()):
        status = "short"
    elif result.silent and status == "ok":
        status = "silent"
    return status, result.duration_s


def judge(report: TrackReport, short_decode: str) -> tuple[str, str]:
    """Status of a decoded track, and the sentence that goes with it."""
    if short_decode != "keep" and report.missing_s > max(SHORT_TOLERANCE_S, 0.005 * report.duration_s):
        promised = report.duration_s + report.missing_s
        return "short", (
            f"decoded {report.duration_s:.2f} s of the {promised:.2f} s that the header declares: "
            "the file is cut or damaged. Replace it, or accept it with --short-decode flag"
        )
    if short_decode != "keep" and report.damage:
        return "short", (
            f"decoded {report.duration_s:.2f} s, and {report.damage}. Replace it, or accept it with --short-decode flag"
        )
    values = report.decoded * report.channels
    if report.n_clipped > CLIPPED_SHARE * values:
        return "clipped", f"{report.n_clipped} of {values} samples are at full scale"
    return "ok", ""
