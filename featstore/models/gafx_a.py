"""GAFX-A: GAFX-R with attention between the rows.

Origin: Z. Bu, H. Zhang, X. Zhu, "GAFX: A general audio feature extractor", 2022, who gave the variant up when its loss
was not a number, and say nothing about number, width, heads or norms of its attention layers. Those are ours, and so is
what keeps it finite: the waveform is standardised with a floor, so that silence is zeros; layers begin with a norm;
scores are scaled before their softmax, in full precision; the picture is standardised with a floor.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from featstore.models.gafx_r import BANDS, GafxR, RowTrunk
from featstore.models.layers import full_precision, standardised

__all__ = ["GafxA", "sinusoids"]

_LAYERS, _HEADS, _HIDDEN, _DROPOUT = 2, 4, 512, 0.1


def sinusoids(n: int, width: int) -> torch.Tensor:
    """Positions as sines and cosines of falling frequency, float32 ``(n, width)`` (A. Vaswani et al., NeurIPS 2017).

    Examples
    --------
    >>> sinusoids(2, 4)[0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10_000) / width))
    angles = torch.arange(n, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


class _AttentiveTrunk(nn.Module):
    """``RowTrunk`` on a standardised waveform, then two transformer layers between the rows."""

    def __init__(self, *, width: float, checkpointing: bool) -> None:
        super().__init__()
        self.rows = RowTrunk(width=width, checkpointing=checkpointing)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                BANDS,
                _HEADS,
                dim_feedforward=_HIDDEN,
                dropout=_DROPOUT,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(_LAYERS)
        )
        self.norm = nn.LayerNorm(BANDS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, 1, rows, 200)`` to ``(batch, 128, rows)``."""
        tokens = self.rows(standardised(x)).transpose(1, 2)
        with full_precision(tokens):
            tokens = tokens.float()
            tokens = tokens + sinusoids(tokens.shape[1], BANDS).to(tokens.device)
            for layer in self.layers:
                tokens = layer(tokens)
            found: torch.Tensor = self.norm(tokens).transpose(1, 2)
        return found


class GafxA(GafxR):
    """GAFX-R whose rows attend to each other in two transformer layers before the classifier.

    Input float32 ``(batch, 1, n_samples)``, output logits ``(batch, n_classes)``. With 661,600 samples and 10 classes
    it has 34,698,058 parameters, 12,666,048 of them in the extractor.
    """

    Extractor = _AttentiveTrunk
