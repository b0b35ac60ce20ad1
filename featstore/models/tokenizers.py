"""Tokenizers: codecs that turn a waveform into whole numbers and back, behind one interface.

``load_tokenizer(codec, path, …)`` opens a local checkpoint. What a tokenizer's numbers depend on (weights, level,
bandwidth) is in its ``identity``; nothing here knows of features, stores or audio files.
"""

from __future__ import annotations

import abc
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import CheckpointError, ConfigError, DecodeError
from featstore.models.token_windows import Cutter, WindowCoder, WindowStream, encode_in_batches, join_windows
from featstore.registry import Registry

if TYPE_CHECKING:
    import torch

    from featstore.models.trained_on import TrainedOn

__all__ = [
    "CODECS",
    "Tokenizer",
    "TokenizerInfo",
    "best_device",
    "check_finite",
    "check_tokens",
    "describe_weights",
    "info_of",
    "load_tokenizer",
]

# codec -> function(codec, path, device=..., **settings) that opens a checkpoint of it
CODECS = Registry(
    "codec",
    {
        "jukebox": "featstore.models.jukebox_tokenizer:open_jukebox",
        "encodec": "featstore.models.transformers_codecs:open_codec",
        "dac": "featstore.models.transformers_codecs:open_codec",
        "mimi": "featstore.models.transformers_codecs:open_codec",
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerInfo:
    """What is fixed by a checkpoint and its settings.

    Attributes
    ----------
    codec : str
    digest : str
        32 hexadecimal digits over the sorted (tensor name, shape, values) that decide the tokens: the same for every
        container of the same tensors.
    sample_rate, hop : int
        Hz, and samples a token.
    channels : int
        Of the signal that the model takes; a mono signal is repeated.
    n_codebooks, vocabulary : int
        Rows of tokens, and codes of each.
    code_width : int
        Values of one code vector.
    provenance : mapping
        File name, sha256, format and what else was found: kept beside the tokens, not part of their identity.
    trained_on : TrainedOn or None
        What it has seen; None where that is not recorded.
    """

    codec: str
    digest: str
    sample_rate: int
    hop: int
    channels: int
    n_codebooks: int
    vocabulary: int
    code_width: int
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)
    trained_on: TrainedOn | None = field(default=None, compare=False)


class Tokenizer(WindowCoder, abc.ABC):
    """A codec with its weights: its windows' values are tokens.

    Signals are float32 mono in [-1, 1] at ``info.sample_rate``.
    """

    info: TokenizerInfo

    @abc.abstractmethod
    def n_tokens(self, n_samples: int) -> int:
        """Number of tokens of a signal, from its length in samples; 0 where it is too short for one."""

    @abc.abstractmethod
    def cutter(self) -> Cutter:
        """Start to cut a signal into windows, whose tokens follow each other."""

    @abc.abstractmethod
    def decode(self, tokens: AnyArray) -> FloatArray:
        """Signal float32 (channels, n) of tokens (n_codebooks, T)."""

    @abc.abstractmethod
    def tables(self) -> list[torch.Tensor]:
        """Code vectors (vocabulary, width) of every codebook that the model has."""

    def codebook_vectors(self, codebook: int) -> FloatArray:
        """Code vectors float32 (vocabulary, width) of one codebook; DAC's are its factors, before the projection.

        Raises
        ------
        ConfigError
            For a codebook that is not kept.
        """
        kept = self.info.n_codebooks
        if not 0 <= codebook < kept:
            raise ConfigError(f"codebook={codebook} is not there", self.info.codec, f"0 to {kept - 1} are kept")
        vectors: FloatArray = self.tables()[codebook].detach().float().cpu().numpy().copy()
        return vectors

    @property
    def no_values(self) -> AnyArray:
        """Tokens of no window."""
        return np.zeros((self.info.n_codebooks, 0), np.int32)

    def stream(self) -> WindowStream:
        """Start on a signal that arrives in blocks, in bounded memory where the codec allows it."""
        return WindowStream(self, self.cutter())

    def encode(self, signal: FloatArray) -> AnyArray:
        """Tokens int32 (n_codebooks, T) of a whole signal (n,)."""
        cutter = self.cutter()
        return join_windows(encode_in_batches(self, [*cutter.push(signal), *cutter.finish()]), self.no_values)


def load_tokenizer(
    codec: str, path: str | os.PathLike[str], *, device: str | torch.device | None = None, **settings: Any
) -> Tokenizer:
    """Open a tokenizer from a local file or folder; nothing is fetched and no pickled code is run.

    Parameters
    ----------
    codec : str
        An entry of :data:`CODECS`.
    path : path
        A checkpoint file, or a folder with ``config.json`` and weights.
    device : str or torch.device, optional
        A GPU where there is one, by default.
    **settings
        Of the codec: ``level`` for Jukebox, ``bandwidth`` or ``n_quantizers`` for others.

    Raises
    ------
    ConfigError
        For an unknown codec or setting.
    CheckpointError
        When the checkpoint is missing, damaged, foreign, or lacks what was asked for.
    """
    opened: Tokenizer = CODECS.load(codec)(codec, os.fspath(path), device=device or best_device(), **settings)
    return opened


def describe_weights(codec: str, path: str | os.PathLike[str], **settings: Any) -> TokenizerInfo:
    """What a checkpoint fixes, its digest among it; asked again, an unchanged file is not read again.

    Raises
    ------
    ConfigError, CheckpointError
        As :func:`load_tokenizer`.
    """
    return cast("TokenizerInfo", info_of(load_tokenizer, codec, path, **settings | {"with_decoder": False}))


def info_of(load: Callable[..., Any], name: str, path: str | os.PathLike[str], **settings: Any) -> Any:
    """What is fixed by local weights, as ``load`` opens them; an unchanged file is read once in a process."""
    place = os.path.realpath(path)
    given = tuple(sorted((name, value) for name, value in settings.items() if value is not None))
    return _info_of(load, name, place, _stamp_of(place), given)


@functools.lru_cache(maxsize=64)
def _info_of(load: Callable[..., Any], name: str, path: str, stamp: Any, settings: tuple[tuple[str, Any], ...]) -> Any:
    return load(name, path, device="cpu", **dict(settings)).info


def _stamp_of(path: str) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a file, or of the files of a folder and of its own folders."""
    if not os.path.isdir(path):
        files = [path] if os.path.exists(path) else []
    else:
        folders = [path, *(entry.path for entry in os.scandir(path) if entry.is_dir())]
        files = sorted(entry.path for folder in folders for entry in os.scandir(folder) if entry.is_file())
    stats = [(file, os.stat(file)) for file in files]
    return tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)


def best_device() -> torch.device:
    """Return the first GPU, or the CPU where there is none."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_finite(signal: FloatArray, codec: str) -> None:
    """Refuse a signal with NaN or infinity: its field would have tokens that mean nothing.

    Raises
    ------
    DecodeError
    """
    if not np.isfinite(signal).all():
        raise DecodeError("the signal holds a value that is not finite", codec, "Leave the track out")


def check_tokens(tokens: AnyArray, info: TokenizerInfo, where: str) -> AnyArray:
    """Refuse tokens of another shape or beyond the vocabulary.

    Raises
    ------
    CheckpointError
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or tokens.shape[0] != info.n_codebooks:
        raise CheckpointError(
            f"tokens of shape {tokens.shape} are not ({info.n_codebooks}, frames)",
            where,
            "Use the codec that made them",
        )
    if tokens.size and (int(tokens.min()) < 0 or int(tokens.max()) >= info.vocabulary):
        wrong = int(tokens[(tokens < 0) | (tokens >= info.vocabulary)][0])
        raise CheckpointError(
            f"{wrong} is no token: the vocabulary is {info.vocabulary}", where, "Use the codec that made them"
        )
    return tokens
