"""Multiply-accumulates by arithmetic, to compare torch's counter with."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from featstore.models.cost import Example, count_macs
from featstore.models.sinc import SincBank


def inputs_of_one_output(module: nn.Module) -> int:
    """Inputs that one output value sums over: kernel size x input channels of a group."""
    return module.length if isinstance(module, SincBank) else module.weight[0].numel()


def layer_macs(model: nn.Module, example: Example) -> dict[str, int]:
    """Outputs x inputs of each, per convolution and linear layer, of the pass that ``count_macs`` makes."""
    macs: dict[str, int] = {}

    def note(name: str, module: nn.Module, _: object, output: torch.Tensor) -> None:
        macs[name] = macs.get(name, 0) + output.numel() * inputs_of_one_output(module)

    layers = nn.Conv1d | nn.Conv2d | nn.Linear | SincBank
    handles = [
        module.register_forward_hook(partial(note, name))
        for name, module in model.named_modules()
        if isinstance(module, layers)
    ]
    count_macs(model, example)
    for handle in handles:
        handle.remove()
    return macs
