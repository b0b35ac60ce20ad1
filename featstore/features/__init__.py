"""Features as graphs of pure steps: one file a kind, with its spec, its steps, their streams, its shape and its views.

``graph_of(spec)`` gives the last node of a feature's chain of steps, which ends in what is stored; ``make_stream(node,
context)`` gives a node at work on one track. The steps up to the cut signal (decode, mono, resample, cut) are nodes
here and streams in the audio room; a worker joins the two.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import TypeVar

from featstore.errors import ConfigError, SpecError
from featstore.features.clipwise import ClipwiseStream, is_clipwise
from featstore.features.graph import Node, Stream, TrackContext, chain_of, children_of, describe
from featstore.features.spectrum import share_transforms
from featstore.specs import FeatureRequest, FeatureSpec
from featstore.specs import expand_features as expand_names

__all__ = [
    "Node",
    "Stream",
    "TrackContext",
    "chain_of",
    "check",
    "children_of",
    "describe",
    "dims_of",
    "expand_features",
    "graph_of",
    "make_stream",
    "resolve",
    "share_transforms",
    "steps_of",
]

Named = TypeVar("Named", FeatureSpec, FeatureRequest)


def resolve(feature: Named) -> Named:
    """Return a spec, or a request, with every field filled in: what follows from weights is read from their file.

    A spec that is resolved already comes back as it is, and no file is opened.

    Raises
    ------
    SpecError
        When the weights are not available, or a field that was given contradicts them.
    CheckpointError
        When the file is no such checkpoint.

    See Also
    --------
    featstore.parse_spec : Makes the unresolved spec.
    check : Refuses what cannot be computed.
    """
    if isinstance(feature, FeatureSpec):
        return feature.resolve()
    return feature if feature.spec.is_resolved else feature.complete(feature.spec.resolve())


def expand_features(
    items: Iterable[str | FeatureSpec | FeatureRequest], encoding: str | None = None
) -> list[FeatureRequest]:
    """Do as :func:`featstore.specs.expand_features`, and resolve the specs that name a file of weights.

    One that names a digest stays as it is: a store may know the rest of it, see
    :func:`featstore.specs.match_stored`; :func:`resolve` looks for the file.

    See Also
    --------
    featstore.specs.expand_features : The same without opening weights.
    """

    def names_file(spec: FeatureSpec) -> bool:
        weights = str(getattr(spec, "weights", ""))
        return not spec.is_resolved and os.path.exists(os.path.expanduser(weights))

    return [resolve(each) if names_file(each.spec) else each for each in expand_names(items, encoding)]


def graph_of(spec: FeatureSpec) -> Node:
    """Last node of a feature's computation: its values are what is stored, in float32.

    Raises
    ------
    SpecError
        As :func:`check`.

    See Also
    --------
    describe : The graph as text.
    share_transforms : Joins graphs that have steps in common.
    """
    check(spec)
    node: Node = spec.graph()
    return node


@functools.lru_cache(maxsize=4096)
def check(spec: FeatureSpec) -> None:
    """Refuse a spec that no audio could satisfy: empty bands, a hop longer than the clip, an engine that lacks it.

    Raises
    ------
    SpecError
        With the offending value and what is allowed.
    """
    try:
        spec.check()
        rate, length = spec.sample_rate, spec.clip.excerpt_samples(spec.sample_rate)
        if spec.clip.policy != "whole" and spec.frames(round(spec.clip.offset_s * rate) + length) == 0:
            raise SpecError(
                f"not one frame fits into the clip of {length} samples ({spec.clip})",
                f"sample_rate={spec.sample_rate}",
                "Lengthen the clip, shorten n_fft, or use a centred framing",
            )
    except SpecError as error:
        where = (
            error.where if error.where.startswith(spec.kind) else f"{spec.kind} spec, {error.where}".removesuffix(", ")
        )
        raise SpecError(error.what, where, error.fix) from None


def steps_of(spec: FeatureSpec, n_samples: int) -> int:
    """Length of the axis along which a track's data grow: frames, with ``every`` excerpts.

    Parameters
    ----------
    n_samples : int >= 0
        Length of the whole track at the feature's sample rate.
    """
    if spec.clip.policy == "every":
        return spec.clip.n_excerpts(spec.sample_rate, n_samples)
    return spec.frames(n_samples)


def dims_of(spec: FeatureSpec) -> tuple[str, ...]:
    """Names of the axes of one track, time last: ``("band", "frame")`` or ``("clip", "sample")``.

    See Also
    --------
    FeatureSpec.frames : Length of the time axis.
    """
    return ("clip", *spec.dims) if spec.clip.policy == "every" else spec.dims


def make_stream(node: Node, context: TrackContext) -> Stream:
    """Put a node to work on one track.

    Raises
    ------
    ConfigError
        For a step of the audio room (``mono``, ``resample``, ``cut``): those streams are made there.

    See Also
    --------
    graph_of : What it computes.
    Stream : What it returns.
    """
    factory = node.stream
    if factory is None:
        raise ConfigError(f"step {node.op!r} has no stream in this room", "", "Take it from AUDIO_STREAMS")
    return ClipwiseStream(lambda: factory(node, context)) if is_clipwise(node) else factory(node, context)
