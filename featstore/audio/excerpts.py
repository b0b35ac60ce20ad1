"""Regular excerpts of a signal that arrives in blocks: the stream behind ``clip=every(length, step)``."""

from __future__ import annotations

import numpy as np

from featstore.arrays import FloatArray
from featstore.audio.clip import every_starts, fill_up
from featstore.audio.streams import Context, Step
from featstore.specs import Clip

__all__ = ["ClipsStream", "clips_stream"]


class ClipsStream:
    """Excerpts of one length, a new one at each step: samples (n,) in, whole excerpts (clips, length) out.

    Keeps only the samples that coming excerpts still need: at most one excerpt's worth.

    Parameters
    ----------
    clip : Clip
        ``every(length, step)``.
    sample_rate : int
        Hz of the samples that come in.
    where : str
        For messages.
    """

    def __init__(self, *, clip: Clip, sample_rate: int, where: str = "") -> None:
        self._clip, self._rate, self._where = clip, sample_rate, where
        self._length, self._step = round(clip.length_s * sample_rate), round(clip.step_s * sample_rate)
        self._tail = np.zeros(0, np.float32)  # the samples from position _at on
        self._at = 0
        self._next = 0  # first sample of the next excerpt
        self._seen = 0

    def push(self, block: FloatArray) -> FloatArray:
        """Take samples (n,); return the excerpts that are complete, as overlapping views of one buffer."""
        self._seen += len(block)
        held = np.concatenate([self._tail, block])
        count = max(0, 1 + (self._seen - self._next - self._length) // self._step)
        excerpts = np.zeros((0, self._length), np.float32)
        if count:
            first = held[self._next - self._at :]
            excerpts = np.lib.stride_tricks.sliding_window_view(first, self._length)[:: self._step][:count]
        self._next += count * self._step
        gone = min(self._next - self._at, len(held))  # where excerpts lie apart, the next one may be still to come
        self._tail, self._at = held[gone:].copy(), self._at + gone
        return excerpts

    def finish(self) -> FloatArray:
        """Return the one excerpt of a track that is shorter than it, filled up; nothing of a longer one.

        Raises
        ------
        TrackTooShort
            When not even one excerpt fits and the policy does not fill it up.
        """
        every_starts(self._seen, self._rate, self._clip, self._where)
        if self._next:
            return np.zeros((0, self._length), np.float32)
        return fill_up(self._tail, self._length, self._clip.pad)[None]


def clips_stream(node: Step, context: Context) -> ClipsStream:
    """Stream of a ``clips`` node."""
    return ClipsStream(clip=node["clip"], sample_rate=node["sample_rate"], where=context.where)
