"""The store room: arrays on disk that lose nothing. Layout, writing by shards, commit records, leases, reading.

``open_store(path)`` gives a :class:`Store`; index it with a feature's name to read. Everything else is a function on a
store: see ``ledger`` (counts, failures), ``sizes``, ``missing``, ``writing`` (arrays, tracks, shards), ``consolidate``,
``verify``, ``convert``, ``pack``, ``diff``, ``garbage``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featstore.store.layout import ArrayHeader as ArrayHeader
    from featstore.store.layout import StoredArray as StoredArray
    from featstore.store.opening import create_store as create_store
    from featstore.store.opening import open_store as open_store
    from featstore.store.reader import BaseArray as BaseArray
    from featstore.store.reader import FeatureReader as FeatureReader
    from featstore.store.store import Store as Store
    from featstore.store.writer import ShardWriter as ShardWriter

__all__ = [
    "ArrayHeader",
    "BaseArray",
    "FeatureReader",
    "ShardWriter",
    "Store",
    "StoredArray",
    "create_store",
    "open_store",
]

_HOMES = {
    "ArrayHeader": "layout",
    "BaseArray": "reader",
    "FeatureReader": "reader",
    "ShardWriter": "writer",
    "Store": "store",
    "StoredArray": "layout",
    "create_store": "opening",
    "open_store": "opening",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"featstore.store.{_HOMES[name]}"), name)
