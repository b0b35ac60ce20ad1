"""The extraction plan: which arrays to store for the features asked for, and one shared graph that computes them.

Pure: no audio is opened and nothing is written. The same plan runs in a worker, in the serial runner and in tests.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from featstore.datasets import TrackTable
from featstore.errors import PlanError, SpecError
from featstore.features import Node, check, children_of, dims_of, graph_of, resolve, share_transforms
from featstore.specs import Encoding, FeatureRequest, FeatureSpec, View, view_of
from featstore.specs.views import base_of
from featstore.store.layout import ArrayHeader

__all__ = ["Graph", "Plan", "check_clips", "graph_for", "header_of", "make_plan"]


logger = logging.getLogger(__name__)

HEADER_TOLERANCE_S = 0.1  # a header's duration may be off by encoder delay and padding


@dataclass(frozen=True, slots=True)
class Graph:
    """A tree of steps below one decoder, with the arrays that hang on each.

    Attributes
    ----------
    roots : tuple of Node
        Decoding steps, one for each decoder.
    children : dict
        Node to the nodes that read its output, in a fixed order.
    sinks : dict
        Node to the keys of the arrays that store its output.
    """

    roots: tuple[Node, ...]
    children: dict[Node, tuple[Node, ...]]
    sinks: dict[Node, tuple[str, ...]]

    def without(self, keys: Set[str]) -> Graph:
        """Return the graph without some arrays, and without the steps that only these need."""
        if not keys:
            return self
        sinks = {node: tuple(key for key in held if key not in keys) for node, held in self.sinks.items()}
        return _join({node: held for node, held in sinks.items() if held})

    @property
    def n_nodes(self) -> int:
        """Distinct steps: each is computed once a track."""
        return len(self.children)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to store, and how everything asked for is read from it.

    Attributes
    ----------
    requests : tuple of FeatureRequest
        The features asked for.
    headers : tuple of ArrayHeader
        Arrays to store.
    views : dict
        Canonical request name to (array key, view).
    graph : Graph

    See Also
    --------
    make_plan : Makes one.
    extract : Runs one.
    """

    requests: tuple[FeatureRequest, ...]
    headers: tuple[ArrayHeader, ...]
    views: dict[str, tuple[str, View]] = field(default_factory=dict)
    graph: Graph = field(default_factory=lambda: Graph((), {}, {}))

    @property
    def keys(self) -> list[str]:
        """Keys of the arrays to store."""
        return [header.key for header in self.headers]

    @property
    def names(self) -> list[str]:
        """Canonical names, encodings included, of the features asked for."""
        return list(self.views)


def make_plan(requests: Sequence[FeatureRequest] | Plan) -> Plan:
    """Choose the arrays to store and join their steps into one graph; a plan is returned as it is.

    Features that differ in hop and scale alone share a base: the finest hop that divides the others, on the scale asked
    for where there is one, on linear power (float encodings) or decibels (integer ones) where there are several.

    Raises
    ------
    SpecError
        When a feature cannot be computed (empty bands, a hop longer than the clip).
    PlanError
        When nothing is asked for.

    See Also
    --------
    extract : Runs a plan.
    Plan : What it returns.
    """
    if isinstance(requests, Plan):
        return requests
    if not requests:
        raise PlanError("nothing to extract", "", "Ask for at least one feature")
    requests = [resolve(request) for request in requests]
    for request in requests:
        check(request.spec)
    bases: dict[str, ArrayHeader] = {}
    # what is looked up on something smaller is stored as that
    kept = [FeatureRequest(request.spec.stored_as, request.encoding) for request in requests]
    for group in _groups(kept):
        for spec, encoding in _choose_bases(group):
            header = header_of(spec, encoding)
            bases[header.key] = header
    views = {}
    for request in requests:
        wanted = request.encoding or Encoding.default(request.spec)
        views[f"{request.spec}@{wanted}"] = _best(request.spec, wanted, bases)
    used = {key for key, _ in views.values()}
    headers = tuple(header for key, header in bases.items() if key in used)
    return Plan(tuple(requests), headers, views, graph_for(headers))


def check_clips(plan: Plan, tracks: TrackTable) -> None:
    """Refuse a clip that is longer than every track, as far as their headers tell; warn where it is for some.

    Raises
    ------
    PlanError
        With the clip, and the longest track there is.
    """
    readable = tracks.frame[tracks.frame["probe_error"].isna()]  # the others give nothing, whatever the clip
    durations = readable["duration_s"].dropna()
    if durations.empty:
        return
    for clip in {header.spec.clip for header in plan.headers}:
        needed = clip.offset_s + (clip.length_s if clip.pad == "none" else 0.0)
        short = durations < needed - HEADER_TOLERANCE_S
        if short.all() and len(durations) == len(readable):
            raise PlanError(
                f"clip={clip} needs {needed:g} s, and the longest of {len(durations):,} tracks has "
                f"{float(durations.max()):.2f} s",
                str(tracks.info.name or "track table"),
                "Shorten the clip, or fill up short tracks with pad=zeros or pad=repeat",
            )
        if short.any():
            logger.warning(
                "%d of %d tracks are shorter than clip=%s and will be recorded as failed; pad=zeros would fill them up",
                int(short.sum()),
                len(tracks.frame),
                clip,
            )


def header_of(spec: FeatureSpec, encoding: Encoding) -> ArrayHeader:
    """Return the header of a feature stored in an encoding."""
    check(spec)
    if encoding.ranges and encoding.table is None:
        raise SpecError(
            f"{encoding.name} of vectors needs the range of each dimension, which only stored vectors tell",
            spec.short(),
            "Extract them in float32, then: featstore store derive STORE -f 'FEATURE@uint8'",
        )
    length = round(spec.clip.length_s * spec.sample_rate)
    if spec.clip.policy == "every":
        return ArrayHeader(spec, encoding, spec.item_shape, dims_of(spec), None, spec.frames(length))
    fixed = spec.fixed_length
    if fixed is None and spec.clip.is_fixed:
        fixed = spec.frames(round(spec.clip.offset_s * spec.sample_rate) + length)
    return ArrayHeader(spec, encoding, spec.item_shape, dims_of(spec), fixed)


def _groups(requests: Iterable[FeatureRequest]) -> list[list[tuple[FeatureSpec, Encoding]]]:
    """Features that may share a base: equal but for hop and scale, and in the same number format."""
    groups: dict[tuple[FeatureSpec, str], list[tuple[FeatureSpec, Encoding]]] = {}
    for request in requests:
        encoding = request.encoding or Encoding.default(request.spec)
        shared = base_of(request.spec)
        own = encoding == _plain(encoding, request.spec)  # a range of one's own cannot be shared between scales
        format_name = encoding.name if own else str(encoding)
        groups.setdefault((shared, format_name), []).append((request.spec, encoding))
    return list(groups.values())


def _plain(encoding: Encoding, spec: FeatureSpec) -> Encoding | None:
    try:
        return Encoding.parse(encoding.name, spec)
    except SpecError:
        return None


def _choose_bases(group: list[tuple[FeatureSpec, Encoding]]) -> Iterator[tuple[FeatureSpec, Encoding]]:
    by_hop: dict[int, list[tuple[FeatureSpec, Encoding]]] = {}
    for spec, encoding in sorted(group, key=lambda item: item[0].frame_step):
        base_hop = next((hop for hop in by_hop if spec.frame_step % hop == 0), spec.frame_step)
        by_hop.setdefault(base_hop, []).append((spec, encoding))
    for hop, members in by_hop.items():
        spec, encoding = members[0]
        if len({str(getattr(member, "scale", "")) for member, _ in members}) == 1:
            yield spec, encoding
            continue
        base = spec.replace(hop_length=hop, scale="db" if encoding.is_integer else "power")
        base_encoding = _plain(encoding, base)
        if base_encoding and all(view_of(member, base, base_encoding) for member, _ in members):
            yield base, base_encoding
        else:
            yield from members


def _best(spec: FeatureSpec, encoding: Encoding, bases: dict[str, ArrayHeader]) -> tuple[str, View]:
    found = []
    for key, header in bases.items():
        if header.encoding.name == encoding.name:
            view = view_of(spec, header.spec, header.encoding)
            if view is not None:
                found.append(((view.bound, not view.is_identity, view.stride, key), key, view))
    _, key, view = min(found, key=lambda item: item[0])
    return key, view


def graph_for(headers: Sequence[ArrayHeader]) -> Graph:
    """Join the steps of some arrays: equal steps are one, one short-time transform serves all hops it can."""
    sinks: dict[Node, tuple[str, ...]] = {}
    for header, leaf in zip(headers, share_transforms([graph_of(header.spec) for header in headers]), strict=True):
        sinks[leaf] = (*sinks.get(leaf, ()), header.key)
    return _join(sinks)


def _join(sinks: dict[Node, tuple[str, ...]]) -> Graph:
    children = children_of(sinks)
    roots = tuple(children.pop(None))
    return Graph(roots, {node: tuple(below) for node, below in children.items() if node is not None}, sinks)
