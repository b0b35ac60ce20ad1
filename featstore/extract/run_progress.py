"""Progress of a run: a bar or JSON lines where it was started, and a file in the store for everyone else."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any

from featstore.atomic import canonical_json
from featstore.errors import FeatstoreError
from featstore.extract.report import ExtractReport
from featstore.extract.work_notes import notes_of
from featstore.log import progress_bar, write_event
from featstore.owner import STALE_S, Owner
from featstore.store.location import Location

__all__ = ["RunProgress", "runs_under_way"]

_EVENT_S = 2.0  # between JSON lines
_FILE_S = 5.0  # between versions of the file in the store
_HARMLESS = ("ok", "silent", "clipped")


class RunProgress:
    """Counts what a run does and shows it; use as a context manager.

    Parameters
    ----------
    location : Location
    run : str
        Label of the run.
    report : ExtractReport
        What the run has done so far: :meth:`update` shows what it says.
    tracks : int
        Tracks to do.
    style : str
        ``bar``, ``json`` or ``none``.
    """

    def __init__(self, location: Location, run: str, report: ExtractReport, tracks: int, style: str = "bar") -> None:
        self._location, self._run, self._report, self._style = location, run, report, style
        self._name = f"log/running-{run}.json"
        self._started, self._wall_started = time.perf_counter(), time.time()
        self._shown = self._filed = 0.0
        self._begun = 0  # tracks of shards in work, when that could last be read
        self._bar = progress_bar(total=tracks, desc="extract", unit="track") if style == "bar" else None
        self.tracks, self.in_work, self.in_flight, self.threads = tracks, 0, 0, 0
        self.dashboard = ""

    def __enter__(self) -> RunProgress:
        self._file()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._show()
        if self._bar is not None:
            self._bar.close()
        if self._style == "json":
            write_event("end", ok=kind is None, **self.counts())
        self._location.remove(self._name)

    def start(self, dashboard: str) -> None:
        """Say that the workers are there; the clock for speeds starts now."""
        self._started = time.perf_counter()
        self.dashboard = dashboard
        if self._style == "json":
            write_event("start", run=self._run, tracks=self.tracks, dashboard=dashboard or None)
        elif dashboard and self._bar is not None and not self._bar.disable:
            self._bar.write(f"dashboard: {dashboard}", file=self._bar.fp)
        self._file()

    def update(self) -> None:
        """Show how the work stands, unless that was done a moment ago."""
        now = time.perf_counter()
        if now - self._shown >= _EVENT_S:
            self._show()
        if now - self._filed >= _FILE_S:
            self._file()

    def tick(self, in_flight: int, threads: int) -> None:
        """Note how the work stands between reports."""
        self.in_flight, self.threads = in_flight, threads
        self.update()

    @property
    def failed(self) -> int:
        """Tracks without data."""
        return sum(count for status, count in self._report.statuses.items() if status not in _HARMLESS)

    def counts(self) -> dict[str, Any]:
        """Figures of the run so far; ``remaining_s`` is None until a first pace is known."""
        seconds = max(1e-9, time.perf_counter() - self._started)
        done = self._report
        seen = min(self.tracks, done.tracks + self.in_work)
        return {
            "tracks": self.tracks,
            "tracks_done": done.tracks,
            "tracks_in_work": self.in_work,
            "seconds": round(seconds, 3),
            "tracks_per_s": round(seen / seconds, 3),
            "real_time": round(done.audio_s / seconds, 1),
            "mb_per_s": round(done.written_bytes / seconds / 1e6, 3),
            "failed": self.failed,
            "by_reason": {name: n for name, n in sorted(done.statuses.items()) if name != "ok"},
            "lost_workers": done.lost_workers,
            "shards_in_flight": self.in_flight,
            "threads": self.threads,
            "remaining_s": round((self.tracks - seen) * seconds / seen, 1) if seen else None,
        }

    def _show(self) -> None:
        self._shown = time.perf_counter()
        done = self._report.tracks
        with suppress(OSError):
            self._begun = sum(max(0, note.slot) for note in notes_of(self._location, self._run))
        self.in_work = min(self.tracks - done, self._begun)
        counts = self.counts()
        if self._style == "json":
            write_event("progress", run=self._run, **counts)
        elif self._bar is not None:
            lost = f", {counts['lost_workers']} workers lost" if counts["lost_workers"] else ""
            self._bar.set_postfix_str(
                f"{counts['real_time']:.0f}x real time, {counts['mb_per_s']:.1f} MB/s, {self.failed} failed{lost}",
                refresh=False,
            )
            self._bar.update(done + self.in_work - self._bar.n)

    def _file(self) -> None:
        self._filed = time.perf_counter()
        owner = Owner.this_process(self._run)
        content = {
            "run": self._run,
            "host": owner.host,
            "pid": owner.pid,
            "process_started": owner.started,
            "machine": owner.machine,
            "started": self._wall_started,
            "updated": time.time(),
            "dashboard": self.dashboard,
        } | self.counts()
        with suppress(FeatstoreError, OSError):  # what others see of the run is not worth the run
            self._location.write(self._name, canonical_json(content))


def runs_under_way(location: Location, *, tidy: bool = False) -> list[dict[str, Any]]:
    """Extractions that write, or wrote when they were killed, into a store.

    Parameters
    ----------
    location : Location
    tidy : bool
        Remove what killed runs left behind, instead of reporting it.

    Returns
    -------
    list of dict
        The figures of :meth:`RunProgress.counts`, with ``state`` (``running`` or ``interrupted``), ``silent_s``
        (seconds since the last word of the run), ``in_work`` (tracks in work: ``shard``, ``slot``, ``seconds``).
    """
    runs = []
    for name in location.list("log"):
        if not name.startswith("running-"):
            continue
        try:
            content = json.loads(location.read(f"log/{name}"))
            owner = Owner(
                content["host"], content["pid"], content["process_started"], machine=content.get("machine", "")
            )
            silent_s = max(0.0, time.time() - content["updated"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # finished while we looked, or a damaged note that costs nothing
        gone = owner.is_gone(silent_s) and silent_s > (0 if owner.is_local else STALE_S)
        if tidy:
            if gone and owner.pid != os.getpid():
                location.remove(f"log/{name}")
            continue
        content |= {"state": "interrupted" if gone else "running", "silent_s": round(silent_s, 1)}
        content["in_work"] = [
            {"shard": note.shard, "slot": note.slot, "seconds": round(note.age_s, 1)}
            for note in notes_of(location, content["run"])
            if note.slot >= 0
        ]
        runs.append(content)
    return runs
