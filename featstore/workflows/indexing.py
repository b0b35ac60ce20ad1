"""Index a data set and probe its files: the track table with durations, rates and what is broken."""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featstore.audio.artist import read_artist
from featstore.audio.av_decoder import probe_av
from featstore.audio.probe import AV_SUFFIXES, AudioInfo, needs_av, probe_audio
from featstore.cluster import cpu_count
from featstore.datasets import TrackTable, describe, index
from featstore.datasets.repeats import Repeats
from featstore.datasets.spelling import clean_name
from featstore.datasets.splits import linked_tracks
from featstore.errors import DecodeError, MissingDependency
from featstore.log import progress
from featstore.object_storage import is_object_url
from featstore.own_workers import OwnWorkers, WorkerLost, may_have_workers
from featstore.workflows.probe_cache import ProbeCache, default_cache

__all__ = ["artists_of", "index_tracks", "probe_tracks", "with_groups", "with_splits"]

logger = logging.getLogger(__name__)

# Probing waits for the disk too; more workers than this no longer help on a network file system.
_MOST_WORKERS = 16
_FORKED_FROM = 200  # files, for processes in place of threads
_SHARE = 100  # files that make up for starting a process
_SLICE = 32  # files that a worker reads at a time, at most
_TICK_S = 1.0
_CACHED_FROM = 2000  # files: fewer are asked again in seconds


def index_tracks(
    kind: str, root: str | os.PathLike[str] | None = None, *, jobs: int | None = None, **options: Any
) -> TrackTable:
    """Make the track table of a data set and add what the headers of its files say.

    Parameters
    ----------
    kind, root, **options
        As for ``featstore.datasets.index``. Besides, for any kind, ``group_from="artist"`` makes the artist that a
        file's tags name its group (a file without that tag has none), ``group_from="none"`` takes groups away, and
        ``split_from="none"`` splits.
    jobs : int > 0, optional
        Files handled at a time.

    Returns
    -------
    TrackTable
        A file that cannot be read stays a row, with the reason in ``probe_error``.
    """
    if jobs is not None and "jobs" in describe(kind)[1]:
        options["jobs"] = jobs
    groups = options.pop("group_from") if options.get("group_from") in ("artist", "none") else ""
    without_splits = options.get("split_from") == "none" and options.pop("split_from")
    table = probe_tracks(index(kind, root, **options), jobs=jobs)
    if without_splits:
        table = table.assign(split=None)
    if groups:
        table = with_groups(table, artists_of(table, jobs=jobs) if groups == "artist" else [None] * len(table))
    return table


def artists_of(table: TrackTable, *, jobs: int | None = None) -> list[str | None]:
    """Artist tag of each track's file, None where there is none."""
    readable = table.frame["probe_error"].isna() & ~table.frame["path"].map(is_object_url)
    rows = np.flatnonzero(readable).tolist()
    names: list[str | None] = [None] * len(table)
    found = _each(read_artist, list(table.frame["path"][readable]), jobs, crashed="")
    for k, name in progress(found, total=len(rows), desc="artist tags", unit="file"):
        names[rows[k]] = clean_name(name) or None
    return names


def with_groups(table: TrackTable, groups: Sequence[str | None]) -> TrackTable:
    """The same tracks in other groups; names that differ in case alone are one group."""
    import pandas as pd

    first: dict[str, str] = {}
    merged = [group and first.setdefault(group.casefold(), group) for group in groups]
    return table.assign(group=pd.Series(merged, table.frame.index, dtype=object))


def with_splits(
    table: TrackTable,
    fractions: Sequence[float],
    seed: int = 0,
    *,
    by: str = "",
    group_column: str = "group",
    repeats: Repeats = (),
) -> TrackTable:
    """The same tracks in new random splits; files that cannot be read are in none.

    Parameters
    ----------
    table : TrackTable
    fractions : three numbers
        Shares of train, valid and test.
    seed : int
    by : str
        Column of classes whose proportions are kept; the labels by default.
    group_column : str
        Tracks of one value here stay together.
    repeats : path, or sequence of sequences of str, optional
        Lists of track ids, each of one recording, or the JSON file of them that ``featstore datasets check
        --fingerprint --repeats FILE`` writes. The tracks of a list stay together, and so do their groups. Files that
        cannot be read link others all the same.

    Raises
    ------
    ConfigError
        When the fractions are not three shares of a whole.
    DatasetError
        When a named column is missing, or ``repeats`` are not lists of ids of tracks of the table.

    See Also
    --------
    featstore.datasets.assign_splits : How they are drawn.
    featstore.workflows.repeats.repeat_findings : Finds repeats.
    """
    from featstore.datasets import assign_splits

    readable = table.frame[table.frame["probe_error"].isna()]
    column = by or table.info.label_column
    linked: Repeats = ()
    if isinstance(repeats, str | os.PathLike) or len(repeats):
        there = set(readable["track_id"])
        every = linked_tracks(table.frame, repeats, group_column=group_column)
        linked = [[track for track in tracks if track in there] for tracks in every]
    split = assign_splits(
        readable, fractions=fractions, seed=seed, group_column=group_column, stratify_column=column, repeats=linked
    ).reindex(table.frame.index)
    return table.assign(split=split.where(split.notna(), None))


def probe_tracks(
    table: TrackTable, *, jobs: int | None = None, cache: str | os.PathLike[str] | None = None
) -> TrackTable:
    """The same table with its probe columns filled in; rows that already carry an error are left as they are.

    Parameters
    ----------
    table : TrackTable
    jobs : int > 0, optional
        Files handled at a time.
    cache : path, optional
        File that keeps the answers, so that a run that was stopped goes on; collections of thousands of files have one
        in the user's cache folder by default.
    """
    started = time.monotonic()
    frame = table.frame
    todo = [row for row, error in enumerate(frame["probe_error"]) if error is None]
    every = list(frame["path"])
    paths = [every[row] for row in todo]
    columns: dict[str, list[Any]] = {name: list(frame[name]) for name in _COLUMNS}
    errors = list(frame["probe_error"])
    for_av = 0
    if cache is None and len(todo) >= _CACHED_FROM:
        cache = default_cache(table.info.root or os.path.dirname(paths[0]))
    with ProbeCache(Path(cache) if cache is not None else None) as answers:
        for k, outcome in progress(_answers(answers, paths, jobs), total=len(todo), desc="probe", unit="file"):
            row, path = todo[k], paths[k]
            if isinstance(outcome, str):
                errors[row] = outcome
                continue
            for_av += path.lower().endswith(AV_SUFFIXES) and needs_av(outcome)
            answers.put(path, outcome)
            for name, attribute in _COLUMNS.items():
                columns[name][row] = getattr(outcome, attribute)
    if for_av:
        logger.warning("%d files are read by FFmpeg only: ask for decoder=av, as in mel(decoder=av)", for_av)
    broken = sum(error is not None for error in errors)
    logger.info("probed %d files in %.1f s, %d cannot be read", len(frame), time.monotonic() - started, broken)
    return table.assign(**columns, probe_error=errors)


_COLUMNS = {
    "duration_s": "duration_s",
    "source_sample_rate": "sample_rate",
    "channels": "channels",
    "size_bytes": "size_bytes",
}


def _probe(path: str) -> AudioInfo | str:
    try:
        return probe_audio(path)
    except DecodeError as error:
        if path.lower().endswith(AV_SUFFIXES) and os.path.isfile(path):
            with suppress(DecodeError, MissingDependency):
                return probe_av(path)  # decoder=av reads what libsndfile does not
            return f"{error.what}; {error.fix}"
        return error.what


def _answers(answers: ProbeCache, paths: Sequence[str], jobs: int | None) -> Iterator[tuple[int, AudioInfo | str]]:
    """Position and answer of each path, those that are kept first."""
    asked = []
    for k, kept in enumerate(_in_order(answers.get, paths, _workers(jobs))):
        if kept is None:
            asked.append(k)
        else:
            yield k, kept
    found = _each(_probe, [paths[k] for k in asked], jobs, crashed="a library crashes on its header")
    for k, outcome in found:
        yield asked[k], outcome


def _workers(jobs: int | None) -> int:
    return jobs or min(_MOST_WORKERS, 4 * cpu_count())


def _each(
    call: Callable[[str], Any], paths: Sequence[str], jobs: int | None, *, crashed: Any
) -> Iterator[tuple[int, Any]]:
    """Position and result of each path, in any order: read by processes of their own where there are many files.

    What reads headers holds Python's lock most of the time, so that threads are no faster than one. ``crashed`` stands
    for the result of a file that ends the process that reads it.
    """
    workers = _workers(jobs)
    is_local = not any(map(is_object_url, paths))
    # other systems than Linux start processes too slowly
    if is_local and len(paths) >= _FORKED_FROM and sys.platform.startswith("linux") and may_have_workers():
        processes = jobs or min(workers, len(paths) // _SHARE)
        if processes > 1 and cpu_count() > 1:
            return _in_processes(call, paths, processes, crashed)
    return enumerate(_in_order(call, paths, workers))


class _Slice(NamedTuple):
    """Some paths, and the position of the first."""

    start: int
    paths: Sequence[str]


def _read_slice(call: Callable[[str], Any], some: _Slice, computed: Callable[[], None]) -> list[tuple[int, Any]]:
    return [(some.start + k, call(path)) for k, path in enumerate(some.paths)]


def _in_processes(
    call: Callable[[str], Any], paths: Sequence[str], processes: int, crashed: Any
) -> Iterator[tuple[int, Any]]:
    """As :func:`_each`: what a lost process had is read again, file by file, and so the one that ends it is found."""
    waiting = deque(_Slice(start, paths[start : start + _SLICE]) for start in range(0, len(paths), _SLICE))
    alone: deque[_Slice] = deque()  # what lost workers had, file by file
    work = functools.partial(_read_slice, call)
    workers: OwnWorkers[_Slice, list[tuple[int, Any]]]
    with OwnWorkers(processes, 1, work, fresh=False) as workers:
        while waiting or alone or workers.n_running:
            try:
                while waiting and workers.has_room:
                    some = waiting.popleft()
                    workers.submit(some.start, some)
                if alone and not workers.n_running:
                    some = alone.popleft()
                    workers.submit(some.start, some)
                yield from workers.result(_TICK_S) or ()
            except WorkerLost as lost:
                for start, held in lost.tasks:
                    if len(held) == 1:
                        yield start, crashed
                    else:
                        alone += (_Slice(start + k, [path]) for k, path in enumerate(held))


def _in_order(call: Callable[[str], Any], items: Sequence[str], threads: int) -> Iterator[Any]:
    """Results of ``call`` in the order of ``items``; few are under way at a time, so that many need no memory."""
    size = max(1, min(_SLICE, len(items) // (8 * threads)))
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[list[Any]]] = deque()
        try:
            for start in range(0, len(items), size):
                waiting.append(pool.submit(list, map(call, items[start : start + size])))
                if len(waiting) >= 8 * threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
