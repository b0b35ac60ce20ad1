"""What all encoders do alike: passes of one size, in float32 and without gradients, and layers by name."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from featstore.arrays import FloatArray
from featstore.models.encoders import EncoderInfo, forward_settings
from featstore.models.token_windows import full_passes

__all__ = ["FrozenEncoder"]


class FrozenEncoder(abc.ABC):
    """A module with its weights, in evaluation mode and without gradients.

    Parameters
    ----------
    module : torch.nn.Module
    info : EncoderInfo
    device : torch.device
    gpu_batch : int
        Windows of a pass on a GPU. On a CPU it is one: more at once gain nothing there.

    Attributes
    ----------
    module, info, device
        As they were given.
    batch : int
        Windows of every pass.
    """

    def __init__(self, module: torch.nn.Module, info: EncoderInfo, device: torch.device, *, gpu_batch: int = 8) -> None:
        self.module, self.info, self.device = module.to(device).eval().requires_grad_(False), info, device
        self.batch = 1 if device.type == "cpu" else gpu_batch

    @abc.abstractmethod
    def states(self, windows: FloatArray, names: Sequence[str]) -> Mapping[str, torch.Tensor]:
        """Vectors ``(windows, width, frames)`` of layers by name, at least those of ``names``, of one pass.

        A layer that gives one vector a window may leave the last axis out.
        """

    def layers_of(self, windows: FloatArray, names: Sequence[str]) -> list[FloatArray]:
        """Vectors float32 (windows, dimensions, frames) of each layer named, of windows (windows, ..., columns)."""
        found: list[list[FloatArray]] = [[] for _ in names]
        with forward_settings(self.device):
            for rows, real in full_passes(windows, self.batch):
                states = self.states(rows, names)
                for place, name in enumerate(names):
                    values = states[name][:real].float().cpu().numpy()
                    found[place].append(values if values.ndim == 3 else values[..., None])
        return [np.concatenate(parts) for parts in found]
