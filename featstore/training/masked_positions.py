"""Masked prediction by models that have a symbol for what is hidden: of values, or of ids.

The SpectroFormer family is pretrained like this (Kamuni et al. 2024, arXiv 2404.01058): positions of a crop are hidden,
the model gives a vector for each, and a linear layer that exists only here predicts the frames behind them. Which
seconds are hidden depends on seed, epoch, track and crop alone, so models of frames, tokens and code vectors lack the
same ones.
"""

from __future__ import annotations

import abc
import logging
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from featstore.errors import ConfigError, DatasetError
from featstore.models import MODELS
from featstore.models.interface import Model, SequenceModel
from featstore.training.config import TrainConfig
from featstore.training.engines import Engine
from featstore.training.job import Job
from featstore.training.masking import PURPOSES, draw_bands, draw_spans, frames_of
from featstore.training.masking_settings import MaskedPositionsConfig
from featstore.training.normed_model import Inputs, ModelBatch, NormedModel
from featstore.training.objectives import Batches, Forward, Measured

__all__ = ["HidesSpans", "MaskedPositions", "PositionPredictor", "mean_of_known", "skill_of"]

logger = logging.getLogger(__name__)

_RESAMPLES = 1000


class PositionPredictor(NormedModel):
    """A model's encoder with a linear layer that predicts the frames behind chosen positions.

    Parameters
    ----------
    model : SequenceModel
        Whose ``encode`` takes ``hidden``.
    norm, names, channels_last : as for NormedModel
    n_outputs : int
        Numbers that are predicted of one frame.
    targets : torch.nn.Module, optional
        What turns frames into ids, where it has a state to be kept with the weights.
    """

    def __init__(
        self,
        model: Model,
        norm: nn.Module | None = None,
        *,
        n_outputs: int,
        targets: nn.Module | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(model, norm, **settings)
        sequence = cast("SequenceModel", model)
        for name in filter(None, (model.head, sequence.pooling)):  # no gradient ever reaches classes and pool
            model.get_submodule(name).requires_grad_(False)
        self.group, self.n_outputs = int(sequence.frames_per_position), n_outputs
        self.decoder = nn.Linear(int(sequence.width), n_outputs * self.group)
        self.targets = targets

    def frames(self, x: Inputs) -> torch.Tensor:
        """Normalised input as ``(batch, values, frames)``, all inputs together."""
        return cast("torch.Tensor", self.arranged(self.normalised(x)).flatten(1, -2))

    def forward(
        self,
        x: Inputs,
        lengths: torch.Tensor | None = None,
        hidden: torch.Tensor | None = None,
        chosen: torch.Tensor | None = None,
        bands: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predictions ``(chosen positions, group, n_outputs)``, of all positions by default.

        ``hidden`` and ``chosen`` are bool ``(batch, positions)``, ``bands`` bool ``(batch, bands)``: those that show
        their mean.
        """
        encode: Any = cast("SequenceModel", self.model).encode
        arranged = self.arranged(self.normalised(x))
        if bands is not None:
            arranged = arranged.masked_fill(bands[:, None, :, None], 0.0)
        code = encode(arranged, *(self.lengths_for(lengths) or (None,)), hidden)
        vectors = code.transpose(1, 2)
        picked = vectors.flatten(0, 1) if chosen is None else vectors[chosen]
        found: torch.Tensor = self.decoder(picked).unflatten(-1, (self.group, self.n_outputs))
        return found.float()


@dataclass(frozen=True, slots=True)
class Choice:
    """Positions of a batch that were chosen, all ``(batch, positions)``.

    Attributes
    ----------
    chosen : bool
        Those that are to be predicted.
    hidden : bool
        Those of them that show the mask symbol.
    source : int64
        Position whose input is shown; its own number but for swapped ones.
    real : bool
        Those that are no padding.
    fresh : bool
        Those that no earlier window of the track has.
    """

    chosen: torch.Tensor
    hidden: torch.Tensor
    source: torch.Tensor
    real: torch.Tensor
    fresh: torch.Tensor

    @property
    def judged(self) -> torch.Tensor:
        """Chosen positions that count in a score."""
        return self.chosen & self.fresh

    def shown(self, x: Inputs, group: int) -> Inputs:
        """Input with swapped positions in place."""
        if isinstance(x, dict):
            return {name: cast("torch.Tensor", self.shown(each, group)) for name, each in x.items()}
        n_frames = self.source.shape[1] * group
        frames = self.source.repeat_interleave(group, dim=1) * group
        frames = frames + torch.arange(group, device=x.device).repeat(self.source.shape[1])
        frames = frames.reshape(len(x), *[1] * (x.ndim - 2), n_frames)
        return torch.gather(x, -1, frames.expand(*x.shape[:-1], n_frames))


class HidesSpans(Measured):
    """An objective that hides spans of the input; its settings say ``how``, as ``draw_spans`` takes it."""

    normed: PositionPredictor

    @property
    def hop_ms(self) -> float:
        """Milliseconds between frames of the first input."""
        return 1000 * int(self.spec.frame_step) / int(self.spec.sample_rate)

    def drawn(self, batch: ModelBatch, *, group: int, epoch: int, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Chosen positions of ``group`` frames, none of them in padding, and where the values of each come from.

        See Also
        --------
        featstore.training.masking.frames_of : What is returned, on the CPU.
        """
        n_positions, position_ms = batch.first.shape[-1] // group, self.hop_ms * group
        count, how = batch.real_frames // group, self.config.how
        spans = draw_spans(
            batch.index.numpy(),
            batch.start.numpy() * self.hop_ms,
            np.maximum(count.numpy(), 1) * position_ms,
            **how | {"span_ms": how["span_ms"] or position_ms},
            seed=self.seed,
            epoch=epoch,
            purpose=PURPOSES[split],
        )
        chosen, source = frames_of(spans, hop_ms=position_ms, n_frames=n_positions)
        return chosen & (torch.arange(n_positions) < count[:, None]), source

    def distance(self, prediction: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Absolute or squared error of normalised values, as ``objective.distance`` says."""
        distance = (prediction - wanted).abs()
        return distance if self.config.distance == "l1" else distance.square()

    def opening(self, loader: Batches) -> str:
        """Say what has to be beaten."""
        found = self.score(None, loader, "valid").values
        return (
            f"to beat on the validation split: {found['line_baseline']:.4f} (a line across each hidden span), "
            f"{found['mean_baseline']:.4f} (the mean of each band)"
        )


class MaskedPositions(HidesSpans):
    """What masked prediction of values and of ids have in common: the choice of positions, and the scores.

    Parameters
    ----------
    job : Job
    engine : Engine
    normed : PositionPredictor
    """

    to_beat: ClassVar[tuple[str, ...]]

    def __init__(self, job: Job, engine: Engine, normed: NormedModel) -> None:
        super().__init__(job, engine, normed)
        check_apart(job)

    @classmethod
    def check(cls, model: str, config: TrainConfig) -> None:
        """Refuse models that have no symbol for what is hidden."""
        super().check(model, config)
        otherwise = ", or objective.name=masked, which shows the mean in their place"
        what = "the model has no symbol for hidden positions"
        cls.check_model(model, lambda kind: getattr(kind, "takes_hidden", False), what, otherwise)
        if cast("MaskedPositionsConfig", config.objective).band_share and MODELS.load(model).takes != "spectrum":
            found = "bands are hidden of spectra alone"
            raise ConfigError(found, f"objective.band_share, model {model}", "Set objective.band_share=0")

    @abc.abstractmethod
    def _wanted(self, batch: ModelBatch, split: str) -> torch.Tensor:
        """What is to be predicted, ``(batch, positions, group, values or ids)``."""

    def _goal(self, batch: ModelBatch, split: str, choice: Choice) -> torch.Tensor:
        """What predictions are compared with, like ``_wanted``."""
        return self._wanted(batch, split)

    @abc.abstractmethod
    def _errors(self, prediction: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Error of each position ``(chosen positions,)``; NaN where nothing is known to compare with."""

    @abc.abstractmethod
    def _judged(
        self, prediction: torch.Tensor, wanted: torch.Tensor, batch: ModelBatch, choice: Choice
    ) -> dict[str, torch.Tensor]:
        """Further figures of each judged position, the baselines among them."""

    def choose(self, batch: ModelBatch, *, epoch: int, split: str) -> Choice:
        """Draw the positions of a batch: the same for any model with positions of this length."""
        first, group = batch.first, self.normed.group
        count = batch.real_frames // group
        chosen, source = self.drawn(batch, group=group, epoch=epoch, split=split)
        n_positions = chosen.shape[1]
        real = torch.arange(n_positions) < count[:, None]
        hidden = chosen & (source < 0)
        own = torch.arange(n_positions).expand_as(source)
        # a swapped span may take from anywhere in the crop, but not from padding
        source = torch.where(chosen & ~hidden, source.minimum((count[:, None] - 1).clamp(min=0)), own)
        parts = (chosen, hidden, source, real, torch.ones_like(real))
        return Choice(*(each.to(first.device, non_blocking=True) for each in parts))

    def _judged_choice(self, batch: ModelBatch, split: str) -> Choice:
        """The choice in a batch of windows, those positions left out that an earlier window of their track has."""
        choice = self.choose(batch, epoch=0, split=split)
        if batch.fresh is None:
            return choice
        seen = batch.real_frames - batch.fresh
        place = torch.arange(choice.real.shape[1]) * self.normed.group
        return replace(choice, fresh=(place >= seen[:, None]).to(choice.real.device))

    def loss(self, forward: Forward, batch: ModelBatch, *, epoch: int) -> torch.Tensor:
        """Mean error over the chosen positions of a batch."""
        choice = self.choose(batch, epoch=epoch, split="train")
        bands = self._bands(batch, epoch)
        judged = self._positions_of_loss(choice)
        prediction = forward(choice.shown(batch.x, self.normed.group), batch.lengths, choice.hidden, judged, bands)
        errors = self._errors_of_loss(prediction, self._goal(batch, "train", choice)[judged], choice, bands)
        known = ~errors.isnan()
        return errors[known].sum() / known.sum().clamp(min=1)

    def _bands(self, batch: ModelBatch, epoch: int) -> torch.Tensor | None:
        """Bands that a batch of training does not show, bool ``(batch, bands)``."""
        if not self.config.band_share:
            return None
        found = draw_bands(
            batch.index.numpy(),
            batch.start.numpy() * self.hop_ms,
            batch.first.shape[-2],
            share=self.config.band_share,
            seed=self.seed,
            epoch=epoch,
        )
        return found.to(batch.first.device, non_blocking=True)

    def _positions_of_loss(self, choice: Choice) -> torch.Tensor:
        return choice.chosen

    def _errors_of_loss(
        self, prediction: torch.Tensor, wanted: torch.Tensor, choice: Choice, bands: torch.Tensor | None
    ) -> torch.Tensor:
        """Error of each position that enters the loss; NaN where nothing is known."""
        return self._errors(prediction, wanted)

    def figures(self, normed: NormedModel | None, batch: ModelBatch, split: str) -> dict[str, torch.Tensor]:
        """Sums over the positions of each crop."""
        choice = self._judged_choice(batch, split)
        wanted = self._wanted(batch, split)
        prediction = goal = self._goal(batch, split, choice)[choice.judged]
        if normed is not None:
            shown = choice.shown(batch.x, self.normed.group)
            prediction = normed(shown, batch.lengths, choice.hidden, choice.judged)
        errors = self._errors(prediction, goal)
        known = ~errors.isnan()
        row = choice.judged.nonzero()[:, 0][known]

        def by_crop(each: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(batch), dtype=torch.float64, device=row.device).index_add_(0, row, each.double())

        judged = {"loss": errors, **self._judged(prediction, wanted, batch, choice)}
        return {
            **{name: by_crop(each[known]) for name, each in judged.items()},
            "known": by_crop(torch.ones_like(row)),
            "chosen": choice.judged.sum(dim=1),
            "real": (choice.real & choice.fresh).sum(dim=1),
        }

    def values(self, total: dict[str, NDArray[np.float64]]) -> dict[str, float]:
        """Scores of a split, hidden in the same places every time.

        ``loss``; what needs no learning (``*_baseline``); ``skill``: 1 - loss / the baseline to beat, with a 95 %
        interval over tracks (``skill_low``, ``skill_high``); ``chosen_share`` of the real positions.
        """
        counts = {name: float(each.sum()) for name, each in total.items()}
        known = max(1.0, counts["known"])
        means = {name: value / known for name, value in counts.items() if name not in ("known", "chosen", "real")}
        skill, low, high = skill_of(total["loss"], [total[name] for name in self.to_beat], seed=self.seed)
        return {
            **means,
            "skill": skill,
            "skill_low": low,
            "skill_high": high,
            "chosen_share": counts["chosen"] / max(1.0, counts["real"]),
        }


def mean_of_known(errors: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean over all axes but the first of what is known (1, else 0); NaN where nothing is, with a gradient of zero."""
    axes = tuple(range(1, errors.ndim))
    count = known.sum(dim=axes)
    mean = (errors * known).sum(dim=axes) / count.clamp(min=1)
    return torch.where(count > 0, mean, torch.nan)


def skill_of(
    loss: NDArray[np.float64], baselines: list[NDArray[np.float64]], *, seed: int = 0
) -> tuple[float, float, float]:
    """Share of a baseline's error that the model spares, with a 95 % interval over tracks.

    Parameters
    ----------
    loss : float64 (tracks,)
        Sums over the positions of each track.
    baselines : list of the same
        The smallest in all is to be beaten.

    Examples
    --------
    >>> skill_of(np.array([1.0, 1.0]), [np.array([2.0, 2.0]), np.array([8.0, 8.0])])
    (0.5, 0.5, 0.5)
    """
    least = min(baselines, key=lambda each: float(each.sum()))
    if not least.sum():
        return float("nan"), float("nan"), float("nan")
    draws = np.random.default_rng(seed).multinomial(len(loss), np.full(len(loss), 1 / len(loss)), size=_RESAMPLES)
    below = draws @ least
    spread = 1 - np.divide(draws @ loss, below, out=np.full(len(below), np.nan), where=below > 0)
    low, high = np.nanquantile(spread, [0.025, 0.975])
    return float(1 - loss.sum() / least.sum()), float(low), float(high)


def check_apart(job: Job) -> None:
    """Refuse to pretrain on tracks, or groups such as artists, that validate or test.

    Raises
    ------
    DatasetError
        With the first one that is on both sides.
    """
    for name in job.labelled.splits:
        both = sorted(job.labelled.members("train") & job.labelled.members(name)) if name != "train" else []
        if both:
            found = f"{both[0].partition(': ')[2]} is in the splits train and {name}, and {len(both) - 1} more"
            fix = "Split by group: featstore datasets split TRACKS -o TRACKS, or data.split=random"
            raise DatasetError(found, job.labelled.dataset, fix)
