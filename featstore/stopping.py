"""Signals that end a program: honoured where the state is whole, and kept from worker processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["STOP_SIGNALS", "StopRequest", "unheard_by_children"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Context that turns SIGINT and SIGTERM into a request, to be honoured where the state is whole.

    A second signal stops at once. Outside the main thread signals are left as they are.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def unheard_by_children() -> Iterator[None]:
    """Keep Ctrl-C from the processes that the block starts, and from those that its threads start later.

    A terminal sends SIGINT to every process of the foreground; workers that their parent ends must not answer it with
    tracebacks of their own. Threads and processes inherit the mask of the thread that starts them.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # started later, it would clear the mask of the thread that starts it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
