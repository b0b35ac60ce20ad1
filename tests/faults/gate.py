"""A gate before every lasting step of a process (write, flush, rename, …): at the n-th it kills or refuses."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import h5py

import featstore.store.hdf5_store as hdf5_store

WRITES = frozenset({"open", "write", "flush", "rename", "create", "mkdir", "hdf5"})
STEPS = WRITES | {"unlink", "rmdir"}


class Gate:
    """Counts steps of some kinds; the ``at``-th (from 0) is answered by ``action`` instead of being done."""

    def __init__(self, at: int, action: Callable[[], None], kinds: frozenset[str] = STEPS) -> None:
        self.at, self.action, self.kinds = at, action, kinds
        self.count, self.tripped = 0, ""

    def step(self, kind: str) -> None:
        if kind not in self.kinds:
            return
        self.count += 1
        if self.count == self.at + 1:
            self.tripped = kind
            self.action()


class _File:
    """A file open for writing, each call that changes it through the gate."""

    def __init__(self, file: Any, gate: Gate) -> None:
        self._file, self._gate = file, gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._file.__exit__(*error)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def write(self, data: Any) -> int:
        self._gate.step("write")
        return self._file.write(data)

    def truncate(self, *size: int) -> int:
        self._gate.step("write")
        return self._file.truncate(*size)


class _Chunks:
    """A dataset whose chunks are written through the gate."""

    def __init__(self, dataset: Any, gate: Gate) -> None:
        self._dataset, self._gate, self.id = dataset, gate, self

    def write_direct_chunk(self, place: Any, data: bytes) -> None:
        self._gate.step("hdf5")
        self._dataset.id.write_direct_chunk(place, data)


@contextmanager
def through(gate: Gate) -> Iterator[Gate]:
    """Send every lasting step of this process through the gate while the block runs."""
    real_open, real_create, real_init = io.open, hdf5_store.create_chunked, h5py.File.__init__

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int):
            return real_open(file, mode, *args, **kwargs)
        gate.step("open")
        return _File(real_open(file, mode, *args, **kwargs), gate)

    def fdopened(handle: int, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return _File(real_open(handle, mode, *args, **kwargs), gate)

    def made(self: Any, name: Any, mode: str = "r", *args: Any, **kwargs: Any) -> None:
        if mode == "w" and not hasattr(name, "write"):
            gate.step("hdf5")
        real_init(self, name, mode, *args, **kwargs)

    def gated(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if kind != "create" or (len(args) > 1 and args[1] & os.O_CREAT):
                gate.step(kind)
            return function(*args, **kwargs)

        return call

    calls = {
        "fsync": "flush",
        "fdatasync": "flush",
        "replace": "rename",
        "rename": "rename",
        "link": "rename",
        "open": "create",
        "mkdir": "mkdir",
        "unlink": "unlink",
        "rmdir": "rmdir",
    }
    patches = [mock.patch.object(os, name, gated(kind, getattr(os, name))) for name, kind in calls.items()]
    patches += [mock.patch.object(builtins, "open", opened), mock.patch.object(io, "open", opened)]
    patches += [mock.patch.object(os, "fdopen", fdopened), mock.patch.object(h5py.File, "__init__", made)]
    patches += [
        mock.patch.object(
            hdf5_store, "create_chunked", lambda *args, **kwargs: _Chunks(real_create(*args, **kwargs), gate)
        )
    ]
    for patch in patches:
        patch.start()
    try:
        yield gate
    finally:
        for patch in reversed(patches):
            patch.stop()
