"""HPSS: the harmonic, percussive or residual part of a spectrogram, as it is or through a mel bank."""

from __future__ import annotations

import numpy as np

from featstore.arrays import FloatArray
from featstore.dsp import extract_component, frequency_median, mirror, time_median
from featstore.features.engines import check_engine, engine_node
from featstore.features.graph import Node, TrackContext
from featstore.features.mel import bank_node, bank_of
from featstore.features.source_signal import check_clip
from featstore.features.spectrum import ElementwiseStream, scaled, spectral_frames, spectrum_node
from featstore.specs import HpssSpec

__all__ = ["HpssFeature", "MedianStream"]


class HpssFeature:
    """What the plan asks of the kind ``hpss``."""

    @staticmethod
    def check(spec: HpssSpec) -> None:
        """Refuse what cannot be computed."""
        check_clip(spec)
        if spec.n_mels:
            bank_of(spec)
        check_engine(spec)

    @staticmethod
    def graph(spec: HpssSpec) -> Node:
        """Node of the stored values. The medians of all three components are one node."""
        if spec.engine == "native":
            magnitude = Node.make("exponent", spectrum_node(spec), power=1.0)
            medians = Node.make("hpss_medians", magnitude, kernel=spec.kernel)
            part = Node.make(
                "hpss_part", medians, component=spec.component, mask_power=spec.mask_power, margin=spec.margin
            )
        else:
            part = engine_node(spec)
        raised = part if spec.power == 1.0 else Node.make("magnitude_to", part, power=spec.power)
        return scaled(bank_node(raised, spec) if spec.n_mels else raised, spec.scale)

    @staticmethod
    def frames(spec: HpssSpec, n_samples: int) -> int:
        """Frames of a track of ``n_samples`` at the analysis rate."""
        return spectral_frames(spec, n_samples)

    @staticmethod
    def item_shape(spec: HpssSpec) -> tuple[int, ...]:
        """One value a band, or a bin without a bank."""
        return (spec.n_mels or 1 + spec.n_fft // 2,)

    @staticmethod
    def dims(spec: HpssSpec) -> tuple[str, ...]:
        """Names of the axes of one track."""
        return ("band" if spec.n_mels else "bin", "frame")


class MedianStream:
    """A magnitude spectrogram with its two medians: (bins, frames) in, (3, bins, frames) out.

    Frames wait for the ``kernel // 2`` that follow them, and as many past ones are kept.
    """

    def __init__(self, *, kernel: int) -> None:
        self._kernel, self._reach = kernel, kernel // 2
        self._held: FloatArray | None = None  # frames from _at on
        self._at = self._seen = self._done = 0

    def push(self, block: FloatArray) -> FloatArray:
        """Take magnitudes; return those whose medians are known, with them: magnitude, along time, along frequency."""
        self._held = block if self._held is None else np.concatenate([self._held, block], axis=1)
        self._seen += block.shape[1]
        # The start is mirrored: until a whole kernel has come, the mirror image may itself reach the end.
        ready = self._seen - self._reach if self._seen >= self._kernel else 0
        return self._medians(max(self._done, ready))

    def finish(self) -> FloatArray:
        """Return the last frames, the end mirrored."""
        return self._medians(self._seen)

    def _medians(self, upto: int) -> FloatArray:
        held = np.zeros((1, 0), np.float32) if self._held is None else self._held
        result = np.zeros((3, held.shape[0], upto - self._done), np.float32)
        if upto > self._done:
            around = mirror(np.arange(self._done - self._reach, upto + self._reach), self._seen)
            result[0] = held[:, self._done - self._at : upto - self._at]
            result[1] = time_median(held[:, around - self._at], self._kernel)
            result[2] = frequency_median(result[0], self._kernel)
        keep = max(self._at, min(upto - self._kernel, self._seen - self._kernel))
        self._held = held[:, keep - self._at :]
        self._at, self._done = keep, upto
        return result


def medians_stream(node: Node, context: TrackContext) -> MedianStream:
    """Stream of an ``hpss_medians`` node."""
    return MedianStream(**dict(node.params))


def part_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of an ``hpss_part`` node: magnitude with medians (3, bins, n) to one component (bins, n)."""
    settings = dict(node.params)
    return ElementwiseStream(lambda block: extract_component(block[0], block[1], block[2], **settings))


def magnitude_to_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of a ``magnitude_to`` node: magnitude to ``magnitude ** power``."""
    power = node["power"]
    if power == 2.0:
        return ElementwiseStream(np.square)
    return ElementwiseStream(lambda block: np.power(block, np.float32(power)))
