"""Jukebox's VQ-VAE at work on signals of any length: exact windows on one fixed grid, in bounded memory.

Token ``o`` depends on the samples of its receptive field alone. A window of tokens a … b - 1 is computed from exactly
those samples, cut at the signal's own edges and nowhere else, and the overlap's latents are dropped: the tokens are
those of one pass over the whole signal, but for near ties that float rounding decides. The grid of windows is fixed, so
that no setting of block length, batch or memory reaches a token.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import ConfigError
from featstore.models.conv_field import conv_field
from featstore.models.jukebox_checkpoint import LoadedLevel, load_level
from featstore.models.jukebox_vqvae import JukeboxLevel, nearest_codes
from featstore.models.token_windows import Window, WindowValues, full_passes
from featstore.models.tokenizers import Tokenizer, TokenizerInfo, check_finite, check_tokens
from featstore.models.window_cutters import FieldCutter, ReceptiveField

__all__ = ["JukeboxTokenizer", "exact_arithmetic", "open_jukebox", "window_tokens"]

# kept samples of a window: long enough that the overlap costs 2 to 18 %, short enough for < 1 GB of activations
_WINDOW_SAMPLES = (1 << 18, 1 << 19)
_DECODE_SAMPLES = 1 << 18
_PASS_SAMPLES = 1 << 22  # of all windows of one pass: 1 to 2 GB of activations


def window_tokens(field: ReceptiveField) -> int:
    """Tokens of a window of the grid.

    Examples
    --------
    >>> window_tokens(ReceptiveField(hop=128, left=10455, right=10582))  # of the published model's level 2
    2048
    """
    low, high = _WINDOW_SAMPLES
    samples = low if 8 * field.length < high else high
    return max(1, samples // field.hop)


class JukeboxTokenizer(Tokenizer):
    """One level with its weights.

    Parameters
    ----------
    loaded : LoadedLevel
    device : torch.device

    Attributes
    ----------
    batch : int
        Windows that may be given at once.
    pass_size : int
        Windows of every pass through the model, silent ones among them: all on a GPU, and one on a CPU, where more at
        once gain nothing. See :func:`featstore.models.token_windows.full_passes`.
    """

    def __init__(self, loaded: LoadedLevel, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model: JukeboxLevel = loaded.model.to(self.device).eval().requires_grad_(False)
        self.config = config = self.model.config
        self._field = field = cast("ReceptiveField", conv_field(self.model.encoder))
        self.batch = max(1, _PASS_SAMPLES // (window_tokens(field) * field.hop + field.length))
        self.pass_size = 1 if self.device.type == "cpu" else self.batch
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
            trained_on=loaded.trained_on,
        )

    def n_tokens(self, n_samples: int) -> int:
        """Number of tokens of a signal, from its length in samples."""
        return self.config.n_tokens(n_samples)

    def tables(self) -> list[torch.Tensor]:
        """Code vectors of the only codebook."""
        return [self.model.codebook]

    def cutter(self) -> FieldCutter:
        """Start to cut a signal into windows of the grid."""
        return FieldCutter(self._field, window=window_tokens(self._field))

    def encode_windows(self, windows: Sequence[Window]) -> list[WindowValues]:
        """Tokens of windows of one length, computed together."""
        found = self.tokens_of(np.stack([window.samples for window in windows]), margins=True)
        results = []
        for window, (tokens, gaps) in zip(windows, found, strict=True):
            own = slice(window.drop, window.drop + window.keep)
            results.append(WindowValues(tokens[None, own], gaps[own]))
        return results

    def tokens_of(self, block: FloatArray, margins: bool = False) -> list[tuple[AnyArray, FloatArray]]:
        """Tokens int32 (T,) of each signal of a batch (batch, n), uncut; margins where asked for, else empty."""
        check_finite(block, "jukebox")
        found = []
        with torch.inference_mode(), exact_arithmetic():
            for rows, count in full_passes(block, self.pass_size):
                latents = self.model.latents(torch.from_numpy(rows).to(self.device))[:count]
                found += [nearest_codes(item.T.contiguous(), self.model.codebook, margins=margins) for item in latents]
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
    codec: str, path: str, *, device: torch.device | str, level: int = 2, with_decoder: bool = True, **others: Any
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
        raise ConfigError(f"{', '.join(given)} is no setting of {codec}", "tokenizer", "It has level=0, 1 or 2")
    return JukeboxTokenizer(load_level(path, level, with_decoder=with_decoder), device)
