"""Analysis windows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import SpecError, check_known

__all__ = ["WINDOWS", "make_window"]

# Weights of cos(0), cos(x), cos(2x), … over one period. Written out, since importing scipy.signal takes over a second;
# equal to scipy.signal.get_window to the last bit of float32.
_COSINES = {
    "boxcar": (1.0,),
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.50, 0.08),
    "blackmanharris": (0.35875, 0.48829, 0.14128, 0.01168),
}
WINDOWS = (*_COSINES, "bartlett")


@lru_cache(maxsize=64)
def make_window(
    name: str = "hann", *, win_length: int, n_fft: int | None = None, symmetric: bool = False
) -> FloatArray:
    """Window of ``win_length`` samples, centred in ``n_fft`` zeros where the transform is longer.

    Parameters
    ----------
    name : str
        One of :data:`WINDOWS`, as in ``scipy.signal.get_window``.
    symmetric : bool
        True makes both ends equal (essentia); False the periodic form of spectral analysis (librosa).

    Returns
    -------
    float32 (n_fft,)
        Not to be written to: equal calls share it.

    Raises
    ------
    SpecError
        For an unknown name, or a window longer than the transform.

    See Also
    --------
    scipy.signal.get_window : The same windows; ``fftbins`` is the opposite of ``symmetric``.

    Examples
    --------
    >>> make_window("hann", win_length=4, n_fft=6).tolist()
    [0.0, 0.0, 0.5, 1.0, 0.5, 0.0]
    """
    n_fft = win_length if n_fft is None else n_fft
    check_known(name, WINDOWS, f"unknown window {name!r}", error=SpecError)
    if win_length > n_fft:
        raise SpecError(f"win_length={win_length} is longer than n_fft={n_fft}", "", "Lower win_length or raise n_fft")
    window = _symmetric(name, win_length if symmetric else win_length + 1)[:win_length] if win_length > 1 else 1.0
    padded = np.zeros(n_fft, np.float32)
    left = (n_fft - win_length) // 2
    padded[left : left + win_length] = window
    padded.setflags(write=False)
    return padded


def _symmetric(name: str, length: int) -> np.ndarray:
    if name == "bartlett":
        rise = 2.0 * np.arange(length) / (length - 1)
        return np.minimum(rise, 2.0 - rise)
    angle = np.linspace(-np.pi, np.pi, length)
    return sum(weight * np.cos(k * angle) for k, weight in enumerate(_COSINES[name]))  # type: ignore[return-value]
