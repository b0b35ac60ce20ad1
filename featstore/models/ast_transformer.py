"""Audio Spectrogram Transformer: a picture of bands and frames, cut into patches of 16 x 16, read by a transformer.

Origin: Y. Gong, Y.-A. Chung, J. Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021, with patches that do not
overlap, as Z. Bu et al., "GAFX: A general audio feature extractor", 2022, use it. Layers are those of transformers; the
sizes and the norms' eps are DeiT's (H. Touvron et al., ICML 2021), whose weights it may start from (``ast_weights``).
Pictures of any length are read at their own length: the table of positions is cut or stretched, and clips that a batch
padded are masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.models.ast_weights import from_deit, patch_weight, resize_positions
from featstore.models.interface import Model
from featstore.models.layers import recomputed, standardised
from featstore.models.model_config import SpectrumConfig
from featstore.models.transformers_folder import import_transformers

__all__ = [
    "AUDIOSET_DEVIATION",
    "AUDIOSET_MEAN",
    "PATCH",
    "Ast",
    "AstClassifier",
    "AstConfig",
    "AstTrunk",
    "AudiosetAst",
    "GafxAst",
    "Size",
    "from_deit",
    "patch_grid",
    "patch_weight",
    "resize_positions",
    "standardise_picture",
]

PATCH = 16
"""Bands and frames of a patch, and the step from one to the next."""

WIDTHS = {"tiny": (192, 3), "small": (384, 6)}
"""Width and heads of DeiT-Ti and DeiT-S."""

AUDIOSET_MEAN, AUDIOSET_DEVIATION = -4.2677393, 4.5689974
"""Of natural-log mel energies on AudioSet, as AST's authors give them."""

Size = Literal["tiny", "small"]

_EPS = 1e-6  # of DeiT's layer norms; transformers' own default for AST is 1e-12


def patch_grid(n_mels: int, n_frames: int, *, where: str = "ast") -> tuple[int, int]:
    """Patches along bands and along frames; bands and frames that fill no patch are left out.

    Raises
    ------
    ConfigError
        A picture smaller than one patch.

    Examples
    --------
    >>> patch_grid(128, 3308)
    (8, 206)
    """
    for size, name in ((n_mels, "bands"), (n_frames, "frames")):
        if size < PATCH:
            fix = "Give longer clips" if name == "frames" else "Choose a feature with more bands"
            raise ConfigError(f"{size} {name} are too few for one patch of {PATCH}", where, fix)
    return n_mels // PATCH, n_frames // PATCH


def standardise_picture(x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
    """Bring each clip to mean 0 and deviation 0.5, the scale that AST expects; a constant clip becomes zeros.

    Parameters
    ----------
    x : (batch, bands, frames)
    lengths : int64 (batch,), optional
        Real frames of each clip, which alone count; those behind them become zeros.
    """
    return standardised(x, lengths) / 2


class AstTrunk(nn.Module):
    """Patches, class and distillation tokens, transformer layers: mean of the two tokens behind the last norm.

    Input ``(batch, n_mels, frames)`` on the scale of AST (mean 0, deviation 0.5), output ``(batch, width)``.

    Parameters
    ----------
    n_mels, n_frames : int
        Size of the picture that the table of positions is made for; other lengths are read too.
    size : {"tiny", "small"}
    depth : int > 0
        Transformer layers.
    checkpointing : bool
        In training, keep only each layer's input and compute the rest again: less memory, a third more time.

    Raises
    ------
    MissingDependency
        Without transformers.
    """

    def __init__(
        self, n_mels: int, n_frames: int, *, size: Size = "tiny", depth: int = 12, checkpointing: bool = False
    ) -> None:
        super().__init__()
        library = import_transformers("the Audio Spectrogram Transformer")
        self.grid = patch_grid(n_mels, n_frames)
        self.checkpointing = checkpointing
        self.width, heads = WIDTHS[size]
        config = library.ASTConfig(
            hidden_size=self.width,
            num_attention_heads=heads,
            intermediate_size=4 * self.width,
            num_hidden_layers=depth,
            patch_size=PATCH,
            frequency_stride=PATCH,
            time_stride=PATCH,
            num_mel_bins=n_mels,
            max_length=n_frames,
            layer_norm_eps=_EPS,
            attn_implementation="sdpa",
        )
        backbone = library.ASTModel(config)
        self.embeddings, self.layers, self.layernorm = backbone.embeddings, backbone.layers, backbone.layernorm
        tokens = (self.embeddings.cls_token, self.embeddings.distillation_token, self.embeddings.position_embeddings)
        for table in tokens:
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Mean of class and distillation token; ``lengths`` are real frames of each picture, where some are padded.

        Raises
        ------
        ConfigError
            Pictures with another number of bands, or shorter than one patch.
        """
        n_f, n_t = patch_grid(x.shape[1], x.shape[2])
        if n_f != self.grid[0]:
            raise ConfigError(f"{x.shape[1]} bands for a model of {self.grid[0]} x {PATCH}", "ast", "Match n_mels")
        patches = self.embeddings.patch_embeddings(x.transpose(1, 2))  # transformers wants time first
        tokens = [
            token.expand(len(x), -1, -1) for token in (self.embeddings.cls_token, self.embeddings.distillation_token)
        ]
        hidden = torch.cat([*tokens, patches], dim=1)
        hidden, mask = self._placed(hidden, n_t, lengths)
        for layer in self.layers:
            hidden = recomputed(self, layer, hidden, mask) if self.checkpointing else layer(hidden, mask)
        return cast("torch.Tensor", self.layernorm(hidden)[:, :2].mean(dim=1))

    def _placed(
        self, hidden: torch.Tensor, n_t: int, lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens with their positions added, and which of them may be looked at (None for all)."""
        table, n_f = self.embeddings.position_embeddings, self.grid[0]
        if lengths is None:
            return hidden + self._positions(table, n_t), None
        columns = (lengths // PATCH).clamp(min=1, max=n_t)
        places = hidden.new_zeros(len(hidden), hidden.shape[1], self.width)
        for n in sorted(set(columns.tolist())):  # a clip has the same positions alone and in a batch that pads it
            own = self._positions(table, n)
            grid = functional.pad(own[:, 2:].reshape(n_f, n, -1), (0, 0, 0, n_t - n)).reshape(n_f * n_t, -1)
            places[columns == n] = torch.cat([own[0, :2], grid]).to(places.dtype)
        real = torch.arange(n_t, device=hidden.device) < columns[:, None].to(hidden.device)
        real = real[:, None].expand(-1, n_f, -1).reshape(len(hidden), -1)
        mask = functional.pad(real, (2, 0), value=True)
        return hidden + places, mask[:, None, None]

    def _positions(self, table: torch.Tensor, n_t: int) -> torch.Tensor:
        return table if n_t == self.grid[1] else resize_positions(table, self.grid[0], n_t, grid=self.grid)


@dataclass(frozen=True, slots=True, kw_only=True)
class AstConfig(SpectrumConfig):
    """Settings of the Audio Spectrogram Transformer.

    Parameters
    ----------
    n_mels, n_frames, n_classes : int
        Size of one input, at least 16 x 16, and of the output. The paper's has 128 x 3308. Other numbers of frames are
        read by the same weights.
    size : {"tiny", "small"}
        DeiT-Ti (width 192, 3 heads) or DeiT-S (384, 6).
    depth : int > 0
        Transformer layers.
    checkpointing : bool
        Compute activations again in the backward pass instead of keeping them.
    """

    size: Size = "tiny"
    depth: int = 12
    checkpointing: bool = False

    place: ClassVar[str] = "ast"

    def _resolve(self) -> None:
        patch_grid(self.n_mels, self.n_frames)


class AstClassifier(Model):
    """A model that ends in an Audio Spectrogram Transformer and one linear layer."""

    package = "transformers"
    any_length: ClassVar[bool] = True
    published: ClassVar[Mapping[str, str]] = {"trunk": "featstore.models.ast_weights:deit_trunk"}

    def build_classifier(self, bands: int, n_frames: int) -> None:
        """Make trunk, norm and last layer for pictures of this size."""
        config = self.config
        self.trunk = AstTrunk(bands, n_frames, size=config.size, depth=config.depth, checkpointing=config.checkpointing)
        self.norm = nn.LayerNorm(self.trunk.width, eps=_EPS)
        self.output = nn.Linear(self.trunk.width, config.n_classes)
        nn.init.trunc_normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)


class Ast(AstClassifier):
    """Audio Spectrogram Transformer: patches of 16 x 16 without overlap, two class tokens, one linear layer.

    Input float32 ``(batch, 1, n_mels, n_frames)``, normalised by mean and deviation of the training split; output
    logits ``(batch, n_classes)``. With 128 bands, 3308 frames and 10 classes it has 5,707,594 parameters
    (22,032,010 with ``size=small``).
    """

    Config = AstConfig
    input_norm: ClassVar[Any] = "global"
    paper_input: ClassVar[dict[str, int] | None] = {"n_mels": 128, "n_frames": 3308}
    takes_lengths: ClassVar[bool] = True
    least_length = PATCH

    def __init__(self, config: AstConfig) -> None:
        super().__init__(config)
        self.build_classifier(config.n_mels, config.n_frames)

    def scaled(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Picture ``(batch, n_mels, frames)`` on the scale of AST: half a deviation is 1."""
        return x / 2

    def forward_features(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Mean of the two tokens behind the norm of the head, ``(batch, width)``."""
        return cast("torch.Tensor", self.norm(self.trunk(self.scaled(x.squeeze(1), lengths), lengths)))


class AudiosetAst(Ast):
    """``ast`` for weights trained on AudioSet: natural-log mel energies, scaled by that data set's statistics."""

    input_norm: ClassVar[Any] = "none"  # statistics of the split and of AudioSet are never mixed

    def scaled(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Picture on the scale of AST."""
        return (x - AUDIOSET_MEAN) / (2 * AUDIOSET_DEVIATION)


class GafxAst(Ast):
    """The classifier of GAFX alone, for pictures of its extractors that a store holds: each clip is standardised."""

    input_norm: ClassVar[Any] = "none"

    def scaled(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Picture with mean 0 and deviation 0.5, as the extractors hand it on."""
        return standardise_picture(x, lengths)
