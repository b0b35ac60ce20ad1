"""What training minimises: cross-entropy over classes, or over each tag by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

__all__ = ["Loss", "balanced_weights", "make_loss", "probabilities"]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_MOST = 100.0  # a tag with one positive in a million must not be all that counts


def balanced_weights(targets: NDArray[np.generic], n_classes: int) -> NDArray[np.float32]:
    """Weights by rarity.

    Returns
    -------
    float32 (n_classes,)
        Single-label: n / (classes x tracks of the class), 1 for a class without tracks. Multi-label: negatives per
        positive of each tag, between 0.01 and 100.

    Examples
    --------
    >>> balanced_weights(np.array([0, 0, 0, 1]), 2).tolist()
    [0.6666666865348816, 2.0]
    """
    if targets.ndim == 1:
        counts = np.bincount(targets, minlength=n_classes)
        return np.where(counts > 0, len(targets) / (n_classes * np.maximum(counts, 1)), 1.0).astype(np.float32)
    positives = np.asarray(targets, dtype=np.float64).sum(axis=0)
    weights = (len(targets) - positives) / np.maximum(positives, 1)
    return np.asarray(np.clip(weights, 1 / _MOST, _MOST), dtype=np.float32)


def make_loss(task: str, *, weights: torch.Tensor | None = None, label_smoothing: float = 0.0) -> Loss:
    """Loss of logits ``(batch, classes)`` against targets, mean over the batch.

    Multi-label: binary cross-entropy, mean over tags. Single-label: cross-entropy of the softmax.

    Parameters
    ----------
    task : "multi_label" or "single_label"
    weights : float32 (classes,), optional
        As ``balanced_weights`` gives them.
    label_smoothing : float in [0, 1)
    """
    if task == "single_label":

        def classify(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:  # class numbers, or soft targets
            return functional.cross_entropy(logits, targets, weight=weights, label_smoothing=label_smoothing)

        return classify

    def tag(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if label_smoothing:
            targets = targets * (1 - label_smoothing) + label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)

    return tag


def probabilities(logits: torch.Tensor, task: str) -> torch.Tensor:
    """Sigmoid of each tag, or softmax over the classes."""
    return logits.softmax(dim=-1) if task == "single_label" else logits.sigmoid()
