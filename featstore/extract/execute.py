"""One track through the graph: blocks in at the decoder, frames out at the arrays, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from featstore.arrays import FloatArray
from featstore.audio import AUDIO_STREAMS, TrackTooShort, local_copy, open_audio
from featstore.errors import DecodeError
from featstore.extract.plan import Graph
from featstore.features import Node, Stream, TrackContext, make_stream
from featstore.features.windows import TooShort

__all__ = ["BLOCK_SECONDS", "TrackReport", "run_track"]

CLIP_SAMPLES = 1 << 21  # of excerpts at once: a block of audio may hold many that overlap
BLOCK_SECONDS = 30.0  # of decoded audio at once: most clips are one block; a block of spectra takes two megabytes
_FIRST = 1 << 12  # samples that mostly say whether a signal is silent
CANCELLED = 1e-4  # a mix this far below its channels (-80 dB) holds what rounding left of them
# audio step -> what the ledger calls the signal that it gives out
_SIGNALS = {
    "resample": "resampled signal",
    "cut": "excerpt",
    "clips": "excerpts",
}

Deliver = Callable[[str, FloatArray], None]
MakeStream = Callable[[Node, TrackContext], Any]


@dataclass(frozen=True, slots=True)
class TrackReport:
    """What decoding a track showed.

    Attributes
    ----------
    declared, decoded : int
        Samples that the header promised and that came, at the file's own rate.
    sample_rate : int
        The file's own rate in Hz.
    channels : int
    silent : dict
        Array key to a sentence, for arrays whose signal holds nothing but zeros.
    short : dict
        Array key to the error, for arrays whose clip, or whose first window, the track is too short for; what they were
        given is to be dropped.
    n_clipped : int
        Samples, over all channels, at or beyond full scale.
    fingerprint : str
        Of the file's bytes, those that were decoded.
    damage : str
        What the file's structure shows to be missing or passed over; empty for nothing.
    near_ties : dict
        Array key to the number of tokens that rounding may have decided, where a codec tells.
    """

    declared: int
    decoded: int
    sample_rate: int
    channels: int
    n_clipped: int
    fingerprint: str
    damage: str = ""
    silent: dict[str, str] = field(default_factory=dict)
    short: dict[str, DecodeError] = field(default_factory=dict)
    near_ties: dict[str, int] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Seconds that were decoded."""
        return self.decoded / self.sample_rate

    @property
    def missing_s(self) -> float:
        """Seconds that the header promised and that did not come."""
        return max(0, self.declared - self.decoded) / self.sample_rate


def run_track(path: str, graph: Graph, deliver: Deliver, make: MakeStream = make_stream) -> TrackReport:
    """Decode a track, once for each decoder in the graph, and push it through.

    Parameters
    ----------
    path : str
    graph : Graph
    deliver : callable
        Takes (array key, block of frames), in order of time for each key.
    make : callable
        Puts a step to work on the track.

    Raises
    ------
    DecodeError
        When the file cannot be decoded, holds no samples, holds non-finite ones, or is too short for every feature.
    """
    with local_copy(path):  # several decoders share one copy of a remote file
        reports = [_run_root(path, root, graph, deliver, make) for root in graph.roots]
    short = {key: error for report in reports for key, error in report.short.items()}
    if short and all(key in short for keys in graph.sinks.values() for key in keys):
        raise next(iter(short.values()))
    if len(reports) == 1:
        return reports[0]
    return replace(
        reports[0],
        silent={key: what for report in reports for key, what in report.silent.items()},
        short=short,
        near_ties={key: n for report in reports for key, n in report.near_ties.items()},
    )


def _run_root(path: str, root: Node, graph: Graph, deliver: Deliver, make: MakeStream) -> TrackReport:
    source = open_audio(path, decoder=root["decoder"])
    info = source.info
    context = TrackContext(info.sample_rate, info.n_samples, path)
    tree = _Tree(graph, root, context, deliver, make, is_mono=info.channels == 1)
    for block in source.blocks(max(1, int(BLOCK_SECONDS * info.sample_rate))):
        tree.push(root, block)
    tree.finish(root)
    seen = source.statistics
    return TrackReport(
        info.n_samples,
        seen.n_samples,
        info.sample_rate,
        info.channels,
        seen.n_clipped,
        source.fingerprint(),
        info.damage,
        tree.silent(seen.peak),
        tree.short,
        tree.near_ties,
    )


class _Tree:
    """The streams of one track, one a step."""

    def __init__(
        self,
        graph: Graph,
        root: Node,
        context: TrackContext,
        deliver: Deliver,
        make: MakeStream,
        *,
        is_mono: bool,
    ) -> None:
        self._graph, self._root, self._deliver = graph, root, deliver
        self._streams: dict[Node, Stream] = {}
        self.short: dict[str, DecodeError] = {}  # as in the report
        self._peaks: dict[Node, float] = {}  # of the steps that give out samples, unless these are the file's own
        waiting = [root]
        while waiting:
            for child in graph.children[waiting.pop()]:
                audio = child.op in AUDIO_STREAMS
                self._streams[child] = (AUDIO_STREAMS.load(child.op) if audio else make)(child, context)
                if audio and not (is_mono and child.op == "mono"):
                    self._peaks[child] = 0.0
                waiting.append(child)

    @property
    def near_ties(self) -> dict[str, int]:
        """Array key to what its step counted, for steps that count near ties."""
        found: dict[str, int] = {}
        for node, stream in self._streams.items():
            count = getattr(stream, "near_ties", None)
            if count is not None:
                found |= dict.fromkeys(self._graph.sinks.get(node, ()), count)
        return found

    def silent(self, peak: float) -> dict[str, str]:
        """Array key to a sentence, for arrays whose signal is silent; ``peak`` is that of all channels of the file.

        What counts is the signal that a feature is computed from: channels may cancel in the mix, and an excerpt may
        be silent in a loud track.
        """
        found: dict[str, str] = {}
        waiting = [(self._root, "every sample is zero" if peak == 0 else "")]
        while waiting:
            node, what = waiting.pop()
            if not what and node.op == "mono" and self._peaks.get(node, peak) <= CANCELLED * peak:
                what = f"the channels cancel in the mix: its peak is {self._peaks[node]:.1g}, theirs {peak:.2g}"
            elif not what and self._peaks.get(node) == 0:
                what = (
                    f"every sample of the {_SIGNALS.get(node.op, node.op)} is zero; the peak of the file is {peak:.2g}"
                )
            if what:
                found |= dict.fromkeys(self._graph.sinks.get(node, ()), what)
            waiting += [(child, what) for child in self._graph.children[node]]
        return found

    def push(self, node: Node, block: FloatArray) -> None:
        """Pass on what a step gave out."""
        if block.size == 0:
            return
        if node in self._peaks and node.op == "mono":
            self._peaks[node] = max(self._peaks[node], float(block.max()), -float(block.min()))
        elif self._peaks.get(node) == 0:  # of the others only whether it is above zero
            self._peaks[node] = float(block[..., :_FIRST].any() or block.any())
        if node.op == "clips" and len(block) > (most := max(1, CLIP_SAMPLES // block.shape[-1])):
            for start in range(0, len(block), most):
                self.push(node, block[start : start + most])
            return
        for key in self._graph.sinks.get(node, ()):
            self._deliver(key, block)
        for child in self._graph.children[node]:
            self.push(child, self._streams[child].push(block))

    def finish(self, node: Node) -> None:
        """End the steps below one, each after what it is fed by."""
        for child in self._graph.children[node]:
            try:
                rest = self._streams[child].finish()
            except (TrackTooShort, TooShort) as error:  # for this feature: others see other samples
                self.short |= dict.fromkeys(self._keys_below(child), error)
                continue
            self.push(child, rest)
            self.finish(child)

    def _keys_below(self, node: Node) -> list[str]:
        found = list(self._graph.sinks.get(node, ()))
        return found + [key for child in self._graph.children[node] for key in self._keys_below(child)]
