"""Masked prediction of values: the normalised frames behind hidden positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from featstore.models.interface import Model
from featstore.models.transformer_trunk import grouped
from featstore.training.config import ObjectiveConfig
from featstore.training.input_shape import InputShape
from featstore.training.masked_positions import Choice, MaskedPositions, PositionPredictor, mean_of_known
from featstore.training.masking import interpolated
from featstore.training.masking_settings import MaskedPositionsConfig
from featstore.training.normed_model import ModelBatch, NormedModel

__all__ = ["MaskedValues", "MaskedValuesConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedValuesConfig(MaskedPositionsConfig):
    """Settings of masked prediction of values.

    Parameters
    ----------
    distance : {"l1", "l2"}
        Absolute or squared error of normalised values.
    positions : {"masked", "all"}
        Positions that enter the loss (Mockingjay predicts all); scores always look at chosen ones alone.
    residual : bool
        Predict what a line across each hidden span leaves of the values. On fine grids neighbouring frames share most
        of their samples, and a small model spends its width on redrawing the line; this gives it the line.
    """

    name: str = "masked-values"
    distance: Literal["l1", "l2"] = "l1"
    positions: Literal["masked", "all"] = "masked"
    residual: bool = False


class MaskedValues(MaskedPositions):
    """Error of the frames behind chosen positions; to be beaten: the mean of each band, a line across each gap."""

    Config: ClassVar[type[ObjectiveConfig]] = MaskedValuesConfig
    config: MaskedValuesConfig
    to_beat: ClassVar[tuple[str, ...]] = ("mean_baseline", "line_baseline")

    @classmethod
    def wrap(cls, model: Model, shape: InputShape, settings: ObjectiveConfig, **normed: Any) -> NormedModel:
        """Put a linear layer behind the model that gives the values of a frame."""
        return PositionPredictor(model, n_outputs=shape.n_values, **normed)

    def _wanted(self, batch: ModelBatch, split: str) -> torch.Tensor:
        return grouped(self.normed.frames(batch.x), self.normed.group)

    def _goal(self, batch: ModelBatch, split: str, choice: Choice) -> torch.Tensor:
        wanted = self._wanted(batch, split)
        return wanted - self._line(batch, choice) if self.config.residual else wanted

    def _line(self, batch: ModelBatch, choice: Choice) -> torch.Tensor:
        """Values on a line across each hidden span, like ``_wanted``; at all other positions the values themselves."""
        group = self.normed.group
        gaps = (choice.chosen | ~choice.real).repeat_interleave(group, dim=1)  # no line starts in padding
        return grouped(interpolated(self.normed.frames(batch.x)[..., : gaps.shape[1]], gaps), group)

    def _errors(self, prediction: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return self.distance(prediction, wanted).mean(dim=(1, 2))

    def _positions_of_loss(self, choice: Choice) -> torch.Tensor:
        return choice.real if self.config.positions == "all" or self.config.band_share else choice.chosen

    def _errors_of_loss(
        self, prediction: torch.Tensor, wanted: torch.Tensor, choice: Choice, bands: torch.Tensor | None
    ) -> torch.Tensor:
        """Error of each position: of what is hidden there, all of it or some bands, unless all values count."""
        if bands is None or self.config.positions == "all":
            return self._errors(prediction, wanted)
        repeats = wanted.shape[-1] // bands.shape[1]  # spectra that are stacked are hidden alike
        row = choice.real.nonzero()[:, 0]
        hidden = choice.chosen[choice.real][:, None] | bands.repeat(1, repeats)[row]
        weights = hidden[:, None].expand(wanted.shape).to(prediction.dtype)
        return mean_of_known(self.distance(prediction, wanted), weights)

    def _judged(
        self, prediction: torch.Tensor, wanted: torch.Tensor, batch: ModelBatch, choice: Choice
    ) -> dict[str, torch.Tensor]:
        line, there = self._line(batch, choice), wanted[choice.judged]
        return {
            "mean_baseline": self._errors(torch.zeros_like(there), there),
            "line_baseline": self._errors(line[choice.judged], there),
        }
