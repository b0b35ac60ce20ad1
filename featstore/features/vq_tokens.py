"""Tokens of a neural codec, from the signal that its name describes. Code vectors are a look-up on them."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import CheckpointError, DecodeError, SpecError
from featstore.features.graph import Node, TrackContext
from featstore.features.source_signal import check_clip, cut_length, signal_node
from featstore.specs.tokens import VqCodesSpec, VqTokensSpec, remember_weights, weights_place

if TYPE_CHECKING:
    from featstore.models.token_windows import Cutter, Window, WindowStream
    from featstore.models.tokenizers import Tokenizer

__all__ = [
    "PLACES_VARIABLE",
    "ShorterThanToken",
    "TokenWindows",
    "VqTokensFeature",
    "WindowStep",
    "encode_blocks",
    "is_on_device",
    "tokenizer_of",
    "vq_tokens_stream",
    "window_step",
]

PLACES_VARIABLE = "FEATSTORE_WEIGHTS"  # checkpoints, separated like a PATH, among which digests are looked for
_SETTINGS = ("codec", "level", "weights", "n_codebooks", "hop", "normalize")


class ShorterThanToken(DecodeError):
    """A track, or what its clip leaves of it, is too short for a single token."""

    reason = "short"


class VqTokensFeature:
    """What the plan asks of the kinds ``vq_tokens`` and ``vq_codes``."""

    @staticmethod
    def check(spec: VqTokensSpec) -> None:
        """Refuse a clip that is shorter than a token."""
        check_clip(spec)

    @staticmethod
    def graph(spec: VqTokensSpec) -> Node:
        """Node of the stored tokens."""
        if isinstance(spec, VqCodesSpec):
            raise SpecError(
                "code vectors are never stored: they are looked up on tokens, which take a hundredth of the room",
                spec.short(),
                f"Store {spec.stored_as.short()} and read the vectors from there",
            )
        return Node.make("vq_tokens", signal_node(spec), **{name: getattr(spec, name) for name in _SETTINGS})

    @staticmethod
    def frames(spec: VqTokensSpec, n_samples: int) -> int:
        """Tokens of a track of ``n_samples`` at the codec's rate; of unknown codecs only roughly."""
        length = cut_length(spec.clip, spec.sample_rate, n_samples)
        if spec.codec == "jukebox":
            return length // spec.hop
        place = weights_place(spec.weights)
        return tokenizer_of(spec).n_tokens(length) if place else -(-length // spec.hop)

    @staticmethod
    def item_shape(spec: VqTokensSpec) -> tuple[int, ...]:
        """One token a codebook, or the values of a code vector."""
        return (spec.width,) if isinstance(spec, VqCodesSpec) else (spec.n_codebooks,)

    @staticmethod
    def dims(spec: VqTokensSpec) -> tuple[str, ...]:
        """Names of the axes of one track."""
        return ("dimension" if isinstance(spec, VqCodesSpec) else "codebook", "frame")


def tokenizer_of(spec: VqTokensSpec | Node, *, with_decoder: bool = False) -> Tokenizer:
    """Open the tokenizer that a spec names, or take the one that is open already.

    Raises
    ------
    CheckpointError
        When nobody said where the weights are, or the file there holds others by now.
    """
    get: Any = spec.__getitem__ if isinstance(spec, Node) else functools.partial(getattr, spec)
    codec, level, digest, books = get("codec"), get("level"), get("weights"), get("n_codebooks")
    place = weights_place(digest) or _search(codec, level, digest, books)
    if place is None:
        raise CheckpointError(
            f"nobody said where the {codec} weights {digest} are",
            "vq_tokens",
            f"Give the feature with weights=PATH, or name the file in {PLACES_VARIABLE}",
        )
    return _opened(codec, place, level, books, digest, with_decoder)


def _settings(codec: str, level: int, books: int) -> dict[str, Any]:
    return {"level": level} if codec == "jukebox" else {"n_quantizers": books}


@functools.lru_cache(maxsize=4)
def _opened(codec: str, place: str, level: int, books: int, digest: str, with_decoder: bool) -> Tokenizer:
    from featstore.models.tokenizers import load_tokenizer

    opened = load_tokenizer(codec, place, with_decoder=with_decoder, **_settings(codec, level, books))
    if opened.info.digest != digest:
        raise CheckpointError(
            f"the file holds the weights {opened.info.digest} now, not {digest}",
            place,
            "Restore it, or ask for the tokens of the new weights: they are another feature",
        )
    return opened


def _search(codec: str, level: int, digest: str, books: int) -> str | None:
    """Look for a digest among the checkpoints that the environment names."""
    from featstore.models.tokenizers import describe_weights

    for place in filter(None, os.environ.get(PLACES_VARIABLE, "").split(os.pathsep)):
        try:
            found = describe_weights(codec, place, **_settings(codec, level, books)).digest
        except (CheckpointError, SpecError):
            continue  # it is of another codec or level
        remember_weights(found, place)
        if found == digest:
            return place
    return None


class TrackCutter:
    """Windows of one track, after what is done to its whole signal; a track without a token is an error.

    Parameters
    ----------
    cutter : Cutter
    context : TrackContext
    hop : int
    peak : bool
        Divide the signal by its largest absolute value: nothing is ready before the end.
    """

    def __init__(self, cutter: Cutter, *, context: TrackContext, hop: int, peak: bool) -> None:
        self._cutter, self._where, self._hop, self._peak = cutter, context.where, hop, peak
        self._held: list[FloatArray] = []
        self._seen = 0
        self._is_empty = True

    def push(self, block: FloatArray) -> list[Window]:
        """Take samples (n,); return the windows that are ready."""
        self._seen += block.shape[-1]
        if self._peak:
            self._held.append(block)
            return []
        return self._count(self._cutter.push(block))

    def finish(self) -> list[Window]:
        """Return the rest.

        Raises
        ------
        ShorterThanToken
            When the whole signal gave no token.
        """
        ready = []
        if self._peak and self._held:
            whole = np.concatenate(self._held)
            peak = float(np.abs(whole).max(initial=0.0))
            ready = self._count(self._cutter.push(whole / np.float32(peak) if peak > 0 else whole))
        ready += self._count(self._cutter.finish())
        if self._is_empty:
            raise ShorterThanToken(
                f"{self._seen} samples are too few for one token of {self._hop}",
                self._where,
                "Leave the track out",
            )
        return ready

    def _count(self, windows: list[Window]) -> list[Window]:
        self._is_empty &= not windows
        return windows


@dataclass(slots=True, eq=False)
class TokenWindows:
    """Windows of a track whose tokens are still to be computed, in the place of a block of them.

    Attributes
    ----------
    tokenizer : Tokenizer
    windows : list of Window
    """

    tokenizer: Tokenizer
    windows: list[Window]

    @property
    def size(self) -> int:
        """Number of windows."""
        return len(self.windows)

    @property
    def nbytes(self) -> int:
        """Bytes of their samples."""
        return sum(window.samples.nbytes for window in self.windows)


class WindowStep:
    """Stands for a ``vq_tokens`` step: samples (n,) in, windows out, for somebody who computes them later."""

    def __init__(self, tokenizer: Tokenizer, cutter: TrackCutter) -> None:
        self._tokenizer, self._cutter = tokenizer, cutter

    def push(self, block: FloatArray) -> TokenWindows:
        """Take samples; return the windows that are ready."""
        return TokenWindows(self._tokenizer, self._cutter.push(block))

    def finish(self) -> TokenWindows:
        """Return the rest."""
        return TokenWindows(self._tokenizer, self._cutter.finish())


def vq_tokens_stream(node: Node, context: TrackContext) -> WindowStream:
    """Stream of a ``vq_tokens`` node: samples (n,) in, int32 (n_codebooks, m) out."""
    from featstore.models.token_windows import WindowStream

    tokenizer = tokenizer_of(node)
    return WindowStream(tokenizer, _cutter_of(tokenizer, node, context))


def window_step(node: Node, context: TrackContext) -> WindowStep:
    """Stream of a ``vq_tokens`` node that leaves the tokens to somebody else."""
    tokenizer = tokenizer_of(node)
    return WindowStep(tokenizer, _cutter_of(tokenizer, node, context))


def encode_blocks(blocks: Sequence[TokenWindows]) -> list[tuple[AnyArray, int | None]]:
    """Tokens int32 (n_codebooks, m) of each block, and its near ties where the codec counts them.

    Windows of equal length go through the codec together; all blocks are of one tokenizer.
    """
    from featstore.models.token_windows import encode_in_batches, join_tokens

    tokenizer = blocks[0].tokenizer
    found = iter(encode_in_batches(tokenizer, [window for block in blocks for window in block.windows]))
    results: list[tuple[AnyArray, int | None]] = []
    for block in blocks:
        parts = [next(found) for _ in block.windows]
        counted = [part.near_ties for part in parts if part.near_ties is not None]
        results.append((join_tokens(parts, tokenizer.info.n_codebooks), sum(counted) if counted else None))
    return results


def is_on_device() -> bool:
    """Whether tokens are computed on something else than a CPU."""
    from featstore.models.tokenizers import best_device

    return best_device().type != "cpu"


def _cutter_of(tokenizer: Tokenizer, node: Node, context: TrackContext) -> TrackCutter:
    return TrackCutter(tokenizer.cutter(), context=context, hop=node["hop"], peak=node["normalize"] == "peak")
