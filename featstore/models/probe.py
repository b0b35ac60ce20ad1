"""Probe on the vectors of a frozen encoder: one layer or a mixture, mean over windows, linear or one hidden layer.

Origin: the protocol of MARBLE (R. Yuan et al., NeurIPS 2023): one hidden layer of 512 with ReLU and dropout 0.2, or a
linear layer, on the mean over time; the layer is chosen on the validation split, or all are mixed with learned softmax
weights; so is the learning rate. A linear probe of one layer is a convex problem and is solved as such.

See Also
--------
featstore.training.probe_fit : Finds the weights; no epochs of the training loop are run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import nn

from featstore.errors import ConfigError
from featstore.models.interface import InputNormalisation, Model
from featstore.models.layers import real_frames
from featstore.models.model_config import ModelConfig

__all__ = ["Probe", "ProbeConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig(ModelConfig):
    """Settings of a probe.

    Parameters
    ----------
    n_layers, n_dims, n_windows, n_classes : int > 0
        Size of one input (any number of windows works) and of the output.
    layer : str
        ``auto``: the layer that scores best on the validation split; ``mix``: softmax weights over all, learned; or the
        place of one of the stored layers, counted from 0.
    hidden : int >= 0
        Units of the hidden layer; 0 for a linear probe.
    dropout : float in [0, 1)
        Behind the hidden layer.
    standardise : {"auto", "dimension", "common"}
        Vectors are centred, and divided by the deviation of each dimension, or by one deviation for all of a layer;
        ``auto`` takes what scores better on the validation split (of a linear probe; else ``dimension``).
    strengths : numbers > 0
        Inverse L2 strengths of a linear probe (scikit-learn's ``C``), one of which validation chooses.
    rates : numbers > 0
        Learning rates of a probe with a hidden layer or a mixture, likewise.
    """

    n_layers: int
    n_dims: int
    n_windows: int
    layer: str | int = "auto"
    hidden: int = 0
    dropout: float = 0.2
    standardise: Literal["auto", "dimension", "common"] = "auto"
    strengths: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    rates: tuple[float, ...] = (5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2)

    place: ClassVar[str] = "probe"
    least: ClassVar[Mapping[str, int]] = {"hidden": 0}

    def _resolve(self) -> None:
        layer = str(self.layer)
        object.__setattr__(self, "layer", layer)
        for name in ("strengths", "rates"):
            values = getattr(self, name)
            if not values or min(values) <= 0:
                raise ConfigError(f"{name}={values} are not positive numbers", self.place, "Give at least one")
        if layer not in ("auto", "mix") and not (layer.isdecimal() and int(layer) < self.n_layers):
            raise ConfigError(
                f"layer={layer!r} is none of the {self.n_layers} stored layers",
                "probe",
                f"Give auto, mix, or a number from 0 to {self.n_layers - 1}",
            )

    @property
    def is_convex(self) -> bool:
        """Whether its weights are the solution of a convex problem."""
        return self.hidden == 0 and self.layer != "mix"


class Probe(Model):
    """Linear or one-hidden-layer classifier on standardised vectors, averaged over windows.

    Input float32 ``(batch, n_layers, n_dims, n_windows)``; output logits ``(batch, n_classes)``.
    """

    Config: ClassVar[type[ProbeConfig]] = ProbeConfig
    takes: ClassVar[str] = "embedding"
    takes_lengths: ClassVar[bool] = True
    input_norm: ClassVar[InputNormalisation] = "none"  # it standardises after the mean over windows
    any_length: ClassVar[bool] = True
    fitter: ClassVar[str] = "featstore.training.probe_fit:fit_probe"

    config: ProbeConfig

    mean: torch.Tensor
    std: torch.Tensor
    share: torch.Tensor

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__(config)
        layers, dims = config.n_layers, config.n_dims
        self.register_buffer("mean", torch.zeros(layers, dims))
        self.register_buffer("std", torch.ones(layers, dims))
        self.register_buffer("share", torch.full((layers,), 1 / layers))  # of each layer, where no mixture is learned
        self.mixture = nn.Parameter(torch.zeros(layers)) if config.layer == "mix" else None
        body = (nn.Linear(dims, config.hidden), nn.ReLU(), nn.Dropout(config.dropout)) if config.hidden else ()
        self.body = nn.Sequential(*body)
        self.output = nn.Linear(config.hidden or dims, config.n_classes)

    def forward_features(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Features ``(batch, hidden or n_dims)`` of vectors ``(batch, n_layers, n_dims, n_windows)``."""
        if lengths is None:
            vectors = x.mean(dim=-1)
        else:
            count = lengths.to(x.device).clamp(min=1)
            vectors = (x * real_frames(x, lengths)[:, None, None]).sum(dim=-1) / count[:, None, None]
        vectors = (vectors - self.mean) / self.std
        share = self.share if self.mixture is None else self.mixture.softmax(dim=0)
        return cast("torch.Tensor", self.body((vectors * share[:, None]).sum(dim=1)))
