"""Streams of the audio steps of a graph: mono, resample, cut. Blocks of any length in, the same samples out."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, Protocol

import numpy as np

from featstore.arrays import FloatArray
from featstore.audio.clip import clip_bounds, fill_up
from featstore.audio.resample import FIT, FitStream, ResampleStream, resampled_length
from featstore.errors import DecodeError
from featstore.specs import Clip

__all__ = ["CutStream", "MonoStream", "cut_stream", "mix_down", "mono_stream", "resample_stream"]

# The centre of a track is unknown until it ends: a centre cut holds all samples that may still belong to it, half of
# those received. A track that declares more samples than this (17 minutes at 16 kHz, 64 MB) is trusted: only the
# samples around its declared centre are held, and its length is checked at the end.
_HELD_MOST = 1 << 24


class Step(Protocol):
    """The part of a graph node that this room uses."""

    def __getitem__(self, name: str) -> Any: ...


class Context(Protocol):
    """What a stream knows about its track."""

    @property
    def source_rate(self) -> int:
        """Hz of the decoded file."""
        ...

    @property
    def n_samples(self) -> int:
        """Declared length at the source rate, or -1."""
        ...

    @property
    def where(self) -> str:
        """Track id or path."""
        ...


def mix_down(block: FloatArray) -> FloatArray:
    """Mean over channels: (channels, n) to (n,), float32.

    The channels are added in order, one sample position at a time, so a sample's value depends on nothing around it.
    """
    if len(block) == 1:
        return np.ascontiguousarray(block[0])
    total: FloatArray = block[0] + block[1]
    for channel in block[2:]:
        total += channel
    total *= np.float32(1 / len(block))
    return total


class MonoStream:
    """Mean of the channels."""

    def push(self, block: FloatArray) -> FloatArray:
        """Take (channels, n); return (n,)."""
        return mix_down(block)

    def finish(self) -> FloatArray:
        """Nothing is held back."""
        return np.zeros(0, np.float32)


class CutStream:
    """An excerpt of a signal that arrives in blocks.

    Parameters
    ----------
    clip : Clip
        ``whole``, ``centre``, ``start`` or ``offset``.
    sample_rate : int
        Hz of the samples that come in.
    expected : int
        Declared length at that rate, -1 where unknown: used only for centre cuts of very long tracks.
    where : str
        For messages.
    """

    def __init__(self, *, clip: Clip, sample_rate: int, expected: int = -1, where: str = "") -> None:
        self._clip, self._rate, self._where = clip, sample_rate, where
        self._length = round(clip.length_s * sample_rate)
        self._expected = expected if expected > _HELD_MOST else -1
        self._held: deque[tuple[int, FloatArray]] = deque()  # blocks, each with the position of its first sample
        self._seen = 0

    def push(self, block: FloatArray) -> FloatArray:
        """Take samples (n,); return those that are surely in the excerpt."""
        begin, self._seen = self._seen, self._seen + len(block)
        if self._clip.policy == "whole":
            return block
        start, stop = self._candidates()
        if self._clip.policy == "centre" or self._clip.pad != "none":
            if begin < stop and self._seen > start:
                self._held.append((begin, block))
            while self._held and self._held[0][0] + len(self._held[0][1]) <= start:
                self._held.popleft()
            return block[:0]
        return block[max(0, start - begin) : max(0, stop - begin)]

    def finish(self) -> FloatArray:
        """Return the rest of the excerpt.

        Raises
        ------
        TrackTooShort
            When the track is shorter than the policy asks for and is not to be filled up.
        DecodeError
            When the centre of a very long track lies where its header did not let us expect it.
        """
        if self._clip.policy == "whole":
            return np.zeros(0, np.float32)
        start, stop = clip_bounds(self._seen, self._rate, self._clip, self._where)
        if self._clip.policy != "centre" and self._clip.pad == "none":
            return np.zeros(0, np.float32)  # given out already
        parts = [block[max(0, start - at) : max(0, stop - at)] for at, block in self._held]
        excerpt = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])
        if len(excerpt) < min(stop, self._seen) - start:
            raise DecodeError(
                f"the header declares a length that decoding does not find ({self._seen} samples at {self._rate} Hz), "
                "and the track is too long to be held until its centre is known",
                self._where,
                "Write the file again, so that its header declares its length",
            )
        return fill_up(excerpt, stop - start, self._clip.pad)

    def _candidates(self) -> tuple[int, int]:
        """Stretch of the track that the excerpt cannot lie outside of, by what is known so far."""
        if self._clip.policy != "centre":
            start = round(self._clip.offset_s * self._rate) if self._clip.policy == "offset" else 0
            return start, start + self._length
        if self._expected < 0:  # the track only grows, and its centre with it
            return (self._seen - self._length) // 2, sys.maxsize
        start = (self._expected - self._length) // 2
        return start - self._rate, start + self._length + self._rate  # a second to spare


def mono_stream(node: Step, context: Context) -> MonoStream:
    """Stream of a ``mono`` node."""
    return MonoStream()


def resample_stream(node: Step, context: Context) -> ResampleStream | FitStream:
    """Stream of a ``resample`` node."""
    if node["resampler"] == FIT:
        return FitStream(source_rate=context.source_rate, sample_rate=node["sample_rate"], where=context.where)
    return ResampleStream(source_rate=context.source_rate, sample_rate=node["sample_rate"], resampler=node["resampler"])


def cut_stream(node: Step, context: Context) -> CutStream:
    """Stream of a ``cut`` node."""
    rate = node["sample_rate"]
    expected = resampled_length(context.n_samples, context.source_rate, rate) if context.n_samples > 0 else -1
    return CutStream(clip=node["clip"], sample_rate=rate, expected=expected, where=context.where)
