"""Which samples a clip policy takes."""

from __future__ import annotations

import numpy as np

from featstore.arrays import FloatArray
from featstore.audio.faults import TrackTooShort
from featstore.specs import Clip

__all__ = ["ClipBounds", "clip_bounds", "cut_signal", "every_starts"]

ClipBounds = tuple[int, int]


def _fix(clip: Clip) -> str:
    """What helps a track that is too short; where a policy fills tracks up, it has found no sample to begin with."""
    if clip.pad == "none":
        return "Shorten the clip, leave the track out, or fill it up with pad=zeros or pad=repeat"
    return "There is nothing to fill up: begin earlier, raise sample_rate, or leave the track out"


def clip_bounds(n_samples: int, sample_rate: int, clip: Clip, where: str = "") -> ClipBounds:
    """First sample of an excerpt, and the one after its last, at the analysis rate.

    Parameters
    ----------
    n_samples : int >= 0
        Length of the whole track after resampling.
    clip : Clip
        ``whole``, ``centre``, ``start`` or ``offset``. With ``length = round(length_s * sample_rate)``, the centre
        starts at ``(n_samples - length) // 2``.

    Returns
    -------
    tuple of int
        Positions in the track. Where the policy fills up short tracks, the end may lie beyond the track, never the
        start.

    Raises
    ------
    TrackTooShort
        When the track ends before the excerpt does and ``pad`` is ``none``, or before it begins.

    See Also
    --------
    cut_signal : Applies the bounds.
    every_starts : Starts of clips at equal distances.

    Examples
    --------
    >>> clip_bounds(465984, 16000, Clip.parse("centre(29.1 s)"))
    (192, 465792)
    """
    if clip.policy == "whole":
        return 0, n_samples
    if clip.policy == "every":
        raise ValueError("every() has many bounds: see every_starts")
    length, offset = round(clip.length_s * sample_rate), round(clip.offset_s * sample_rate)
    start = {"centre": max(0, (n_samples - length) // 2), "start": 0, "offset": offset}[clip.policy]
    if start + length > n_samples and (clip.pad == "none" or n_samples <= start):
        raise TrackTooShort(
            f"the track has {n_samples} samples ({n_samples / sample_rate:.3f} s) and {clip} needs {start + length}",
            where,
            _fix(clip),
        )
    return start, start + length


def every_starts(n_samples: int, sample_rate: int, clip: Clip, where: str = "") -> list[int]:
    """First samples of the regular excerpts ``every(length, step)``: as many as fit, ``(n - length) // step + 1``.

    A track shorter than one excerpt has a single one when the policy fills it up.

    Raises
    ------
    TrackTooShort
        When not even one fits and ``pad`` is ``none``.

    See Also
    --------
    clip_bounds : Bounds of a single clip.

    Examples
    --------
    >>> len(every_starts(480000, 16000, Clip.parse("every(3 s, 0.5 s)")))
    55
    """
    length, step = round(clip.length_s * sample_rate), round(clip.step_s * sample_rate)
    if n_samples < length:
        if clip.pad == "none" or n_samples == 0:
            raise TrackTooShort(
                f"the track has {n_samples} samples and one excerpt of {clip} needs {length}",
                where,
                _fix(clip),
            )
        return [0]
    return list(range(0, n_samples - length + 1, step))


def fill_up(signal: FloatArray, length: int, pad: str) -> FloatArray:
    """Make a signal (n,) with n > 0 ``length`` samples long: by zeros, or by playing it again and again."""
    if len(signal) >= length:
        return signal[:length]
    if pad == "repeat":
        return np.resize(signal, length)
    return np.concatenate([signal, np.zeros(length - len(signal), np.float32)])


def cut_signal(signal: FloatArray, sample_rate: int, clip: Clip, where: str = "") -> FloatArray:
    """Excerpt of a whole resampled signal (n_samples,): the plain form of what the ``cut`` stream does.

    Raises
    ------
    TrackTooShort

    See Also
    --------
    clip_bounds : Where a clip begins and ends.
    """
    start, stop = clip_bounds(len(signal), sample_rate, clip, where)
    return fill_up(signal[start:stop], stop - start, clip.pad)
