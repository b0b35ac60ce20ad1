"""Steps that are computed window by window: tokens of a codec, vectors of a frozen encoder.

A :class:`WindowStep` in a node says how its model is opened and how a track is cut. One track at a time, each window is
computed as soon as it is complete; on a device, windows of several tracks wait for each other and go through the model
together (:meth:`WindowStep.pending`, :func:`encode_blocks`). Both ways give the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import DecodeError
from featstore.features.graph import Node, TrackContext

if TYPE_CHECKING:
    from featstore.models.token_windows import Cutter, Gatherer, Window, WindowCoder, WindowStream

__all__ = ["PendingWindows", "TooShort", "TrackCutter", "WindowStep", "encode_blocks", "is_on_device"]


class TooShort(DecodeError):
    """A track, or what its clip leaves of it, is too short for a single value."""

    reason = "short"


class TrackCutter:
    """Windows of one track, after what is done to its whole signal; a track without a window is an error.

    Parameters
    ----------
    cutter : Cutter
    context : TrackContext
    least : str
        What the track is too short for, if it gives no window: ``one token of 128``.
    unit : str
        What the cutter's input has along time.
    peak : bool
        Divide the signal by its largest absolute value: nothing is ready before the end.
    """

    def __init__(
        self, cutter: Cutter, *, context: TrackContext, least: str, unit: str = "samples", peak: bool = False
    ) -> None:
        self._cutter, self._where, self._least, self._unit, self._peak = cutter, context.where, least, unit, peak
        self._held: list[FloatArray] = []
        self._seen = 0
        self._is_empty = True

    def push(self, block: FloatArray) -> list[Window]:
        """Take samples (..., n); return the windows that are ready."""
        self._seen += block.shape[-1]
        if self._peak:
            self._held.append(block)
            return []
        return self._count(self._cutter.push(block))

    def finish(self) -> list[Window]:
        """Return the rest.

        Raises
        ------
        TooShort
            When the whole signal gave no window.
        """
        ready = []
        if self._peak and self._held:
            whole = np.concatenate(self._held, axis=-1)
            peak = float(np.abs(whole).max(initial=0.0))
            ready = self._count(self._cutter.push(whole / np.float32(peak) if peak > 0 else whole))
        ready += self._count(self._cutter.finish())
        if self._is_empty:
            raise TooShort(
                f"{self._seen} {self._unit} are too few for {self._least}",
                self._where,
                "Leave the track out",
            )
        return ready

    def _count(self, windows: list[Window]) -> list[Window]:
        self._is_empty &= not windows
        return windows


@dataclass(slots=True, eq=False)
class PendingWindows:
    """Windows of a track whose values are still to be computed, in the place of a block of them.

    Attributes
    ----------
    coder : WindowCoder
    windows : list of Window
    gatherer : Gatherer or None
        Of the track, where its windows' values are not just put side by side.
    is_last : bool
        No window of the track follows.
    """

    coder: WindowCoder
    windows: list[Window]
    gatherer: Gatherer | None = None
    is_last: bool = False

    @property
    def size(self) -> int:
        """Number of windows; at least one where something is still to be gathered."""
        return len(self.windows) or int(self.is_last and self.gatherer is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of their samples."""
        return sum(window.samples.nbytes for window in self.windows)


class _PendingStream:
    """Samples (n,) in, windows out, to be computed later."""

    def __init__(self, coder: WindowCoder, cutter: TrackCutter, gatherer: Gatherer | None) -> None:
        self._coder, self._cutter, self._gatherer = coder, cutter, gatherer

    def push(self, block: FloatArray) -> PendingWindows:
        """Take samples; return the windows that are ready."""
        return PendingWindows(self._coder, self._cutter.push(block), self._gatherer)

    def finish(self) -> PendingWindows:
        """Return the rest."""
        return PendingWindows(self._coder, self._cutter.finish(), self._gatherer, is_last=True)


@dataclass(frozen=True, slots=True)
class WindowStep:
    """Stream factory of a step that is computed window by window.

    Attributes
    ----------
    open : callable
        Takes the node, gives its model: a function of a module, as it is pickled by name.
    cut : callable
        Takes the model, the node and the track's context, gives the :class:`TrackCutter`; likewise.
    gather : callable or None
        Takes the node, gives the Gatherer of a track, or None where its windows' values are put side by side; likewise.
    """

    open: Callable[[Node], Any]
    cut: Callable[[Any, Node, TrackContext], TrackCutter]
    gather: Callable[[Node], Gatherer | None] | None = None

    def __call__(self, node: Node, context: TrackContext) -> WindowStream:
        """Stream of values (..., m) of samples (n,)."""
        from featstore.models.token_windows import WindowStream

        return WindowStream(*self._parts(node, context))

    def pending(self, node: Node, context: TrackContext) -> _PendingStream:
        """Stream of windows of samples (n,), as :class:`PendingWindows`."""
        return _PendingStream(*self._parts(node, context))

    def _parts(self, node: Node, context: TrackContext) -> tuple[WindowCoder, TrackCutter, Gatherer | None]:
        coder = self.open(node)
        return coder, self.cut(coder, node, context), None if self.gather is None else self.gather(node)


def encode_blocks(blocks: Sequence[PendingWindows]) -> list[tuple[AnyArray, int | None]]:
    """Values (..., m) of each block, and its near ties where the model counts them.

    Windows of equal length go through the model together; all blocks are of one model.
    """
    from featstore.models.token_windows import encode_in_batches, gathered

    coder = blocks[0].coder
    found = iter(encode_in_batches(coder, [window for block in blocks for window in block.windows]))
    return [
        gathered(coder, block.gatherer, [next(found) for _ in block.windows], is_last=block.is_last) for block in blocks
    ]


def is_on_device() -> bool:
    """Whether models run on something else than a CPU."""
    from featstore.models.tokenizers import best_device

    return best_device().type != "cpu"
