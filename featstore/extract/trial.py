"""A suspect track, computed in a process of its own, to see whether it kills or hangs its process.

``python -m featstore.extract.trial`` reads one JSON document, runs the track through the graph, keeps nothing, and says
``begun`` and ``done``. The caller watches from outside.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from featstore.extract.limits import STRIKES, TrackLimits
from featstore.store.layout import ArrayHeader

__all__ = ["Verdict", "try_track"]

logger = logging.getLogger(__name__)

_START_S = 120.0  # for starting the interpreter and importing, on a busy machine
_NO_MEMORY = 3  # exit code


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a track is left out: its status in the ledger, and the sentence that goes with it."""

    status: str
    what: str


def try_track(
    path: str, headers: Sequence[ArrayHeader], limits: TrackLimits, strikes: int = 1, *, store: str = ""
) -> Verdict | None:
    """Compute a track in a process of its own until it succeeds or has struck :data:`STRIKES` times.

    Parameters
    ----------
    path : str
    headers : sequence of ArrayHeader
        Arrays to compute.
    limits : TrackLimits
    strikes : int
        Workers that the track has ended already.
    store : str
        Where the weights of codecs are found.

    Returns
    -------
    Verdict or None
        None where the track is innocent. A file that the decoder refuses in good order is innocent, too.
    """
    reason = "its process was killed"
    hung = False
    for _ in range(max(0, STRIKES - strikes)):
        outcome = _one_trial(path, headers, limits, store)
        if outcome is None:
            return None
        reason, hung = outcome
        logger.info("track %s on trial: %s", path, reason)
    status = "timeout" if hung else "quarantined"
    return Verdict(
        status,
        f"kills or hangs the process that works on it, {STRIKES} times now (the last time: {reason}). "
        f"Look at the file, or leave it out; --retry {status} tries it again",
    )


def _one_trial(path: str, headers: Sequence[ArrayHeader], limits: TrackLimits, store: str) -> tuple[str, bool] | None:
    """(what happened, whether it hung), or None when nothing did."""
    arrays = [header.name for header in headers]
    request = {"path": path, "arrays": arrays, "store": store, "memory_bytes": limits.memory_bytes}
    seconds = limits.trial_s
    process = subprocess.Popen(
        [sys.executable, "-m", "featstore.extract.trial"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    alarm = threading.Timer(_START_S, process.kill)
    alarm.start()
    try:
        with process.stdin as to_child:
            to_child.write(json.dumps(request).encode())
        begun = process.stdout.readline() == b"begun\n"
        alarm.cancel()
        code = process.wait(seconds) if begun else process.wait(_START_S)
    except subprocess.TimeoutExpired:
        return f"not done after {seconds:g} s", True
    except BrokenPipeError:
        begun, code = False, process.wait(_START_S)
    finally:
        alarm.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
    if code == 0:
        return None
    if not begun:
        logger.warning("the trial of %s could not begin (exit code %d)", path, code)
        return None
    if code == _NO_MEMORY:
        return f"needed more than {limits.memory_bytes / 1e9:.2f} GB of memory", False
    return (f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"), False


def _limit_memory(memory_bytes: int) -> None:
    """Let this process grow by no more than that."""
    import psutil

    if not memory_bytes or not sys.platform.startswith("linux"):
        return
    import resource

    used = psutil.Process().memory_info().data
    resource.setrlimit(resource.RLIMIT_DATA, (used + memory_bytes, used + memory_bytes))


def main() -> None:
    """Read the request, compute, say what happened by the exit code."""
    from featstore.errors import FeatstoreError
    from featstore.extract.execute import run_track
    from featstore.extract.plan import graph_for, header_of
    from featstore.extract.weights import find_weights
    from featstore.specs import Encoding, parse_feature
    from featstore.store.location import open_location

    request = json.loads(sys.stdin.buffer.read())
    features = [parse_feature(name) for name in request["arrays"]]
    headers = [header_of(one.spec, one.encoding or Encoding.default(one.spec)) for one in features]
    if request["store"]:
        find_weights(open_location(request["store"]), [header.spec for header in headers])
    graph = graph_for(headers)
    _limit_memory(request["memory_bytes"])
    sys.stdout.buffer.write(b"begun\n")
    sys.stdout.buffer.flush()
    try:
        run_track(request["path"], graph, lambda key, block: None)
    except MemoryError:
        os._exit(_NO_MEMORY)
    except (FeatstoreError, ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        if "MemoryError" in repr(error) or isinstance(error.__cause__, MemoryError):
            os._exit(_NO_MEMORY)
    os._exit(0)  # whatever else the libraries do when they leave is no business of this trial


if __name__ == "__main__":
    main()
