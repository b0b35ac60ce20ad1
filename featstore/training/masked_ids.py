"""Masked prediction of ids: the tokens behind hidden positions, or classes that stand for frames."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from featstore.errors import ConfigError
from featstore.loaders.stored_feature import FeatureStore
from featstore.models import MODELS
from featstore.models.interface import Model
from featstore.models.transformer_trunk import grouped
from featstore.specs import FeatureSpec
from featstore.training.config import ObjectiveConfig, TrainConfig
from featstore.training.engines import Engine
from featstore.training.feeding import training_loader
from featstore.training.input_shape import InputShape, Readers
from featstore.training.job import Job
from featstore.training.masked_positions import Choice, MaskedPositions, PositionPredictor, mean_of_known
from featstore.training.masked_targets import (
    Bins,
    KMeans,
    OwnTokens,
    RandomProjection,
    StoredTokens,
    TargetIds,
    bigram_entropy,
    count_pairs,
    id_entropy,
)
from featstore.training.masking_settings import MaskedPositionsConfig
from featstore.training.normed_model import ModelBatch, NormedModel
from featstore.training.objectives import Batches
from featstore.training.settings import Range

__all__ = ["MaskedIds", "MaskedIdsConfig"]

logger = logging.getLogger(__name__)

_CODES = {"kmeans": 512, "random_projection": 8192, "bins": 16}
_MAKERS: dict[str, Any] = {"kmeans": KMeans, "random_projection": RandomProjection, "bins": Bins}
_FIT_FRAMES = 20_000
_COUNT_FRAMES = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedIdsConfig(MaskedPositionsConfig):
    """Settings of masked prediction of ids.

    Parameters
    ----------
    targets : {"tokens", "kmeans", "random_projection", "bins"}
        What stands for a frame: tokens of a codec (the model's own input, or those of the same stretch of audio), or
        classes made of its values.
    codes : int
        Number of classes; 0 takes 512, 8192 or 16, for tokens those of the codec.
    per_frame : int
        Ids of one frame; 0 works it out.
    tokens : str
        Feature that holds the tokens, for models of frames; for code vectors it follows from them.
    target_seed : int
        Of k-means and random projection; apart from ``seed``, so that repeated runs learn the same classes.
    """

    name: str = "masked-ids"
    targets: Literal["tokens", "kmeans", "random_projection", "bins"] = "tokens"
    codes: Annotated[int, Range.NOT_NEGATIVE] = 0
    per_frame: Annotated[int, Range.NOT_NEGATIVE] = 0
    tokens: str = ""
    target_seed: int = 0

    def check(self) -> None:
        """Settle what is left open, and refuse settings that contradict each other."""
        MaskedPositionsConfig.check(self)
        if self.targets != "tokens" and not self.codes:
            object.__setattr__(self, "codes", _CODES[self.targets])


class IdPredictor(PositionPredictor):
    """A predictor of ids, with what is known of them from the training split.

    Attributes
    ----------
    counts : int64 (n_ids, n_codes)
        Of training frames; all zero before the first.
    bigram : float64 ()
        Entropy of an id where the one before it is known, nats, mean over the ids of a frame.
    """

    counts: torch.Tensor
    bigram: torch.Tensor

    def __init__(
        self, model: Model, norm: nn.Module | None = None, *, n_ids: int, n_codes: int, **settings: Any
    ) -> None:
        super().__init__(model, norm, n_outputs=n_ids * n_codes, **settings)
        self.n_ids, self.n_codes = n_ids, n_codes
        self.register_buffer("counts", torch.zeros(n_ids, n_codes, dtype=torch.int64))
        self.register_buffer("bigram", torch.zeros((), dtype=torch.float64))

    @property
    def log_share(self) -> torch.Tensor:
        """Logarithm of the share of each code, one occurrence added: one that training lacks may still come."""
        counts = self.counts.double() + 1
        return (counts / counts.sum(dim=1, keepdim=True)).log()

    @property
    def figures(self) -> dict[str, float]:
        """Entropy of an id, and of one where the one before it is known, nats, means over the ids of a frame.

        ``target_perplexity`` is the number of codes that would give that entropy if all were equally frequent.
        """
        unigram = float(id_entropy(self.counts).mean())
        return {"unigram": unigram, "bigram": float(self.bigram), "target_perplexity": float(np.exp(unigram))}


class MaskedIds(MaskedPositions):
    """Cross-entropy of the ids behind chosen positions; to be beaten: each id's share among training frames."""

    Config: ClassVar[type[ObjectiveConfig]] = MaskedIdsConfig
    config: MaskedIdsConfig
    to_beat: ClassVar[tuple[str, ...]] = ("unigram_baseline",)

    def __init__(self, job: Job, engine: Engine, normed: NormedModel) -> None:
        super().__init__(job, engine, normed)
        self.ids = ids = cast("IdPredictor", normed)
        tokens = job.beside.get(self.config.tokens)
        self.targets = cast("TargetIds", ids.targets) if tokens is None else StoredTokens.beside(tokens, self.spec)
        if not self.ids.counts.any():
            self._fit()
        self.log_share = self.ids.log_share.float()

    @classmethod
    def resolve(cls, model: str, config: TrainConfig, readers: Readers, store: FeatureStore) -> TrainConfig:
        """Settings with what follows from the features: feature and number of the tokens that are to be predicted."""
        settings = cast("MaskedIdsConfig", config.objective)
        first = next(iter(readers.values()))
        spec = first.spec
        if settings.targets != "tokens":
            values = sum(reader.shape_of_item[0] for reader in readers.values())
            per_frame = settings.per_frame or (values if settings.targets == "bins" else 1)
            return dataclasses.replace(config, objective=dataclasses.replace(settings, per_frame=per_frame))
        if MODELS.load(model).takes == "tokens":
            codes, per_frame, tokens = spec.vocabulary or 0, first.shape_of_item[0], ""
        else:
            reader = store[settings.tokens or _tokens_beside(spec, store)]
            beside = StoredTokens.beside(reader, spec)
            codes, per_frame, tokens = beside.n_codes, beside.n_ids, reader.name
        for name, given, found in (("codes", settings.codes, codes), ("per_frame", settings.per_frame, per_frame)):
            if given not in (0, found):
                raise ConfigError(f"{name}={given}, but it is {found} here", "objective", f"Leave {name} out")
        objective = dataclasses.replace(settings, codes=codes, per_frame=per_frame, tokens=tokens)
        return dataclasses.replace(config, objective=objective)

    @classmethod
    def beside(cls, config: TrainConfig) -> tuple[str, ...]:
        """Feature that holds the tokens to be predicted, where the input is another one."""
        settings = cast("MaskedIdsConfig", config.objective)
        return (settings.tokens,) if settings.targets == "tokens" and settings.tokens else ()

    @classmethod
    def wrap(cls, model: Model, shape: InputShape, settings: ObjectiveConfig, **normed: Any) -> NormedModel:
        """Put a linear layer behind the model that gives the ids of a frame, and what makes them of its values."""
        own = cast("MaskedIdsConfig", settings)
        targets: TargetIds | None = None
        if model.takes == "tokens":
            targets = OwnTokens(own.per_frame, own.codes)
        elif own.targets != "tokens":
            seeded = {"seed": own.target_seed} if own.targets == "random_projection" else {}
            targets = _MAKERS[own.targets](shape.n_values, own.codes, **seeded)
        return IdPredictor(model, n_ids=own.per_frame, n_codes=own.codes, targets=targets, **normed)

    def _crops(self, n_frames: int) -> Iterator[ModelBatch]:
        """Training crops with about ``n_frames`` real frames on each process."""
        for batch in ModelBatch.each(training_loader(self.job, self.engine), self.normed.names, self.engine.device):
            yield batch
            n_frames -= int(batch.real_frames.sum())
            if n_frames <= 0:
                return

    @torch.no_grad()
    def _fit(self) -> None:
        """Make the targets from training frames, and count them there: the same on every process."""
        if self.targets.needs_fit:
            rows = [
                self.normed.frames(batch.x).transpose(1, 2).cpu()[_is_real(batch)].numpy()
                for batch in self._crops(_FIT_FRAMES)
            ]
            gathered = [part for each in self.engine.gather(rows) for part in each]
            self.targets.fit(np.concatenate(gathered), self.config.target_seed)
        n_ids, n_codes = self.ids.n_ids, self.ids.n_codes
        counts = torch.zeros(n_ids, n_codes, dtype=torch.int64)
        pairs: list[Counter[int]] = [Counter() for _ in range(n_ids)]
        for batch in self._crops(_COUNT_FRAMES):
            ids = self._ids_of(batch, "train").cpu()
            ids = torch.where(_is_real(batch)[:, None], ids, -1)
            for place in range(n_ids):
                known = ids[:, place][ids[:, place] >= 0]
                counts[place] += torch.bincount(known, minlength=n_codes)
            count_pairs(ids, n_codes, pairs)
        found = self.engine.gather((counts.numpy(), pairs))
        joined = [sum((each[1][place] for each in found), Counter[int]()) for place in range(n_ids)]
        self.ids.counts.copy_(torch.from_numpy(sum(each[0] for each in found)))
        self.ids.bigram.fill_(bigram_entropy(joined, n_codes))

    def _ids_of(self, batch: ModelBatch, split: str) -> torch.Tensor:
        tracks = self.job.labelled.splits[split].track_ids
        names = [tracks[place] for place in batch.index.tolist()]
        ids: torch.Tensor = self.targets(self.normed.frames(batch.x), names, batch.start.tolist())
        return ids

    def _wanted(self, batch: ModelBatch, split: str) -> torch.Tensor:
        return grouped(self._ids_of(batch, split), self.normed.group)

    def _errors(self, prediction: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return _over_ids(functional.cross_entropy, self._scores(prediction), wanted)

    def _scores(self, prediction: torch.Tensor) -> torch.Tensor:
        return prediction.reshape(*prediction.shape[:-1], self.ids.n_ids, self.ids.n_codes)

    def _judged(
        self, prediction: torch.Tensor, wanted: torch.Tensor, batch: ModelBatch, choice: Choice
    ) -> dict[str, torch.Tensor]:
        there = wanted[choice.judged]
        usual = self.log_share.to(prediction.device).expand(*there.shape, -1)
        right = self._scores(prediction).argmax(dim=-1) == there
        known = there >= 0
        return {
            "unigram_baseline": _over_ids(functional.nll_loss, usual, there),
            "accuracy": (right & known).sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1),
        }

    def values(self, total: dict[str, Any]) -> dict[str, float]:
        """Scores of a split, and what is known of the ids from the training split."""
        return {**super().values(total), **self.ids.figures}

    def opening(self, loader: Batches) -> str:
        """Say what has to be beaten, and what the targets are."""
        unigram, bigram, perplexity = self.ids.figures.values()
        return (
            f"to beat: {unigram:.4f} nats (entropy of the training ids; {bigram:.4f} where the one before is known); "
            f"targets {self.targets.identity}, perplexity {perplexity:.1f} of {self.ids.n_codes}"
        )


def _over_ids(loss: Callable[..., torch.Tensor], scores: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Mean of a loss over the known ids of each position: scores ``(n, group, n_ids, codes)``; NaN where none is."""
    flat = loss(scores.flatten(0, -2), ids.flatten().clamp(min=0), reduction="none").reshape(ids.shape)
    return mean_of_known(flat, (ids >= 0).to(flat.dtype))


def _is_real(batch: ModelBatch) -> torch.Tensor:
    """Frames that are no padding, bool ``(batch, frames)`` on the CPU."""
    return torch.arange(batch.first.shape[-1]) < batch.real_frames[:, None]


def _tokens_beside(spec: FeatureSpec, store: FeatureStore) -> str | FeatureSpec:
    """Feature whose tokens belong to these frames: those of the code vectors, or the store's only ones."""
    if spec.stored_as.vocabulary:
        return spec.stored_as
    there = [name for name in store.features if str(name).startswith("vq_tokens")]
    if len(there) != 1:
        found = f"the store has {len(there)} features of tokens" if there else "the store has no tokens"
        raise ConfigError(found, "objective.tokens", "Name one: --set objective.tokens='vq_tokens(…)'")
    return there[0]
