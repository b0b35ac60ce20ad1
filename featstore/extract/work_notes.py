"""Which track a worker is at, kept where it outlives the worker: eight bytes in a file beside the lease.

A process that is killed (no memory left, walltime, a decoder that crashes) says nothing any more. Its note still names
the track that it was working at. Writing one costs a system call of a microsecond; nothing is flushed, as the note has
to survive the process and not the machine.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from featstore.atomic import disk_errors
from featstore.owner import Owner
from featstore.store.location import Location

__all__ = ["DeadNote", "WorkNote", "clear_note", "dead_notes", "notes_of"]

_BETWEEN = "--------"  # no track in work: reading metadata, committing, or trying a suspect elsewhere


@dataclass(frozen=True, slots=True)
class DeadNote:
    """What a note says.

    Attributes
    ----------
    path : Path
    shard, attempt : int
    slot : int
        Track of the shard that was in work, -1 for none.
    age_s : float
        Seconds since the track was begun.
    """

    path: Path
    shard: int
    attempt: int
    slot: int
    age_s: float


class WorkNote:
    """The note of one shard in work, open for as long as the shard is.

    Parameters
    ----------
    location : Location
    run, shard, attempt
        Who writes it, and at which try of the shard.
    """

    def __init__(self, location: Location, run: str, shard: int, attempt: int) -> None:
        folder = location.staging(f"{Owner.this_process().label}-{secrets.token_hex(4)}")
        with disk_errors(folder):
            self.path = folder / f"work.{run or 'run'}.{shard}.{attempt}"
            self._file = os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o666)
            os.pwrite(self._file, _BETWEEN.encode(), 0)

    def write(self, slot: int) -> None:
        """Say that track number ``slot`` of the shard is in work; -1 for none."""
        os.pwrite(self._file, (b"%08d" % slot) if slot >= 0 else _BETWEEN.encode(), 0)

    def close(self) -> None:
        """Take the note away."""
        os.close(self._file)
        clear_note(self.path)


def notes_of(location: Location, run: str | None = None) -> Iterator[DeadNote]:
    """Notes of living and dead writers, of one run or of all."""
    for path in location.staging_folder.glob("*/work.*.*.*"):
        _, label, shard, attempt = path.name.split(".", 3)
        if (run is not None and label != run) or not shard.isdecimal() or not attempt.isdecimal():
            continue
        with contextlib.suppress(OSError):  # finished while we looked
            text = path.read_text(errors="replace")
            age_s = max(0.0, time.time() - path.stat().st_mtime)
            slot = int(text) if text.isdecimal() else -1
            yield DeadNote(path, int(shard), int(attempt), slot, age_s)


def dead_notes(location: Location) -> Iterator[DeadNote]:
    """Notes whose writers are gone: left by runs that ended by force."""
    for note in notes_of(location):
        owner = owner_of(note.path.parent.name)
        if owner is not None and owner.is_gone(note.age_s):
            yield note


def owner_of(folder: str) -> Owner | None:
    """Writer of a staging folder, from its name: the owner's label and a token."""
    return Owner.from_label(folder.rpartition("-")[0])


def clear_note(path: Path) -> None:
    """Remove a note and its folder."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()
