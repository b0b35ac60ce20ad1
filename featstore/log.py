"""Progress bars on stderr: quiet when nobody watches, steady when somebody does."""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any, TypeVar

__all__ = ["NOISY_LOGGERS", "progress", "progress_bar", "write_event"]

T = TypeVar("T")

NOISY_LOGGERS = ("asyncio", "bokeh", "distributed", "distributed.client", "tornado", "tornado.application")
"""Where Dask reports, with tracebacks, what happens whenever workers come and go; losses that matter we report."""


def progress_bar(*, total: float | None = None, desc: str = "", unit: str = "it", **settings: Any) -> Any:
    """Return a tqdm bar on stderr; ``FEATSTORE_PROGRESS=0`` silences it, a pipe gets a line every ten seconds."""
    quiet = os.environ.get("FEATSTORE_PROGRESS") == "0"
    pace = 0.1 if sys.stderr.isatty() else 10.0
    settings = {"mininterval": pace, "dynamic_ncols": True, "smoothing": 0.1, "disable": quiet} | settings
    return _bar_class()(total=total, desc=desc, unit=unit, file=sys.stderr, **settings)


@functools.cache
def _bar_class() -> Any:
    """Class of bars whose lock is one of threads: tqdm's own holds a semaphore, which a killed process leaks."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        pass

    Bar.set_lock(threading.RLock())
    return Bar


def progress(items: Iterable[T], *, total: int | None = None, desc: str = "", unit: str = "it") -> Iterable[T]:
    """Iterate over ``items`` under a progress bar."""
    yield from progress_bar(iterable=items, total=total, desc=desc, unit=unit)


def write_event(event: str, **content: Any) -> None:
    """Write one JSON line on stderr for programs that watch; ``FEATSTORE_PROGRESS=0`` silences it, as it does bars."""
    if os.environ.get("FEATSTORE_PROGRESS") != "0":
        sys.stderr.write(json.dumps({"event": event} | content, ensure_ascii=False) + "\n")
        sys.stderr.flush()
