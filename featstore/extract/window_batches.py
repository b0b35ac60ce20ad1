"""Windows of several tracks computed together, for models on a GPU: tracks wait in front of the shard writer.

The graph of a track ends at the windows of its window-wise steps (tokens, vectors of an encoder). They wait here, with
whatever else the track gave, until there are enough of them; then windows of equal length go through the model
together, and the tracks are written one after the other, as if each had been computed by itself. What is written, and
in which order, is the same.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import DecodeError, FeatstoreError
from featstore.extract.plan import Graph
from featstore.features import Node, TrackContext, make_stream
from featstore.features.clipwise import is_clipwise
from featstore.features.windows import PendingWindows, WindowStep, encode_blocks, is_on_device
from featstore.store.writer import ShardWriter

Encoded = tuple[AnyArray, int | None]  # values of a block of windows, and its near ties where the model counts them

__all__ = ["COMPUTE_ERRORS", "HELD_BYTES", "BatchedWriter", "failure_of", "wants_batches"]

logger = logging.getLogger(__name__)

# of samples, and of other arrays' frames, but for the block that comes in last: some twenty clips of 30 s
HELD_BYTES = 128 << 20

# one broken file must not end a run: whatever a library throws at it becomes a row of the ledger
COMPUTE_ERRORS = (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)


def failure_of(error: Exception) -> tuple[str, str, str]:
    """Status, stage and sentence of a track that failed.

    Raises
    ------
    FeatstoreError
        When the failure is not the track's own.
    """
    if isinstance(error, DecodeError):
        return getattr(error, "reason", "failed"), "decode", str(error)
    if isinstance(error, FeatstoreError):
        raise error
    return "failed", "compute", f"{type(error).__name__}: {error}"


def wants_batches(graph: Graph, asked: bool | None) -> bool:
    """Whether tracks should wait for each other: where steps are window-wise, and on a GPU unless asked for."""
    if asked is False or not any(isinstance(node.stream, WindowStep) for node in graph.children):
        return False
    return is_on_device() if asked is None else True


@dataclass(slots=True, eq=False)
class _Track:
    """What is known of a track and not written yet."""

    slot: int
    blocks: list[tuple[str, Any]] = field(default_factory=list)
    near_ties: Counter[str] = field(default_factory=Counter)
    is_begun: bool = False  # at the writer
    is_lost: bool = False
    error: Exception | None = None  # of windows that seemed well
    close: Callable[[], dict[str, int] | None] | None = None  # None as long as the track is in the making


class BatchedWriter:
    """Stands for a shard writer whose tracks come one after the other; call :meth:`flush` after the last one.

    Parameters
    ----------
    writer : ShardWriter
    paths : sequence of str
        Files of the shard's slots, for the ledger.
    graph : Graph
        Steps of every track.

    Attributes
    ----------
    lost : dict of int to str
        Slots of tracks that were closed as well before their windows failed, and what they are now.
    most_held : int
        Bytes that waited at a time.
    """

    def __init__(self, writer: ShardWriter, paths: Sequence[str], graph: Graph) -> None:
        self._writer, self._paths, self._children = writer, paths, graph.children
        self._tracks: list[_Track] = []
        self._held = self.most_held = 0
        self.lost: dict[int, str] = {}

    def make_stream(self, node: Node, context: TrackContext) -> Any:
        """Put a step to work on a track: window-wise steps give windows.

        Not so for short excerpts of a track, and where another step takes the values: tokens that a model reads.
        """
        if isinstance(node.stream, WindowStep) and not is_clipwise(node) and not self._children[node]:
            return node.stream.pending(node, context)
        return make_stream(node, context)

    def begin(self, slot: int) -> None:
        """Start a track."""
        self._tracks.append(_Track(slot))

    def append(self, key: str, block: FloatArray | PendingWindows) -> None:
        """Take frames of the current track, or windows whose values stand for them.

        Raises
        ------
        Exception
            Where windows of this track failed, whatever their computation raised.
        """
        track = self._tracks[-1]
        track.blocks.append((key, block))
        self._held += block.nbytes
        self.most_held = max(self.most_held, self._held)
        if self._held >= HELD_BYTES:
            self.flush()
        if track.error is not None:
            raise track.error

    def end(self, status: str = "ok", *, near_ties: Mapping[str, int] | None = None, **outcome: Any) -> None:
        """Close the current track; see :meth:`ShardWriter.end`."""
        track = self._tracks[-1]
        track.near_ties.update(near_ties or {})
        track.close = lambda: self._writer.end(status, near_ties=track.near_ties, **outcome)

    def fail(self, slot: int, status: str, stage: str, error: str, path: str = "") -> None:
        """Leave a track without data; its windows that still wait are not computed."""
        if not self._tracks or self._tracks[-1].slot != slot:
            self._tracks.append(_Track(slot))
        track = self._tracks[-1]
        self._held -= sum(block.nbytes for _, block in track.blocks)
        track.blocks, track.error, track.is_lost = [], None, True
        track.close = lambda: self._writer.fail(slot, status, stage, error, path)

    def flush(self) -> None:
        """Compute the windows that wait and write everything that is known."""
        found = self._compute()
        while self._tracks:
            track = self._tracks[0]
            self._write(track, found)
            if track.close is None:
                break
            if track.error is not None:
                status, stage, what = failure_of(track.error)
                self._writer.fail(track.slot, status, stage, what, self._paths[track.slot])
                self.lost[track.slot] = status
                logger.debug("track %s: %s", self._paths[track.slot], what)
            elif (frames := track.close()) is not None and not all(frames.values()):
                self.lost[track.slot] = "short"
            del self._tracks[0]
        self._held = 0

    def _write(self, track: _Track, found: Mapping[int, Encoded | Exception]) -> None:
        if not track.is_begun and not track.is_lost:
            self._writer.begin(track.slot)
            track.is_begun = True
        for key, block in track.blocks:
            if not isinstance(block, PendingWindows):
                self._writer.append(key, block)
                continue
            encoded = found[id(block)]
            if isinstance(encoded, Exception):
                track.error = encoded
                break
            values, near_ties = encoded
            self._writer.append(key, values)
            if near_ties is not None:
                track.near_ties[key] += near_ties
        track.blocks = []

    def _compute(self) -> dict[int, Encoded | Exception]:
        """Values of all windows that wait, by the identity of the block that they came in, or what went wrong."""
        waiting: dict[int, dict[int, PendingWindows]] = {}  # one block may be for several arrays
        for track in self._tracks:
            for _, block in track.blocks:
                if isinstance(block, PendingWindows):
                    waiting.setdefault(id(block.coder), {})[id(block)] = block
        found: dict[int, Encoded | Exception] = {}
        for blocks in waiting.values():
            found |= _encode(list(blocks.values()))
        return found


def _encode(blocks: Sequence[PendingWindows]) -> dict[int, Encoded | Exception]:
    """Values of blocks of one model, together; where that fails, each block by itself."""
    try:
        return dict(zip(map(id, blocks), encode_blocks(blocks), strict=True))
    except (DecodeError, *COMPUTE_ERRORS) as error:
        if len(blocks) == 1:
            return {id(blocks[0]): error}
        logger.debug("a batch of %d blocks failed, each is tried by itself: %s", len(blocks), error)
        return {name: one for block in blocks for name, one in _encode([block]).items()}
