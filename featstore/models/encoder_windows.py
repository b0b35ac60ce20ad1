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

__all__ = ["EncoderCoder", "GridCutter", "Pool", "TrackPool", "n_frames", "n_windows", "pooled"]

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


class GridCutter:
    """Windows on a fixed grid from the first column on, never padded; holds one window and the last block.

    What is left behind the last whole window is dropped, or seen by a further window that ends with the track; then a
    track shorter than a window is one window of its own length, too.

    Parameters
    ----------
    window, hop : int
        Columns of a window, and between the starts of two.
    least : int
        Columns of the shortest window.
    align : bool
        Whether a last window ends with the track.
    where : str
        Track, for messages.
    """

    def __init__(self, *, window: int, hop: int, least: int, align: bool, where: str = "") -> None:
        self._window, self._hop, self._least, self._align, self._where = window, hop, least, align, where
        self._held: list[FloatArray] = []
        self._at = self._seen = self._next = self._covered = (
            0  # first column held, columns seen, start, end of the last
        )

    def push(self, block: FloatArray) -> list[Window]:
        """Take columns (..., n); return the windows that are complete."""
        self._held.append(np.array(block, np.float32))
        self._seen += block.shape[-1]
        windows = []
        while self._next + self._window <= self._seen:
            windows.append(self._cut(self._next, self._next + self._window))
            self._next += self._hop
        keep = max(self._at, min(self._next, self._seen - self._window))
        if windows:
            self._held, self._at = [self._whole()[..., keep - self._at :].copy()], keep
        return windows

    def finish(self) -> list[Window]:
        """Return the last window, where there is one."""
        if not self._align or self._seen <= self._covered or self._seen < self._least:
            return []
        return [self._cut(max(0, self._seen - self._window), self._seen)]

    def _whole(self) -> FloatArray:
        if len(self._held) != 1:
            self._held = [np.concatenate(self._held, axis=-1)]
        return self._held[0]

    def _cut(self, start: int, stop: int) -> Window:
        again = max(0, self._covered - start)  # columns that an earlier window had
        self._covered = stop
        samples = np.ascontiguousarray(self._whole()[..., start - self._at : stop - self._at])
        return Window(samples, again, stop - start - again, self._where)


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
        width = self.encoder.info.layers[self.layers[0]] * (2 if self.pool == "mean_std" else 1)
        return np.zeros((len(self.layers), width, 0), np.float32)

    def cutter(self) -> GridCutter:
        """Cut a signal into the windows that the encoder was trained on."""
        info = self.encoder.info
        return GridCutter(window=info.window, hop=info.window, least=info.least, align=info.tail == "align")

    def encode_windows(self, windows: Sequence[Window]) -> list[WindowValues]:
        """Vectors (layers, dimensions, m) of windows of equal length.

        Raises
        ------
        DecodeError
            When a vector is not finite; it names the layer and the track.
        """
        found = self.encoder.layers_of(np.stack([window.samples for window in windows]), self.layers)
        values = []
        for number, window in enumerate(windows):
            for name, layer in zip(self.layers, found, strict=True):
                if not np.isfinite(layer[number]).all():
                    raise DecodeError(
                        f"layer {name} of {self.encoder.info.model} gives a value that is not finite",
                        window.where,
                        "Leave the track out, or check the weights",
                    )
            values.append(WindowValues(self._kept(np.stack([layer[number] for layer in found]), window)))
        return values

    def _kept(self, frames: FloatArray, window: Window) -> FloatArray:
        if self.pool != "none":
            return pooled(frames, self.pool)
        step = self.encoder.info.steps[self.layers[0]]
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
        self._mean: NDArray[np.float64] = np.zeros(0)
        self._moment: NDArray[np.float64] = np.zeros(0)
        self._most: NDArray[np.float64] = np.zeros(0)

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
        if self._count == 0:
            self._mean, self._moment, self._most = mean, moment, most
        else:
            shift, total = mean - self._mean, self._count + n
            self._moment = self._moment + moment + shift**2 * (self._count * n / total)
            self._mean = self._mean + shift * (n / total)
            self._most = np.maximum(self._most, most)
        self._count += n

    def finish(self) -> FloatArray:
        """Vectors float32 (layers, dimensions, 1): mean, mean and deviation, or maximum."""
        if self._pool == "max":
            found = self._most
        elif self._pool == "mean_std":
            found = np.concatenate([self._mean, np.sqrt(self._moment / max(1, self._count))], axis=-1)
        else:
            found = self._mean
        return found[..., None].astype(np.float32)
