"""Leftovers of writers that died: their leases, and the files they were making. Nothing of a living one is touched."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from featstore.atomic import is_abandoned
from featstore.errors import FeatstoreError
from featstore.owner import Owner
from featstore.store.leases import dead_leases, live_leases
from featstore.store.location import FolderLocation, Location
from featstore.store.s3_location import S3Location

__all__ = ["collect_garbage", "swept"]

Leftover = tuple[str, Callable[[], object]]  # what to call a thing to remove, and how to


def collect_garbage(location: Location, *, dry_run: bool = False) -> list[str]:
    """Remove what dead writers left behind; names of what was (or would be) removed.

    Covers stale leases, staged shard files, and temporary files of atomic writes whose process is gone. Of another
    machine's processes: staged files of those that hold no lease, and temporary files older than a day. On object
    stores: stale leases, unfinished uploads in parts, and files in the making among this machine's temporary files.
    """
    alive = {owner.label for _, _, owner in live_leases(location)}
    found: list[Leftover] = [(name, partial(location.remove_version, name, it)) for name, it in dead_leases(location)]
    found += _staged_files(location, alive)
    if isinstance(location, S3Location):
        found += _open_uploads(location)
    elif isinstance(location, FolderLocation):
        found += _half_writes(location)
    if not dry_run:
        for _, remove in found:
            remove()
        with contextlib.suppress(OSError):  # there is none, or a living process has something in it
            location.staging_folder.rmdir()
    return [name for name, _ in found]


@contextmanager
def swept(location: Location) -> Iterator[None]:
    """Collect garbage around some writing, however that ends: what dead writers staged may be what fills the disk."""
    if location.staging_folder.is_dir():  # it is gone when all writers ended well
        collect_garbage(location)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, FeatstoreError):  # the first error is the one to tell
            collect_garbage(location)
        raise
    collect_garbage(location)


def _staged_files(location: Location, alive: set[str]) -> Iterator[Leftover]:
    """Staging folders of owners that are gone, with what is in them.

    An owner on another machine shows that it lives by its lease, which it has from before the folder until after it.
    """
    staging = location.staging_folder
    for folder in sorted(staging.iterdir()) if staging.is_dir() and not staging.is_symlink() else ():
        if folder.is_symlink() or not folder.is_dir():
            continue  # nothing of ours: what lies behind a link is somebody else's
        label = folder.name.rpartition("-")[0]  # a token follows
        owner = Owner.from_label(label)
        if owner is None or label in alive or not owner.is_gone(_age_s(folder)):
            continue
        name = f"staging/{folder.name}" if isinstance(location, FolderLocation) else str(folder)
        for path in sorted(folder.iterdir()):
            yield f"{name}/{path.name}", partial(path.unlink, missing_ok=True)
        yield name, partial(shutil.rmtree, folder, ignore_errors=True)


def _half_writes(location: FolderLocation) -> Iterator[Leftover]:
    """Temporary files of atomic writes whose process is gone."""
    for name, _ in location.walk(""):
        base = name.rpartition("/")[2]
        if base.startswith(".") and base.endswith(".part"):
            path = location.path(name)
            if is_abandoned(path):
                yield name, partial(path.unlink, missing_ok=True)


def _open_uploads(location: S3Location) -> Iterator[Leftover]:
    """Uploads in parts of shard files that no living writer holds a lease on.

    The uploads are listed first: a writer that begins one later has its lease by then.
    """
    uploads = location.place.open_uploads("")
    alive = {(key, str(shard)) for key, shard, _ in live_leases(location)} if uploads else set()
    for name, upload in uploads:
        parts = name.split("/")  # features/KEY/data/c/SHARD/…
        pair = (parts[1], parts[4]) if len(parts) > 4 and parts[0] == "features" else ("store", "0")
        if pair not in alive:
            yield f"{name} (unfinished upload)", partial(location.place.abort_upload, name, upload)


def _age_s(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0
