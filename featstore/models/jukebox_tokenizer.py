"""Jukebox's VQ-VAE at work on signals of any length: exact windows on one fixed grid, in bounded memory.

Token ``o`` depends on the samples of its receptive field alone. A window of tokens a … b - 1 is computed from exactly
those samples, cut at the signal's own edges and nowhere else, and the overlap's latents are dropped: the tokens are
those of one pass over the whole signal, but for near ties that float rounding decides. The grid of windows is fixed, so
that no setting of block length, batch or memory reaches a token.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import ConfigError
from featstore.models.jukebox_checkpoint import LoadedLevel, load_level
from featstore.models.jukebox_vqvae import JukeboxLevel, LevelConfig, nearest_codes
from featstore.models.tokenizers import Chunking, TokenizerInfo, check_finite, check_tokens

__all__ = ["JukeboxTokenizer", "Span", "needed_samples", "open_jukebox", "window_tokens"]

# kept samples of a window: long enough that the overlap costs 2 to 18 %, short enough for < 1 GB of activations
_WINDOW_SAMPLES = (1 << 18, 1 << 19)
_DECODE_SAMPLES = 1 << 18


@dataclass(frozen=True, slots=True)
class Span:
    """Samples ``start`` to ``stop`` that a window of tokens is computed from, and how many leading latents to drop."""

    start: int
    stop: int
    drop: int


def window_tokens(config: LevelConfig) -> int:
    """Tokens of a window of the grid.

    Examples
    --------
    >>> from featstore.models.jukebox_vqvae import published_config
    >>> [window_tokens(published_config(level)) for level in range(3)]
    [65536, 8192, 2048]
    """
    low, high = _WINDOW_SAMPLES
    samples = low if 8 * config.field.length < high else high
    return max(1, samples // config.hop)


def needed_samples(config: LevelConfig, first: int, last: int, n_samples: int) -> Span:
    """Samples that tokens ``first`` to ``last`` (not included) of a signal of ``n_samples`` depend on."""
    hop, field = config.hop, config.field
    start = max(0, hop * (first - -(-field.left // hop)))
    total = config.n_tokens(n_samples)
    stop = n_samples if last >= total else min(n_samples, hop * (last - 1) + field.right + 1)
    return Span(start, stop, first - start // hop)


class JukeboxTokenizer:
    """One level with its weights.

    Parameters
    ----------
    loaded : LoadedLevel
    device : torch.device
    """

    def __init__(self, loaded: LoadedLevel, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model: JukeboxLevel = loaded.model.to(self.device).eval().requires_grad_(False)
        self.config = config = self.model.config
        self.chunking = Chunking("exact", config.field.left, config.field.right)
        self.info = TokenizerInfo(
            codec="jukebox",
            digest=loaded.digest,
            sample_rate=config.sample_rate,
            hop=config.hop,
            channels=1,
            n_codebooks=1,
            vocabulary=config.codes,
            code_width=config.embedding,
            provenance=loaded.provenance,
        )

    def n_tokens(self, n_samples: int) -> int:
        """Tokens of so many samples."""
        return self.config.n_tokens(n_samples)

    def codebook_vectors(self, codebook: int) -> FloatArray:
        """Code vectors (codes, embedding)."""
        if codebook != 0:
            raise ConfigError(f"codebook={codebook} is not there", "jukebox", "A level has one codebook: 0")
        vectors: FloatArray = self.model.codebook.cpu().numpy().copy()
        return vectors

    def stream(self) -> JukeboxStream:
        """Start on a signal that arrives in blocks."""
        return JukeboxStream(self)

    def encode(self, signal: FloatArray) -> AnyArray:
        """Tokens int32 (1, T) of a signal (n,)."""
        return self.encode_many([signal])[0]

    def encode_many(self, signals: Sequence[FloatArray], *, batch: int = 8) -> list[AnyArray]:
        """Tokens of several signals; windows of equal length are computed together, across signals."""
        return [tokens for tokens, _ in self.encode_with_margins(signals, batch=batch, margins=False)]

    def encode_with_margins(
        self, signals: Sequence[FloatArray], *, batch: int = 8, margins: bool = True
    ) -> list[tuple[AnyArray, FloatArray]]:
        """Tokens (1, T) of each signal, each with how clearly the nearest code wins: (d2 - d1) / d2, float32 (T,)."""
        jobs: dict[int, list[tuple[int, int, Span]]] = {}
        results = []
        for number, signal in enumerate(signals):
            total = self.n_tokens(len(signal))
            results.append((np.zeros((1, total), np.int32), np.zeros(total if margins else 0, np.float32)))
            for first, last in self._grid(total):
                span = needed_samples(self.config, first, last, len(signal))
                jobs.setdefault(span.stop - span.start, []).append((number, first, span))
        for together in jobs.values():
            for at in range(0, len(together), batch):
                part = together[at : at + batch]
                block = np.stack([signals[number][span.start : span.stop] for number, _, span in part])
                for (number, first, span), (tokens, gaps) in zip(part, self.tokens_of(block, margins), strict=True):
                    total = results[number][0].shape[1]
                    keep = min(window_tokens(self.config), total - first)
                    results[number][0][0, first : first + keep] = tokens[span.drop : span.drop + keep]
                    if margins:
                        results[number][1][first : first + keep] = gaps[span.drop : span.drop + keep]
        return results

    def _grid(self, total: int) -> Iterator[tuple[int, int]]:
        size = window_tokens(self.config)
        for first in range(0, total, size):
            yield first, min(first + size, total)

    def tokens_of(self, block: FloatArray, margins: bool = False) -> list[tuple[AnyArray, FloatArray]]:
        """Tokens int32 (T,) of each signal of a batch (batch, n) in one pass; margins where asked for, else empty."""
        check_finite(block, "jukebox")
        with torch.inference_mode(), exact_arithmetic():
            latents = self.model.latents(torch.from_numpy(np.ascontiguousarray(block, np.float32)).to(self.device))
            found = [nearest_codes(item.T.contiguous(), self.model.codebook, margins=margins) for item in latents]
        empty = np.zeros(0, np.float32)
        return [
            (tokens.to(torch.int32).cpu().numpy(), empty if gaps is None else gaps.cpu().numpy())
            for tokens, gaps in found
        ]

    def decode(self, tokens: AnyArray) -> FloatArray:
        """Signal float32 (1, hop * T) of tokens (1, T): windows with the decoder's own overlap."""
        row = check_tokens(tokens, self.info, "jukebox")[0].astype(np.int64)
        hop, context, total = self.config.hop, self.config.decoder_context, len(row)
        signal = np.zeros((1, hop * total), np.float32)
        size = max(1, _DECODE_SAMPLES // hop)
        for first in range(0, total, size):
            last = min(first + size, total)
            begin, end = max(0, first - context), min(total, last + context)
            with torch.inference_mode(), exact_arithmetic():
                wave = self.model.decode(torch.from_numpy(row[None, begin:end]).to(self.device))[0]
            signal[0, hop * first : hop * last] = wave[hop * (first - begin) : hop * (last - begin)].cpu().numpy()
        return signal


class JukeboxStream:
    """Tokens of a signal that arrives in blocks; holds no more than one window with its overlap, and the last block."""

    def __init__(self, tokenizer: JukeboxTokenizer) -> None:
        self._tokenizer, self._config = tokenizer, tokenizer.config
        self._window = window_tokens(tokenizer.config)
        self._held: list[FloatArray] = []
        self._at = self._seen = self._done = 0  # first sample held, samples seen, tokens given out

    def push(self, block: FloatArray) -> AnyArray:
        """Take samples (n,); return the tokens (1, m) of the windows that are now complete."""
        self._held.append(np.array(block, np.float32))
        self._seen += len(block)
        parts = []
        while (last := self._done + self._window) and self._reach(last) <= self._seen:
            parts.append(self._compute(last, self._seen))
        return np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), np.int32)

    def finish(self) -> AnyArray:
        """Return the tokens of what is left; none where the signal was shorter than a hop."""
        total = self._config.n_tokens(self._seen)
        parts = [np.zeros((1, 0), np.int32)]
        while self._done < total:
            parts.append(self._compute(min(self._done + self._window, total), self._seen))
        return np.concatenate(parts, axis=1)

    def _reach(self, last: int) -> int:
        """Samples that must be there before the tokens up to ``last`` are known, whatever follows.

        That is more than a whole token beyond them, so that none of them can be the last of the signal.
        """
        return max(self._config.hop * (last - 1) + self._config.field.right + 1, self._config.hop * (last + 1))

    def _compute(self, last: int, n_samples: int) -> AnyArray:
        span = needed_samples(self._config, self._done, last, n_samples)
        whole = np.concatenate(self._held) if len(self._held) != 1 else self._held[0]
        block = whole[None, span.start - self._at : span.stop - self._at]
        tokens = self._tokenizer.tokens_of(block)[0][0][span.drop : span.drop + last - self._done]
        keep = needed_samples(self._config, last, last + 1, n_samples).start
        self._held, self._at, self._done = [whole[keep - self._at :].copy()], keep, last
        return tokens[None]


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Float32 throughout, denormals flushed: what GPUs do to go faster would change tokens."""
    torch.set_flush_denormal(True)
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.set_flush_denormal(False)


def open_jukebox(
    path: str, *, device: torch.device | str = "cpu", level: int = 2, with_decoder: bool = True, **others: Any
) -> JukeboxTokenizer:
    """Open one level of a checkpoint.

    Raises
    ------
    ConfigError
        For a setting that is not Jukebox's.
    CheckpointError
        As :func:`featstore.models.jukebox_checkpoint.load_level`.
    """
    given = {name: value for name, value in others.items() if value}
    if given:
        raise ConfigError(f"{', '.join(given)} is no setting of jukebox", "tokenizer", "It has level=0, 1 or 2")
    return JukeboxTokenizer(load_level(path, level, with_decoder=with_decoder), device)
