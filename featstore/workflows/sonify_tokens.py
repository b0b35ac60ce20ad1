"""Sound of stored tokens: what the codec's own decoder makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.extract.weights import find_weights
from featstore.features.vq_tokens import VqTokensSpec, tokenizer_of

if TYPE_CHECKING:
    from featstore.workflows.sonify import Passage

__all__ = ["token_blocks"]

_SAMPLES_AT_ONCE = 1 << 19


def token_blocks(passage: Passage) -> Iterator[FloatArray]:
    """Decode the tokens of a passage, or those that code vectors were looked up for.

    Raises
    ------
    CheckpointError
        When the weights are not available: sound needs the decoder, which a store does not keep.
    """
    reader = passage.reader
    spec = cast(VqTokensSpec, reader.spec.stored_as)
    find_weights(reader.base.location, [spec])
    tokenizer = tokenizer_of(spec, with_decoder=True)
    config = getattr(tokenizer, "config", None)
    stored = int(reader.lengths[passage.row]) if reader.clip_frames is None else reader.clip_frames
    end = passage.first_sample + passage.n_samples
    if config is None:  # codecs that cannot be cut are decoded whole
        yield tokenizer.decode(_tokens(passage, 0, stored)).mean(axis=0)[passage.first_sample : end]
        return
    step = max(1, _SAMPLES_AT_ONCE // spec.hop)
    for first in range(passage.first_sample // spec.hop, stored, step):
        if first * spec.hop >= end:
            return
        last = min(first + step, stored)
        low, high = max(0, first - config.decoder_context), min(stored, last + config.decoder_context)
        wave = tokenizer.decode(_tokens(passage, low, high))[0]
        here = np.array(wave[(first - low) * spec.hop : (last - low) * spec.hop])
        yield here[max(0, passage.first_sample - first * spec.hop) :]


def _tokens(passage: Passage, start: int, stop: int) -> AnyArray:
    """Tokens (n_codebooks, stop - start)."""
    codes: AnyArray = passage.reader.encoding.decode(passage.cut(passage.reader.base.read, start, stop))
    return codes
