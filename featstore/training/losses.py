"""What training minimises: cross-entropy over classes, or over each tag by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from featstore.errors import ConfigError

__all__ = ["Loss", "balanced_weights", "class_weighting", "crops_by_class", "make_loss", "probabilities"]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_MOST_OF_A_CLASS = 10.0  # 13 clips among 20,000 must not be all that counts
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


def class_weighting(
    how: str, targets: NDArray[np.generic], n_classes: int
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Weights of the classes, and what is added to their logits, from the training labels.

    Parameters
    ----------
    how : {"none", "balanced", "inverse", "inverse_sqrt", "logit_adjusted"}
        As ``loop.class_weights`` has it; the last three are for single labels.
    targets : int (n,), or 0/1 (n, classes)
    n_classes : int

    Returns
    -------
    weights : float32 (classes,) or None
        ``inverse``: n / (classes x tracks of the class), its square root for ``inverse_sqrt``; 10 at most.
    added : float32 (classes,) or None
        Logarithm of each class's share (Menon et al. 2021), one track added to each.

    Examples
    --------
    >>> weights, _ = class_weighting("inverse_sqrt", np.array([0, 0, 0, 1]), 2)
    >>> print(weights.round(3))
    [0.816 1.414]
    >>> _, added = class_weighting("logit_adjusted", np.array([0, 0, 0, 1]), 2)
    >>> print(added.round(3))
    [-0.405 -1.099]
    """
    if how == "none":
        return None, None
    if how == "balanced":
        return balanced_weights(targets, n_classes), None
    if targets.ndim != 1:
        raise ConfigError(f"{how} is for single labels", "loop.class_weights", "Choose none or balanced")
    if how == "balanced_sampler":  # the loader's
        return None, None
    if how == "logit_adjusted":
        counts = np.bincount(targets, minlength=n_classes) + 1.0
        return None, np.log(counts / counts.sum()).astype(np.float32)
    inverse = balanced_weights(targets, n_classes)
    weights = np.sqrt(inverse) if how == "inverse_sqrt" else inverse
    return np.minimum(weights, _MOST_OF_A_CLASS).astype(np.float32), None


def crops_by_class(targets: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """Crops that a track of each class gives for one of the largest class: as many crops of each, 10 a track at most.

    Examples
    --------
    >>> crops_by_class(np.array([0] * 7 + [1] * 3 + [2] * 1), 4).tolist()
    [1, 2, 7, 10]
    """
    counts = np.bincount(targets, minlength=n_classes)
    ratio = np.divide(counts.max(), counts, out=np.full(n_classes, _MOST_OF_A_CLASS), where=counts > 0)
    return np.asarray(np.rint(np.minimum(ratio, _MOST_OF_A_CLASS)), dtype=np.int64)


def make_loss(
    task: str,
    *,
    weights: torch.Tensor | None = None,
    added: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Loss:
    """Loss of logits ``(batch, classes)`` against targets, mean over the batch.

    Multi-label: binary cross-entropy, mean over tags. Single-label: cross-entropy of the softmax.

    Parameters
    ----------
    task : "multi_label" or "single_label"
    weights : float32 (classes,), optional
        As ``class_weighting`` gives them.
    added : float32 (classes,), optional
        Added to the logits in training, single labels only: a model that predicts the rare as often as the frequent.
    label_smoothing : float in [0, 1)
    """
    if task == "single_label":

        def classify(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:  # class numbers, or soft targets
            logits = logits if added is None else logits + added
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
