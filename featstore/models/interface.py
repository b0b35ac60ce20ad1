"""What training, tagging and reports expect of a model, declared in one place with defaults.

Every architecture subclasses :class:`Model`; one that can be pretrained by masked prediction subclasses
:class:`SequenceModel`. What differs from the default is stated as a class variable next to the architecture.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, Literal, cast

import torch
from torch import nn

__all__ = ["Model", "SequenceModel"]


class Model(nn.Module, abc.ABC):
    """A network from one input (or several, by name) to logits ``(batch, n_classes)``.

    Attributes
    ----------
    config : dataclass
        Rebuilds the module; ``Config`` is its type. It holds the sizes that the architecture takes (``n_mels`` and
        ``n_frames``, or ``n_samples``; ``n_classes``; ``in_channels`` where inputs may be stacked) and its settings.
    input_norm : {"band", "global", "none"}
        How inputs are normalised before they reach the model: by the training split's mean and deviation of each band,
        by those of all bands together, or not at all (models that bring a norm of their own).
    paper_input : dict of str to int, or None
        Sizes of the paper's own input, at which its cost is counted.
    any_length : bool
        The same weights take any number of frames.
    takes_dict : bool
        Takes several inputs of different shapes as a dict by name; otherwise they are stacked as channels.
    head : str
        Name of the submodule that gives the logits; everything else is the trunk.
    """

    Config: ClassVar[type[Any]]
    input_norm: ClassVar[Literal["band", "global", "none"]] = "band"
    paper_input: ClassVar[dict[str, int] | None] = None
    any_length: ClassVar[bool] = False
    takes_dict: ClassVar[bool] = False
    head: ClassVar[str] = "output"

    config: Any

    @abc.abstractmethod
    def forward_features(self, x: Any) -> torch.Tensor:
        """Pooled features ``(batch, n_features)`` of an input: what the head reads."""

    def forward(self, x: Any) -> torch.Tensor:
        """Logits ``(batch, n_classes)``."""
        return cast("torch.Tensor", self.get_submodule(self.head)(self.forward_features(x)))

    def reset_head(self, n_classes: int) -> None:
        """Replace the last layer by a fresh one with ``n_classes`` outputs (a linear layer of the same input width)."""
        old = cast("nn.Linear", self.get_submodule(self.head))
        fresh = nn.Linear(old.in_features, n_classes, bias=old.bias is not None)
        self.set_submodule(self.head, fresh.to(old.weight.device, old.weight.dtype))
        self.config = dataclasses.replace(self.config, n_classes=n_classes)


class SequenceModel(Model):
    """A model that gives one vector per position in time, so that hidden positions can be predicted.

    Attributes
    ----------
    width : int
        Length of the vector of a position.
    frames_per_position : int
        Input frames that one position stands for.
    """

    width: int
    frames_per_position: int

    @abc.abstractmethod
    def encode(self, x: Any) -> torch.Tensor:
        """Vectors ``(batch, width, positions)`` of an input; trailing frames that fill no position are left out."""
