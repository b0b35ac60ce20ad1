"""How inner loops are compiled: once a machine, kept on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba as nb

__all__ = ["compiled"]

logger = logging.getLogger(__name__)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called, and keep the machine code beside the source or in the user's cache.

    Without ``fastmath``: sums stay in their order and products are not contracted, so results are the same everywhere.
    """
    try:
        return nb.njit(cache=True, nogil=True)(function)
    except RuntimeError as error:  # numba found no folder that it may write to
        logger.debug("%s is compiled again in each process: %s", function.__name__, error)
        return nb.njit(nogil=True)(function)
