"""The smallest program that runs features on a signal or a file: what a worker does, without shards."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from featstore.audio import AUDIO_STREAMS, open_audio
from featstore.features import TrackContext, children_of, graph_of, make_stream, share_transforms
from featstore.specs import FeatureSpec, parse_spec


def run_blocks(
    specs: Sequence[str | FeatureSpec], blocks: Iterable[np.ndarray], source_rate: int, n_samples: int = -1
) -> list[np.ndarray]:
    """Push blocks (channels, n) through the joined graphs of some specs."""
    ends = share_transforms([graph_of(parse_spec(spec)) for spec in specs])
    children = children_of(ends)
    context = TrackContext(source_rate, n_samples, "test")
    (root,) = children[None]
    streams = {
        node: (AUDIO_STREAMS.load(node.op) if node.op in AUDIO_STREAMS else make_stream)(node, context)
        for node in children
        if node not in (None, root)
    }
    results: dict = {end: [] for end in ends}

    def pass_on(node, block):
        if node in results:
            results[node].append(block)
        for child in children[node]:
            pass_on(child, streams[child].push(block))

    def finish(node):
        for child in children[node]:
            pass_on(child, streams[child].finish())
            finish(child)

    for block in blocks:
        pass_on(root, block)
    finish(root)
    return [np.concatenate(results[end], axis=-1) for end in ends]


def run_signal(spec, signal: np.ndarray, cuts: Iterable[int] = (), source_rate: int | None = None) -> np.ndarray:
    """Run one spec on a mono signal (n,), cut into blocks at some positions."""
    spec = parse_spec(spec)
    edges = [0, *sorted(cut % (len(signal) + 1) for cut in cuts), len(signal)]
    blocks = [signal[None, a:b] for a, b in itertools.pairwise(edges)]
    return run_blocks([spec], blocks, source_rate or spec.sample_rate, len(signal))[0]


def run_file(specs: Sequence[str | FeatureSpec], path, block: int = 1 << 17) -> list[np.ndarray]:
    """Run specs on a file."""
    source = open_audio(path)
    return run_blocks(specs, source.blocks(block), source.info.sample_rate, source.info.n_samples)
