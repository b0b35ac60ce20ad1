"""One writer at a time per (array, shard): a lease file that names its owner and shows a heartbeat."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from featstore.atomic import json_object
from featstore.errors import ObjectStorageError, StoreLocked
from featstore.owner import STALE_S, Owner
from featstore.store.location import Location

__all__ = [
    "HEARTBEAT_S",
    "PACKING",
    "Lease",
    "dead_leases",
    "hold_store",
    "live_leases",
    "live_writers",
]

logger = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
PACKING_S = 900.0  # at most until commit records are packed: some minutes in a bucket, for a million tracks
STORE, PACKING = "store", "records"  # names of the leases that are not on a shard


def _lease_name(key: str, shard: int) -> str:
    return f"leases/{key}/{shard}.json"


@dataclass(frozen=True, slots=True)
class _Holder:
    """Owner of a lease, as its file names it."""

    owner: Owner
    silent_s: float
    version: str
    token: str = ""

    @property
    def is_gone(self) -> bool:
        return self.owner.is_gone(self.silent_s)


def _read(location: Location, name: str) -> _Holder | None:
    seen = location.peek(name)
    if seen is None:
        return None
    try:
        content = json_object(seen.data)
        pid, started = int(content["pid"]), float(content["started"])
        if not (0 < pid < 1 << 31 and 0 <= started < 1 << 53):
            raise ValueError("no process")
        texts = {name: str(content.get(name, "")) for name in ("host", "run", "machine", "token")}
        token = texts.pop("token")
        return _Holder(Owner(pid=pid, started=started, **texts), seen.age_s, seen.version, token)
    except (ValueError, TypeError, KeyError, OverflowError):  # killed between creating and filling it, or edited
        silent_s = seen.age_s if seen.age_s < HEARTBEAT_S else STALE_S + 1
        return _Holder(Owner("?", 0, 0.0), silent_s, seen.version)


def _read_owner(location: Location, name: str) -> _Holder | None:
    """Wait while a lease names nobody: it is filled in a moment, or its process was killed before that."""
    while (holder := _read(location, name)) is not None and not holder.owner.pid and not holder.is_gone:
        time.sleep(0.1)
    return holder


class Lease:
    """Leases on several arrays of one shard, held while a ``with`` block runs; all of them or none.

    While commit records are being packed, a writer waits once it has its lease: see :func:`hold_store`.

    Raises
    ------
    StoreLocked
        On entry, when a living process holds one of them.
    """

    def __init__(self, location: Location, keys: Sequence[str], shard: int, run: str = "") -> None:
        self.location, self.owner = location, Owner.this_process(run)
        self._names = [_lease_name(key, shard) for key in sorted(keys)]
        self._on_shard = not {STORE, PACKING} & set(keys)
        self._token = secrets.token_hex(8)
        self._held: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._beats = 0
        self._confirmed = time.monotonic()
        self._lost = ""
        self._unsure: set[str] = set()  # beats without an answer: the lease may have changed or not
        self._folder: Path | None = None

    def __enter__(self) -> Lease:
        try:
            for name in self._names:
                self._take(name)
            self._confirmed = time.monotonic()
            thread = threading.Thread(target=self._beat, daemon=True, name="featstore-lease")
            thread.start()
            self._thread = thread
            if self._on_shard:
                self._let_packing_end()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _let_packing_end(self) -> None:
        """Wait for a pass of packing that began before this lease was there to be seen."""
        deadline, name = time.monotonic() + PACKING_S, _lease_name(PACKING, 0)
        while (holder := _read(self.location, name)) is not None and not holder.is_gone:
            if time.monotonic() > deadline:
                raise _locked(self.location, name, holder.owner)
            time.sleep(0.1)

    def staging(self) -> Path:
        """Make a local folder for files in the making, which goes with the lease: writers of one process never meet."""
        self._folder = self.location.staging(f"{self.owner.label}-{secrets.token_hex(4)}")
        return self._folder

    def __exit__(self, *_: object) -> None:
        try:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
        finally:  # when that is interrupted, too: a lease that is left behind is kept alive by its heartbeat
            self._stop.set()
            if self._thread is not None:
                self._thread.join()
            self._release()

    def check(self) -> None:
        """Make sure, before a commit, that the leases are still held: a process may have slept for long.

        Raises
        ------
        StoreLocked
            When another writer took one over.
        """
        if not self._lost and time.monotonic() - self._confirmed > STALE_S / 2:
            for name in self._held:
                if self._own_version(name) is None:
                    self._lost = name
                    break
        if self._lost:
            raise StoreLocked(
                "this process was silent for so long that another writer took its shard over",
                f"{self.location}/{self._lost}",
                "Run again: what is missing will be done",
            )

    def _content(self) -> bytes:
        return json.dumps(asdict(self.owner) | {"token": self._token, "beat": self._beats}).encode()

    def _take(self, name: str) -> None:
        content = self._content()
        for _ in range(8):
            version = self.location.create(name, content)
            if version is None:
                holder = _read_owner(self.location, name)
                if holder is None:
                    continue
                if not holder.is_gone:
                    raise _locked(self.location, name, holder.owner)
                version = self.location.replace(name, content, holder.version)
            if version is not None:
                self._held[name] = version
                return
        raise StoreLocked("a lease changes hands too often", f"{self.location}/{name}", "Run again in a minute")

    def _beat(self) -> None:
        while not self._stop.wait(self.location.heartbeat_s):
            self._beats += 1
            content = self._content()
            for name in list(self._held):
                try:
                    renewed = self._renew(name, content)
                except (OSError, ObjectStorageError):  # a lost heartbeat is not worth a lost shard
                    self._unsure.add(name)
                    continue
                if renewed is None:
                    self._lost = name
                    return
                self._unsure.discard(name)
                self._held[name] = renewed
            if not self._unsure:
                self._confirmed = time.monotonic()

    def _renew(self, name: str, content: bytes) -> str | None:
        """Version of a lease after a beat, None when it is another's."""
        renewed = self.location.touch(name, content, self._held[name])
        if renewed is None:  # or a beat whose answer was lost has changed it
            version = self._own_version(name)
            renewed = self.location.touch(name, content, version) if version is not None else None
        return renewed

    def _own_version(self, name: str) -> str | None:
        """Version of a lease as it is now, None when it is not one's own any more."""
        holder = _read(self.location, name)
        return holder.version if holder is not None and holder.token == self._token else None

    def _release(self) -> None:
        for name, version in self._held.items():
            if name == self._lost:
                continue
            try:
                if not version:
                    self.location.remove(name)
                elif (own := self._own_version(name) if name in self._unsure else version) is not None:
                    self.location.remove_version(name, own)
            except ObjectStorageError as error:  # the shard is committed: others see a silent owner soon
                logger.warning("a lease could not be given back: %s", error)
        self._held = {}


@contextmanager
def hold_store(location: Location, name: str = STORE) -> Iterator[Lease]:
    """Lease on a store's own metadata, waited for a while: it is held for moments, or while records are packed.

    ``PACKING`` names the lease on the files of packed commit records. A writer first takes its lease and then looks for
    that one; a process that packs first takes that one and then looks for :func:`live_writers`. At least one of the two
    sees the other, so that no new record is removed.

    Raises
    ------
    StoreLocked
        When another process holds it for longer than packing takes.
    """
    deadline = time.monotonic() + PACKING_S
    with ExitStack() as stack:
        while True:
            try:
                lease = stack.enter_context(Lease(location, [name], 0))
                break
            except StoreLocked:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield lease


def _locked(location: Location, name: str, owner: Owner) -> StoreLocked:
    _, key, shard = name.split("/")
    return StoreLocked(
        f"shard {shard.removesuffix('.json')} of {key} is being written by process {owner.pid} on {owner.host}",
        str(location),
        "Wait for that run to finish, then run again",
    )


def _all_leases(location: Location) -> Iterator[tuple[str, int, _Holder]]:
    """(array key, shard, holder) of every lease."""
    for key in location.list("leases"):
        for entry in location.list(f"leases/{key}"):
            shard = entry.removesuffix(".json")
            holder = _read(location, f"leases/{key}/{entry}") if shard.isdecimal() else None
            if holder is not None:
                yield key, int(shard), holder


def live_leases(location: Location) -> list[tuple[str, int, Owner]]:
    """(array key, shard, owner) of every lease whose owner may still be writing."""
    return [(key, shard, holder.owner) for key, shard, holder in _all_leases(location) if not holder.is_gone]


def live_writers(location: Location) -> list[tuple[str, int, Owner]]:
    """(array key, shard, owner) of every shard that may be being written."""
    return [lease for lease in live_leases(location) if lease[0] not in (STORE, PACKING)]


def dead_leases(location: Location) -> list[tuple[str, str]]:
    """(file name, version seen) of leases whose owner is gone."""
    return [(_lease_name(key, shard), holder.version) for key, shard, holder in _all_leases(location) if holder.is_gone]
