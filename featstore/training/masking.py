"""Which stretches of an input are hidden: spans in milliseconds, drawn once for each crop from the seed.

Every number is a function of (seed, purpose, epoch, track, start of the crop), never of a generator's state: so the
same seconds are hidden whatever the feature's hop or the model, for any number of processes, and after a stop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "HIDE",
    "KEEP",
    "PURPOSES",
    "SWAP",
    "Spans",
    "apply_spans",
    "draw_bands",
    "draw_spans",
    "frames_of",
    "interpolated",
]

HIDE, SWAP, KEEP = 0, 1, 2
PURPOSES = {"train": 0, "valid": 1, "test": 2}  # training and each scored split have draws of their own
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Spans:
    """Chosen spans of a batch of crops.

    Attributes
    ----------
    starts : float64 (batch, most)
        Milliseconds from the start of the crop; rising along a row. Rows with fewer spans end in NaN.
    action : int64 (batch, most)
        ``HIDE`` replaces by the mean, ``SWAP`` by another stretch of the crop, ``KEEP`` shows the span as it is.
    offset : float64 (batch, most)
        Where a swapped span takes its values from: a part, 0 to 1, of the room there is.
    length_ms : float64 (batch,)
        Length of one span.
    """

    starts: NDArray[np.float64]
    action: NDArray[np.int64]
    offset: NDArray[np.float64]
    length_ms: NDArray[np.float64]


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit words: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _uniform(keys: NDArray[np.uint64], stream: int, count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), ``(len(keys), count)``."""
    with np.errstate(over="ignore"):
        steps = (np.arange(count, dtype=np.uint64) + np.uint64(1 + 4096 * stream)) * _GOLDEN
        words = _mixed(keys[:, None] + steps[None, :])
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _keys(
    index: NDArray[np.int64], start_ms: NDArray[np.float64], *, seed: int, epoch: int, purpose: int
) -> NDArray[np.uint64]:
    """A number for each crop, from which all that is drawn for it follows."""
    keys = np.full(len(index), _mixed(np.array([seed], dtype=np.uint64))[0])
    for word in (np.full(len(index), purpose), np.full(len(index), epoch), index, np.rint(start_ms)):
        number: NDArray[np.uint64] = np.asarray(word, dtype=np.int64).astype(np.uint64)
        keys = _mixed(np.bitwise_xor(keys, number))
        with np.errstate(over="ignore"):
            keys = keys + _GOLDEN
    return keys


def draw_bands(
    index: NDArray[np.int64],
    start_ms: NDArray[np.float64],
    n_bands: int,
    *,
    share: float,
    seed: int,
    epoch: int,
) -> torch.Tensor:
    """Choose neighbouring bands of each crop, bool ``(batch, n_bands)``: none to ``share`` of them, anywhere (TERA).

    Parameters
    ----------
    index, start_ms, seed, epoch, purpose
        As for :func:`draw_spans`.
    """
    drawn = _uniform(_keys(index, start_ms, seed=seed, epoch=epoch, purpose=PURPOSES["train"]), 3, 2)
    width = np.floor(drawn[:, 0] * (int(share * n_bands) + 1))[:, None]
    first = np.floor(drawn[:, 1:] * (n_bands - width + 1))
    place = np.arange(n_bands)
    return torch.from_numpy((place >= first) & (place < first + width))


def draw_spans(
    index: NDArray[np.int64],
    start_ms: NDArray[np.float64],
    length_ms: NDArray[np.float64],
    *,
    share: float,
    span_ms: float,
    hidden: float,
    swapped: float,
    seed: int,
    epoch: int,
    purpose: int = 0,
    overlap: bool = False,
) -> Spans:
    """Choose spans of each crop that do not overlap and cover ``share`` of it, one at least.

    Parameters
    ----------
    index : int64 (batch,)
        Number of the track.
    start_ms : float64 (batch,)
        Start of the crop in its track.
    length_ms : float64 (batch,)
        What is real of the crop: padding is never chosen.
    hidden, swapped : float
        Shares of the spans that are replaced by the mean, and by another stretch.
    purpose : int
        Another number gives another draw: training and each scored split have their own.
    overlap : bool
        Spans start anywhere, as in wav2vec 2.0 and HuBERT: as many as cover ``share`` of the crop on average, their
        overlaps counted once.
    """
    keys = _keys(index, start_ms, seed=seed, epoch=epoch, purpose=purpose)
    span = np.minimum(span_ms, length_ms / 2)
    count = np.maximum(1, np.rint(share * length_ms / span)).astype(np.int64)
    count = np.minimum(count, np.maximum(1, (length_ms // span).astype(np.int64)))
    if overlap:
        count = np.maximum(1, np.rint(np.log1p(-share) / np.log1p(-span / length_ms))).astype(np.int64)
    most = int(count.max(initial=1))
    absent = np.arange(most)[None, :] >= count[:, None]
    room = (length_ms - (1 if overlap else count) * span)[:, None]
    places = np.where(absent, np.nan, _uniform(keys, 0, most) * room)
    steps = np.arange(most, dtype=np.float64)[None, :] * (0 if overlap else span[:, None])
    starts: NDArray[np.float64] = np.sort(places, axis=1) + steps  # NaN sort to the end
    chance = _uniform(keys, 1, most)
    action = np.where(chance < hidden, HIDE, np.where(chance < hidden + swapped, SWAP, KEEP))
    return Spans(starts, action, _uniform(keys, 2, most), span)


def frames_of(spans: Spans, *, hop_ms: float, n_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Chosen frames of each crop, and where each frame's values come from.

    Returns
    -------
    chosen : bool (batch, n_frames)
    source : int64 (batch, n_frames)
        Frame to show there; its own number where nothing changes, -1 for the mean.
    """
    first = np.rint(np.nan_to_num(spans.starts, nan=np.inf) / hop_ms)
    width = np.maximum(1, np.rint(spans.length_ms / hop_ms))[:, None]
    last = np.minimum(first + width, n_frames)
    place = np.arange(n_frames)
    chosen = np.zeros((len(first), n_frames), dtype=bool)
    source = np.broadcast_to(place, chosen.shape).copy()
    for k in range(first.shape[1]):
        inside = (place >= first[:, k : k + 1]) & (place < last[:, k : k + 1])
        chosen |= inside
        kind = spans.action[:, k : k + 1]
        source = np.where(inside & (kind == HIDE), -1, source)
        begin = np.where(np.isfinite(first[:, k]), first[:, k], 0)
        other = np.floor(spans.offset[:, k] * np.maximum(1, n_frames - width[:, 0] + 1))
        swapped = np.clip(place + (other - begin)[:, None], 0, n_frames - 1).astype(np.int64)
        source = np.where(inside & (kind == SWAP), swapped, source)
    return torch.from_numpy(chosen), torch.from_numpy(source)


def apply_spans(x: torch.Tensor, source: torch.Tensor, mean: torch.Tensor | float) -> torch.Tensor:
    """Input ``(batch, *bands, frames)`` as the model sees it; ``mean`` is what stands for nothing, per band."""
    spread = source.reshape(source.shape[0], *[1] * (x.ndim - 2), source.shape[1])
    shown = torch.gather(x, -1, spread.clamp(min=0).expand_as(x))
    return torch.where(spread < 0, torch.as_tensor(mean, dtype=x.dtype, device=x.device), shown)


def interpolated(x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Values ``(batch, bands, frames)`` with chosen frames on a line between the nearest frames that are not.

    At the ends the nearest one is held; where every frame is chosen, zero is all there is.
    """
    place = torch.arange(x.shape[-1], device=x.device).expand_as(chosen)
    before = torch.where(chosen, -1, place).cummax(dim=1).values
    after = torch.where(chosen, x.shape[-1], place).flip(1).cummin(dim=1).values.flip(1)
    low = torch.where(before < 0, after, before)
    high = torch.where(after >= x.shape[-1], before, after)
    none = (low < 0) | (low >= x.shape[-1])
    low, high = low.clamp(0, x.shape[-1] - 1), high.clamp(0, x.shape[-1] - 1)
    weight = ((place - low) / (high - low).clamp(min=1)).to(x.dtype)[:, None, :]
    ends = [torch.gather(x, -1, at[:, None, :].expand_as(x)) for at in (low, high)]
    line = torch.lerp(ends[0], ends[1], weight)
    return torch.where(none[:, None, :], torch.zeros_like(line), line)
