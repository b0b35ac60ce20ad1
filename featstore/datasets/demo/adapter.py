"""The ``demo`` data set as a track table."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from featstore.cache_folder import cache_folder
from featstore.datasets.card import described
from featstore.datasets.sources import absolute
from featstore.datasets.table import TrackTable, track_table

__all__ = ["default_root", "index_demo"]


def default_root() -> Path:
    """The user's cache folder for the built-in music."""
    return cache_folder("demo")


@described(
    citation="rendered by featstore from the scores of music21: M. S. Cuthbert, C. Ariza, music21, ISMIR 2010",
    licence="for your own use: see the notice on the terms of the scores and of the sound font",
)
def index_demo(
    root: str | os.PathLike[str] | None = None,
    *,
    size: str | int = "quick",
    sample_rate: int = 16_000,
    channels: int = 1,
    format: str = "mp3",
    jobs: int | None = None,
    seed: int = 0,
    label_column: str = "labels",
) -> TrackTable:
    """The built-in music: real compositions of 12 styles, rendered to clips of 29.1 s with 47 tags.

    What is not there yet is made. Groups are families of works that must stay in one split; the splits are the same
    for every size. Further columns: ``style``, ``work``, ``window``, ``identity`` (digest of the notes that sound).

    Parameters
    ----------
    root : path, optional
        Folder of the set; a folder in the user's cache by default.
    size, sample_rate, channels, format, jobs, seed
        As for ``featstore.datasets.demo.build_demo``.
    label_column : "labels" or "style"
        The 47 tags (multi-label), or one of the 12 styles.
    """
    from featstore.datasets.demo import NOTICE, TAGS
    from featstore.datasets.demo.build import Settings, build_demo

    place = absolute(root) if root is not None else default_root()
    settings = Settings(int(sample_rate), int(channels), format, int(seed))
    records = build_demo(place, size=size, jobs=jobs, **asdict(settings))
    folder = place / settings.folder
    rows = [
        {"track_id": each.name, "path": str(folder / each.file), "group": each.family}
        | {name: getattr(each, name) for name in ("labels", "split", "style", "work", "window", "identity")}
        for each in records
    ]
    facts: dict[str, Any] = {"task": "multi_label", "classes": TAGS, "root": str(folder)}
    table = track_table(rows, name="demo", notes=[NOTICE], level=logging.DEBUG, **facts)
    return table if label_column == "labels" else table.with_labels(label_column)
