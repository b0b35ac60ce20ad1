"""Training: one loop for all models, fed from a store, and runs whose folder says all that is needed to repeat them.

:func:`train` trains a model on a feature of a store, or goes on with a run that was stopped; :func:`evaluate` scores a
trained model again. Settings are a :class:`TrainConfig`.
"""

from lazy_loader import attach_stub

from featstore.registry import Registry

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names of __init__.pyi, imported when used
__all__ += ["OBJECTIVES"]

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
