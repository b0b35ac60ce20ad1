"""One track through the graph: blocks in at the decoder, frames out at the arrays, bounded memory whatever its length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from featstore.arrays import FloatArray
from featstore.audio import AUDIO_STREAMS, AudioSource, SignalStatistics, open_audio
from featstore.errors import DecodeError
from featstore.extract.plan import Graph
from featstore.features import make_stream
from featstore.features.graph import Node, Stream

__all__ = ["BLOCK_SECONDS", "TrackReport", "run_track"]

BLOCK_SECONDS = 10.0  # of decoded audio at once: large enough to vectorise, small enough to stay in the cache


@dataclass(frozen=True, slots=True)
class TrackReport:
    """What decoding a track showed.

    Attributes
    ----------
    declared, decoded : int
        Samples that the header promised and that came, at the file's own rate.
    sample_rate : int
        The file's own rate in Hz.
    peak : float
    clipped : int
        Samples at or beyond full scale.
    """

    declared: int
    decoded: int
    sample_rate: int
    peak: float
    clipped: int

    @property
    def duration_s(self) -> float:
        """Seconds that were decoded."""
        return self.decoded / self.sample_rate if self.sample_rate else 0.0

    @property
    def missing_s(self) -> float:
        """Seconds that the header promised and that did not come."""
        return max(0, self.declared - self.decoded) / self.sample_rate if self.sample_rate else 0.0


class _Restart(Exception):
    """The header's length was wrong, and the cut depends on it: once more with the true one."""

    def __init__(self, n_samples: int) -> None:
        super().__init__(n_samples)
        self.n_samples = n_samples


def run_track(
    path: str, graph: Graph, deliver: Callable[[str, FloatArray], None], restart: Callable[[], None]
) -> TrackReport:
    """Decode a track once for each decoder in the graph and push it through.

    Parameters
    ----------
    path : str
    graph : Graph
    deliver : callable
        Takes (array key, block of frames), in order of time for each key.
    restart : callable
        Called when what was delivered must be forgotten, because a second pass begins: a header lied about the length.

    Raises
    ------
    DecodeError
        When the file cannot be decoded, holds no samples, holds non-finite ones, or is too short for its clip.
    """
    report: TrackReport | None = None
    true_length: int | None = None
    for _ in range(2):
        try:
            for root in graph.roots:
                report = _run_root(path, root, graph, deliver, true_length)
            break
        except _Restart as again:
            true_length = again.n_samples
            restart()
    assert report is not None
    return report


def _run_root(
    path: str, root: Node, graph: Graph, deliver: Callable[[str, FloatArray], None], true_length: int | None
) -> TrackReport:
    with open_audio(path, decoder=dict(root.params)["decoder"]) as source:
        declared = source.info.n_samples if true_length is None else true_length
        tree = _Tree(graph, root, source, declared, deliver)
        statistics = SignalStatistics()
        decoded = 0
        for block in source.blocks(max(1, int(BLOCK_SECONDS * source.info.sample_rate))):
            statistics.update(block)
            decoded += block.shape[-1]
            tree.push(block)
        if decoded == 0:
            raise DecodeError("the file holds no audio samples", path, "Remove it from the table, or replace it")
        if decoded != declared and tree.needs_length:
            raise _Restart(decoded)
        tree.finish()
        info = source.info
        return TrackReport(info.n_samples, decoded, info.sample_rate, statistics.peak, statistics.clipped)


class _Tree:
    """The streams of one track, one a step."""

    def __init__(
        self, graph: Graph, root: Node, source: AudioSource, n_samples: int, deliver: Callable[[str, FloatArray], None]
    ) -> None:
        self._graph, self._root, self._deliver = graph, root, deliver
        self._streams: dict[Node, Stream] = {}
        self.needs_length = False
        self._build(root, source.info.sample_rate, n_samples)

    def _build(self, node: Node, sample_rate: int, n_samples: int) -> None:
        for child in self._graph.children[node]:
            make = AUDIO_STREAMS.get(child.op)
            rate, length = sample_rate, n_samples
            if make is None:
                self._streams[child] = make_stream(child, sample_rate=sample_rate)
            else:
                stream = make(dict(child.params), sample_rate=sample_rate, n_samples=n_samples)
                self._streams[child] = stream
                rate, length = stream.out_rate, stream.out_samples
                self.needs_length |= stream.needs_length
            self._build(child, rate, length)

    def push(self, block: FloatArray) -> None:
        self._pass_on(self._root, block)

    def finish(self) -> None:
        self._finish_below(self._root)

    def _pass_on(self, node: Node, block: FloatArray) -> None:
        if block.shape[-1] == 0:
            return
        for key in self._graph.sinks.get(node, ()):
            self._deliver(key, block)
        for child in self._graph.children[node]:
            self._pass_on(child, self._streams[child].push(block))

    def _finish_below(self, node: Node) -> None:
        for child in self._graph.children[node]:
            self._pass_on(child, self._streams[child].finish())
            self._finish_below(child)
