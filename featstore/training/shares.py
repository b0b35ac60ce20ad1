"""A share of the training split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from featstore.training.labels import LabelledTracks, SplitTracks

__all__ = ["with_train_share"]


def with_train_share(labelled: LabelledTracks, share: float, *, seed: int) -> LabelledTracks:
    """Keep a share of the training tracks, in whole groups; what a smaller share keeps, a larger one has too.

    Parameters
    ----------
    labelled : LabelledTracks
    share : float in (0, 1]
        Of each class that single labels name, one group at least; else of all tracks.
    seed : int
    """
    if share == 1:
        return labelled
    train = labelled.splits["train"]
    classes = train.targets if labelled.task == "single_label" else np.zeros(len(train), dtype=np.int64)
    kept = sorted(
        row
        for name in np.unique(classes)
        for row in _first(train, np.flatnonzero(classes == name).tolist(), share, seed)
    )
    return replace(labelled, splits={**labelled.splits, "train": train.take(kept)})


def _first(train: SplitTracks, rows: Sequence[int], share: float, seed: int) -> list[int]:
    """Rows of as many groups as make up the share, in an order that seed and group alone decide."""
    order = {train.groups[row]: hashlib.sha256(f"{seed}|{train.groups[row]}".encode()).digest() for row in rows}
    ranked = sorted(rows, key=lambda row: (order[train.groups[row]], row))
    kept: list[int] = []
    for row in ranked:
        if len(kept) >= share * len(rows) and train.groups[row] != train.groups[kept[-1]]:
            break
        kept.append(row)
    return kept
