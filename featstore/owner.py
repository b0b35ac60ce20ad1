"""Processes that write: enough about each to say who it is, and to see later whether it still lives."""

from __future__ import annotations

import functools
import os
import re
import socket
from dataclasses import dataclass

__all__ = ["STALE_S", "Owner", "process_lives", "this_machine"]

STALE_S = 60.0  # a silent owner on another machine counts as gone after this long
_LABEL = re.compile(r"(?P<host>.+)-(?P<machine>[0-9a-f]*)-(?P<pid>[0-9]{1,9})-(?P<started>[0-9]{1,15})")


@functools.cache
def this_machine() -> str:
    """Which running system this is: two of one host name, as containers may be, do not see each other's processes.

    Empty outside Linux, where the host name must do.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()[:8]}{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        return ""


def process_lives(pid: int, started: float | None = None) -> bool:
    """Whether a process of this number runs, if need be the one that started at a time in seconds since the epoch.

    A zombie does not: where nobody waits for orphans, as in many containers, a killed process stays in the table.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        same = started is None or abs(process.create_time() - started) <= 1
        return same and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that writes.

    Attributes
    ----------
    host : str
    pid : int
    started : float
        Seconds since the epoch.
    run : str
        Label of what it does, for messages.
    machine : str
        See :func:`this_machine`; empty where it is not known.
    """

    host: str
    pid: int
    started: float
    run: str = ""
    machine: str = ""

    @classmethod
    def this_process(cls, run: str = "") -> Owner:
        """Owner record of the calling process."""
        import psutil

        process = psutil.Process()
        return cls(socket.gethostname(), process.pid, round(process.create_time(), 2), run, this_machine())

    @property
    def label(self) -> str:
        """Folder-safe name of the owner."""
        return f"{self.host}-{self.machine}-{self.pid}-{int(self.started * 100)}"

    @classmethod
    def from_label(cls, text: str) -> Owner | None:
        """Owner that a label names, None for other text."""
        found = _LABEL.fullmatch(text)
        if found is None:
            return None
        return cls(found["host"], int(found["pid"]), int(found["started"]) / 100, machine=found["machine"])

    @property
    def is_local(self) -> bool:
        """Whether this process can see whether the owner lives."""
        return (self.host, self.machine) == (socket.gethostname(), this_machine())

    def is_gone(self, silent_s: float) -> bool:
        """Whether the owner cannot be writing any more: dead on this machine, or silent for long on another."""
        if not self.is_local:
            return silent_s > STALE_S
        return not process_lives(self.pid, self.started)
