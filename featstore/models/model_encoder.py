"""Architectures of ours as encoders: their inner layers, frozen, with weights of any origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featstore.arrays import FloatArray
from featstore.models.encoders import EncoderInfo, forward_settings
from featstore.models.input_kinds import batched
from featstore.models.interface import Model
from featstore.models.token_windows import full_passes

if TYPE_CHECKING:
    from featstore.models.layers import InputNorm

__all__ = ["ModelEncoder", "describe_model"]

_GPU_BATCH = 16


def describe_model(network: Model, *, window: int, layers: Sequence[str] = (), **facts: Any) -> EncoderInfo:
    """What a model offers as an encoder.

    Parameters
    ----------
    network : Model
    window : int
        Frames (or samples) that it was trained on.
    layers : sequence of str
        Of its inner layers those that the weights are of; all by default.
    **facts
        The other attributes of :class:`~featstore.models.encoders.EncoderInfo`.
    """
    shapes = {name: shape for name, shape in network.inner_layers().items() if not layers or name in layers}
    return EncoderInfo(
        layers={name: shape.width for name, shape in shapes.items()},
        steps={name: shape.step for name, shape in shapes.items()},
        field=max(shape.field for shape in shapes.values()),
        usual_layers=network.usual_layers,
        window=window,
        least=min(window, network.least_length) if network.any_length else window,
        most=None if network.any_length else window,
        **facts,
    )


class ModelEncoder:
    """A model with its weights, as an encoder.

    Parameters
    ----------
    model : Model
    info : EncoderInfo
        Its layers are of :meth:`~featstore.models.interface.Model.inner_layers`.
    device : torch.device
    norm : InputNorm, optional
        Statistics that inputs were normalised by in training.
    """

    def __init__(self, model: Model, info: EncoderInfo, device: torch.device, norm: InputNorm | None = None) -> None:
        self.model, self.info, self._device = model.to(device).eval().requires_grad_(False), info, device
        self.norm = None if norm is None else norm.to(device)
        self.batch = 1 if device.type == "cpu" else _GPU_BATCH  # more at once gain nothing on a CPU

    def layers_of(self, windows: FloatArray, names: Sequence[str]) -> list[FloatArray]:
        """Vectors (windows, dimensions, frames) of each layer named, of windows (windows, ..., columns)."""
        found: list[list[FloatArray]] = [[] for _ in names]
        with forward_settings(self._device):
            for rows, real in full_passes(windows, self.batch):
                x = torch.from_numpy(rows).to(self._device)
                x = x if self.norm is None else self.norm(x)
                layers = self.model.inner_values(batched(x, self.model.takes), names)
                for place, name in enumerate(names):
                    values = layers[name][:real].float().cpu().numpy()
                    found[place].append(values if values.ndim == 3 else values[..., None])
        return [np.concatenate(parts) for parts in found]
