"""The audio end of every graph: decode, mono, resample, cut. The streams of these steps live with the audio room."""

from __future__ import annotations

from featstore.errors import SpecError
from featstore.features.graph import Node
from featstore.specs import Clip, FeatureSpec

__all__ = ["check_clip", "clip_length", "cut_length", "signal_node"]


def signal_node(spec: FeatureSpec) -> Node:
    """Node of the signal that a feature analyses: one channel, at the analysis rate, cut."""
    decoded = Node.make("decode", decoder=spec.decoder)
    mono = Node.make("mono", decoded)
    resampled = Node.make("resample", mono, sample_rate=spec.sample_rate, resampler=spec.resampler)
    if spec.clip.policy == "whole":
        return resampled
    return Node.make("cut", resampled, clip=spec.clip, sample_rate=spec.sample_rate)


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


def check_clip(spec: FeatureSpec) -> None:
    """Refuse a clip of less than one sample, or shorter than what one frame step needs.

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
    if spec.clip.policy == "every":
        raise SpecError(
            f"clip={spec.clip} adds an axis that stores do not hold yet",
            f"{spec.kind} spec",
            "Store clip=whole and let the loader cut its excerpts: they are slices of it",
        )
