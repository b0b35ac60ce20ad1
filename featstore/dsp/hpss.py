"""Harmonic-percussive separation of a magnitude spectrogram by median filters.

Fitzgerald (DAFx 2010): harmonics are ridges along time, drums ridges along frequency; the median along an axis keeps
its ridges and removes the others. Soft masks of exponent p, or binary ones (p infinite). Driedger et al. (ISMIR 2014):
a margin asks that a component be so many times stronger than the other; what neither takes is the residual.
"""

from __future__ import annotations

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import SpecError, did_you_mean

__all__ = ["COMPONENTS", "compute_hpss", "extract_component", "frequency_median", "mirror", "time_median"]

COMPONENTS = ("harmonic", "percussive", "residual")
_TINY = np.finfo(np.float32).tiny


def mirror(positions: np.ndarray, length: int) -> np.ndarray:
    """Positions inside ``0 … length - 1`` for positions outside, the edge itself repeated (scipy's ``reflect``).

    Examples
    --------
    >>> mirror(np.arange(-3, 5), 2).tolist()
    [1, 1, 0, 0, 1, 1, 0, 0]
    """
    folded = np.mod(positions, 2 * length)
    inside: np.ndarray = np.minimum(folded, 2 * length - 1 - folded)
    return inside


def frequency_median(magnitude: FloatArray, kernel: int) -> FloatArray:
    """Median over ``kernel`` neighbouring bins of each frame: float32 (bins, frames), edges mirrored."""
    from featstore.dsp.kernels import running_median

    bins = magnitude.shape[0]
    rows = magnitude[mirror(np.arange(-(kernel // 2), bins + kernel // 2), bins)]
    medians = np.empty(magnitude.shape, np.float32)
    running_median(rows, kernel, medians)
    return medians


def time_median(context: FloatArray, kernel: int) -> FloatArray:
    """Median over ``kernel`` neighbouring frames of each bin, where all of them are there.

    Parameters
    ----------
    context : float32 (bins, frames + kernel - 1)
        The frames with ``kernel // 2`` further ones at both ends, mirrored at the ends of the track.

    Returns
    -------
    float32 (bins, frames)
    """
    from featstore.dsp.kernels import running_median

    bins, length = context.shape
    medians = np.empty((max(0, length - kernel + 1), bins), np.float32)
    if len(medians):
        running_median(np.ascontiguousarray(context.T), kernel, medians)
    return np.ascontiguousarray(medians.T)


def extract_component(
    magnitude: FloatArray,
    harmonic: FloatArray,
    percussive: FloatArray,
    *,
    component: str = "harmonic",
    mask_power: float = 2.0,
    margin: float = 1.0,
) -> FloatArray:
    """Part of a spectrogram that the masks of its two medians leave.

    Parameters
    ----------
    magnitude, harmonic, percussive : float32 (bins, frames)
        The spectrogram, its median along time, its median along frequency.
    component : str
        ``harmonic``, ``percussive`` or ``residual`` (magnitude minus both others, never below 0).
    mask_power : float > 0
        Exponent of the soft mask; infinity gives the binary one, where a tie belongs to neither.
    margin : float >= 1

    Returns
    -------
    float32 (bins, frames)
        Equal to ``librosa.decompose.hpss`` bit for bit at ``mask_power=2``.
    """
    if component not in COMPONENTS:
        raise SpecError(f"unknown component {component!r}", "", did_you_mean(component, COMPONENTS))
    if not magnitude.shape == harmonic.shape == percussive.shape:
        raise ValueError(f"shapes differ: {magnitude.shape}, {harmonic.shape}, {percussive.shape}")
    wanted = np.float32(margin)
    even_split = margin == 1.0
    parts = {}
    if component in ("harmonic", "residual"):
        parts["harmonic"] = magnitude * _soft_mask(harmonic, percussive * wanted, mask_power, even_split)
    if component in ("percussive", "residual"):
        parts["percussive"] = magnitude * _soft_mask(percussive, harmonic * wanted, mask_power, even_split)
    if component in parts:
        return parts[component]
    return np.maximum(magnitude - (parts["harmonic"] + parts["percussive"]), np.float32(0))


def _soft_mask(own: FloatArray, other: FloatArray, power: float, even_split: bool) -> FloatArray:
    """``own^p / (own^p + other^p)``, both divided by the larger one first, so that nothing overflows."""
    if np.isinf(power):
        return (own > other).astype(np.float32)
    if power == 2.0:
        from featstore.dsp.kernels import soft_mask_2

        soft = np.empty(own.shape, np.float32)
        soft_mask_2(own, other, np.float32(0.5 if even_split else 0.0), soft)
        return soft
    largest = np.maximum(own, other)
    nothing = largest < _TINY
    largest[nothing] = 1
    exponent = np.float32(power)
    mask: FloatArray = np.power(own / largest, exponent)
    rest: FloatArray = np.power(other / largest, exponent)
    total = mask + rest
    total[nothing] = 1
    mask /= total
    mask[nothing] = 0.5 if even_split else 0.0
    return mask


def compute_hpss(
    magnitude: FloatArray,
    *,
    component: str = "harmonic",
    kernel: int = 31,
    mask_power: float = 2.0,
    margin: float = 1.0,
) -> FloatArray:
    """One component of a whole magnitude spectrogram (bins, frames), as ``librosa.decompose.hpss`` gives it.

    Parameters
    ----------
    kernel : int
        Odd length of both medians.
    component, mask_power, margin
        As in :func:`extract_component`.
    """
    magnitude = np.ascontiguousarray(magnitude, np.float32)
    frames = magnitude.shape[1]
    around = mirror(np.arange(-(kernel // 2), frames + kernel // 2), max(1, frames))
    harmonic = time_median(magnitude[:, around], kernel) if frames else magnitude
    percussive = frequency_median(magnitude, kernel)
    return extract_component(magnitude, harmonic, percussive, component=component, mask_power=mask_power, margin=margin)
