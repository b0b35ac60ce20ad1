"""Training: one loop for all models, fed from a store, and runs whose folder says all that is needed to repeat them.

:func:`train` trains a model on a feature of a store, or goes on with a run that was stopped; :func:`evaluate` scores a
trained model again. Settings are a :class:`TrainConfig`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from featstore.registry import Registry

if TYPE_CHECKING:
    from featstore.training.config import TrainConfig as TrainConfig
    from featstore.training.progress import NonFiniteLoss as NonFiniteLoss
    from featstore.training.run import evaluate as evaluate
    from featstore.training.run import train as train
    from featstore.training.scoring import confusion_of as confusion_of
    from featstore.training.scoring import per_class_of as per_class_of

# objective -> class with its settings, what it trains, its loss and its scores
OBJECTIVES = Registry(
    "objective",
    {
        "supervised": "featstore.training.objectives:Supervised",
        "masked": "featstore.training.reconstruction:Masked",
        "masked-values": "featstore.training.masked_values:MaskedValues",
        "masked-ids": "featstore.training.masked_ids:MaskedIds",
        "picture": "featstore.training.drawn_picture:Picture",
    },
)

_LAZY = {
    "NonFiniteLoss": "progress",
    "TrainConfig": "config",
    "evaluate": "run",
    "confusion_of": "scoring",
    "per_class_of": "scoring",
    "train": "run",
}

__all__ = sorted([*_LAZY, "OBJECTIVES"])


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'featstore.training' has no attribute {name!r}")
    return getattr(importlib.import_module(f"featstore.training.{_LAZY[name]}"), name)
