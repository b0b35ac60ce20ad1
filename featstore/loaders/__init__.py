"""Batches for training: from disk, from memory or from the device, in an order that only (seed, epoch) decides.

:class:`BatchLoader` is the loader of our own trainers; :func:`torch_dataset` gives a map-style data set for any torch
``DataLoader``. Order, crops and targets are pure functions in files of their own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featstore.loaders.band_moments import BandStatistics as BandStatistics
    from featstore.loaders.band_moments import band_statistics as band_statistics
    from featstore.loaders.batches import BatchLoader as BatchLoader
    from featstore.loaders.targets import class_index as class_index
    from featstore.loaders.targets import class_names as class_names
    from featstore.loaders.targets import multi_hot as multi_hot
    from featstore.loaders.targets import select_split as select_split
    from featstore.loaders.targets import split_targets as split_targets
    from featstore.loaders.torch_glue import EpochBatchSampler as EpochBatchSampler
    from featstore.loaders.torch_glue import FeatureDataset as FeatureDataset
    from featstore.loaders.torch_glue import torch_dataset as torch_dataset

_LAZY = {
    "BandStatistics": "band_moments",
    "BatchLoader": "batches",
    "EpochBatchSampler": "torch_glue",
    "FeatureDataset": "torch_glue",
    "band_statistics": "band_moments",
    "class_index": "targets",
    "class_names": "targets",
    "multi_hot": "targets",
    "select_split": "targets",
    "split_targets": "targets",
    "torch_dataset": "torch_glue",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'featstore.loaders' has no attribute {name!r}")
    return getattr(importlib.import_module(f"featstore.loaders.{_LAZY[name]}"), name)
