"""A pre-norm transformer encoder that several front ends share, as the SpectroFormer family has it.

Origin: S. P. Kamuni et al., arXiv 2404.01058 (2024) compares three transformers that differ in their input alone. It
leaves widths and layers open: the sizes here are those of public models of the same kind (Mockingjay, BERT), or small
ones for a CPU. Layers follow BERT (GELU, weights of deviation 0.02) with the norms before each part. Attention has no
dropout: with it a training step on a CPU takes four times as long.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.models.interface import FEATURES, InnerLayer, SequenceModel
from featstore.models.layers import real_frames
from featstore.models.model_config import ModelConfig

__all__ = ["SIZES", "Former", "FormerConfig", "FrontEnd", "Size", "grouped"]

_DEVIATION = 0.02


@dataclass(frozen=True, slots=True)
class Size:
    """Width of a position's vector, layers, attention heads, and width between the two maps of a layer."""

    width: int
    layers: int
    heads: int
    inner: int


SIZES: dict[str, Size] = {
    "tiny": Size(64, 2, 4, 256),
    "small": Size(192, 4, 4, 768),
    "mam": Size(768, 3, 12, 3072),
    "base": Size(768, 12, 12, 3072),
}
"""``mam`` is Mockingjay's base, ``base`` that of BERT; the others are for CPUs and quick studies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerConfig(ModelConfig):
    """Settings of the trunk, which every front end adds its own sizes to.

    Parameters
    ----------
    n_frames, n_classes : int > 0
        Frames (or tokens) of one input, and length of the output.
    size : {"tiny", "small", "mam", "base"}
        Width, layers and heads: a key of :data:`SIZES`.
    group : int > 0
        Frames that are joined into one position; the last ones are dropped where they fill none.
    positions : {"sinusoidal", "learned", "rotary"}
        How places in time enter: added fixed waves, an added table (for inputs of at most ``n_frames``), or a rotation
        of queries and keys.
    dropout : float in [0, 1)
        Behind the embedding and both parts of each layer.
    pool : {"mean", "mean_std", "layers", "attention", "cls"}
        From positions to one vector: mean; mean and deviation; the mean over positions and all layers; a mean weighted
        by a learned score of each position, which starts as the plain mean; or what one more position holds, which
        stands before the others and has no input.
    head_dropout : float in [0, 1)
        Before the classes.
    """

    n_frames: int
    size: Literal["tiny", "small", "mam", "base"] = "small"
    group: int = 4
    positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal"
    dropout: float = 0.1
    pool: Literal["mean", "mean_std", "layers", "attention", "cls"] = "mean"
    head_dropout: float = 0.3

    place: ClassVar[str] = "transformer"

    def _resolve(self) -> None:
        _check_length(self.n_frames, self.group, self.place)


def _check_length(n_frames: int, group: int, place: str) -> None:
    if n_frames < group:
        raise ConfigError(
            f"{n_frames} frames are fewer than one group of {group}", place, "Lower model.group, or take longer inputs"
        )


def grouped(x: torch.Tensor, group: int) -> torch.Tensor:
    """Join ``group`` frames: ``(batch, values, frames)`` to ``(batch, positions, group, values)``.

    Examples
    --------
    >>> grouped(torch.arange(10).reshape(1, 2, 5), 2).tolist()
    [[[[0, 5], [1, 6]], [[2, 7], [3, 8]]]]
    """
    n_positions = x.shape[-1] // group
    cut = x[..., : n_positions * group].reshape(*x.shape[:-1], n_positions, group)
    return cut.permute(0, 2, 3, 1)


class FrontEnd(nn.Module, abc.ABC):
    """From an input to one vector per position: embedding, norm, and where the position is in time.

    Parameters
    ----------
    config : FormerConfig
    """

    def __init__(self, config: FormerConfig) -> None:
        super().__init__()
        self.width, self.group = SIZES[config.size].width, config.group
        self.norm = nn.LayerNorm(self.width)
        self.dropout = nn.Dropout(config.dropout)
        self.positions = config.positions
        if config.positions == "learned":
            self.table = nn.Parameter(torch.empty(config.n_frames // config.group, self.width))
            nn.init.normal_(self.table, std=_DEVIATION)

    @abc.abstractmethod
    def embed(self, x: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """Vectors ``(batch, positions, width)``; ``hidden`` positions show the mask symbol instead of their input."""

    def forward(self, x: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """What the first layer sees, ``(batch, positions, width)``."""
        vectors = self.norm(self.embed(x, hidden))
        if self.positions == "learned":
            if vectors.shape[1] > len(self.table):
                found = f"{vectors.shape[1]} positions for a table of {len(self.table)}"
                raise ConfigError(found, "positions=learned", "Give inputs of the length it was built for")
            vectors = vectors + self.table[: vectors.shape[1]]
        elif self.positions == "sinusoidal":
            vectors = vectors + _waves(vectors.shape[1], self.width, vectors)
        return cast("torch.Tensor", self.dropout(vectors))


def _angles(n_positions: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Phases ``(positions, width / 2)``: wavelengths from 2 pi to 20,000 pi positions (Vaswani et al. 2017)."""
    rates = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10_000.0) / width))
    return torch.arange(n_positions, device=like.device)[:, None] * rates


def _waves(n_positions: int, width: int, like: torch.Tensor) -> torch.Tensor:
    angles = _angles(n_positions, width, like)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(like.dtype)


def _rotated(x: torch.Tensor) -> torch.Tensor:
    """Turn pairs of values of ``(batch, heads, positions, width)`` by angles that grow with the position."""
    angles = _angles(x.shape[-2], x.shape[-1], x)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class _Layer(nn.Module):
    """Norm, attention, norm, two maps with a GELU; each added to its input."""

    def __init__(self, size: Size, dropout: float, *, rotary: bool) -> None:
        super().__init__()
        self.heads, self.rotary = size.heads, rotary
        self.attention_norm, self.map_norm = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.query_key_value = nn.Linear(size.width, 3 * size.width)
        self.joined = nn.Linear(size.width, size.width)
        self.inner = nn.Linear(size.width, size.inner)
        self.outer = nn.Linear(size.inner, size.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
        """``(batch, positions, width)`` to the same; ``keys`` bool ``(batch, 1, 1, positions)`` may be attended to."""
        x = x + self.dropout(self._attended(self.attention_norm(x), keys))
        mapped = self.outer(functional.gelu(self.inner(self.map_norm(x))))
        return x + cast("torch.Tensor", self.dropout(mapped))

    def _attended(self, x: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
        split = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        if self.rotary:
            query, key = _rotated(query), _rotated(key)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=keys)
        return cast("torch.Tensor", self.joined(found.transpose(1, 2).flatten(-2)))


class Former(SequenceModel):
    """Trunk of the family: a front end, transformer layers, a pool over positions and one linear layer.

    Where an input is padded, ``lengths`` says how many frames of each example are real: a position that lacks one of
    its frames is attended to by no other and enters no pool, so a track scores alone as it does in a padded batch.

    Attributes
    ----------
    width : int
        Length of the vector of a position.
    frames_per_position : int
        Frames of the input that one position stands for: ``group``.
    """

    any_length: ClassVar[bool] = True
    takes_lengths: ClassVar[bool] = True
    takes_hidden: ClassVar[bool] = True

    config: FormerConfig

    def __init__(self, config: FormerConfig, front: FrontEnd) -> None:
        super().__init__(config)
        size = SIZES[config.size]
        self.width, self.frames_per_position = size.width, config.group
        self.front = front
        rotary = config.positions == "rotary"
        self.layers = nn.ModuleList(_Layer(size, config.dropout, rotary=rotary) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head_dropout = nn.Dropout(config.head_dropout)
        if config.pool == "attention":
            self.scores, self.pooling = nn.Linear(size.width, 1), "scores"
        if config.pool == "cls":
            self.summary = nn.Parameter(torch.empty(size.width))
            nn.init.normal_(self.summary, std=_DEVIATION)
        self.output = nn.Linear(size.width * (2 if config.pool == "mean_std" else 1), config.n_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_DEVIATION)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        if config.pool == "attention":
            nn.init.zeros_(self.scores.weight)

    def encode(
        self, x: torch.Tensor, lengths: torch.Tensor | None = None, hidden: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Vectors ``(batch, width, positions)``.

        Parameters
        ----------
        x : tensor (batch, ..., frames)
        lengths : int64 (batch,), optional
            Real frames of each example; by default all are.
        hidden : bool (batch, positions), optional
            Positions whose input is replaced by the mask symbol.
        """
        return self._outputs(x, lengths, hidden)[-1][:, self._before :].transpose(1, 2)

    @property
    def _before(self) -> int:
        """Positions before those of the input."""
        return int(self.config.pool == "cls")

    def _outputs(
        self, x: torch.Tensor, lengths: torch.Tensor | None, hidden: torch.Tensor | None
    ) -> list[torch.Tensor]:
        """What the first layer sees and each layer gives, ``(batch, positions, width)``; the last behind the norm."""
        _check_length(x.shape[-1], self.config.group, self.config.place)
        vectors = self.front(x, hidden)
        keys = None if lengths is None else _attended_to(self._real(vectors, lengths))
        if self._before:
            vectors = torch.cat([self.summary.to(vectors.dtype).expand(len(vectors), 1, -1), vectors], dim=1)
            keys = None if keys is None else functional.pad(keys, (1, 0), value=True)
        outputs = [vectors]
        for layer in self.layers:
            outputs.append(layer(outputs[-1], keys))
        return [*outputs[:-1], self.norm(outputs[-1])]

    def _real(self, vectors: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """Positions whose frames are all real, bool ``(batch, positions)``."""
        return real_frames(vectors[..., 0], None if lengths is None else lengths // self.config.group)

    def inner_layers(self) -> dict[str, InnerLayer]:
        """Positions by layer, 0 (what the first one sees) to the last one behind the norm, and the pooled features."""
        positions = InnerLayer(self.width, self.config.group, self.config.group)
        return {str(number): positions for number in range(len(self.layers) + 1)} | super().inner_layers()

    def inner_values(self, x: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Vectors ``(batch, width, positions)`` of layers by number, and ``(batch, width)`` of the features."""
        found = {}
        if set(names) - {FEATURES}:
            outputs = enumerate(self._outputs(x, None, None))
            found = {str(number): vectors[:, self._before :].transpose(1, 2) for number, vectors in outputs}
        return found | (super().inner_values(x, names) if FEATURES in names else {})

    @property
    def least_length(self) -> int:
        """Frames of one position."""
        return self.config.group

    def forward_features(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Pooled vectors ``(batch, width)``, or twice the width where the deviation is part of the pool."""
        outputs, pool = self._outputs(x, lengths, None)[1:], self.config.pool
        vectors = torch.stack(outputs).mean(dim=0) if pool == "layers" else outputs[-1]
        if pool == "cls":
            return cast("torch.Tensor", self.head_dropout(vectors[:, 0]))
        weights = self._real(vectors, lengths).to(vectors.dtype)[..., None]
        if pool == "attention":
            weights = _weighted(self.scores(vectors), weights)
        count = weights.sum(dim=1).clamp(min=1e-6)
        mean = (vectors * weights).sum(dim=1) / count
        if pool == "mean_std":
            variance = ((vectors - mean[:, None]).square() * weights).sum(dim=1) / count
            mean = torch.cat([mean, (variance + 1e-6).sqrt()], dim=-1)
        return cast("torch.Tensor", self.head_dropout(mean))


def _weighted(scores: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Weights ``(batch, positions, 1)`` from scores of the same shape; zero where a position is padding."""
    known = scores.float().masked_fill(real == 0, -torch.inf)
    largest = known.amax(dim=1, keepdim=True)
    return (known - torch.where(largest.isfinite(), largest, 0.0)).exp().to(real.dtype)


def _attended_to(real: torch.Tensor) -> torch.Tensor:
    """Mask of the keys, bool ``(batch, 1, 1, positions)``.

    A row without a real position attends to all of its padding: some back ends give NaN where nothing may be attended
    to, and a NaN reaches the gradient of every weight, whatever later ignores that row.
    """
    return (real | ~real.any(dim=1, keepdim=True))[:, None, None, :]
