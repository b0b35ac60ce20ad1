"""Analysis windows."""

from __future__ import annotations

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import SpecError

__all__ = ["make_window"]


def make_window(
    name: str = "hann", *, win_length: int, n_fft: int | None = None, symmetric: bool = False
) -> FloatArray:
    """Window of ``win_length`` samples, centred in ``n_fft`` zeros where the transform is longer.

    Parameters
    ----------
    name : str
        As in ``scipy.signal.get_window``.
    symmetric : bool
        True makes both ends equal (essentia); False the periodic form of spectral analysis (librosa).

    Returns
    -------
    float32 (n_fft,)

    Raises
    ------
    SpecError
        When scipy knows no window of that name, or the window is longer than the transform.

    Examples
    --------
    >>> make_window("hann", win_length=4, n_fft=6).tolist()
    [0.0, 0.0, 0.5, 1.0, 0.5, 0.0]
    """
    from scipy.signal import get_window

    n_fft = win_length if n_fft is None else n_fft
    if win_length > n_fft:
        raise SpecError(f"win_length={win_length} is longer than n_fft={n_fft}", "", "Lower win_length or raise n_fft")
    try:
        window = get_window(name, win_length, fftbins=not symmetric)
    except ValueError as error:
        raise SpecError(f"window={name!r}: {error}", "", "Use a window that scipy.signal.get_window knows") from error
    padded = np.zeros(n_fft, np.float32)
    left = (n_fft - win_length) // 2
    padded[left : left + win_length] = window
    return padded
