"""Receptive field of a chain of convolutions, read off its layers."""

from __future__ import annotations

from torch import nn

from featstore.models.window_cutters import ReceptiveField

__all__ = ["conv_field"]


def conv_field(encoder: nn.Module) -> ReceptiveField | None:
    """Receptive field of an encoder whose convolutions follow each other in the order in which they were made.

    Branches that are added to their own input (residual units) count as links of the chain: the input itself reaches no
    further. Walking back from one output, a convolution of kernel k, stride s, dilation d and p zeros at each end turns
    a reach of (left, right) into (s * left + p, s * right + d * (k - 1) - p).

    Returns
    -------
    ReceptiveField or None
        Of an output; None for an encoder that is not a chain of plain convolutions (it remembers, pools or attends).

    Examples
    --------
    >>> conv_field(nn.Sequential(nn.Conv1d(1, 2, 7, padding=3), nn.Conv1d(2, 2, 4, stride=2, padding=1)))
    ReceptiveField(hop=2, left=4, right=5)
    """
    layers = [module for module in encoder.modules() if not any(True for _ in module.children())]
    if any(isinstance(layer, (nn.RNNBase, nn.MultiheadAttention, nn.Linear)) for layer in layers):
        return None
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv1d)]
    if not convolutions or any(
        isinstance(layer.padding, str) or layer.padding_mode != "zeros" for layer in convolutions
    ):
        return None
    hop, left, right = 1, 0, 0
    for layer in reversed(convolutions):
        (kernel,), (stride,), (dilation,) = layer.kernel_size, layer.stride, layer.dilation
        padding = int(layer.padding[0])
        left, right = stride * left + padding, stride * right + dilation * (kernel - 1) - padding
        hop *= stride
    return ReceptiveField(hop, left, right)
