"""Masked prediction: fill in what was hidden of a spectrogram, judged against what needs no learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from featstore.models.interface import Model, SequenceModel
from featstore.models.layers import InputNorm
from featstore.training.config import ObjectiveConfig, TrainConfig
from featstore.training.input_shape import InputShape
from featstore.training.masked_positions import HidesSpans, PositionPredictor
from featstore.training.masking import apply_spans, interpolated
from featstore.training.normed_model import Inputs, ModelBatch, NormedModel
from featstore.training.objectives import Forward
from featstore.training.settings import Range, require

__all__ = ["Masked", "MaskedConfig", "Reconstructor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedConfig(ObjectiveConfig):
    """Settings of masked prediction.

    Parameters
    ----------
    share : float in (0, 1)
        Share of the frames that is chosen.
    span_ms : float
        Length of one chosen span. Neighbouring frames overlap, so single frames would be too easy.
    hidden, swapped : float
        Shares of the chosen spans that are replaced by the mean, and by another stretch of the same crop; the rest
        stays as it is (80, 10 and 10 %, as in BERT).
    distance : {"l1", "l2"}
        Absolute or squared error of normalised values.
    positions : {"masked", "all"}
        Frames that enter the loss; scores always look at chosen ones alone.
    """

    name: str = "masked"
    share: Annotated[float, Range.PROPER_SHARE] = 0.3
    span_ms: Annotated[float, Range.POSITIVE] = 100.0
    hidden: float = 0.8
    swapped: float = 0.1
    distance: Literal["l1", "l2"] = "l1"
    positions: Literal["masked", "all"] = "masked"

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        right = self.hidden >= 0 and self.swapped >= 0 and self.hidden + self.swapped <= 1
        require(right, f"hidden={self.hidden} and swapped={self.swapped} are not shares of a whole", "objective")
        require(self.hidden + self.swapped > 0, "nothing is hidden: hidden and swapped are 0", "objective")

    @property
    def how(self) -> dict[str, Any]:
        """What ``draw_spans`` takes."""
        return {name: getattr(self, name) for name in ("share", "span_ms", "hidden", "swapped")}


class Reconstructor(PositionPredictor):
    """A model's encoder with a linear decoder: predicts the frames of its own input, in normalised units."""

    def forward(self, x: Inputs, lengths: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Prediction ``(batch, values, frames)``; the last frames are absent where they fill no position."""
        encode = cast("SequenceModel", self.model).encode
        code = encode(self.arranged(self.normalised(x)), *self.lengths_for(lengths))
        values = self.decoder(code.transpose(1, 2)).unflatten(-1, (self.group, self.n_outputs))
        return cast("torch.Tensor", values.flatten(1, 2).transpose(1, 2).float())


class Masked(HidesSpans):
    """Error at chosen frames of a crop, of which most are hidden from the model.

    Parameters
    ----------
    job : Job
    engine : Engine
    normed : Reconstructor
        Whose norm defines values and means.
    """

    Config: ClassVar[type[ObjectiveConfig]] = MaskedConfig
    config: MaskedConfig

    @classmethod
    def check(cls, model: str, config: TrainConfig) -> None:
        """Refuse a model that cannot be pretrained by masking, and settings that are about labels."""
        super().check(model, config)

        def able(kind: type[Model]) -> bool:
            return issubclass(kind, SequenceModel) and kind.takes == "spectrum"

        what = "the model gives no vector for each stretch of time of a spectrum, which filling in needs"
        otherwise = ", or pretrain on labels: --set objective.name=supervised --tracks T.parquet"
        cls.check_model(model, able, what, otherwise)

    @classmethod
    def wrap(cls, model: Model, shape: InputShape, settings: ObjectiveConfig, **normed: Any) -> Reconstructor:
        """Encoder of the model with a linear decoder."""
        return Reconstructor(model, n_outputs=shape.n_values, **normed)

    def _spans(self, batch: ModelBatch, *, epoch: int, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        chosen, source = self.drawn(batch, group=1, epoch=epoch, split=split)
        device = batch.first.device
        return chosen.to(device, non_blocking=True), source.to(device, non_blocking=True)

    def _shown(self, x: Inputs, source: torch.Tensor) -> Inputs:
        """Input as the model sees it; the mean of a band becomes zero behind the norm."""
        norm: Any = self.normed.norm
        if isinstance(x, dict):
            return {name: apply_spans(each, source, _mean_of(norm and norm[name])) for name, each in x.items()}
        return apply_spans(x, source, _mean_of(norm))

    def loss(self, forward: Forward, batch: ModelBatch, *, epoch: int) -> torch.Tensor:
        """Mean error over the chosen frames of a batch (or all that are real)."""
        chosen, source = self._spans(batch, epoch=epoch, split="train")
        prediction, target = forward(self._shown(batch.x, source), batch.lengths), self.normed.frames(batch.x)
        frames = min(prediction.shape[-1], target.shape[-1])
        weights = chosen[:, :frames].to(target.dtype)
        if self.config.positions == "all":
            weights = (torch.arange(frames) < batch.real_frames[:, None]).to(weights)
        errors = self.distance(prediction[..., :frames], target[..., :frames]).mean(dim=1)
        return (errors * weights).sum() / weights.sum().clamp(min=1)

    def figures(self, normed: NormedModel | None, batch: ModelBatch, split: str) -> dict[str, torch.Tensor]:
        """Sums over the chosen frames of each crop, hidden in the same places every time."""
        chosen, source = self._spans(batch, epoch=0, split=split)
        target = self.normed.frames(batch.x)
        prediction = target if normed is None else normed(self._shown(batch.x, source), batch.lengths)
        frames = min(prediction.shape[-1], target.shape[-1])
        guesses = {"loss": prediction, "mean": torch.zeros_like(target), "line": interpolated(target, chosen)}
        chosen = chosen[:, :frames]
        sums = {
            name: (self.distance(each[..., :frames], target[..., :frames]).mean(dim=1).double() * chosen).sum(dim=1)
            for name, each in guesses.items()
        }
        return sums | {"chosen": chosen.sum(dim=1), "frames": torch.full((len(batch),), frames)}

    def values(self, total: dict[str, NDArray[np.float64]]) -> dict[str, float]:
        """Scores of a split; without a model the baselines alone.

        ``loss``, the mean error over chosen frames and bands, in units of each band's deviation; ``mean_baseline`` and
        ``line_baseline``, what the mean of each band and a line across each span would give; ``skill``, 1 - loss / the
        better of the two (not above 0: the model has learnt nothing); ``chosen_share`` of the frames.
        """
        counts = {name: float(each.sum()) for name, each in total.items()}
        loss, mean, line = (counts[name] / max(1.0, counts["chosen"]) for name in ("loss", "mean", "line"))
        return {
            "loss": loss,
            "mean_baseline": mean,
            "line_baseline": line,
            "skill": 1 - loss / better if (better := min(mean, line)) else float("nan"),
            "chosen_share": counts["chosen"] / max(1.0, counts["frames"]),
        }


def _mean_of(norm: InputNorm | None) -> torch.Tensor | float:
    return 0.0 if norm is None else cast("torch.Tensor", norm.mean)
