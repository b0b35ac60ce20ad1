"""What one item of an epoch is: which track, from which frame, how many frames, in every feature loaded at once.

Frames of several features meet in time: a crop is set in frames of the first feature, and cut from the others at the
same seconds, which their specs give as exact fractions (samples between frames / sample rate).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featstore.errors import ConfigError, DatasetError
from featstore.loaders.order import crop_starts
from featstore.specs import FeatureSpec

__all__ = ["CropPlan", "Mode", "Ragged", "Tail", "frame_seconds", "plan_crops", "window_starts"]

Mode = Literal["random", "windows", "whole"]
Ragged = Literal["error", "skip", "pad", "bucket"]
Tail = Literal["align", "drop", "overhang"]

_LARGEST_GRID = 16  # frames; a common grid coarser than this would take too many starts away


def frame_seconds(spec: FeatureSpec) -> Fraction:
    """Seconds between neighbouring frames of a feature, exactly."""
    return Fraction(spec.frame_step, spec.sample_rate)


def window_starts(last_start: int, *, stride: int, tail: Tail) -> NDArray[np.int64]:
    """Starts of evaluation windows: every ``stride`` frames from 0 to ``last_start``.

    Parameters
    ----------
    last_start : int >= 0
        Start of the window that ends with the track, frames.
    tail : {'align', 'drop', 'overhang'}
        ``align`` adds that last window where the steps do not reach it; the others leave the rest of the track out.

    Examples
    --------
    >>> window_starts(10, stride=4, tail="align").tolist(), window_starts(10, stride=4, tail="drop").tolist()
    ([0, 4, 8, 10], [0, 4, 8])
    """
    starts = np.arange(0, last_start + 1, stride, dtype=np.int64)
    return np.append(starts, last_start) if tail == "align" and starts[-1] != last_start else starts


@dataclass(frozen=True)
class CropPlan:
    """All items of an epoch, without the order they come in.

    Attributes
    ----------
    mode : {'random', 'windows', 'whole'}
    track : numpy.ndarray
        int64 ``(n_items,)``: position of each item's track in the track list.
    first : numpy.ndarray
        int64 ``(n_items,)``: start in frames of the first feature (mode ``random``: the *last* allowed start).
    draws : numpy.ndarray
        int64 ``(n_items,)``: which random draw moves each item; it follows from the track's position alone.
    ratios : tuple of Fraction
        For each feature, its frames per frame of the first one.
    frames : tuple of (int or None)
        For each feature, frames of a crop; None in mode ``whole``.
    lengths : tuple of numpy.ndarray
        For each feature, int64 ``(n_tracks,)`` frames of each listed track, -1 where it is not stored.
    grid : int
        Random starts are multiples of it, so that every feature is cut at a frame of its own where that is possible.
    per_track : int
        Random crops of a track that start at different places; 1 lets each fall where it will.
    skipped : numpy.ndarray or None
        int64 ``(n_items,)``: a start that random crops leave out, where crops may overhang; :attr:`first` is then one
        place smaller.
    """

    mode: Mode
    track: NDArray[np.int64]
    first: NDArray[np.int64]
    draws: NDArray[np.int64]
    ratios: tuple[Fraction, ...]
    frames: tuple[int | None, ...]
    lengths: tuple[NDArray[np.int64], ...]
    grid: int
    per_track: int = 1
    skipped: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.track)

    def starts(self, *, seed: int, epoch: int) -> NDArray[np.int64]:
        """Start of each item in this epoch, int64 ``(n_items,)``, frames of the first feature."""
        if self.mode != "random":
            return self.first
        options = {"seed": seed, "epoch": epoch, "grid": self.grid, "per_track": self.per_track}
        return self._moved(crop_starts(self.first, self.draws, **options), self.skipped)

    def drawn_starts(self, items: NDArray[np.int64], chance: NDArray[np.float64]) -> NDArray[np.int64]:
        """Starts of some items from numbers in [0, 1), one for each, instead of from an epoch's number."""
        if self.mode != "random":
            return self.first[items]
        drawn = self.grid * (chance * (self.first[items] // self.grid + 1)).astype(np.int64)
        return self._moved(drawn, None if self.skipped is None else self.skipped[items])

    def _moved(self, starts: NDArray[np.int64], skipped: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Random starts with those from the one that is left out on moved by a place."""
        return starts if skipped is None else starts + self.grid * (starts >= skipped)

    def starts_of(self, feature: int, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same starts in frames of another feature: the nearest frame (half a frame off at most)."""
        ratio = self.ratios[feature]
        return (2 * starts * ratio.numerator + ratio.denominator) // (2 * ratio.denominator)

    def valid_of(self, feature: int, items: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Frames that really exist in each crop, int64; fewer than :attr:`frames` only where padding was asked for."""
        left = self.lengths[feature][self.track[items]] - self.starts_of(feature, starts)
        frames = self.frames[feature]
        return left if frames is None else np.minimum(left, frames)

    def fresh(self) -> NDArray[np.int64]:
        """Frames of each evaluation window that no earlier window of its track has, int64 ``(n_items,)``.

        Examples
        --------
        >>> import numpy as np
        >>> from fractions import Fraction
        >>> plan = plan_crops([np.array([10])], [Fraction(1, 10)], ["a"], ["x"], mode="windows", crop_frames=4)
        >>> plan.first.tolist(), plan.fresh().tolist()
        ([0, 4, 6], [4, 4, 2])
        """
        items = np.arange(len(self))
        valid = self.valid_of(0, items, self.first)
        follows = np.diff(self.track, prepend=-1) == 0
        return np.where(follows, np.minimum(valid, np.diff(self.first, prepend=0)), valid)

    def item_lengths(self) -> NDArray[np.int64]:
        """Frames of the first feature in each item's track: what buckets are made of."""
        return self.lengths[0][self.track]


def plan_crops(
    lengths: Sequence[NDArray[np.int64]],
    seconds: Sequence[Fraction],
    track_ids: Sequence[str],
    names: Sequence[str],
    *,
    mode: Mode,
    crop_frames: int | None,
    ragged: Ragged = "error",
    window_stride: int | None = None,
    tail: Tail = "align",
    crops_per_track: int = 1,
    segment: int | None = None,
    distinct: bool = False,
    repeats: NDArray[np.int64] | None = None,
    start_grid: int = 1,
) -> CropPlan:
    """Lay out the items of an epoch.

    Parameters
    ----------
    lengths : sequence of numpy.ndarray
        For each feature, int64 ``(n_tracks,)`` frames; negative entries (not stored) give no item.
    seconds : sequence of Fraction
        For each feature, seconds between frames.
    track_ids, names : sequence of str
        For messages.
    crop_frames : int or None
        Frames of the first feature; None in mode ``whole``.
    ragged : {'error', 'skip', 'pad', 'bucket'}
        Crops: what to do with a track shorter than the crop (``bucket`` is refused). Whole tracks: ``error`` when their
        lengths differ, ``pad`` and ``bucket`` allow it (``skip`` is refused).
    window_stride : int or None
        Frames between evaluation windows; None is ``crop_frames``.
    tail : {'align', 'drop', 'overhang'}
        End of a track, for windows: see :func:`window_starts`. With ``overhang`` windows and random crops may start at
        any place of their grid in the track, and are padded where they reach past its end. Random crops leave out the
        first of these starts, as the published code of MS-SincResNet does, which this is for.
    crops_per_track : int
        Random crops that each track gives in an epoch.
    segment : int or None
        Frames of an excerpt, where tracks are excerpts joined along time: a crop is one of them.
    distinct : bool
        No two random crops of a track start at the same frame, while it has as many places.
    repeats : numpy.ndarray or None
        int64 ``(n_tracks,)``: times ``crops_per_track`` that each track gives; 1 by default.
    start_grid : int
        Random crops start at multiples of this number of frames of the first feature.

    Raises
    ------
    ConfigError
        For settings that contradict each other.
    DatasetError
        For tracks that do not fit the settings, with the first of them and its frames.
    """
    _check_settings(mode, crop_frames, ragged, window_stride, crops_per_track, start_grid)
    if tail == "overhang" and ragged != "pad":
        raise ConfigError(f"tail='overhang' with ragged={ragged!r}", "loader", "Choose ragged='pad'")
    lengths = tuple(np.asarray(one, dtype=np.int64) for one in lengths)
    ratios = tuple(seconds[0] / other for other in seconds)
    present = np.flatnonzero(np.logical_and.reduce([one >= 0 for one in lengths]))
    if mode == "whole":
        if ragged == "error":
            _check_equal(lengths, present, track_ids, names)
        _check_not_empty(lengths, present, track_ids, names)
        zeros = np.zeros(len(present), dtype=np.int64)
        return CropPlan(mode, present, zeros, zeros, ratios, (None,) * len(lengths), lengths, 1)
    assert crop_frames is not None
    frames = tuple(max(1, round(crop_frames * ratio)) for ratio in ratios)
    whole = np.min([_last_starts(*each) for each in zip(lengths, frames, ratios, strict=True)], axis=0)
    last = whole
    if tail == "overhang":
        last = np.min([_last_starts(one, 1, ratio) for one, ratio in zip(lengths, ratios, strict=True)], axis=0)
    present, last = _settle_short(present, last, lengths, frames, track_ids, names, ragged)
    if mode == "random":
        if repeats is not None and distinct:
            raise ConfigError("distinct crops of tracks that are repeated", "loader", "Choose one of them")
        counts = crops_per_track * (np.ones(len(present), dtype=np.int64) if repeats is None else repeats[present])
        track = np.repeat(present, counts)
        most = int(counts.max(initial=crops_per_track))
        draws = track * most + np.arange(len(track)) - np.repeat(np.cumsum(counts) - counts, counts)
        grid = math.lcm(segment or _grid(ratios), start_grid)
        together = crops_per_track if distinct else 1
        skipped = None
        if tail == "overhang":
            skipped = np.where(whole >= 0, (whole // grid + 1) * grid, last + 1)
            last = np.where(skipped <= last, last - grid, last)
            skipped = skipped[track]
        return CropPlan(mode, track, last[track], draws, ratios, frames, lengths, grid, together, skipped)
    each = [window_starts(int(last[i]), stride=window_stride or crop_frames, tail=tail) for i in present]
    track = np.repeat(present, [len(starts) for starts in each])
    first = np.concatenate(each) if each else np.zeros(0, dtype=np.int64)
    return CropPlan(mode, track, first, np.zeros_like(first), ratios, frames, lengths, 1)


def _check_settings(
    mode: str, crop_frames: int | None, ragged: str, stride: int | None, crops_per_track: int, start_grid: int
) -> None:
    if mode not in ("random", "windows", "whole"):
        raise ConfigError(f"mode={mode!r} is unknown", "loader", "Use random, windows or whole")
    if (mode == "whole") != (crop_frames is None):
        raise ConfigError(
            f"mode={mode!r} with crop_frames={crop_frames}",
            "loader",
            "Give crop_frames for random crops and windows, and none for whole tracks",
        )
    counts = {"crop_frames": crop_frames, "window_stride": stride, "crops_per_track": crops_per_track}
    for name, value in (counts | {"start_grid": start_grid}).items():
        if value is not None and not (isinstance(value, numbers.Integral) and value >= 1):
            raise ConfigError(f"{name}={value!r} is not a positive whole number", "loader", "Use at least 1")
    allowed = ("error", "pad", "bucket") if mode == "whole" else ("error", "skip", "pad")
    if ragged not in allowed:
        raise ConfigError(f"ragged={ragged!r} does not go with mode={mode!r}", "loader", f"Use {' or '.join(allowed)}")


def _check_equal(
    lengths: tuple[NDArray[np.int64], ...], present: NDArray[np.int64], ids: Sequence[str], names: Sequence[str]
) -> None:
    """Refuse whole tracks that differ in length."""
    for name, one in zip(names, lengths, strict=True):
        odd = present[one[present] != one[present[:1]]]
        if len(odd):
            first, other = present[0], odd[0]
            raise DatasetError(
                f"whole tracks differ in length: {ids[first]} has {one[first]} frames, {ids[other]} has {one[other]}",
                f"input {name!r}",
                "Choose ragged='pad' or 'bucket', or crop with crop_frames",
            )


def _check_not_empty(
    lengths: tuple[NDArray[np.int64], ...], present: NDArray[np.int64], ids: Sequence[str], names: Sequence[str]
) -> None:
    for name, one in zip(names, lengths, strict=True):
        empty = present[one[present] == 0]
        if len(empty):
            fix = "Leave it out of the track table"
            raise DatasetError(f"track {ids[empty[0]]} has 0 frames", f"input {name!r}", fix)


def _last_starts(length: NDArray[np.int64], frames: int, ratio: Fraction) -> NDArray[np.int64]:
    """Largest start, in frames of the first feature, at which the crop still fits; negative where it never does."""
    return ((length - frames) * ratio.denominator) // ratio.numerator


def _grid(ratios: Sequence[Fraction]) -> int:
    grid = math.lcm(*(ratio.denominator for ratio in ratios))
    return grid if grid <= _LARGEST_GRID else 1


def _settle_short(
    present: NDArray[np.int64],
    last: NDArray[np.int64],
    lengths: tuple[NDArray[np.int64], ...],
    frames: tuple[int, ...],
    ids: Sequence[str],
    names: Sequence[str],
    ragged: Ragged,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Apply the choice for tracks that are shorter than the crop."""
    short = present[last[present] < 0]
    if len(short) == 0:
        return present, last
    worst = int(short[0])
    which = next(j for j, one in enumerate(lengths) if one[worst] < frames[j])
    found = f"track {ids[worst]} has {lengths[which][worst]} frames, the crop needs {frames[which]}"
    where = f"input {names[which]!r}, {len(short)} of {len(present)} tracks are too short"
    if ragged == "error" or (ragged == "skip" and len(short) == len(present)):
        longest = int(lengths[which][present].max())
        raise DatasetError(
            found, where, f"Lower crop_frames (the longest track has {longest}), or choose ragged='pad' or 'skip'"
        )
    if ragged == "skip":
        return present[last[present] >= 0], last
    _check_not_empty(lengths, present, ids, names)
    return present, np.maximum(last, 0)
