"""What training, tagging and reports expect of a model, declared in one place with defaults.

Every architecture subclasses :class:`Model`; one that can be pretrained on its own input subclasses
:class:`SequenceModel`. What differs from the default is stated as a class variable next to the architecture.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import nn

__all__ = ["FEATURES", "InnerLayer", "InputNormalisation", "Model", "SequenceModel"]

InputNormalisation = Literal["band", "global", "none"]

FEATURES = "features"
"""Name of the inner layer that every model has: what its head reads."""


@dataclass(frozen=True, slots=True)
class InnerLayer:
    """Shape of a layer whose vectors a frozen model gives.

    Attributes
    ----------
    width : int
        Length of a vector.
    step : int
        Frames (or samples) of the input between two vectors; 0 for a layer that gives one vector an input.
    field : int
        Frames that an input needs for its first vector: one of n has ``1 + (n - field) // step`` vectors.
    """

    width: int
    step: int = 0
    field: int = 1


class Model(nn.Module, abc.ABC):
    """A network from one input (or several, by name) to logits ``(batch, n_classes)``.

    Attributes
    ----------
    config : dataclass
        Rebuilds the module; ``Config`` is its type. It holds ``n_classes``, the sizes of what the model takes and its
        own settings.
    takes : str
        Kind of input, an entry of :data:`~featstore.models.input_kinds.INPUT_KINDS`: its names of sizes, and the shape
        of a batch. ``"several"`` takes inputs of any kinds as a dict by name.
    takes_lengths : bool
        ``forward``, ``forward_features`` and ``encode`` have a second argument ``lengths``, int64 ``(batch,)``: frames
        of each example that are real, where inputs are padded; None where none is.
    input_norm : {"band", "global", "none"}
        How inputs are normalised before they reach the model: by the training split's mean and deviation of each band,
        by those of all bands together, or not at all (models that bring a norm of their own, and models of tokens).
    paper_input : dict of str to int, or None
        Sizes of the paper's own input, by their names, at which its cost is counted.
    any_length : bool
        The same weights take any number of frames.
    head : str
        Name of the submodule that gives the logits; everything else is the trunk.
    usual_layers : str
        Inner layers that are kept of a frozen model unless others are named, joined by ``+``.
    published : dict of str to str
        Submodules that weights from elsewhere fit, and the ``module:attribute`` of the function that reads them:
        ``(path, model)`` to tensors by their names in the submodule. What a function leaves out stays fresh.
    package : str
        Package of the extra ``codecs`` that the network is built with; empty for those that need none.
    fitter : str
        ``module:attribute`` of the function that finds the weights from whole splits in memory; empty for models that
        are trained batch by batch.

    See Also
    --------
    featstore.models.create : Builds a model by its name.
    """

    Config: ClassVar[type[Any]]
    takes: ClassVar[str] = "spectrum"
    takes_lengths: ClassVar[bool] = False
    input_norm: ClassVar[InputNormalisation] = "band"
    paper_input: ClassVar[dict[str, int] | None] = None
    any_length: ClassVar[bool] = False
    head: ClassVar[str] = "output"
    usual_layers: ClassVar[str] = FEATURES
    published: ClassVar[Mapping[str, str]] = {}
    package: ClassVar[str] = ""
    fitter: ClassVar[str] = ""

    config: Any

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.config = config

    @abc.abstractmethod
    def forward_features(self, x: Any) -> torch.Tensor:
        """Pooled features ``(batch, n_features)`` of an input: what the head reads."""

    def forward(self, x: Any, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Logits ``(batch, n_classes)``."""
        given = () if lengths is None else (lengths,)
        return cast("torch.Tensor", self.get_submodule(self.head)(self.forward_features(x, *given)))

    def inner_layers(self) -> dict[str, InnerLayer]:
        """Layers whose vectors a frozen model gives, in their order."""
        return {FEATURES: InnerLayer(cast("nn.Linear", self.get_submodule(self.head)).in_features)}

    def inner_values(self, x: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Vectors ``(batch, width, frames)`` of inner layers, by name; without frames ``(batch, width)``."""
        return {FEATURES: self.forward_features(x)}

    @property
    def least_length(self) -> int:
        """Frames (or samples) of the shortest input that the weights take: those of the config, unless any will do."""
        return int(getattr(self.config, "n_samples", None) or self.config.n_frames)

    def cutoff_names(self) -> list[str]:
        """Names of parameters that are frequencies in Hz, which may have a learning rate of their own."""
        return []

    def epoch_figures(self) -> dict[str, float]:
        """Figures of the model itself by name, which training records after each epoch; none by default."""
        return {}

    def reset_head(self, n_classes: int) -> None:
        """Replace the head by a fresh linear layer with ``n_classes`` outputs that reads the same features."""
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
    takes_hidden : bool
        ``encode`` has a third argument ``hidden``, bool ``(batch, positions)``: positions that show a learned symbol
        in place of their input.
    pooling : str
        Name of the submodule that only pooling over positions needs; empty where it has no weights.
    """

    takes_hidden: ClassVar[bool] = False

    pooling: str = ""
    width: int
    frames_per_position: int

    @abc.abstractmethod
    def encode(self, x: Any) -> torch.Tensor:
        """Vectors ``(batch, width, positions)`` of an input; trailing frames that fill no position are left out."""
