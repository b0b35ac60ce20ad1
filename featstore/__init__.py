"""featstore: an offline feature cache and training kit for music information retrieval.

The names below are loaded when first used, so that ``import featstore`` stays light:
no torch, Dask, zarr or h5py is imported by it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from featstore.version import __version__

if TYPE_CHECKING:
    from featstore.loaders import torch_dataset as torch_dataset
    from featstore.specs import parse_spec as parse_spec
    from featstore.store import open_store as open_store

__all__ = ["__version__", "models", "open_store", "parse_spec", "torch_dataset"]

_LAZY = {
    "open_store": "featstore.store:open_store",
    "parse_spec": "featstore.specs:parse_spec",
    "torch_dataset": "featstore.loaders:torch_dataset",
    "models": "featstore.models:",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'featstore' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
    return sorted(__all__)
