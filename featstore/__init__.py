"""featstore: an offline feature cache and training kit for music information retrieval.

The names below are loaded when first used, so that ``import featstore`` stays light:
no torch, Dask, zarr or h5py is imported by it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from featstore.version import __version__

if TYPE_CHECKING:
    from featstore import models as models
    from featstore.loaders import torch_dataset as torch_dataset
    from featstore.specs import parse_spec as parse_spec
    from featstore.store import open_store as open_store
    from featstore.workflows.toplevel import evaluate as evaluate
    from featstore.workflows.toplevel import extract as extract
    from featstore.workflows.toplevel import load_tracks as load_tracks
    from featstore.workflows.toplevel import plan as plan
    from featstore.workflows.toplevel import pretrain as pretrain
    from featstore.workflows.toplevel import results as results
    from featstore.workflows.toplevel import tag as tag
    from featstore.workflows.toplevel import train as train

# in the order of work, name -> "module:attribute"; the packages extract and results are themselves what is called
_LAZY = {
    "load_tracks": "featstore.workflows.toplevel:load_tracks",
    "plan": "featstore.workflows.toplevel:plan",
    "extract": "featstore.extract:",
    "open_store": "featstore.store:open_store",
    "torch_dataset": "featstore.loaders:torch_dataset",
    "pretrain": "featstore.workflows.toplevel:pretrain",
    "train": "featstore.workflows.toplevel:train",
    "evaluate": "featstore.workflows.toplevel:evaluate",
    "tag": "featstore.workflows.toplevel:tag",
    "results": "featstore.results:",
    "models": "featstore.models:",
    "parse_spec": "featstore.specs:parse_spec",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'featstore' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
    return sorted(__all__)
