"""Sample rate conversion by soxr, in blocks; and the fit of a whole track to 30 s that one published code makes."""

from __future__ import annotations

import math

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import DecodeError, SpecError, check_known

__all__ = ["FIT", "RESAMPLERS", "FitStream", "ResampleStream", "resample_signal", "resampled_length"]

# name in specs -> soxr's quality
RESAMPLERS = {"soxr_vhq": "VHQ", "soxr_hq": "HQ", "soxr_mq": "MQ", "soxr_lq": "LQ", "soxr_qq": "QQ"}

# soxr is always fed this many samples at a time. Its output was found not to depend on the size (bit for bit, also
# against the one-shot call); a fixed one makes that our own doing, and this size is the fastest.
_FEED = 16384


def resampled_length(n_samples: int, source_rate: int, sample_rate: int) -> int:
    """Samples that ``n_samples`` at ``source_rate`` become: soxr rounds ``n / (in / out)``, in floating point.

    See Also
    --------
    resample_signal : Makes that many samples.

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

    See Also
    --------
    resample_signal : The same samples in one call.
    """

    def __init__(self, *, source_rate: int, sample_rate: int, resampler: str = "soxr_hq") -> None:
        check_known(resampler, RESAMPLERS, f"unknown resampler {resampler!r}", error=SpecError)
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


FIT = "fit_to_30s"
"""Name in specs of the resampler that ``FitStream`` is."""

_FIT_S = 30
_FIT_MOST_S = 600  # it holds the whole track


class FitStream:
    """A whole track brought to exactly 30 s by one Fourier transform, whatever its length.

    This is what the published code of MS-SincResNet (2021) does to GTZAN. Speed and pitch change by the ratio of the
    lengths: 0.04 % for most files, 2.2 % for the longest ten. For reproduction only.

    Parameters
    ----------
    source_rate, sample_rate : int
        Hz in and out.
    where : str
        For messages.
    """

    def __init__(self, *, source_rate: int, sample_rate: int, where: str = "") -> None:
        self._most, self._size, self._where = _FIT_MOST_S * source_rate, _FIT_S * sample_rate, where
        self._held: list[FloatArray] = []
        self._seen = 0

    def push(self, block: FloatArray) -> FloatArray:
        """Take samples (n,) at the source rate; nothing is ready before the end.

        Raises
        ------
        DecodeError
            The track is longer than 10 minutes.
        """
        self._seen += len(block)
        if self._seen > self._most:
            fix = "Take resampler=soxr_hq: this one repeats a study of clips of 30 s"
            raise DecodeError(f"longer than {_FIT_MOST_S} s, which resampler={FIT} squeezes into 30", self._where, fix)
        self._held.append(np.asarray(block, np.float32).copy())
        return block[:0]

    def finish(self) -> FloatArray:
        """Return the 30 s; nothing of an empty track."""
        from scipy.signal import resample

        whole = np.concatenate(self._held) if self._held else np.zeros(0, np.float32)
        self._held = []
        return np.asarray(resample(whole, self._size), np.float32) if len(whole) else whole


def resample_signal(
    signal: FloatArray, *, source_rate: int, sample_rate: int, resampler: str = "soxr_hq"
) -> FloatArray:
    """Resample a whole signal (n_samples,), with the samples that :class:`ResampleStream` gives.

    See Also
    --------
    ResampleStream : The same samples from blocks.
    resampled_length : Their number.
    """
    stream = ResampleStream(source_rate=source_rate, sample_rate=sample_rate, resampler=resampler)
    return np.concatenate([stream.push(signal), stream.finish()])
