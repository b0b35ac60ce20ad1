"""Peak memory of a process, without that of the program that started it."""

from __future__ import annotations

import resource
import sys

__all__ = ["peak_resident_bytes"]


def peak_resident_bytes() -> int:
    """Most bytes of memory that this program has had resident so far.

    ``ru_maxrss`` survives the start of a new program: a small one that a large one starts would be called large. Linux
    tells the program's own peak as ``VmHWM``.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
