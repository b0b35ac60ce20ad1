"""How inner loops are compiled: once a machine, kept on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

__all__ = ["compile_kernels", "compiled"]

logger = logging.getLogger(__name__)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called, and keep the machine code beside the source or in the user's cache.

    Without ``fastmath``: sums stay in their order and products are not contracted, so results are the same everywhere.
    """
    try:
        return nb.njit(cache=True, nogil=True)(function)
    except RuntimeError as error:  # numba found no folder that it may write to
        logger.debug("%s is compiled anew in each process: %s", function.__name__, error)
        return nb.njit(nogil=True)(function)


def compile_kernels() -> None:
    """Compile what extraction uses, so that worker processes started afterwards find it ready.

    Takes some seconds the first time on a machine, and half a second later on.
    """
    from featstore.dsp.hpss import compute_hpss
    from featstore.dsp.mel import apply_bank, make_mel_bank
    from featstore.dsp.stft import compute_power

    power = compute_power(np.zeros(4096, np.float32), n_fft=512, hop_length=256)
    apply_bank(make_mel_bank(sample_rate=16000, n_fft=512, n_mels=8), power)
    compute_hpss(power, kernel=3)
