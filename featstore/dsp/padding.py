"""What lies outside a signal. The names are numpy's modes of ``np.pad``.

``reflect`` does not repeat the edge (scipy.ndimage calls it *mirror*); ``symmetric`` repeats it (scipy.ndimage calls
that one *reflect*).
"""

from __future__ import annotations

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import SpecError, check_known

__all__ = ["pad_signal", "reflect_positions", "symmetric_positions"]


def symmetric_positions(positions: np.ndarray, n_samples: int) -> np.ndarray:
    """Positions inside a signal for positions outside, the edge repeated (numpy's ``symmetric``).

    See Also
    --------
    reflect_positions : The edge sample once.
    numpy.pad : ``mode='symmetric'``.

    Examples
    --------
    >>> symmetric_positions(np.arange(-3, 5), 2).tolist()
    [1, 1, 0, 0, 1, 1, 0, 0]
    """
    folded = np.mod(positions, 2 * n_samples)
    inside: np.ndarray = np.minimum(folded, 2 * n_samples - 1 - folded)
    return inside


def reflect_positions(positions: np.ndarray, n_samples: int) -> np.ndarray:
    """Positions inside a signal for positions outside, the edge not repeated (numpy's ``reflect``).

    See Also
    --------
    symmetric_positions : The edge sample twice.
    numpy.pad : ``mode='reflect'``.

    Examples
    --------
    >>> reflect_positions(np.arange(-2, 6), 3).tolist()
    [2, 1, 0, 1, 2, 1, 0, 1]
    """
    if n_samples == 1:
        return np.zeros_like(positions)
    period = 2 * (n_samples - 1)
    folded = np.mod(positions, period)
    inside: np.ndarray = np.minimum(folded, period - folded)
    return inside


def pad_signal(signal: FloatArray, *, left: int, right: int, pad_mode: str = "zeros") -> FloatArray:
    """Signal with ``left`` and ``right`` samples around it; negative numbers cut it.

    Parameters
    ----------
    signal : float32 (n_samples,)
    pad_mode : str
        ``zeros`` (numpy's ``constant``) or ``reflect``, again and again where the signal is short.

    Raises
    ------
    SpecError
        For an unknown mode.

    See Also
    --------
    reflect_positions : Positions behind ``reflect``.
    symmetric_positions : Positions behind ``symmetric``.
    numpy.pad : The same modes.
    """
    n_samples = len(signal)
    if pad_mode == "reflect" and n_samples and (left > 0 or right > 0):
        padded: FloatArray = signal[reflect_positions(np.arange(-left, n_samples + right), n_samples)]
        return padded
    check_known(pad_mode, ("zeros", "reflect"), f"unknown pad_mode {pad_mode!r}", error=SpecError)
    extended = np.zeros(max(0, left + n_samples + right), np.float32)
    begin, end = max(0, -left), min(n_samples, n_samples + right)
    if end > begin:
        extended[begin + left : end + left] = signal[begin:end]
    return extended
