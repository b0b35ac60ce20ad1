"""Sample rate conversion by soxr, in blocks."""

from __future__ import annotations

import math

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import SpecError, did_you_mean

__all__ = ["RESAMPLERS", "ResampleStream", "resample_signal", "resampled_length"]

# name in specs -> soxr's quality
RESAMPLERS = {"soxr_vhq": "VHQ", "soxr_hq": "HQ", "soxr_mq": "MQ", "soxr_lq": "LQ", "soxr_qq": "QQ"}

# soxr is always fed this many samples at a time. Its output was found not to depend on the size (bit for bit, also
# against the one-shot call); a fixed one makes that our own doing, and this size is the fastest.
_FEED = 16384


def resampled_length(n_samples: int, source_rate: int, sample_rate: int) -> int:
    """Samples that ``n_samples`` at ``source_rate`` become: soxr rounds ``n / (in / out)``, in floating point.

    Examples
    --------
    >>> resampled_length(1300001, 44100, 22050), resampled_length(465984, 16000, 12000)
    (650001, 349488)
    >>> resampled_length(70000, 48000, 44100)  # 64312.5, and a little less as soxr divides
    64312
    """
    return math.floor(n_samples / (source_rate / sample_rate) + 0.5)


class ResampleStream:
    """One channel at a new rate; the same samples whatever blocks come in.

    Parameters
    ----------
    source_rate, sample_rate : int
        Hz in and out; equal rates pass the samples through untouched.
    resampler : str
        One of :data:`RESAMPLERS`.
    """

    def __init__(self, *, source_rate: int, sample_rate: int, resampler: str = "soxr_hq") -> None:
        if resampler not in RESAMPLERS:
            raise SpecError(f"unknown resampler {resampler!r}", "", did_you_mean(resampler, RESAMPLERS))
        self._machine = None
        if source_rate != sample_rate:
            import soxr

            self._machine = soxr.ResampleStream(
                source_rate, sample_rate, 1, dtype="float32", quality=RESAMPLERS[resampler]
            )
        self._held = np.zeros(0, np.float32)

    def push(self, block: FloatArray) -> FloatArray:
        """Take samples (n,) at the source rate; return what is ready at the new one."""
        if self._machine is None:
            return block
        ready = []
        if len(self._held):
            lacking = _FEED - len(self._held)
            self._held = np.concatenate([self._held, block[:lacking]], dtype=np.float32)
            block = block[lacking:]
            if len(self._held) < _FEED:
                return self._held[:0]
            ready.append(self._machine.resample_chunk(self._held))
        block = np.ascontiguousarray(block, np.float32)
        whole = len(block) - len(block) % _FEED
        self._held = block[whole:].copy()
        ready += [self._machine.resample_chunk(block[at : at + _FEED]) for at in range(0, whole, _FEED)]
        return np.concatenate(ready) if ready else self._held[:0]

    def finish(self) -> FloatArray:
        """Return the samples that waited for the end."""
        if self._machine is None:
            return self._held
        rest, self._held = self._held, self._held[:0]
        last: FloatArray = self._machine.resample_chunk(rest, last=True)
        return last


def resample_signal(
    signal: FloatArray, *, source_rate: int, sample_rate: int, resampler: str = "soxr_hq"
) -> FloatArray:
    """Resample a whole signal (n_samples,), with the samples that :class:`ResampleStream` gives."""
    stream = ResampleStream(source_rate=source_rate, sample_rate=sample_rate, resampler=resampler)
    return np.concatenate([stream.push(signal), stream.finish()])
