"""What the GAFX models share: a learned front end draws a picture, an Audio Spectrogram Transformer classifies it.

Origin: Z. Bu, H. Zhang, X. Zhu, "GAFX: A general audio feature extractor", 2022.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch

from featstore.models.ast_transformer import AstClassifier, standardise_picture
from featstore.models.interface import FEATURES

__all__ = ["Gafx"]


class Gafx(AstClassifier):
    """A front end with weights before an Audio Spectrogram Transformer.

    Input float32 ``(batch, channels, n_samples)``, output logits ``(batch, n_classes)``. A subclass draws: it has
    its front end as ``extractor``, made before the classifier, as weights are drawn in this order.
    """

    takes: ClassVar[str] = "waveform"
    input_norm: ClassVar[Any] = "none"  # front ends normalise each clip themselves

    config: Any

    @abc.abstractmethod
    def draw(self, x: torch.Tensor) -> torch.Tensor:
        """What the front end makes of a batch and a store holds: pictures ``(batch, ..., bands, frames)``."""

    @abc.abstractmethod
    def inner_pictures(self, drawn: torch.Tensor) -> dict[str, torch.Tensor]:
        """Drawn pictures ``(batch, bands, frames)`` by the names of their layers."""

    def join(self, drawn: torch.Tensor) -> torch.Tensor:
        """One picture ``(batch, bands, frames)`` of what was drawn, each clip with mean 0 and deviation 0.5."""
        return standardise_picture(drawn)

    def extract(self, x: torch.Tensor) -> torch.Tensor:
        """Picture ``(batch, bands, frames)`` that the classifier sees: each clip with mean 0 and deviation 0.5."""
        return self.join(self.draw(x))

    def classify(self, drawn: torch.Tensor) -> torch.Tensor:
        """What the last layer reads, ``(batch, width)``, of what was drawn."""
        return cast("torch.Tensor", self.norm(self.trunk(self.join(drawn))))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """What the last layer reads, ``(batch, width)``."""
        return self.classify(self.draw(x))

    def inner_values(self, x: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Pictures ``(batch, bands, frames)`` by layer, and features ``(batch, width)`` where they are asked for."""
        drawn = self.draw(x)
        features = {FEATURES: self.classify(drawn)} if FEATURES in names else {}
        return self.inner_pictures(drawn) | features
