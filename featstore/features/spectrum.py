"""Steps that spectral features share: power spectrum, stride, exponent, scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.dsp import (
    first_sample,
    frames_power,
    make_window,
    n_frames,
    pad_signal,
    raise_spectrum,
    reflect_positions,
)
from featstore.features.graph import Node, TrackContext
from featstore.features.source_signal import cut_length, signal_node
from featstore.specs import Scale, SpectralSpec

__all__ = [
    "ElementwiseStream",
    "PowerSpectrumStream",
    "StrideStream",
    "exponent_stream",
    "power_spectrum_stream",
    "scale_stream",
    "scaled",
    "spectral_frames",
    "spectrum_node",
    "stride_stream",
    "to_exponent",
]

_FRAMING_FIELDS = ("n_fft", "win_length", "hop_length", "window", "window_symmetric", "pad_mode", "framing")


def spectrum_node(spec: SpectralSpec) -> Node:
    """Node of the power spectrum |X|^2 that a spectral feature starts from."""
    return Node.make("power_spectrum", signal_node(spec), **{name: getattr(spec, name) for name in _FRAMING_FIELDS})


def to_exponent(node: Node, power: float) -> Node:
    """Take a power spectrum to ``magnitude ** power``."""
    return node if power == 2.0 else Node.make("exponent", node, power=power)


def scaled(node: Node, scale: Scale) -> Node:
    """Apply a scale; ``power`` leaves the values as they are."""
    return node if scale.name == "power" else Node.make("scale", node, scale=scale)


def spectral_frames(spec: SpectralSpec, n_samples: int) -> int:
    """Frames that a spectral feature has of a track of ``n_samples`` at the analysis rate; 0 where it is too short."""
    length = cut_length(spec.clip, spec.sample_rate, n_samples)
    if length == 0:
        return 0
    return n_frames(length, n_fft=spec.n_fft, hop_length=spec.hop_length, framing=spec.framing)


class PowerSpectrumStream:
    """Power spectra of a signal that arrives in blocks; keeps only the samples that coming frames still need."""

    def __init__(
        self,
        *,
        n_fft: int,
        win_length: int,
        hop_length: int,
        window: str,
        window_symmetric: bool,
        pad_mode: str,
        framing: str,
    ) -> None:
        self._taps = make_window(window, win_length=win_length, n_fft=n_fft, symmetric=window_symmetric)
        self._framing: dict[str, Any] = {"n_fft": n_fft, "hop_length": hop_length, "framing": framing}
        self._n_fft, self._hop, self._mirrored = n_fft, hop_length, pad_mode == "reflect"
        self._begin = first_sample(**self._framing)
        self._tail = np.zeros(0, np.float32)  # the samples from position _at up to the last that came
        self._at = 0
        self._seen = 0  # samples that came so far
        self._done = 0  # frames given out so far

    def push(self, block: FloatArray) -> FloatArray:
        """Take samples (n,); return the spectra (bins, frames) of the frames that are now complete."""
        before, self._seen = self._seen, self._seen + len(block)
        start, count = self._begin + self._done * self._hop, self._complete() - self._done
        power = np.empty((1 + self._n_fft // 2, count), np.float32)
        # Frames that begin before the block are made of what is kept; the others are read from the block where it lies.
        early = min(count, max(0, -(-(before - start) // self._hop)))
        if early:
            upto = start + (early - 1) * self._hop + self._n_fft
            if start < 0 and self._mirrored:
                upto = max(upto, 1 - start)
            self._spectra(np.concatenate([self._tail, block[: max(0, upto - before)]]), early, power)
        if early < count:
            first = block[start + early * self._hop - before :]
            frames_power(first, count - early, window=self._taps, hop_length=self._hop, out=power, column=early)
        self._done += count
        self._keep(block, before)
        return power

    def finish(self) -> FloatArray:
        """Return the spectra of the frames that reach over the end."""
        count = n_frames(self._seen, **self._framing) - self._done
        power = np.empty((1 + self._n_fft // 2, count), np.float32)
        self._spectra(self._tail, count, power)
        self._done += count
        return power

    def _complete(self) -> int:
        """Frames whose samples are all there."""
        if self._mirrored and self._seen <= -self._begin:
            return 0  # the left edge mirrors samples that are still to come
        whole = 1 + (self._seen - self._begin - self._n_fft) // self._hop
        return max(self._done, min(whole, n_frames(self._seen, **self._framing)))

    def _spectra(self, samples: FloatArray, count: int, power: FloatArray) -> None:
        """Spectra of the next ``count`` frames, out of samples from position ``_at`` on and the padding around them."""
        start = self._begin + self._done * self._hop
        stop = start + (count - 1) * self._hop + self._n_fft
        left, right = self._at - start, stop - self._at - len(samples)
        if self._mirrored and (left > 0 or right > 0):
            segment = samples[reflect_positions(np.arange(start, stop), self._seen) - self._at]
        else:
            segment = pad_signal(samples, left=left, right=right)
        frames_power(segment, count, window=self._taps, hop_length=self._hop, out=power)

    def _keep(self, block: FloatArray, before: int) -> None:
        """Keep what the next frame needs, or what the right edge may mirror."""
        needed = self._begin + self._done * self._hop
        if self._mirrored:
            needed = min(needed, self._seen - 1 - self._n_fft)
        needed = min(max(needed, self._at), self._seen)
        if needed >= before:
            self._tail = np.array(block[needed - before :], np.float32)
        else:
            self._tail = np.concatenate([self._tail[needed - self._at :], block], dtype=np.float32)
        self._at = needed


class StrideStream:
    """Every ``step``-th column."""

    def __init__(self, *, step: int) -> None:
        self._step, self._seen = step, 0

    def push(self, block: FloatArray) -> FloatArray:
        """Take columns (..., n); return those whose number is a multiple of the step."""
        skip = -self._seen % self._step
        self._seen += block.shape[-1]
        self._last = block[..., :0]
        return np.ascontiguousarray(block[..., skip :: self._step])

    def finish(self) -> FloatArray:
        """Nothing is held back."""
        return self._last


class ElementwiseStream:
    """A function of each column, or of each value, by itself."""

    def __init__(self, function: Callable[[FloatArray], FloatArray]) -> None:
        self._function = function
        self._empty = np.zeros(0, np.float32)

    def push(self, block: FloatArray) -> FloatArray:
        """Take columns (..., n); return as many."""
        result = self._function(block)
        self._empty = result[..., :0]
        return result

    def finish(self) -> FloatArray:
        """Nothing is held back."""
        return self._empty


def power_spectrum_stream(node: Node, context: TrackContext) -> PowerSpectrumStream:
    """Stream of a ``power_spectrum`` node."""
    return PowerSpectrumStream(**dict(node.params))


def stride_stream(node: Node, context: TrackContext) -> StrideStream:
    """Stream of a ``stride`` node."""
    return StrideStream(**dict(node.params))


def exponent_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of an ``exponent`` node."""
    power = node["power"]
    return ElementwiseStream(lambda block: raise_spectrum(block, power))


def scale_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of a ``scale`` node."""
    return ElementwiseStream(node["scale"].apply)
