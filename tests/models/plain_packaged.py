"""The packaged networks written out in float64 numpy, from their description, in TensorFlow's own layout.

Variables come under TensorFlow's names; inputs are (frames, bands). Nothing here shares code with the torch models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]
Variables = Mapping[str, NDArray[Any]]


def _get(variables: Variables, layer: str, part: str) -> Array:
    return np.asarray(variables[f"{layer}/{part}"], dtype=np.float64)


def _norm(variables: Variables, number: int, y: Array) -> Array:
    """Batch norm over the last axis, eps 1e-3."""
    layer = f"batch_normalization_{number}" if number else "batch_normalization"
    mean, variance = _get(variables, layer, "moving_mean"), _get(variables, layer, "moving_variance")
    return (y - mean) / np.sqrt(variance + 1e-3) * _get(variables, layer, "gamma") + _get(variables, layer, "beta")


def _dense(variables: Variables, layer: str, y: Array) -> Array:
    return y @ _get(variables, layer, "kernel") + _get(variables, layer, "bias")


def _sigmoid(y: Array) -> Array:
    return 1 / (1 + np.exp(-y))


def _front(variables: Variables, number: int, x: Array) -> Array:
    """(frames, bands) to (frames, filters): convolution kept as long in time, ReLU, norm, largest along the bands."""
    layer = f"conv2d_{number}" if number else "conv2d"
    kernel = _get(variables, layer, "kernel")[:, :, 0]
    length, height = kernel.shape[:2]
    padded = np.pad(x, (((length - 1) // 2, length // 2), (0, 0)))
    patches = sliding_window_view(padded, (length, height))
    found = np.tensordot(patches, kernel, axes=([2, 3], [0, 1])) + _get(variables, layer, "bias")
    return _norm(variables, number + 1, np.maximum(found, 0)).max(axis=1)


def _mid(variables: Variables, number: int, x: Array) -> Array:
    kernel = _get(variables, f"conv2d_{number}", "kernel")[:, :, 0]
    patches = sliding_window_view(np.pad(x, ((3, 3), (0, 0))), 7, axis=0)  # (frames, channels, 7)
    found = np.einsum("tck,kco->to", patches, kernel, optimize=True) + _get(variables, f"conv2d_{number}", "bias")
    return _norm(variables, number + 1, np.maximum(found, 0))


def plain_musicnn(variables: Variables, x: NDArray[Any]) -> dict[str, Array]:
    """``penultimate`` and ``tags`` of one patch (frames, 96)."""
    image = _norm(variables, 0, np.asarray(x, np.float64)[..., None])[..., 0]
    front = np.concatenate([_front(variables, number, image) for number in range(5)], axis=1)
    first = _mid(variables, 5, front)
    second = _mid(variables, 6, first) + first
    third = _mid(variables, 7, second) + second
    every = np.concatenate([front, first, second, third], axis=1)
    pooled = np.empty(2 * every.shape[1])
    pooled[0::2], pooled[1::2] = every.max(axis=0), every.mean(axis=0)
    hidden = _dense(variables, "dense", _norm(variables, 9, pooled))
    penultimate = _norm(variables, 10, np.maximum(hidden, 0))
    return {"penultimate": penultimate, "tags": _sigmoid(_dense(variables, "dense_1", penultimate))}


def plain_vgg(variables: Variables, x: NDArray[Any]) -> dict[str, Array]:
    """``tags`` of one patch (187, 96)."""
    y = _norm(variables, 0, np.asarray(x, np.float64)[..., None])
    for block, (pool, step) in enumerate([((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4)]):
        layer = f"{block + 1}CNN"
        patches = sliding_window_view(np.pad(y, ((1, 1), (1, 1), (0, 0))), (3, 3), axis=(0, 1))
        kernel = _get(variables, layer, "kernel")
        found = np.einsum("tmcij,ijco->tmo", patches, kernel, optimize=True) + _get(variables, layer, "bias")
        found = _norm(variables, block + 1, np.maximum(found, 0))
        y = sliding_window_view(found, pool, axis=(0, 1))[::step, ::step].max(axis=(3, 4))
    return {"tags": _sigmoid(_dense(variables, "dense", y.reshape(-1)))}
