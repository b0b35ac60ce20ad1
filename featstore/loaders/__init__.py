"""Batches for training: from disk, from memory or from the device, in an order that only (seed, epoch) decides.

:class:`BatchLoader` is the loader of our own trainers; :func:`torch_dataset` gives a map-style data set for any torch
``DataLoader``. Order, crops and targets are pure functions in files of their own.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names of __init__.pyi, imported when used
