"""Leftovers of writers that died: their leases, and the files they were making. Nothing of a living one is touched."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from featstore.atomic import writer_of
from featstore.store.leases import Owner, dead_leases
from featstore.store.location import Location

__all__ = ["collect_garbage"]


def collect_garbage(location: Location, *, dry_run: bool = False) -> list[str]:
    """Remove what dead writers left behind; names of what was (or would be) removed.

    Covers stale leases, staged shard files, and temporary files of atomic writes whose process is gone (of another
    machine's processes: those that are older than a day).
    """
    found = dead_leases(location)
    for folder in location.list("staging"):
        owner = _owner_of(folder)
        path = location.path(f"staging/{folder}")
        if owner is not None and owner.is_gone(_age_s(path)):
            found += [f"staging/{folder}/{name}" for name in location.list(f"staging/{folder}")] + [f"staging/{folder}"]
    for name, _ in location.walk(""):
        base = name.rpartition("/")[2]
        if base.startswith(".") and base.endswith(".part"):
            pid = writer_of(base)
            dead = not psutil.pid_exists(pid) if pid is not None else _age_s(location.path(name)) > 86400
            found += [name] if dead else []
    if not dry_run:
        for name in found:
            path = location.path(name)
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
    return found


def _owner_of(folder: str) -> Owner | None:
    """Owner of a staging folder, from its name: host-pid-start-token."""
    parts = folder.rsplit("-", 3)
    if len(parts) != 4 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        return None
    return Owner(parts[0], int(parts[1]), int(parts[2]) / 100)


def _age_s(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0
