"""The audio end of every graph: decode, mono, resample, cut. The streams of these steps live with the audio room."""

from __future__ import annotations

from featstore.features.graph import Node
from featstore.specs import FeatureSpec

__all__ = ["signal_node"]


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
