"""Hearing what a representation keeps: a stored feature of one track back to sound.

A spectrum has lost its phases, a mel bank has also blurred its bins, a long hop has left time out: what comes back is
what a model gets to see. Each kind of feature has a sonifier, named by
its spec class.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.audio.writing import write_audio
from featstore.dsp import first_sample, make_mel_bank, make_window
from featstore.dsp.inverse import griffin_lim, noise_phases, overlap_add, unmap_bank
from featstore.errors import ConfigError, check_known
from featstore.features import expand_features
from featstore.features.spectrum import SpectralSpec
from featstore.log import progress_bar
from featstore.registry import load_attribute
from featstore.specs import FeatureRequest
from featstore.store import open_store
from featstore.store.reader import FeatureReader

__all__ = ["METHODS", "Passage", "SonifyOptions", "SonifyReport", "sonify"]

METHODS = ("noise", "griffin-lim")
_FRAMES_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class SonifyOptions:
    """How to make sound of a feature.

    Attributes
    ----------
    method : str
        Where phases come from: ``noise`` (what is heard is noise in the shape of the feature) or ``griffin-lim``.
    iterations : int
        Rounds of Griffin-Lim.
    start_s, seconds : float
        Passage of the track; ``seconds=None`` goes to its end.
    excerpt : int
        Which one, of a feature that is many excerpts of a track.
    seed : int
        Of the noise.
    """

    method: str = "noise"
    iterations: int = 32
    start_s: float = 0.0
    seconds: float | None = None
    excerpt: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_known(self.method, METHODS, f"method={self.method!r} is unknown", "sonify")
        for name, low in (("iterations", 1), ("start_s", 0), ("excerpt", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name}={getattr(self, name)} is too small", "sonify", f"Use at least {low}")
        if self.seconds is not None and self.seconds <= 0:
            raise ConfigError(f"seconds={self.seconds:g} is no length", "sonify", "Give a length above 0")


@dataclass(frozen=True, slots=True)
class Passage:
    """What a sonifier is given: a stretch of one track's feature.

    Attributes
    ----------
    reader : FeatureReader
    row : int
    start, stop : int
        Frames (samples, tokens) of the feature; ``stop`` is not in.
    first_sample, n_samples : int
        The same stretch in samples at ``reader.spec.sample_rate``: what is to be yielded.
    options : SonifyOptions
    """

    reader: FeatureReader
    row: int
    start: int
    stop: int
    first_sample: int
    n_samples: int
    options: SonifyOptions

    def values(self, start: int, stop: int) -> FloatArray:
        """Frames ``start`` to ``stop`` of the track: float32 (*item_shape, stop - start)."""
        values: FloatArray = self.cut(self.reader.read_row, start, stop)
        return values

    def cut(self, read: Callable[[int, int, int], Any], start: int, stop: int) -> Any:
        """Frames of the track, or of the excerpt that is asked for, as ``read(row, start, stop)`` gives them."""
        if self.reader.clip_frames is None:
            return read(self.row, start, stop)
        return read(self.row, self.options.excerpt, self.options.excerpt + 1)[0][..., start:stop]


@dataclass(frozen=True, slots=True)
class SonifyReport:
    """What was written."""

    path: str
    track_id: str
    feature: str
    seconds: float
    sample_rate: int
    method: str
    peak: float


def sonify(
    store_path: str | Path,
    track_id: str,
    feature: str | FeatureRequest,
    path: str | Path,
    options: SonifyOptions | None = None,
) -> SonifyReport:
    """Make a sound file of a stored or derived feature of one track.

    Parameters
    ----------
    store_path : path of a store
    track_id : str
    feature : str
    path : path
        The ending names the format: wav, flac, ogg, aiff or mp3.
    options : SonifyOptions

    Raises
    ------
    MissingFeature
        When the store has no such track or feature, or nothing of the feature for this track.
    ConfigError
        When the passage lies outside the track, or no sound can be made of such a feature.
    """
    options = options or SonifyOptions()
    store = open_store(store_path)
    reader = store[expand_features([feature])[0]]
    if not reader.spec.sonifier:
        raise ConfigError(f"no sound can be made of {reader.spec.kind} features", reader.name, "Choose another feature")
    passage = _passage(reader, track_id, options, dict(store.table.frame.get("duration_s", {})).get(track_id))
    rate = reader.spec.sample_rate
    blocks = load_attribute(reader.spec.sonifier)(passage)
    with progress_bar(total=passage.n_samples, desc="sonify", unit="sample", unit_scale=True) as bar:
        count, peak = write_audio(path, _exactly(blocks, passage.n_samples, bar), sample_rate=rate)
    ways = {"waveform": "stored samples", "vq_tokens": "the codec's decoder", "vq_codes": "the codec's decoder"}
    return SonifyReport(
        str(path), track_id, reader.name, count / rate, rate, ways.get(reader.spec.kind, options.method), peak
    )


def _exactly(blocks: Iterator[FloatArray], n_samples: int, bar: Any) -> Iterator[FloatArray]:
    """Blocks with ``n_samples`` samples in all, padded with silence or cut; the bar counts them."""
    for block in blocks:
        if n_samples <= 0:
            return
        yield block[:n_samples]
        bar.update(min(len(block), n_samples))
        n_samples -= len(block)
    if n_samples > 0:
        yield np.zeros(n_samples, np.float32)


def _passage(reader: FeatureReader, track_id: str, options: SonifyOptions, duration_s: float | None) -> Passage:
    row = reader.stored_row(track_id)
    stored = int(reader.lengths[row])
    if reader.clip_frames is None and options.excerpt:
        raise ConfigError(f"excerpt={options.excerpt}: the feature is no list of excerpts", reader.name, "Leave it out")
    if reader.clip_frames is not None and options.excerpt >= stored:
        raise ConfigError(f"excerpt={options.excerpt}: the track has {stored}", reader.name, f"Use 0 to {stored - 1}")
    n_frames = stored if reader.clip_frames is None else reader.clip_frames
    rate, total = reader.spec.sample_rate, _n_samples(reader, n_frames, duration_s)
    first = round(options.start_s * rate)
    if first >= total:
        raise ConfigError(
            f"start={options.start_s:g} s lies behind the end at {total / rate:.2f} s", reader.name, "Begin earlier"
        )
    count = total - first if options.seconds is None else min(total - first, max(1, round(options.seconds * rate)))
    step = reader.spec.frame_step
    start, stop = min(first // step, n_frames - 1), min(n_frames, -(-(first + count) // step) + 1)
    return Passage(reader, row, start, stop, first, count, options)


def _n_samples(reader: FeatureReader, n_frames: int, duration_s: float | None) -> int:
    """Samples that a track's analysed signal had.

    From the clip, or the probed duration where it agrees with the frames; else of the shortest signal with that number
    of frames, and half a hop.
    """
    spec = reader.spec
    if spec.clip.policy != "whole":
        return round(spec.clip.length_s * spec.sample_rate)
    if not isinstance(spec, SpectralSpec):
        return n_frames * spec.frame_step
    if duration_s is not None and duration_s == duration_s:
        probed = round(duration_s * spec.sample_rate)
        if spec.frames(probed) == n_frames:
            return probed
    lengths = range((n_frames + 1) * spec.hop_length + spec.n_fft)  # frames grow with samples
    shortest = bisect_left(lengths, n_frames, key=spec.frames)
    return shortest + spec.hop_length // 2


def waveform_blocks(passage: Passage) -> Iterator[FloatArray]:
    """Return the stored samples themselves."""
    for start in range(passage.first_sample, passage.first_sample + passage.n_samples, 1 << 20):
        yield passage.values(start, min(start + (1 << 20), passage.first_sample + passage.n_samples))


def spectral_blocks(passage: Passage) -> Iterator[FloatArray]:
    """Make sound in the shape of a stft, mel or hpss feature.

    Frames are taken at most half a window apart: where the feature's own lie further, the nearest is taken again.
    """
    spec, options = passage.reader.spec, passage.options
    assert isinstance(spec, SpectralSpec)
    window = make_window(spec.window, win_length=spec.win_length, n_fft=spec.n_fft, symmetric=spec.window_symmetric)
    fits = options.method == "griffin-lim"
    invert: Callable[..., FloatArray] = partial(griffin_lim, iterations=options.iterations) if fits else noise_phases
    hop = min(spec.hop_length, max(1, spec.win_length // (4 if fits else 2)))
    rng = np.random.default_rng(options.seed)
    count = 1 + -(-passage.n_samples // hop)

    def frames() -> Iterator[FloatArray]:
        for at in range(0, count, _FRAMES_AT_ONCE):
            centres = passage.first_sample + hop * np.arange(at, min(at + _FRAMES_AT_ONCE, count))
            yield invert(_magnitudes(passage, spec, centres), window=window, hop_length=hop, rng=rng)

    skip = spec.n_fft // 2  # the first synthetic frame is centred on the first sample
    for block in overlap_add(frames(), window=window, hop_length=hop):
        if len(block) > skip:
            yield block[skip:]
        skip = max(0, skip - len(block))


def _magnitudes(passage: Passage, spec: SpectralSpec, centres: Any) -> FloatArray:
    """Magnitudes (frames, bins) of the feature's frames that lie nearest to some samples of the track."""
    own = first_sample(n_fft=spec.n_fft, hop_length=spec.hop_length, framing=spec.framing) + spec.n_fft // 2
    nearest = np.clip((centres - own + spec.hop_length // 2) // spec.hop_length, passage.start, passage.stop - 1)
    low, high = int(nearest[0]), int(nearest[-1]) + 1
    scale: Any = spec.scale  # type: ignore[attr-defined]
    linear = scale.invert(passage.values(low, high))
    if getattr(spec, "n_mels", 0):
        names = ("sample_rate", "n_fft", "n_mels", "fmin", "fmax", "mel_scale", "norm")
        linear = unmap_bank(make_mel_bank(**{name: getattr(spec, name) for name in names}), linear)
    exponent = np.float32(1 / getattr(spec, "power", 2.0))
    magnitude = np.power(np.maximum(linear, np.float32(0)), exponent)
    return np.ascontiguousarray(magnitude.T[nearest - low], np.float32)
