"""Tracks and splits of a run that needs no labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from featstore.errors import DatasetError
from featstore.training.config import DataConfig
from featstore.training.labels import LabelledTracks, splits_by_settings, splits_of, stored_part

__all__ = ["unlabelled_tracks"]


def unlabelled_tracks(
    tracks: Any, stored: Sequence[str], config: DataConfig, *, name: str = "", where: str = ""
) -> LabelledTracks:
    """Join a track table with what the store holds, whatever its labels say.

    Parameters
    ----------
    tracks : TrackTable or pandas.DataFrame
    stored : sequence of str
        Tracks for which the features are there.
    name, where : str
        Of the data set where the table has no name; for messages.

    Returns
    -------
    LabelledTracks
        Of the task ``none``: no classes, targets of zero.

    Raises
    ------
    DatasetError
        No splits, no track of the table in the store, nothing to train on or to validate with.
    """
    frame = tracks.frame if hasattr(tracks, "frame") else tracks
    info = getattr(tracks, "info", None)
    dataset = str(getattr(info, "name", "") or name)
    frame = frame if "track_id" in frame.columns else frame.rename_axis("track_id").reset_index()
    frame = stored_part(frame, stored, config, where or f"data set {dataset}")
    none: list[list[str]] = [[]] * len(frame)
    assigned = splits_by_settings(frame, config, none, where)
    splits = splits_of(frame, assigned, np.zeros(len(frame), dtype=np.int64))
    for split in ("train", "valid"):
        if split not in splits:
            raise DatasetError(
                f"no stored track in the split {split!r}", where, "Draw the splits here: --set data.split=random"
            )
    return LabelledTracks(dataset, "none", (), splits, {})
