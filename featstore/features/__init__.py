"""Features as graphs of pure steps: what each spec computes, how many frames it has, and the streams that compute it.

``graph_of(spec)`` gives the last node of a feature's chain of steps, which ends in what is stored; ``make_stream(node,
context)`` gives a node at work on one track. The steps up to the cut signal (decode, mono, resample, cut) are nodes
here and streams in the audio room; a worker joins the two.
"""

from __future__ import annotations

from typing import Any

from featstore.errors import SpecError
from featstore.features.clipwise import ClipwiseStream, is_clipwise
from featstore.features.graph import Node, Stream, TrackContext, chain_of, children_of, describe, share_transforms
from featstore.features.source_signal import clip_count
from featstore.registry import Registry
from featstore.specs import FeatureSpec

__all__ = [
    "FEATURES",
    "STREAMS",
    "Node",
    "Stream",
    "TrackContext",
    "chain_of",
    "check",
    "children_of",
    "describe",
    "dims_of",
    "frames_of",
    "graph_of",
    "item_shape",
    "make_stream",
    "share_transforms",
    "steps_of",
]

FEATURES = Registry(
    "feature kind",
    {
        "waveform": "featstore.features.waveform:WaveformFeature",
        "stft": "featstore.features.stft:StftFeature",
        "mel": "featstore.features.mel:MelFeature",
        "hpss": "featstore.features.hpss:HpssFeature",
        "vq_tokens": "featstore.features.vq_tokens:VqTokensFeature",
        "vq_codes": "featstore.features.vq_tokens:VqTokensFeature",
    },
)

STREAMS = Registry(
    "step",
    {
        "power_spectrum": "featstore.features.spectrum:power_spectrum_stream",
        "stride": "featstore.features.spectrum:stride_stream",
        "exponent": "featstore.features.spectrum:exponent_stream",
        "scale": "featstore.features.spectrum:scale_stream",
        "mel_bank": "featstore.features.mel:mel_bank_stream",
        "hpss_medians": "featstore.features.hpss:medians_stream",
        "hpss_part": "featstore.features.hpss:part_stream",
        "magnitude_to": "featstore.features.hpss:magnitude_to_stream",
        "vq_tokens": "featstore.features.vq_tokens:vq_tokens_stream",
        "librosa_stft": "featstore.features.engines:engine_stream",
        "librosa_mel": "featstore.features.engines:engine_stream",
        "librosa_hpss": "featstore.features.engines:engine_stream",
        "essentia_stft": "featstore.features.engines:engine_stream",
        "essentia_mel": "featstore.features.engines:engine_stream",
    },
)


def _feature(spec: FeatureSpec) -> Any:
    return FEATURES.load(spec.kind)


def graph_of(spec: FeatureSpec) -> Node:
    """Last node of a feature's computation: its values are what is stored, in float32.

    Raises
    ------
    SpecError
        As :func:`check`.
    """
    check(spec)
    node: Node = _feature(spec).graph(spec)
    return node


def check(spec: FeatureSpec) -> None:
    """Refuse a spec that no audio could satisfy: empty bands, a hop longer than the clip, an engine that lacks it.

    Raises
    ------
    SpecError
        With the offending value and what is allowed.
    """
    try:
        _feature(spec).check(spec)
        _check_frames(spec)
    except SpecError as error:
        where = (
            error.where if error.where.startswith(spec.kind) else f"{spec.kind} spec, {error.where}".removesuffix(", ")
        )
        raise SpecError(error.what, where, error.fix) from None


def _check_frames(spec: FeatureSpec) -> None:
    """Refuse an excerpt in which not one frame fits."""
    length = round(spec.clip.length_s * spec.sample_rate)
    begin = round(spec.clip.offset_s * spec.sample_rate)
    if spec.clip.policy != "whole" and frames_of(spec, begin + length) == 0:
        raise SpecError(
            f"not one frame fits into the clip of {length} samples ({spec.clip})",
            f"sample_rate={spec.sample_rate}",
            "Lengthen the clip, shorten n_fft, or use a centred framing",
        )


def frames_of(spec: FeatureSpec, n_samples: int) -> int:
    """Length of a feature's last axis.

    Parameters
    ----------
    n_samples : int >= 0
        Length of the whole track at the feature's sample rate, before the clip policy cuts it.

    Returns
    -------
    int >= 0
        0 for a track that is shorter than the clip (and is not filled up). With ``every``, frames of each excerpt.
    """
    count: int = _feature(spec).frames(spec, n_samples)
    return count


def steps_of(spec: FeatureSpec, n_samples: int) -> int:
    """Length of the axis along which a track's data grow: frames, with ``every`` excerpts.

    Parameters
    ----------
    n_samples : int >= 0
        Length of the whole track at the feature's sample rate.
    """
    if spec.clip.policy == "every":
        return clip_count(spec.clip, spec.sample_rate, n_samples)
    return frames_of(spec, n_samples)


def item_shape(spec: FeatureSpec) -> tuple[int, ...]:
    """Axes before time: ``(n_mels,)``, ``(1 + n_fft // 2,)``, or ``()`` for a waveform."""
    shape: tuple[int, ...] = _feature(spec).item_shape(spec)
    return shape


def dims_of(spec: FeatureSpec) -> tuple[str, ...]:
    """Names of the axes of one track, time last: ``("band", "frame")`` or ``("clip", "sample")``."""
    dims: tuple[str, ...] = _feature(spec).dims(spec)
    return ("clip", *dims) if spec.clip.policy == "every" else dims


def make_stream(node: Node, context: TrackContext) -> Stream:
    """Put a node to work on one track.

    Raises
    ------
    ConfigError
        For a step of the audio room (``mono``, ``resample``, ``cut``): those streams are made there.
    """
    factory = STREAMS.load(node.op)
    stream: Stream = ClipwiseStream(lambda: factory(node, context)) if is_clipwise(node) else factory(node, context)
    return stream
