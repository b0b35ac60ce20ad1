"""The manifest: a self-hashed list of all metadata and records of a finished store; a lost one is noticed.

From the first array on there always is one. While the store is being worked on it lists nothing, so that a manifest
that is absent is a manifest that was lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from featstore.atomic import canonical_json, damage, digest_of_json, json_object
from featstore.store.backends import CODEBOOKS, Backend, make_backend
from featstore.store.location import Location
from featstore.store.store import Store
from featstore.store.stored_tracks import TRACKS

__all__ = ["MANIFEST", "manifest_bytes", "open_manifest", "read_manifest", "read_root", "write_manifest"]

MANIFEST = "manifest.json"
FORMAT = 1


def _covered(store: Store) -> list[str]:
    """Names of every small file that says what the store holds; data files are covered by the records."""
    backend = store.backend
    names = [
        TRACKS,
        *backend.root_files(store.attributes),
        *backend.derived_files(store.arrays, store.n_rows),
    ]
    for folder in ("commits", "requests", CODEBOOKS):
        names += [name for name, _ in store.location.walk(folder) if not name.rpartition("/")[2].startswith(".")]
    for key in store.arrays:
        names += backend.array_files(store.arrays[key], store.n_rows, 1)
    return sorted(names)


def manifest_bytes(attributes: dict[str, Any], files: Mapping[str, bytes]) -> bytes:
    """Return the manifest over some files by name."""
    listed = {name: [len(content), hashlib.sha256(content).hexdigest()] for name, content in files.items()}
    body: dict[str, Any] = {"format": FORMAT, "store": attributes, "files": listed}
    return canonical_json(body | {"digest": digest_of_json(body)})


def read_root(backend: Backend) -> dict[str, Any]:
    """Metadata of the store as its root file holds them now."""
    attributes: dict[str, Any] = backend.read_root(backend.location.read(backend.root))
    return attributes


def write_manifest(store: Store) -> None:
    """Write the manifest of what the store holds now."""
    names = _covered(store)
    store.location.prefetch(names)
    content = manifest_bytes(read_root(store.backend), {name: store.location.read(name) for name in names})
    store.location.write_changed(MANIFEST, content)


def open_manifest(backend: Backend) -> None:
    """Say that the store is being worked on: what an earlier manifest promised may change."""
    backend.location.write_changed(MANIFEST, manifest_bytes(read_root(backend), {}))


def restore_root(location: Location) -> None:
    """Write the store's root files again from the copy of their content in the manifest.

    Raises
    ------
    CorruptFeature
        When there is no manifest, or it is damaged too.
    """
    read_manifest(location)
    what = "the root is damaged and there is no manifest to restore it from"
    with damage(what, str(location), "Restore the root file from a copy"):
        attributes = json_object(location.read(MANIFEST))["store"]
        files = make_backend(attributes["backend"], location).root_files(attributes)
    for name, content in files.items():
        location.write(name, content)


def read_manifest(location: Location) -> dict[str, list[Any]] | None:
    """File names with (bytes, sha256): none while the store is being worked on; None when there is no manifest.

    Raises
    ------
    CorruptFeature
        When the manifest itself was changed.
    """
    try:
        content = location.read(MANIFEST)
    except FileNotFoundError:
        return None
    with damage("the manifest was changed or cut", f"{location}/{MANIFEST}"):
        body = json_object(content)
        digest = body.pop("digest")
        if digest_of_json(body) != digest:
            raise ValueError("digest")
        files: dict[str, list[Any]] = body["files"]
        if not all(isinstance(size, int) and isinstance(text, str) for size, text in files.values()):
            raise ValueError("files")
    return files
