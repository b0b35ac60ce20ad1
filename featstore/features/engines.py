"""Other people's code for the same features: whole signals at once, for comparison with the native engine."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from featstore.arrays import FloatArray
from featstore.features.graph import Node, TrackContext
from featstore.features.source_signal import signal_node
from featstore.registry import load_attribute
from featstore.specs import FeatureSpec

__all__ = ["WholeStream", "engine_node", "engine_stream"]

_TRACK_FIELDS = {"decoder", "resampler", "clip", "engine", "scale"}


def engine_node(spec: FeatureSpec, *, without: tuple[str, ...] = ()) -> Node:
    """Node of a spectral feature before its scale, computed by the engine that the spec names.

    Parameters
    ----------
    spec : FeatureSpec
    without : tuple of str
        Fields that the engine's function does not take.
    """
    names = {field.name for field in dataclasses.fields(spec)} - _TRACK_FIELDS - set(without)
    settings = {name: getattr(spec, name) for name in names}
    return Node.make(f"{spec.engine}_{spec.kind}", signal_node(spec), engine_stream, **settings)


class WholeStream:
    """A function of a whole signal: holds the track, computes at its end."""

    def __init__(self, function: Callable[[FloatArray], FloatArray]) -> None:
        self._function = function
        self._held: list[FloatArray] = []
        self._empty: FloatArray | None = None

    def push(self, block: FloatArray) -> FloatArray:
        """Take samples; nothing is ready yet."""
        self._held.append(np.array(block, np.float32))
        if self._empty is None:
            self._empty = self._function(block[:0])
        return self._empty

    def finish(self) -> FloatArray:
        """Return the feature of the whole track."""
        return self._function(np.concatenate(self._held) if self._held else np.zeros(0, np.float32))


def engine_stream(node: Node, context: TrackContext) -> WholeStream:
    """Stream of a node such as ``librosa_mel`` or ``essentia_stft``."""
    engine, _, kind = node.op.partition("_")
    function = load_attribute(f"featstore.dsp.{engine}_engine:compute_{kind}")
    return WholeStream(functools.partial(function, **dict(node.params)))
