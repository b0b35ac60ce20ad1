"""What all encoders do alike: passes of one size, in float32 and without gradients, and layers by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from featstore.arrays import FloatArray
from featstore.models.encoder_info import EncoderInfo
from featstore.models.jukebox_tokenizer import exact_arithmetic
from featstore.models.tensor_files import digest_of_tensors
from featstore.models.token_windows import full_passes
from featstore.models.transformers_folder import TransformersFolder

__all__ = ["FrozenEncoder", "States", "describe_folder"]

States = Callable[[FloatArray, Sequence[str]], Mapping[str, torch.Tensor]]
"""Takes windows and names of layers. Gives vectors ``(windows, width, frames)`` of layers by name, at least of those
named, of one pass; a layer that gives one vector a window may leave the last axis out."""


class FrozenEncoder:
    """A module with its weights, in evaluation mode and without gradients.

    Parameters
    ----------
    module : torch.nn.Module
    info : EncoderInfo
    device : torch.device or str
    states : callable
        Runs the module, which is on the device by then: see :data:`States`.
    gpu_batch : int
        Windows of a pass on a GPU. On a CPU it is one: more at once gain nothing there.

    Attributes
    ----------
    module, info, device
        As they were given.
    batch : int
        Windows of every pass: the number reaches the last bits of a vector, so it is the same for all.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        info: EncoderInfo,
        device: torch.device | str,
        states: States,
        *,
        gpu_batch: int = 8,
    ) -> None:
        self.device = torch.device(device)
        self.module, self.info, self._states = module.to(self.device).eval().requires_grad_(False), info, states
        self.batch = 1 if self.device.type == "cpu" else gpu_batch

    def layers_of(self, windows: FloatArray, names: Sequence[str]) -> list[FloatArray]:
        """Vectors float32 (windows, dimensions, frames) of each layer named, of windows (windows, ..., columns)."""
        found: list[list[FloatArray]] = [[] for _ in names]
        with _forward_settings(self.device):
            for rows, real in full_passes(windows, self.batch):
                states = self._states(rows, names)
                for place, name in enumerate(names):
                    values = states[name][:real].float().cpu().numpy()
                    found[place].append(values if values.ndim == 3 else values[..., None])
        return [np.concatenate(parts) for parts in found]


@contextlib.contextmanager
def _forward_settings(device: torch.device) -> Iterator[None]:
    """Float32 without TF32, no gradients, and one thread on a CPU: how work is shared out reaches the last bits."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        with torch.inference_mode(), exact_arithmetic():
            yield
    finally:
        torch.set_num_threads(threads)


def describe_folder(
    folder: TransformersFolder,
    deciding: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
    rate: int,
    **facts: Any,
) -> EncoderInfo:
    """Facts of an encoder of waveforms from a folder as transformers writes them.

    Parameters
    ----------
    folder : TransformersFolder
    deciding, settings : mapping
        Tensors and settings that the vectors depend on: what the digest is over.
    rate : int
        Hz.
    **facts
        The other attributes of :class:`~featstore.models.encoder_info.EncoderInfo`, but for the provenance.
    """
    digest, takes = digest_of_tensors(deciding, settings), f"waveform(sample_rate={rate})"
    return EncoderInfo(model=folder.name, digest=digest, takes=takes, sample_rate=rate, **facts, **folder.provenance())
