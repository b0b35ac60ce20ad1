"""Features of excerpts: each excerpt goes through the steps behind the cut by itself, as if it were a track."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featstore.arrays import FloatArray
from featstore.features.graph import Node, Stream, chain_of

__all__ = ["ClipwiseStream", "is_clipwise"]


def is_clipwise(node: Node) -> bool:
    """Whether a step lies behind a cut into excerpts: its blocks have an axis of excerpts before all others."""
    return any(step.op == "clips" for step in chain_of(node)[:-1])


class ClipwiseStream:
    """A step at work on excerpts: blocks (clips, ..., n) in, (clips, ..., m) out.

    Parameters
    ----------
    make : callable
        Gives a fresh stream of the step for one excerpt.
    """

    def __init__(self, make: Callable[[], Stream]) -> None:
        self._make = make
        self.near_ties: int | None = None  # of a step that counts them: see WindowStream

    def push(self, block: FloatArray) -> FloatArray:
        """Take whole excerpts; return the step's values of each."""
        if len(block) == 0:
            return block
        return np.stack([self._one(excerpt) for excerpt in block])

    def _one(self, excerpt: FloatArray) -> FloatArray:
        stream = self._make()
        ready = stream.push(excerpt)
        rest = stream.finish()
        counted = getattr(stream, "near_ties", None)
        if counted is not None:
            self.near_ties = (self.near_ties or 0) + counted
        return np.concatenate([ready, rest], axis=-1) if rest.shape[-1] else ready

    def finish(self) -> FloatArray:
        """Nothing is held back."""
        return np.zeros((0, 0), np.float32)
