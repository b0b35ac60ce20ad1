"""What a model costs: parameters, and multiply-accumulates of one forward pass."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["count_macs", "count_parameters"]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Number of parameters, all and trainable; running statistics are buffers and do not count."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trains in sizes if trains)


Example = tuple[int, ...] | torch.Tensor | dict[str, torch.Tensor]
"""An input of a model: its shape (float32), or a tensor on the device ``meta``, or several of them by name."""


def _forward_on_meta(model: nn.Module, example: Example) -> int:
    """One forward pass in eval mode on the meta device: shapes only, no arithmetic, the model itself untouched.

    Recurrent layers are not run, as each of their steps would be dispatched alone, which takes seconds; returns their
    multiply-accumulates.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    modes = [(module, module.training) for module in model.modules()]
    recurrent = [module for module in model.modules() if isinstance(module, nn.LSTM) and not module.proj_size]
    macs: list[int] = []
    for layer in recurrent:
        vars(layer)["forward"] = partial(_lstm_by_shape, layer, macs)
    model.eval()
    try:
        with torch.no_grad():
            x = torch.empty(example, device="meta") if isinstance(example, tuple) else example
            functional_call(model, meta, (x,))
    finally:
        for layer in recurrent:
            del vars(layer)["forward"]
        for module, training in modes:
            module.training = training
    return sum(macs)


def _lstm_by_shape(
    module: nn.LSTM, macs: list[int], x: torch.Tensor, state: Any = None
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """What an LSTM returns, without values, and its multiply-accumulates: four gates of inputs and hidden values."""
    directions, hidden = 1 + module.bidirectional, module.hidden_size
    widths = [module.input_size, *([directions * hidden] * (module.num_layers - 1))]
    macs.append(x[..., 0].numel() * directions * sum(4 * hidden * (width + hidden) for width in widths))
    batch = x.shape[:-1].numel() // x.shape[1 if module.batch_first else 0]
    last = x.new_empty(module.num_layers * directions, batch, hidden)
    return x.new_empty(*x.shape[:-1], directions * hidden), (last, last)


def count_macs(model: nn.Module, example: Example) -> int:
    """Multiply-accumulates of one forward pass, by torch's FLOP counter over 2.

    Convolutions and matrix products count; biases, norms, activations and pools do not.

    Parameters
    ----------
    model : torch.nn.Module
    example : tuple of int, tensor, or dict of tensors by input
        Shape of the input, or an input on the device ``meta``; for the cost of one example its batch axis is 1.
    """
    with FlopCounterMode(display=False) as counter:
        recurrent = _forward_on_meta(model, example)
    return int(counter.get_total_flops()) // 2 + recurrent
