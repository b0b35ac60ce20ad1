"""Limits of a track: seconds and memory, watched from a thread; what cannot be stopped politely ends its process.

A track over its limit fails at the next block it delivers, and becomes a row of the ledger. One that delivers nothing
(a decoder that never returns, an allocation that never ends) leaves no other way than to end the worker process: the
note of the track in work stays, and the run goes on with that track under suspicion (see ``dispatch.py``).
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import psutil

from featstore.arrays import FloatArray
from featstore.audio import TrackTimeout, TrackTooLarge
from featstore.errors import DecodeError
from featstore.extract.limits import TrackLimits
from featstore.extract.work_notes import WorkNote

__all__ = ["Guard"]

Deliver = Callable[[str, FloatArray], None]

_POLL_S = 0.5
_clock = threading.Lock()  # the interpreter has one clock for all guards of a process: the last one stops it
_ending: set[Guard] = set()


class Guard:
    """Watches the tracks of one shard; use as a context manager around them.

    Parameters
    ----------
    note : WorkNote
        Closed on leaving.
    limits : TrackLimits
    may_end_process : bool
        True in a worker process of ours: what does not stop is stopped with its process.
    """

    def __init__(self, note: WorkNote, limits: TrackLimits, *, may_end_process: bool) -> None:
        self._note, self._limits, self._may_end = note, limits, may_end_process
        self._began: float | None = None
        self._fault: DecodeError | None = None
        self._path = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._process = psutil.Process()

    def __enter__(self) -> Guard:
        if self._limits.seconds or self._limits.memory_bytes:
            if self._may_end:
                _ending.add(self)
                self._wind_clock()  # a track may stop everything before the thread has run once
            self._thread = threading.Thread(target=self._watch, daemon=True, name="featstore-guard")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            if self._may_end:
                with _clock:
                    _ending.discard(self)
                    if not _ending:
                        faulthandler.cancel_dump_traceback_later()
        self._note.close()

    def begin(self, slot: int, path: str) -> None:
        """Start the clock of a track."""
        self._note.write(slot)
        self._path, self._fault, self._began = path, None, time.monotonic()

    def end(self) -> None:
        """Stop the clock."""
        self._began = None
        self._note.write(-1)

    def checked(self, deliver: Deliver) -> Deliver:
        """Deliver blocks as long as the track keeps within its limits.

        Raises
        ------
        TrackTimeout, TrackTooLarge
            From the function returned, once it does not.
        """

        def passed_on(key: str, block: FloatArray) -> None:
            if self._fault is not None:
                raise self._fault
            deliver(key, block)

        return passed_on

    @property
    def _pause_s(self) -> float:
        return min(_POLL_S, self._limits.seconds / 4) if self._limits.seconds else _POLL_S

    def _wind_clock(self) -> None:
        """A library that keeps Python's lock stops the thread, too: then this clock runs out."""
        limits = self._limits
        # nothing happens where there is no stderr to write to
        with _clock, contextlib.suppress(RuntimeError, ValueError, OSError, AttributeError):
            if limits.seconds:
                seconds = limits.seconds + limits.grace_s + 10 * self._pause_s
                faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)

    def _watch(self) -> None:
        limits, pause = self._limits, self._pause_s
        over_memory_since: float | None = None
        while not self._stop.wait(pause):
            began = self._began
            if self._may_end:
                self._wind_clock()
            if began is None:
                over_memory_since = None
                continue
            spent = time.monotonic() - began
            if limits.seconds and spent > limits.seconds:
                self._fault = TrackTimeout(
                    f"not done after {limits.seconds:g} s",
                    self._path,
                    "Raise --track-timeout and run again with --retry timeout, or leave the track out",
                )
                if spent > limits.seconds + limits.grace_s:
                    self._end_process()
            if limits.memory_bytes:
                resident = self._process.memory_info().rss
                if resident > limits.memory_bytes:
                    over_memory_since = over_memory_since or time.monotonic()
                    self._fault = self._fault or TrackTooLarge(
                        f"the worker grew to {resident / 1e9:.2f} GB, over the limit of "
                        f"{limits.memory_bytes / 1e9:.2f} GB",
                        self._path,
                        "Raise --track-memory and run again with --retry quarantined, or leave the track out",
                    )
                    if resident > limits.hard_memory_bytes or time.monotonic() - over_memory_since > 2:
                        self._end_process()
                else:
                    over_memory_since = None

    def _end_process(self) -> None:
        if self._may_end:
            os.kill(os.getpid(), signal.SIGKILL)
