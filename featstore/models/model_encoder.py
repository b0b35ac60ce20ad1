"""Architectures of ours as encoders: their inner layers, frozen, with weights of any origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from featstore.arrays import FloatArray
from featstore.models.encoder_info import EncoderInfo
from featstore.models.frozen_encoder import FrozenEncoder
from featstore.models.input_kinds import batched
from featstore.models.interface import Model

if TYPE_CHECKING:
    from featstore.models.layers import InputNorm

__all__ = ["ModelEncoder", "deciding", "describe_model"]


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
        The other attributes of :class:`~featstore.models.encoder_info.EncoderInfo`.
    """
    return EncoderInfo(
        layers={name: shape for name, shape in network.inner_layers().items() if not layers or name in layers},
        usual_layers=network.usual_layers,
        window=window,
        least=min(window, network.least_length) if network.any_length else window,
        most=None if network.any_length else window,
        **facts,
    )


def deciding(network: Model) -> dict[str, torch.Tensor]:
    """Tensors that the vectors of inner layers depend on: all but the head's, and the counters of batch norms."""
    head, counter = f"{network.head}.", "num_batches_tracked"
    tensors = network.state_dict().items()
    return {name: tensor for name, tensor in tensors if not name.startswith(head) and not name.endswith(counter)}


class ModelEncoder(FrozenEncoder):
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

    def __init__(
        self, model: Model, info: EncoderInfo, device: str | torch.device, norm: InputNorm | None = None
    ) -> None:
        super().__init__(model, info, device, self._run, gpu_batch=16)
        self.model, self.norm = model, None if norm is None else norm.to(device)

    def _run(self, windows: FloatArray, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Vectors of the model's inner layers."""
        x = torch.from_numpy(windows).to(self.device)
        x = x if self.norm is None else self.norm(x)
        return self.model.inner_values(batched(x, self.model.takes), names)
