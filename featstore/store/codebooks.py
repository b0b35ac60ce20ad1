"""Codebooks: the code vectors that stored tokens stand for, once in a store whatever the number of token arrays.

How they are stored is the backend's: :meth:`featstore.store.backends.Backend.codebook_files`.
"""

from __future__ import annotations

from featstore.store.records import committed_shards
from featstore.store.store import Store

__all__ = ["all_codebooks", "needed_codebooks"]


def needed_codebooks(store: Store) -> dict[str, list[str]]:
    """Codebooks that committed tokens stand for, whether they are there or not: name to the keys of their arrays."""
    needed: dict[str, list[str]] = {}
    for key, array in store.arrays.items():
        name = array.spec.codebook_name
        if name is not None and next(committed_shards(store.location, key), None) is not None:
            needed.setdefault(name, []).append(key)
    return needed


def all_codebooks(store: Store) -> list[str]:
    """Names of the codebooks that the store holds or needs, sorted."""
    return sorted({*store.backend.codebook_names(), *needed_codebooks(store)})
