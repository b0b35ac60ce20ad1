"""Lists of tracks that are one recording, as ``featstore datasets check --fingerprint --repeats FILE`` writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from featstore.datasets.sources import read_text
from featstore.errors import DatasetError, did_you_mean

__all__ = ["Repeats", "repeat_lists"]

Repeats: TypeAlias = str | os.PathLike[str] | Sequence[Sequence[str]]
"""A file of lists of track ids, or the lists themselves."""

_WRITTEN_BY = "featstore datasets check TRACKS --fingerprint --repeats FILE"


def repeat_lists(repeats: Repeats, known: Collection[str]) -> list[list[str]]:
    """Lists of track ids, each of one recording.

    Parameters
    ----------
    repeats : path, or sequence of sequences of str
        JSON file of lists of ids, or what it holds.
    known : collection of str
        Ids that there are; a set where they are many.

    Raises
    ------
    DatasetError
        When there is no such file, it is no JSON or no list of lists of ids, or an id is not known.
    """
    if isinstance(repeats, str | os.PathLike):
        where, content = str(repeats), _read(Path(repeats))
    else:
        where, content = "repeats", repeats
    lists = _checked_lists(content, where)
    listed = list(dict.fromkeys(track for tracks in lists for track in tracks))
    unknown = [track for track in listed if track not in known]
    if unknown:
        what = f"{len(unknown)} of {len(listed)} ids belong to no track of the table, such as {unknown[0]!r}"
        fix = f"{did_you_mean(unknown[0], known)}. The repeats of this table are found by {_WRITTEN_BY}"
        raise DatasetError(what, where, fix)
    return lists


def _read(source: Path) -> Any:
    text = read_text(source, absent="no file of repeats here", fix=f"Write one: {_WRITTEN_BY}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        fix = f"Mend it, or write it again: {_WRITTEN_BY}"
        raise DatasetError(f"not readable as JSON: {error}", str(source), fix) from error


def _checked_lists(content: object, where: str) -> list[list[str]]:
    fix = 'Write a list of lists of track ids: [["a.wav", "copies/a.mp3"], ["b.wav", "c.wav"]]'
    if not isinstance(content, list | tuple):
        raise DatasetError(f"the repeats are {_named(content)}, not a list of lists of track ids", where, fix)
    for number, tracks in enumerate(content, 1):
        if not isinstance(tracks, list | tuple):
            raise DatasetError(f"entry {number} is {_named(tracks)}, not a list of track ids", where, fix)
        for track in tracks:
            if not isinstance(track, str):
                raise DatasetError(f"entry {number} holds {_named(track)}, which is not a track id", where, fix)
    return [list(tracks) for tracks in content]


def _named(value: object) -> str:
    """A value of JSON as messages show it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    shown = json.dumps(value, default=repr, ensure_ascii=False)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
