"""Between a terminal and a command: signals interrupt it once and in good order; what it prints is harmless.

File names, labels and errors may hold control characters, and none of them acts on the terminal.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from featstore.stopping import STOP_SIGNALS

__all__ = ["WarnedOnce", "printable", "printable_streams", "signals_interrupt"]

# of C0 all but tab, line feed and carriage return (progress bars need it); DEL and C1, marks that turn text around, and
# the bytes of names that are no UTF-8
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udcff]")


class WarnedOnce(logging.Filter):
    """Let each warning pass once in a command: runs on one store all find the same in it."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        if record.levelno != logging.WARNING:
            return True
        text = record.getMessage()
        repeated = text in self._said
        self._said.add(text)
        return not repeated


def printable(text: str) -> str:
    r"""Text in which control characters are spelled out.

    Examples
    --------
    >>> printable("\x1b[31mred"), printable(b"caf\xe9".decode(errors="surrogateescape"))
    ('\\x1b[31mred', 'caf\\xe9')
    """
    return _CONTROL.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    escaped = "\udc80" <= found[0] <= "\udcff"
    return f"\\x{ord(found[0]) - 0xDC00:02x}" if escaped else ascii(found[0])[1:-1]


class _Printable:
    """A text stream that writes :func:`printable` text, and is the plain stream in all else."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._stream.write(printable(text)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def printable_streams() -> Iterator[None]:
    """Let standard output and standard error spell out control characters while the block runs."""
    plain = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Printable(sys.stdout), _Printable(sys.stderr)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = plain


@contextmanager
def signals_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first SIGINT or SIGTERM interrupt the block, and a second one end the process at once.

    What is interrupted closes files and ends its worker processes; a second signal must not break into that with a
    traceback. Whatever it leaves behind, the next run clears up, as after ``kill -9``. The block is given a function
    that says whether a signal has come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in STOP_SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
