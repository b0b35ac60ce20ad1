"""Harmonic-percussive separation of a magnitude spectrogram by median filters.

Fitzgerald (DAFx 2010): harmonics are ridges along time, drums ridges along frequency; the median along an axis keeps
its ridges and removes the others. Soft masks of exponent p, or binary ones (p infinite). Driedger et al. (ISMIR 2014):
a margin is how many times stronger than the other a component must be; what neither takes is the residual. Kernel and
margin may differ between the two, as in librosa: (harmonic, percussive).
"""

from __future__ import annotations

import numpy as np

from featstore.arrays import FloatArray
from featstore.dsp.padding import symmetric_positions
from featstore.errors import SpecError, check_known

__all__ = ["COMPONENTS", "compute_hpss", "extract_component", "frequency_median", "time_median"]

Pair = tuple[int | float, int | float]

COMPONENTS = ("harmonic", "percussive", "residual")
_TINY = np.finfo(np.float32).tiny


def harmonic_and_percussive(value: float | Pair) -> Pair:
    """One number for both components, or one for each, as (harmonic, percussive)."""
    return value if isinstance(value, tuple) else (value, value)


def frequency_median(magnitude: FloatArray, kernel: int) -> FloatArray:
    """Median over ``kernel`` neighbouring bins of each frame: float32 (bins, frames), edges padded ``symmetric``.

    See Also
    --------
    time_median : The other axis.
    extract_component : Turns both into masks.
    """
    from featstore.dsp.kernels import running_median

    bins = magnitude.shape[0]
    rows = magnitude[symmetric_positions(np.arange(-(kernel // 2), bins + kernel // 2), bins)]
    medians = np.empty(magnitude.shape, np.float32)
    running_median(np.ascontiguousarray(rows), kernel, medians)
    return medians


def time_median(context: FloatArray, kernel: int) -> FloatArray:
    """Median over ``kernel`` neighbouring frames of each bin, where all of them are there.

    Parameters
    ----------
    context : float32 (bins, frames + kernel - 1)
        The frames with ``kernel // 2`` further ones at both ends, padded ``symmetric`` at the ends of the track.

    Returns
    -------
    float32 (bins, frames)

    See Also
    --------
    frequency_median : The other axis.
    extract_component : Turns both into masks.
    scipy.ndimage.median_filter : The same values with ``mode='reflect'``.
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
    margin: float | Pair = 1.0,
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
    margin : float >= 1, or (harmonic, percussive)

    Returns
    -------
    float32 (bins, frames)
        Equal to ``librosa.decompose.hpss`` bit for bit at ``mask_power=2``.

    See Also
    --------
    time_median : Enhances what lasts.
    frequency_median : Enhances what is broad-band.
    librosa.decompose.hpss : The same masks.

    References
    ----------
    D. FitzGerald, "Harmonic/percussive separation using median filtering", DAFx (2010).
    J. Driedger, M. Müller and S. Disch, "Extending harmonic-percussive separation of audio signals", ISMIR (2014):
    margins and the residual.
    """
    check_known(component, COMPONENTS, f"unknown component {component!r}", error=SpecError)
    if not magnitude.shape == harmonic.shape == percussive.shape:
        raise ValueError(f"shapes differ: {magnitude.shape}, {harmonic.shape}, {percussive.shape}")
    of_harmonic, of_percussive = map(np.float32, harmonic_and_percussive(margin))
    even_split = of_harmonic == of_percussive == 1.0
    parts = {}
    if component in ("harmonic", "residual"):
        parts["harmonic"] = magnitude * _soft_mask(harmonic, percussive * of_harmonic, mask_power, even_split)
    if component in ("percussive", "residual"):
        parts["percussive"] = magnitude * _soft_mask(percussive, harmonic * of_percussive, mask_power, even_split)
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
        soft_mask_2(np.ascontiguousarray(own), np.ascontiguousarray(other), 0.5 if even_split else 0.0, soft)
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
    kernel: int | Pair = 31,
    mask_power: float = 2.0,
    margin: float | Pair = 1.0,
) -> FloatArray:
    """One component of a whole magnitude spectrogram (bins, frames), as ``librosa.decompose.hpss`` gives it.

    Parameters
    ----------
    kernel : int, or (harmonic, percussive)
        Odd length of the medians, along time and along frequency.
    component, mask_power, margin
        As in :func:`extract_component`.
    """
    magnitude = np.ascontiguousarray(magnitude, np.float32)
    frames = magnitude.shape[1]
    along_time, along_frequency = map(int, harmonic_and_percussive(kernel))
    around = symmetric_positions(np.arange(-(along_time // 2), frames + along_time // 2), max(1, frames))
    harmonic = time_median(magnitude[:, around], along_time) if frames else magnitude
    percussive = frequency_median(magnitude, along_frequency)
    return extract_component(magnitude, harmonic, percussive, component=component, mask_power=mask_power, margin=margin)
