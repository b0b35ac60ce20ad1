"""Windows of a frozen encoder: a fixed grid, each window at its own length, and what is kept of a window or a track."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import DecodeError
from featstore.models.token_windows import Window, WindowValues

if TYPE_CHECKING:
    from featstore.models.frozen_encoder import FrozenEncoder

__all__ = ["EncoderCoder", "Pool", "TrackPool", "n_frames", "n_windows", "pooled"]

Pool = Literal["mean", "mean_std", "max", "none"]


def n_windows(columns: int, *, window: int, hop: int, least: int, align: bool) -> int:
    """Number of windows of a track, from its columns.

    Examples
    --------
    >>> [n_windows(columns, window=187, hop=187, least=7, align=True) for columns in (1000, 374, 100, 6)]
    [6, 2, 1, 0]
    """
    if columns < window:
        return int(align and columns >= least)
    whole = 1 + (columns - window) // hop
    return whole + int(align and (whole - 1) * hop + window < columns)


def n_frames(columns: int, *, window: int, hop: int, least: int, align: bool, step: int, field: int) -> int:
    """Frames of all windows of a track with ``columns`` columns; frames that two windows share count once."""
    windows = n_windows(columns, window=window, hop=hop, least=least, align=align)
    total = covered = 0
    for number in range(windows):
        start = number * hop
        stop = start + window
        if stop > columns:
            start, stop = max(0, columns - window), columns
        again = -(-max(0, covered - start) // step)
        total += max(0, 1 + (stop - start - field) // step - again)
        covered = stop
    return total


class EncoderCoder:
    """An encoder with the layers and the pooling that are asked for: computes windows.

    Parameters
    ----------
    encoder : FrozenEncoder
    layers : sequence of str
        Of one width.
    pool : Pool
        Over the frames of each window; ``none`` keeps them, but for those that an earlier window had.
    """

    def __init__(self, encoder: FrozenEncoder, layers: Sequence[str], pool: Pool) -> None:
        self.encoder, self.layers, self.pool = encoder, tuple(layers), pool
        self.batch = encoder.batch

    @property
    def no_values(self) -> FloatArray:
        """Vectors of no window."""
        width = self.encoder.info.layers[self.layers[0]].width * (2 if self.pool == "mean_std" else 1)
        return np.zeros((len(self.layers), width, 0), np.float32)

    def encode_windows(self, windows: Sequence[Window]) -> list[WindowValues]:
        """Vectors (layers, dimensions, m) of windows of equal length.

        Raises
        ------
        DecodeError
            When a vector is not finite; it names the layer and the track.
        """
        found = np.stack(self.encoder.layers_of(np.stack([each.samples for each in windows]), self.layers), axis=1)
        wrong = np.argwhere(~np.isfinite(found).all(axis=(2, 3)))
        if len(wrong):
            window, layer = wrong[0]
            raise DecodeError(
                f"layer {self.layers[layer]} of {self.encoder.info.model} gives a value that is not finite",
                windows[window].where,
                "Leave the track out, or check the weights",
            )
        return [WindowValues(self._kept(frames, each)) for frames, each in zip(found, windows, strict=True)]

    def _kept(self, frames: FloatArray, window: Window) -> FloatArray:
        if self.pool != "none":
            return pooled(frames, self.pool)
        step = self.encoder.info.layers[self.layers[0]].step
        return frames[..., -(-window.drop // step) :] if step else frames


def pooled(frames: FloatArray, pool: Pool) -> FloatArray:
    """Vectors (..., dimensions or twice as many, 1) of frames (..., dimensions, n), summed up in float64."""
    width = frames.shape[-2] * (2 if pool == "mean_std" else 1)
    gathered = TrackPool(pool, (*frames.shape[:-2], width))
    gathered.push([WindowValues(frames)])
    return gathered.finish()


class TrackPool:
    """One vector a layer for all windows of a track; memory does not grow with the track.

    Moments of windows are joined by the pairwise update of Chan, Golub and LeVeque (1983) in float64, window by window.

    Parameters
    ----------
    pool : Pool
        Over all frames of the track, each counted once; ``none`` is not for tracks.
    shape : tuple of int
        Layers, and values of a vector: twice the dimensions for mean and deviation.
    """

    def __init__(self, pool: Pool, shape: tuple[int, ...]) -> None:
        self._pool, self._shape = pool, shape
        self._count = 0
        self._mean = self._moment = np.zeros(())
        self._most = np.full((), -np.inf)

    def push(self, parts: Sequence[WindowValues]) -> AnyArray:
        """Take the frames (layers, dimensions, n) of windows; nothing is ready yet."""
        for part in parts:
            self._add(np.asarray(part.values, np.float64))
        return np.zeros((*self._shape, 0), np.float32)

    def _add(self, frames: NDArray[np.float64]) -> None:
        n = frames.shape[-1]
        if n == 0:
            return
        mean, most = frames.mean(axis=-1), frames.max(axis=-1)
        moment = ((frames - mean[..., None]) ** 2).sum(axis=-1)
        shift, total = mean - self._mean, self._count + n
        self._moment = self._moment + moment + shift**2 * (self._count * n / total)
        self._mean = self._mean + shift * (n / total)
        self._most = np.maximum(self._most, most)
        self._count = total

    def finish(self) -> FloatArray:
        """Vectors float32 (layers, dimensions, 1): mean, mean and deviation, or maximum."""
        if self._pool == "max":
            found = self._most
        elif self._pool == "mean_std":
            found = np.concatenate([self._mean, np.sqrt(self._moment / max(1, self._count))], axis=-1)
        else:
            found = self._mean
        return found[..., None].astype(np.float32)
