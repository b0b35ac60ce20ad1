"""Jukebox's VQ-VAE (Dhariwal et al. 2020, arXiv 2005.00341): encoder, bottleneck and decoder of one level.

The three levels share nothing, so that each is a model of its own. Parameters bear the names of the original
checkpoint. Written from a description of the architecture; no code of the original was taken over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from featstore.errors import ConfigError
from featstore.models.model_config import check_fields

__all__ = ["Decoder", "JukeboxLevel", "LevelConfig", "nearest_codes", "published_config"]

DOWNS = (3, 2, 2)  # stages of stride 2 in each block of the published model
QUANTISE_BLOCK = 4096  # tokens whose distances to all codes are held at once


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelConfig:
    """Sizes of one level.

    Attributes
    ----------
    level : int
        0 is the finest (hop 8 in the published model), 2 the coarsest (hop 128).
    width, depth : int
        Channels, and residual blocks of a stage.
    embedding : int
        Channels of the latent.
    codes : int
        Rows of the codebook.
    downs : tuple of int
        Stages of each block, from the finest; one block more than ``level``.
    growth : int
        Factor between the dilations of neighbouring residual blocks.
    sample_rate : int
        Hz.
    """

    level: int = 2
    width: int = 32
    depth: int = 4
    embedding: int = 64
    codes: int = 2048
    downs: tuple[int, ...] = DOWNS
    growth: int = 3
    sample_rate: int = 44100

    def __post_init__(self) -> None:
        check_fields(self, "tokenizer", {"level": 0})
        if len(self.downs) != self.level + 1 or min(self.downs) < 1:
            raise ConfigError(
                f"downs={self.downs} does not fit level {self.level}",
                "tokenizer",
                "Give the stages of each block, one block more than the level",
            )

    @property
    def hop(self) -> int:
        """Samples a token."""
        return 1 << sum(self.downs)

    @property
    def decoder_context(self) -> int:
        """Tokens on each side that a token's samples depend on."""
        reach = sum(self.growth**d for d in range(self.depth))
        low, high = -1, self.hop  # the output layer looks one sample to each side
        for stages in self.downs:  # the blocks run backwards, and so does this walk
            for _ in range(stages):
                # a transposed convolution of kernel 4, stride 2, padding 1 draws sample n from n // 2 and a neighbour
                low, high = -((2 - low) // 2) - reach, (high + 1) // 2 + reach
            low, high = low - 1, high + 1
        return max(-low, high)

    def n_tokens(self, n_samples: int) -> int:
        """Number of tokens of a signal of ``n_samples``: every stage floors its half, and the floors compose."""
        return n_samples // self.hop


def published_config(level: int) -> LevelConfig:
    """Sizes of a level of the published model: only the finest one is wide and deep.

    Examples
    --------
    >>> published_config(2).hop, published_config(2).decoder_context
    (128, 82)
    """
    if level not in (0, 1, 2):
        raise ConfigError(f"level={level} is unknown", "tokenizer", "0 (hop 8), 1 (hop 32) or 2 (hop 128)")
    factor = 2 if level == 0 else 1
    return LevelConfig(level=level, width=32 * factor, depth=4 * factor, downs=DOWNS[: level + 1])


class _Chain(nn.Module):
    """Layers one after the other, under the name that the original has for them."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, n) through all layers."""
        return cast("torch.Tensor", self.model(x))


class ResidualBlock(_Chain):
    """``x + conv1(relu(conv3(relu(x))))``, the wide convolution dilated."""

    def __init__(self, width: int, dilation: int) -> None:
        wide = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        super().__init__([nn.ReLU(), wide, nn.ReLU(), nn.Conv1d(width, width, 1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, width, n) to the same shape."""
        return x + super().forward(x)


def _residual_stack(config: LevelConfig, *, backwards: bool) -> _Chain:
    """Residual blocks with growing dilations, or shrinking ones in the decoder."""
    depths = range(config.depth)[::-1] if backwards else range(config.depth)
    return _Chain(ResidualBlock(config.width, config.growth**depth) for depth in depths)


def _encoder_block(config: LevelConfig, *, stages: int, channels: int) -> _Chain:
    """Stages of stride 2, each with its residual blocks, then a projection to the latent's channels.

    (batch, channels, n) to (batch, embedding, n >> stages).
    """
    layers: list[nn.Module] = []
    for stage in range(stages):
        halve = nn.Conv1d(channels if stage == 0 else config.width, config.width, 4, stride=2, padding=1)
        layers.append(nn.Sequential(halve, _residual_stack(config, backwards=False)))
    return _Chain([*layers, nn.Conv1d(config.width, config.embedding, 3, padding=1)])


class Encoder(nn.Module):
    """Blocks 0 to L: waveform (batch, 1, n) to latent (batch, embedding, n // hop)."""

    def __init__(self, config: LevelConfig) -> None:
        super().__init__()
        channels = [1, *(config.embedding for _ in config.downs[1:])]
        blocks = (_encoder_block(config, stages=n, channels=c) for n, c in zip(config.downs, channels, strict=True))
        self.level_blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode a batch."""
        return cast("torch.Tensor", self.level_blocks(x))


def _decoder_block(config: LevelConfig, *, stages: int) -> _Chain:
    """The mirror image of an encoder block: (batch, embedding, n) to (batch, embedding, n << stages)."""
    layers: list[nn.Module] = [nn.Conv1d(config.embedding, config.width, 3, padding=1)]
    for stage in range(stages):
        channels = config.width if stage + 1 < stages else config.embedding
        double = nn.ConvTranspose1d(config.width, channels, 4, stride=2, padding=1)
        layers.append(nn.Sequential(_residual_stack(config, backwards=True), double))
    return _Chain(layers)


class Decoder(nn.Module):
    """Blocks L to 0, then the output layer: code vectors (batch, embedding, T) to a waveform (batch, 1, hop * T)."""

    def __init__(self, config: LevelConfig) -> None:
        super().__init__()
        self.level_blocks = nn.ModuleList(_decoder_block(config, stages=stages) for stages in config.downs)
        self.out = nn.Conv1d(config.embedding, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Decode a batch."""
        for block in reversed(self.level_blocks):
            x = block(x)
        return cast("torch.Tensor", self.out(x))


class JukeboxLevel(nn.Module):
    """One level: encoder, codebook and, where asked for, decoder.

    Parameters
    ----------
    config : LevelConfig
    with_decoder : bool
        Tokens need none.
    """

    codebook: torch.Tensor

    def __init__(self, config: LevelConfig, *, with_decoder: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config) if with_decoder else None
        self.register_buffer("codebook", torch.zeros(config.codes, config.embedding))

    def latents(self, signal: torch.Tensor) -> torch.Tensor:
        """(batch, n) float32 to (batch, embedding, n // hop)."""
        return cast("torch.Tensor", self.encoder(signal[:, None]))

    def quantise(self, latents: torch.Tensor) -> torch.Tensor:
        """Nearest code of each latent: (batch, embedding, T) to int64 (batch, T)."""
        return torch.stack([nearest_codes(item.T, self.codebook)[0] for item in latents])

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Tokens int64 (batch, T) of a batch of signals (batch, n)."""
        return self.quantise(self.latents(signal))

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Waveform (batch, hop * T) of tokens (batch, T)."""
        if self.decoder is None:
            raise ConfigError("the tokenizer was loaded without its decoder", "tokenizer", "Load it with its decoder")
        vectors = nn.functional.embedding(tokens, self.codebook).transpose(1, 2)
        y: torch.Tensor = self.decoder(vectors)
        return y[:, 0]

    def original_names(self) -> dict[str, torch.Tensor]:
        """Tensors by the names that the original checkpoint gives them."""
        level, named = self.config.level, {}
        for name, tensor in self.state_dict().items():
            if name == "codebook":
                named[f"bottleneck.level_blocks.{level}.k"] = tensor
            else:
                part, _, rest = name.partition(".")
                named[f"{part}s.{level}.{rest}"] = tensor
        return named


def nearest_codes(
    latents: torch.Tensor, codebook: torch.Tensor, *, margins: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Nearest code of each latent by squared Euclidean distance; the lowest index wins between equal codes.

    Parameters
    ----------
    latents : (T, width)
    codebook : (codes, width)
    margins : bool
        Ask for the relative margins too: (d2 - d1) / d2 with the two smallest distances; small ones are near ties that
        rounding may decide either way.

    Returns
    -------
    int64 (T,), and float32 (T,) or None
    """
    norms = codebook.square().sum(1)
    found, gaps = [], []
    for at in range(0, len(latents), QUANTISE_BLOCK):  # all distances of 30 s of the finest level would take 1.35 GB
        block = latents[at : at + QUANTISE_BLOCK]
        distance = torch.addmm(norms, block, codebook.T, alpha=-2)
        found.append(_first_smallest(distance))
        if margins:
            gaps.append(_margins(distance, found[-1], block.square().sum(1)))
    tokens = torch.cat(found) if found else torch.zeros(0, dtype=torch.int64, device=latents.device)
    if not margins:
        return tokens, None
    return tokens, torch.cat(gaps) if gaps else torch.zeros(0, device=latents.device)


def _margins(distance: torch.Tensor, nearest: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Relative margin of each row's smallest value; the row is overwritten. A lone code wins by 1."""
    if distance.shape[1] == 1:
        return torch.ones_like(norms)
    place = nearest[:, None]
    first = distance.gather(1, place)[:, 0] + norms
    second = distance.scatter_(1, place, torch.inf).amin(1) + norms  # a fraction of what a partial sort takes
    return (second - first) / second.clamp_min(torch.finfo(second.dtype).tiny)


def _first_smallest(distance: torch.Tensor) -> torch.Tensor:
    """Index of each row's smallest value, the first of equals."""
    if distance.device.type == "cpu":
        return distance.argmin(1)
    # elsewhere argmin does not promise which of several equal values it names
    index = torch.arange(distance.shape[1], device=distance.device, dtype=torch.int32)
    equal = distance == distance.amin(1, keepdim=True)
    return torch.where(equal, index, distance.shape[1]).amin(1).long()
