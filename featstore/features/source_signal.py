"""The audio end of every graph: decode, mono, resample, cut. The streams of these steps live with the audio room."""

from __future__ import annotations

from featstore.errors import SpecError
from featstore.features.graph import Node
from featstore.specs import Clip, FeatureSpec

__all__ = ["check_clip", "clip_count", "clip_length", "cut_length", "signal_node"]


def signal_node(spec: FeatureSpec) -> Node:
    """Node of the signal that a feature analyses: one channel, at the analysis rate, cut.

    Behind a ``clips`` node each excerpt is a signal of its own, and blocks have an axis of excerpts before all others.
    """
    decoded = Node.make("decode", decoder=spec.decoder)
    mono = Node.make("mono", decoded)
    resampled = Node.make("resample", mono, sample_rate=spec.sample_rate, resampler=spec.resampler)
    if spec.clip.policy == "whole":
        return resampled
    step = "clips" if spec.clip.policy == "every" else "cut"
    return Node.make(step, resampled, clip=spec.clip, sample_rate=spec.sample_rate)


def clip_length(clip: Clip, sample_rate: int) -> int:
    """Samples of one excerpt: ``round(length * rate)``; 0 for whole tracks."""
    return round(clip.length_s * sample_rate)


def cut_length(clip: Clip, sample_rate: int, n_samples: int) -> int:
    """Samples that a clip policy leaves of a track of ``n_samples`` (of each excerpt, for ``every``).

    Returns
    -------
    int >= 0
        0 where the track is too short and the policy does not fill it up.
    """
    if clip.policy == "whole":
        return n_samples
    length = clip_length(clip, sample_rate)
    begin = round(clip.offset_s * sample_rate) if clip.policy == "offset" else 0
    fits = n_samples - begin >= length or (clip.pad != "none" and n_samples > begin)
    return length if fits else 0


def clip_count(clip: Clip, sample_rate: int, n_samples: int) -> int:
    """Excerpts that ``every(length, step)`` takes: as many as fit, one where a short track is filled up.

    Examples
    --------
    >>> clip_count(Clip.parse("every(3 s, 0.5 s)"), 16000, 480000)
    55
    """
    length, step = clip_length(clip, sample_rate), round(clip.step_s * sample_rate)
    if n_samples < length:
        return int(clip.pad != "none" and n_samples > 0)
    return (n_samples - length) // step + 1


def check_clip(spec: FeatureSpec) -> None:
    """Refuse a clip of less than one sample, shorter than what one frame step needs, or stepping by no sample.

    Raises
    ------
    SpecError
    """
    if spec.clip.policy == "whole":
        return
    length = clip_length(spec.clip, spec.sample_rate)
    if length < 1:
        raise SpecError(
            f"the clip {spec.clip} holds no sample at {spec.sample_rate} Hz", f"{spec.kind} spec", "Make it longer"
        )
    if spec.frame_step > length:
        raise SpecError(
            f"hop_length={spec.frame_step} is longer than the clip of {length} samples ({spec.clip})",
            f"{spec.kind} spec, sample_rate={spec.sample_rate}",
            "Shorten the hop or lengthen the clip",
        )
    if spec.clip.policy == "every" and round(spec.clip.step_s * spec.sample_rate) < 1:
        raise SpecError(
            f"the step of {spec.clip} is shorter than a sample at {spec.sample_rate} Hz",
            f"{spec.kind} spec",
            "Lengthen the step",
        )
