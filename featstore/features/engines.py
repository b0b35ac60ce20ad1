"""Other people's code for the same features: whole signals at once, for comparison with the native engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.errors import SpecError
from featstore.features.graph import Node, TrackContext
from featstore.features.source_signal import signal_node
from featstore.specs import HpssSpec, MelSpec, SpectralSpec, StftSpec

__all__ = ["WholeStream", "check_engine", "engine_node", "engine_stream"]

_TRACK_FIELDS = {"decoder", "resampler", "clip", "engine", "scale"}


def engine_node(spec: SpectralSpec) -> Node:
    """Node of a spectral feature before its scale, computed by the engine that the spec names."""
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    settings = {name: value for name, value in fields.items() if name not in _TRACK_FIELDS}
    if isinstance(spec, HpssSpec):  # exponent and bank follow as nodes of ours: the separation is what is compared
        for name in ("power", "n_mels", "fmin", "fmax", "mel_scale", "norm"):
            del settings[name]
    elif isinstance(spec, StftSpec):
        del settings["sample_rate"]
    return Node.make(f"{spec.engine}_{spec.kind}", signal_node(spec), **settings)


def check_engine(spec: SpectralSpec) -> None:
    """Refuse settings that an engine does not have.

    Raises
    ------
    SpecError
    """
    if spec.engine == "essentia" and isinstance(spec, HpssSpec):
        raise SpecError("engine=essentia has no median-filter separation", "hpss spec", "Use engine=native or librosa")
    for name, allowed in _needs(spec).items():
        value = getattr(spec, name)
        if value not in allowed:
            shown = {True: "yes", False: "no"}
            raise SpecError(
                f"engine={spec.engine} cannot do {name}={shown.get(value, value)}",
                f"{spec.kind} spec",
                f"It has {name}={' or '.join(str(shown.get(one, one)) for one in allowed)}; or use engine=native",
            )


def _needs(spec: SpectralSpec) -> dict[str, tuple[Any, ...]]:
    if spec.engine == "librosa":
        return {"framing": ("librosa", "valid", "token")}
    if spec.engine == "essentia":
        needs: dict[str, tuple[Any, ...]] = {
            "framing": ("essentia", "token"),
            "window_symmetric": (True,),
            "pad_mode": ("zeros",),
            "window": ("hann", "boxcar"),  # its hamming has other weights than everybody's
        }
        if isinstance(spec, MelSpec):
            needs["power"] = (1.0, 2.0)
        return needs
    return {}


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
    settings = dict(node.params)
    if engine == "librosa":
        from featstore.dsp import librosa_engine as module
    else:
        from featstore.dsp import essentia_engine as module  # type: ignore[no-redef]
    function = getattr(module, f"compute_{kind}")
    return WholeStream(lambda signal: function(signal, **settings))
