"""Steps that spectral features share: power spectrum, stride, exponent, scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featstore.arrays import FloatArray
from featstore.dsp import (
    MelBank,
    first_sample,
    frames_power,
    make_mel_bank,
    make_window,
    mel_centres,
    n_frames,
    pad_signal,
    raise_spectrum,
    reflect_positions,
)
from featstore.features.graph import Node, TrackContext, chain_of
from featstore.features.source_signal import signal_node
from featstore.specs import FeatureSpec, Scale
from featstore.specs.base import choice, integer, optional, switch

__all__ = [
    "BANK_FIELDS",
    "FRAMING_FIELDS",
    "ElementwiseStream",
    "PowerSpectrumStream",
    "SpectralSpec",
    "scaled",
    "share_transforms",
    "spectrum_node",
    "to_exponent",
]

FRAMING_FIELDS = ("n_fft", "win_length", "hop_length", "window", "window_symmetric", "pad_mode", "framing")
BANK_FIELDS = ("sample_rate", "n_fft", "n_mels", "fmin", "fmax", "mel_scale", "norm")

WINDOWS = ("hann", "hamming", "blackman", "blackmanharris", "bartlett", "boxcar")

# What an engine can do of a field; fields that are missing here, and engines, can do everything.
_ENGINE_NEEDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "librosa": {"framing": ("librosa", "valid", "token")},
    "essentia": {
        "framing": ("essentia", "token"),
        "window_symmetric": (True,),
        "pad_mode": ("zeros",),
        "window": ("hann", "boxcar"),  # its hamming has other weights than everybody's
        "power": (1.0, 2.0),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralSpec(FeatureSpec):
    """What every feature has that starts with a short-time Fourier transform.

    A kind with mel bands has the fields of :data:`BANK_FIELDS` besides; ``fmax=None`` means half the sample rate.

    Attributes
    ----------
    n_fft : int
        Samples of a transform.
    win_length : int
        Samples of the window, centred in the transform; by default ``n_fft``.
    hop_length : int
        Samples between frames.
    window : str
        Name as in ``scipy.signal.get_window``.
    window_symmetric : bool
        The symmetric form of the window instead of the periodic one.
    pad_mode : str
        What lies outside the signal for centred frames: ``zeros`` or ``reflect`` (numpy's names of modes).
    framing : str
        Frame positions and count for n samples: ``librosa`` (centred, 1 + n // hop), ``essentia`` (centred,
        ceil((n + n_fft // 2) / hop)), ``valid`` (only frames inside the signal), ``token`` (aligned to codec tokens of
        ``hop_length`` samples, n // hop).
    """

    sonifier: ClassVar[str] = "featstore.workflows.sonify:spectral_blocks"
    n_fft: int = integer(512, low=2, high=1 << 20)
    win_length: int = optional(integer(512, low=1))
    hop_length: int = integer(256)
    window: str = choice("hann", *WINDOWS)
    window_symmetric: bool = switch(False)
    pad_mode: str = choice("zeros", "zeros", "reflect")
    framing: str = choice("librosa", "librosa", "essentia", "valid", "token")

    def _resolve(self) -> None:
        if self.win_length is None:
            object.__setattr__(self, "win_length", self.n_fft)
        if self.win_length > self.n_fft:
            raise self._refuse(
                f"win_length={self.win_length} is longer than the transform", "Lower win_length or raise n_fft", "n_fft"
            )
        if hasattr(self, "fmax"):
            self._resolve_bands()

    def _resolve_bands(self) -> None:
        """Fill in ``fmax``; refuse edges that no bank can have, and a root of what is no power."""
        bands: Any = self  # with the fields of a kind that has bands
        nyquist = self.sample_rate / 2
        if bands.fmax is None:
            object.__setattr__(self, "fmax", nyquist)
        if bands.fmax > nyquist:
            raise self._refuse(
                f"fmax={bands.fmax} Hz lies above the Nyquist frequency {nyquist} Hz",
                "Lower fmax or raise sample_rate",
                "sample_rate",
            )
        if bands.fmin >= bands.fmax:
            raise self._refuse(f"fmin={bands.fmin} Hz is not below fmax={bands.fmax} Hz", "Lower fmin or raise fmax")
        if getattr(self, "power", 2.0) != 2.0 and bands.scale.name == "magnitude":
            raise self._refuse(
                f"scale=magnitude takes the root of a power, but power={bands.power}",
                "Use scale=power: the values are linear as they are",
            )

    @property
    def bank(self) -> MelBank:
        """Mel bank of the bands; refuses one with empty bands."""
        return make_mel_bank(**{name: getattr(self, name) for name in BANK_FIELDS})

    def check(self) -> None:
        """Refuse a hop longer than the clip, settings that the engine does not have, and empty bands."""
        FeatureSpec.check(self)
        for name, allowed in _ENGINE_NEEDS.get(self.engine, {}).items():
            value = getattr(self, name, allowed[0])
            if value not in allowed:
                shown = {True: "yes", False: "no"}
                raise self._refuse(
                    f"engine={self.engine} cannot do {name}={shown.get(value, value)}",
                    f"It has {name}={' or '.join(str(shown.get(one, one)) for one in allowed)}; or use engine=native",
                )
        if getattr(self, "n_mels", 0):
            _ = self.bank

    def frames(self, n_samples: int) -> int:
        """Frames of a track of ``n_samples`` at the analysis rate; 0 where it is too short."""
        length = self.clip.samples_left(self.sample_rate, n_samples)
        return length and n_frames(length, n_fft=self.n_fft, hop_length=self.hop_length, framing=self.framing)

    @property
    def frame_step(self) -> int:
        """Samples between neighbouring frames."""
        return self.hop_length

    @property
    def item_shape(self) -> tuple[int, ...]:
        """One value a band, or a bin where there is no bank."""
        return (getattr(self, "n_mels", 0) or 1 + self.n_fft // 2,)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of one track."""
        return ("band" if getattr(self, "n_mels", 0) else "bin", "frame")

    @property
    def band_centres(self) -> NDArray[np.float64]:
        """Hz of the peak of each band, or of each bin where there is no bank."""
        if n_mels := getattr(self, "n_mels", 0):
            edges = {name: getattr(self, name) for name in ("fmin", "fmax", "mel_scale")}
            return mel_centres(n_mels=n_mels, **edges)
        return np.arange(1 + self.n_fft // 2, dtype=np.float64) * (self.sample_rate / self.n_fft)

    @property
    def first_centre_s(self) -> float:
        """Seconds to the centre of the first frame."""
        first = first_sample(n_fft=self.n_fft, hop_length=self.hop_length, framing=self.framing)
        return (first + self.n_fft // 2) / self.sample_rate

    @property
    def view_base(self) -> SpectralSpec:
        """Scales are functions of each other, and every k-th frame is the frame at k times the hop.

        Frames aligned to tokens move with the hop: these share an array at equal hops only.
        """
        return self.replace(scale="power") if self.framing == "token" else self.replace(scale="power", hop_length=1)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Range of the logarithms for music; a bin may hold more than a band of normalised area."""
        scale: Scale = self.scale  # type: ignore[attr-defined]
        params, banked = dict(scale.params), getattr(self, "n_mels", 0) > 0
        if scale.name == "db":
            step = params["factor"] / 10
            return -100.0 * step, (40.0 if banked else 70.0) * step
        if scale.name == "log10_1p":
            return 0.0, float(np.log10(1 + params["gain"])) + (4.0 if banked else 7.0)
        if scale.name == "ln":
            return float(np.log(params["eps"])), (10.0 if banked else 17.0)
        return None


def spectrum_node(spec: SpectralSpec) -> Node:
    """Node of the power spectrum |X|^2 that a spectral feature starts from."""
    settings = {name: getattr(spec, name) for name in FRAMING_FIELDS}
    return Node.make("power_spectrum", signal_node(spec), PowerSpectrumStream, **settings)


def to_exponent(node: Node, power: float) -> Node:
    """Take a power spectrum to ``magnitude ** power``."""
    return node if power == 2.0 else Node.make("exponent", node, exponent_stream, power=power)


def scaled(node: Node, scale: Scale) -> Node:
    """Apply a scale; ``power`` leaves the values as they are."""
    return node if scale.name == "power" else Node.make("scale", node, scale_stream, scale=scale)


def share_transforms(nodes: Iterable[Node]) -> list[Node]:
    """Rewrite nodes so that transforms which differ in hop alone share the one with the shortest.

    A hop that is a multiple of another one's becomes every k-th frame of it (``stride``), which gives the same numbers,
    bit for bit. Frames aligned to tokens shift with the hop and are left alone.

    Returns
    -------
    list of Node
        In the order of ``nodes``.

    See Also
    --------
    graph_of : One feature's graph.
    """
    nodes = list(nodes)
    transforms = {step for node in nodes for step in chain_of(node) if step.op == "power_spectrum"}
    replaced: dict[Node, Node] = {}
    for transform in transforms:
        if transform["framing"] == "token":
            continue
        hop = transform["hop_length"]
        alike = [
            other
            for other in transforms
            if _without_hop(other) == _without_hop(transform) and hop % other["hop_length"] == 0
        ]
        base = min(alike, key=lambda other: int(other["hop_length"]))
        if base is not transform:
            replaced[transform] = Node.make("stride", base, stride_stream, step=hop // base["hop_length"])
    return [_rebuild(node, replaced) for node in nodes]


def _without_hop(transform: Node) -> tuple[Any, ...]:
    return transform.input, tuple(item for item in transform.params if item[0] != "hop_length")


def _rebuild(node: Node, replaced: dict[Node, Node]) -> Node:
    if node in replaced or node.input is None:
        return replaced.get(node, node)
    return replace(node, input=_rebuild(node.input, replaced))


class PowerSpectrumStream:
    """Power spectra of a signal that arrives in blocks; keeps only the samples that coming frames still need."""

    dtype: ClassVar[type[np.generic]] = np.float32
    transform: ClassVar[Callable[..., Any]] = staticmethod(frames_power)  # of the samples of frames

    def __init__(self, node: Node, context: TrackContext) -> None:
        self._framing: dict[str, Any] = {name: node[name] for name in ("n_fft", "hop_length", "framing")}
        self._n_fft, self._hop = int(node["n_fft"]), int(node["hop_length"])
        self._reflects = node["pad_mode"] == "reflect"
        self._taps = make_window(
            node["window"], win_length=node["win_length"], n_fft=self._n_fft, symmetric=node["window_symmetric"]
        )
        self._begin = first_sample(**self._framing)
        self._tail = np.zeros(0, np.float32)  # the samples from position _at up to the last that came
        self._at = 0
        self._seen = 0  # samples that came so far
        self._done = 0  # frames given out so far

    def push(self, block: FloatArray) -> FloatArray:
        """Take samples (n,); return the spectra (bins, frames) of the frames that are now complete."""
        before, self._seen = self._seen, self._seen + len(block)
        start, count = self._begin + self._done * self._hop, self._complete() - self._done
        power = np.empty((1 + self._n_fft // 2, count), self.dtype)
        # Frames that begin before the block are made of what is kept; the others are read from the block where it lies.
        early = min(count, max(0, -(-(before - start) // self._hop)))
        if early:
            upto = start + (early - 1) * self._hop + self._n_fft
            if start < 0 and self._reflects:
                upto = max(upto, 1 - start)
            self._spectra(np.concatenate([self._tail, block[: max(0, upto - before)]]), early, power)
        if early < count:
            first = block[start + early * self._hop - before :]
            self.transform(first, count - early, window=self._taps, hop_length=self._hop, out=power, column=early)
        self._done += count
        self._keep(block, before)
        return power

    def finish(self) -> FloatArray:
        """Return the spectra of the frames that reach over the end."""
        # a signal without a sample, of which nothing is left at the analysis rate, has no frame
        count = n_frames(self._seen, **self._framing) - self._done if self._seen else 0
        power = np.empty((1 + self._n_fft // 2, count), self.dtype)
        if count:
            self._spectra(self._tail, count, power)
        self._done += count
        return power

    def _complete(self) -> int:
        """Frames whose samples are all there."""
        if self._reflects and self._seen <= -self._begin:
            return 0  # the left edge reflects samples that are still to come
        whole = 1 + (self._seen - self._begin - self._n_fft) // self._hop
        return max(self._done, min(whole, n_frames(self._seen, **self._framing)))

    def _spectra(self, samples: FloatArray, count: int, power: FloatArray) -> None:
        """Spectra of the next ``count`` frames, out of samples from position ``_at`` on and the padding around them."""
        start = self._begin + self._done * self._hop
        stop = start + (count - 1) * self._hop + self._n_fft
        left, right = self._at - start, stop - self._at - len(samples)
        if self._reflects and (left > 0 or right > 0):
            segment = samples[reflect_positions(np.arange(start, stop), self._seen) - self._at]
        else:
            segment = pad_signal(samples, left=left, right=right)
        self.transform(segment, count, window=self._taps, hop_length=self._hop, out=power)

    def _keep(self, block: FloatArray, before: int) -> None:
        """Keep what the next frame needs, or what the right edge may reflect."""
        needed = self._begin + self._done * self._hop
        if self._reflects:
            needed = min(needed, self._seen - 1 - self._n_fft)
        needed = min(max(needed, self._at), self._seen)
        if needed >= before:
            self._tail = np.array(block[needed - before :], np.float32)
        else:
            self._tail = np.concatenate([self._tail[needed - self._at :], block], dtype=np.float32)
        self._at = needed


class ElementwiseStream:
    """A function of each column, or of each value, by itself; or one that leaves columns out."""

    def __init__(self, function: Callable[[FloatArray], FloatArray]) -> None:
        self._function = function
        self._empty = np.zeros(0, np.float32)

    def push(self, block: FloatArray) -> FloatArray:
        """Take columns (..., n); return the function's."""
        result = self._function(block)
        self._empty = result[..., :0]
        return result

    def finish(self) -> FloatArray:
        """Nothing is held back."""
        return self._empty


def stride_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of a ``stride`` node: columns whose number, counted over all blocks, is a multiple of its step."""
    step, seen = node["step"], 0

    def every(block: FloatArray) -> FloatArray:
        nonlocal seen
        skip = -seen % step
        seen += block.shape[-1]
        return np.ascontiguousarray(block[..., skip::step])

    return ElementwiseStream(every)


def exponent_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of an ``exponent`` node."""
    power = node["power"]
    return ElementwiseStream(lambda block: raise_spectrum(block, power))


def scale_stream(node: Node, context: TrackContext) -> ElementwiseStream:
    """Stream of a ``scale`` node."""
    return ElementwiseStream(node["scale"].apply)
