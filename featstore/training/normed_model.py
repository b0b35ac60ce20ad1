"""A model as training sees it: batches of features in, logits out, with the input's statistics in its state."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from featstore.models.input_kinds import SEVERAL, batched
from featstore.models.interface import Model

__all__ = ["Inputs", "ModelBatch", "NormedModel", "WeightAverage", "is_finite"]

Inputs = torch.Tensor | dict[str, torch.Tensor]
"""Features of a batch: of one input, or of several by name."""


def is_finite(x: Inputs) -> bool:
    """Whether all values are."""
    return all(bool(torch.isfinite(each).all()) for each in (x.values() if isinstance(x, dict) else (x,)))


@dataclass(slots=True)
class ModelBatch:
    """A batch on the device of the model.

    Attributes
    ----------
    x : Inputs
        Features ``(batch, *axes)``, by name where there are several.
    lengths : int64 (batch,) or None
        Real frames of each example of the first input; None where nothing is padded.
    index, start : int64 (batch,), on the CPU
        Place of the track in the loader's list, and first frame of the crop.
    target : float32 (batch, classes) or int64 (batch,)
        Labels; zeros where none are learnt.
    fresh : int64 (batch,) or None, on the CPU
        Of evaluation windows: frames that no earlier window of the track has.
    """

    x: Inputs
    lengths: torch.Tensor | None
    index: torch.Tensor
    start: torch.Tensor
    target: torch.Tensor
    fresh: torch.Tensor | None = None

    @classmethod
    def of(cls, batch: Mapping[str, torch.Tensor], names: Sequence[str], device: torch.device) -> ModelBatch:
        """Take a loader's batch, whose inputs are called ``names``."""
        found = {name: batch[name].to(device, non_blocking=True) for name in names}
        mask = batch.get(f"{names[0]}_mask")
        return cls(
            x=found if len(names) > 1 else found[names[0]],
            lengths=None if mask is None else mask.sum(dim=1).to(device, non_blocking=True),
            index=batch["index"],
            start=batch["start"],
            target=batch["target"].to(device, non_blocking=True),
            fresh=batch.get("fresh"),
        )

    @classmethod
    def each(
        cls, loader: Iterable[Mapping[str, torch.Tensor]], names: Sequence[str], device: torch.device
    ) -> Iterator[ModelBatch]:
        """Take the batches of a loader, but those that are empty."""
        for raw in loader:
            batch = cls.of(raw, names, device)
            if len(batch):
                yield batch

    def __len__(self) -> int:
        return len(self.index)

    @property
    def first(self) -> torch.Tensor:
        """The first input."""
        return next(iter(self.x.values())) if isinstance(self.x, dict) else self.x

    @property
    def real_frames(self) -> torch.Tensor:
        """Real frames of each example of the first input, int64 ``(batch,)`` on the CPU."""
        return torch.full((len(self),), self.first.shape[-1]) if self.lengths is None else self.lengths.cpu()


class NormedModel(nn.Module):
    """A model behind its optional input norm: what is trained, kept and scored.

    Takes features ``(batch, *axes)``, returns logits ``(batch, classes)``. Several inputs come as a dict: they are
    stacked as channels, or passed by name to a model that takes ``"several"``.

    Parameters
    ----------
    model : Model
    norm : InputNorm, torch.nn.ModuleDict of them by input, or None
    names : sequence of str
        Of the inputs, as in the loader's batches.
    channels_last : bool
        Keep images with channels last, where the model allows it.
    """

    model: Model

    def __init__(
        self,
        model: Model,
        norm: nn.Module | None = None,
        *,
        names: Sequence[str] = ("input",),
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.norm, self.names = model, norm, tuple(names)
        channels_last = channels_last and not any(map(_needs_channels_first, model.modules()))
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._fixed: frozenset[str] = frozenset()
        if channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def normalised(self, x: Inputs) -> Inputs:
        """Inputs with the norm applied."""
        if isinstance(x, dict):
            norms = cast("Mapping[str, nn.Module]", self.norm)
            return x if self.norm is None else {name: norms[name](each) for name, each in x.items()}
        return x if self.norm is None else self.norm(x)

    def arranged(self, x: Inputs) -> Any:
        """Normalised inputs as the model takes them."""
        takes = self.model.takes
        if takes == SEVERAL:
            sizes = self.model.config.inputs
            named = x if isinstance(x, dict) else {self.names[0]: x}
            return {name: self._laid_out(batched(each, sizes[name].kind)) for name, each in named.items()}
        return self._laid_out(torch.stack(list(x.values()), dim=1) if isinstance(x, dict) else batched(x, takes))

    def _laid_out(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(memory_format=self._format) if x.ndim == 4 and x.is_floating_point() else x

    def lengths_for(self, lengths: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """Arguments that a method of the model has after its input: the lengths, where it takes them."""
        return (lengths,) if self.model.takes_lengths and lengths is not None else ()

    def forward(self, x: Inputs, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of a batch."""
        logits: torch.Tensor = self.model(self.arranged(self.normalised(x)), *self.lengths_for(lengths))
        return logits.float()

    def fix(self, names: Collection[str]) -> None:
        """Freeze parameters of the model by name for good, and what runs beside them: norms and dropout."""
        self._fixed = frozenset(names)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name not in self._fixed)

    def train(self, mode: bool = True) -> NormedModel:
        """Switch to training; what was frozen stays in evaluation."""
        super().train(mode)
        if mode and self._fixed:
            self.model.eval()
            for place, module in self.model.named_modules():
                own = [f"{place}.{name}" if place else name for name, _ in module.named_parameters(recurse=False)]
                if any(name not in self._fixed for name in own):
                    module.train()
        return self


def _needs_channels_first(module: nn.Module) -> bool:
    """Whether a layer is one whose gradient torch writes out of bounds on a CPU, with channels last.

    This is so for convolutions of one cell with a stride and fewer than 8 input channels (torch 2.13): the shortcuts of
    a very narrow ResNet. The process dies, or computes with damaged memory.
    """
    if not isinstance(module, nn.Conv2d) or module.in_channels >= _SAFE_CHANNELS:
        return False
    return set(module.kernel_size) == {1} and max(module.stride) > 1


_SAFE_CHANNELS = 8


class WeightAverage:
    """Exponential moving average of the weights; buffers are taken as they are."""

    def __init__(self, normed: NormedModel, decay: float) -> None:
        self.decay = decay
        self.normed = copy.deepcopy(normed).requires_grad_(False)

    @torch.no_grad()
    def update(self, source: NormedModel) -> None:
        """Move towards the present weights."""
        for weight, new in zip(self.normed.parameters(), source.parameters(), strict=True):
            weight.lerp_(new, 1 - self.decay)
        for buffer, now in zip(self.normed.buffers(), source.buffers(), strict=True):
            buffer.copy_(now)
