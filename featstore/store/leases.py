"""One writer at a time per (array, shard): a lease file that names its owner and shows a heartbeat."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import psutil

from featstore.errors import StoreLocked
from featstore.store.location import Location

__all__ = ["HEARTBEAT_S", "STALE_S", "Lease", "Owner", "dead_leases", "live_leases"]

HEARTBEAT_S = 5.0
STALE_S = 60.0  # a silent owner on another host counts as gone after this long


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that writes: enough to say who it is and to see whether it lives."""

    host: str
    pid: int
    started: float
    run: str = ""

    @classmethod
    def this_process(cls, run: str = "") -> Owner:
        """Owner record of the calling process."""
        process = psutil.Process()
        return cls(socket.gethostname(), process.pid, round(process.create_time(), 2), run)

    @property
    def label(self) -> str:
        """Folder-safe name of the owner."""
        return f"{self.host}-{self.pid}-{int(self.started * 100)}"

    def is_gone(self, silent_s: float) -> bool:
        """Whether the owner cannot be writing any more: dead on this host, or silent for long on another."""
        if self.host == socket.gethostname():
            try:
                process = psutil.Process(self.pid)
                zombie = process.status() == psutil.STATUS_ZOMBIE
                return bool(zombie) or abs(process.create_time() - self.started) > 1
            except psutil.NoSuchProcess:
                return True
        return silent_s > STALE_S


def _lease_name(key: str, shard: int) -> str:
    return f"leases/{key}/{shard}.json"


def _read(location: Location, name: str) -> tuple[Owner, float] | None:
    path = location.path(name)
    try:
        content = json.loads(path.read_bytes())
        return Owner(**content), max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # killed between creating and filling it
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return None
        return (Owner("?", 0, 0.0), age) if age < HEARTBEAT_S else (Owner("?", 0, 0.0), STALE_S + 1)


class Lease:
    """Leases on several arrays of one shard, held while a ``with`` block runs; all of them or none.

    Raises
    ------
    StoreLocked
        On entry, when a living process holds one of them.
    """

    def __init__(self, location: Location, keys: list[str], shard: int, run: str = "") -> None:
        self.location, self.owner = location, Owner.this_process(run)
        self._names = [_lease_name(key, shard) for key in sorted(keys)]
        self._held: list[str] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        try:
            for name in self._names:
                self._take(name)
        except BaseException:
            self._release()
            raise
        self._thread = threading.Thread(target=self._beat, daemon=True, name="featstore-lease")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._release()

    def _take(self, name: str) -> None:
        path = self.location.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({n: getattr(self.owner, n) for n in ("host", "pid", "started", "run")}).encode()
        for _ in range(8):
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                holder = _read(self.location, name)
                if holder is None:
                    continue
                if not holder[0].is_gone(holder[1]):
                    raise _locked(self.location, name, holder[0]) from None
                # take a dead owner's lease away under a name of our own: of two who try, one rename fails
                grave = path.with_name(f".{path.name}.{self.owner.label}")
                try:
                    os.rename(path, grave)
                    grave.unlink(missing_ok=True)
                except FileNotFoundError:
                    pass
                continue
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            self._held.append(name)
            return
        raise StoreLocked("a lease changes hands too often", f"{self.location}/{name}", "Run again in a minute")

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            for name in self._held:
                with contextlib.suppress(OSError):  # a lost heartbeat is not worth a lost shard
                    os.utime(self.location.path(name))

    def _release(self) -> None:
        for name in self._held:
            self.location.remove(name)
        self._held = []


def _locked(location: Location, name: str, owner: Owner) -> StoreLocked:
    _, key, shard = name.split("/")
    return StoreLocked(
        f"shard {shard.removesuffix('.json')} of {key} is being written by process {owner.pid} on {owner.host}",
        str(location),
        "Wait for that run to finish, then run again",
    )


def _all_leases(location: Location) -> Iterator[tuple[str, int, Owner, bool]]:
    """(array key, shard, owner, whether the owner is gone) of every lease."""
    for key in location.list("leases"):
        for entry in location.list(f"leases/{key}"):
            shard = entry.removesuffix(".json")
            holder = _read(location, f"leases/{key}/{entry}") if shard.isdecimal() else None
            if holder is not None:
                yield key, int(shard), holder[0], holder[0].is_gone(holder[1])


def live_leases(location: Location) -> list[tuple[str, int, Owner]]:
    """(array key, shard, owner) of every lease whose owner may still be writing."""
    return [(key, shard, owner) for key, shard, owner, gone in _all_leases(location) if not gone]


def dead_leases(location: Location) -> list[str]:
    """File names of leases whose owner is gone."""
    return [_lease_name(key, shard) for key, shard, _, gone in _all_leases(location) if gone]
