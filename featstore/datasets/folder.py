"""The ``folder`` data set: a tree of audio files, where the first sub-folder is the label."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featstore.datasets.sources import check_choices, existing_folder
from featstore.datasets.spelling import clean_names, printable
from featstore.datasets.table import TrackTable, track_table
from featstore.errors import DatasetError

__all__ = ["AUDIO_SUFFIXES", "SPLIT_NAMES", "index_folder", "natural_key"]

logger = logging.getLogger(__name__)

# What libsndfile or another decoder may read. A file that in the end nobody reads becomes a row with its error.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".w64", ".rf64", ".flac", ".mp3", ".mp2", ".ogg", ".oga", ".opus"}
    | {".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".m4a", ".aac", ".wma"}
)

# Names that people give to the three parts of a data set.
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip

_LABEL_FROM = ("top", "parent", "none")
_GROUP_FROM = ("none", "parent", "second")
_NOT_UTF8 = "the file's name is not valid UTF-8; rename it, then index again"


def index_folder(
    root: str | os.PathLike[str], *, label_from: str = "top", group_from: str = "none", name: str = ""
) -> TrackTable:
    """A folder of audio: each sub-folder is a label, each file a track.

    Track ids are paths relative to the folder, with ``/``; rows are in natural order (``2.wav`` before ``10.wav``),
    whatever the file system's own order. When every sub-folder is called like a split (``train``, ``valid``, ``test``
    and their usual variants), it gives the split and the folder below it the label. Links to folders are followed, each
    folder is read once. Folders whose name begins with a dot, and the ``._`` files that macOS leaves, are not audio.

    Parameters
    ----------
    root : path
        The folder.
    label_from : "top", "parent" or "none"
        The folder that is the label: the first below the root, the one the file lies in, or no label.
    group_from : "none", "parent" or "second"
        ``parent`` makes the folder a file lies in its group, as for a tree of artist or album folders; ``second`` the
        second folder below the root, as for LABEL/ARTIST/ALBUM.
    name : str
        Name of the data set; the folder's by default.

    Raises
    ------
    DatasetError
        When the folder does not exist, is not a folder, or holds no audio.
    ConfigError
        For an unknown ``label_from`` or ``group_from``.
    """
    check_choices("folder", label_from=(label_from, _LABEL_FROM), group_from=(group_from, _GROUP_FROM))
    base = existing_folder(root, "Name a folder of audio; for a list of files use the kind csv")
    found, problems, others = _audio_files(base)
    if not found:
        what = "no audio in this folder" if others else "the folder is empty"
        raise DatasetError(what, str(base), f"Audio files end in {' '.join(sorted(AUDIO_SUFFIXES))}")
    found.sort(key=lambda parts: [natural_key(part) for part in parts])
    with_splits = _top_folders_are_splits(found)
    rows = [_row(base, parts, label_from, group_from, with_splits) for parts in found]
    _separate_ids(rows)
    cleaned, note = clean_names([row["labels"] for row in rows])
    for row, names in zip(rows, cleaned, strict=True):
        row["labels"] = names
    problems += [note] if note else []
    labels = sorted({label for row in rows for label in row["labels"]}, key=natural_key)
    logger.info("%d other files under %s", others, base)
    return track_table(
        rows,
        name=name or printable(base.name) or "folder",
        task="single_label" if labels else "none",
        classes=tuple(labels),
        root=printable(str(base)),
        notes=problems,
        level=logging.WARNING,
    )


def natural_key(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that counts digits as numbers and ignores case, and still tells every two texts apart.

    Examples
    --------
    >>> sorted(["b10", "b9", "A1"], key=natural_key)
    ['A1', 'b9', 'b10']
    """
    pieces = re.split(r"([0-9]+)", text.casefold())
    return [(1, int(each), "") if position % 2 else (0, 0, each) for position, each in enumerate(pieces)], text


def _audio_files(base: Path) -> tuple[list[tuple[str, ...]], list[str], int]:
    """Audio below ``base`` as tuples of path parts, folders that could not be read, and the number of other files.

    Real folders come first and links to folders after them, so that a file is listed where it truly lies; a folder
    already read is never entered again, hence no loops.
    """
    found: list[tuple[str, ...]] = []
    problems: list[str] = []
    visited: set[tuple[int, int]] = set()
    others = 0
    waiting: list[tuple[str, ...]] = [()]
    links: list[tuple[str, ...]] = []
    while waiting or links:
        parts = waiting.pop() if waiting else links.pop(0)
        try:
            folder = base.joinpath(*parts)
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                logger.info("not entered again: %s", printable(str(folder)))
                continue
            visited.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name), reverse=True)
        except OSError as error:
            problems.append(f"folder not read: {printable('/'.join(parts))} ({error.strerror})")
            continue
        for entry, is_folder in _kinds(entries):
            place = (*parts, entry.name)
            if is_folder:
                if not entry.name.startswith("."):
                    (links if entry.is_symlink() else waiting).append(place)
            elif entry.name.startswith("._") or Path(entry.name).suffix.lower() not in AUDIO_SUFFIXES:
                others += 1
            else:
                found.append(place)
    return found, problems, others


def _kinds(entries: list[os.DirEntry[str]]) -> Iterator[tuple[os.DirEntry[str], bool]]:
    for entry in entries:
        try:
            yield entry, entry.is_dir()
        except OSError:  # a link that leads in a circle
            yield entry, False


def _top_folders_are_splits(found: list[tuple[str, ...]]) -> bool:
    """True when all audio lies below folders named like splits, the training part among them, at least two in all."""
    tops = {SPLIT_NAMES.get(parts[0].lower()) if len(parts) > 1 else None for parts in found}
    return None not in tops and "train" in tops and len(tops) > 1


def _row(base: Path, parts: tuple[str, ...], label_from: str, group_from: str, with_splits: bool) -> dict[str, Any]:
    folders = parts[1:-1] if with_splits else parts[:-1]
    label = "" if label_from == "none" or not folders else folders[0] if label_from == "top" else folders[-1]
    relative = "/".join(parts)
    path = printable(str(base / relative))
    return {
        "track_id": printable(relative),
        "path": path,
        "labels": [printable(label)] if label else [],
        "split": SPLIT_NAMES[parts[0].lower()] if with_splits else None,
        "group": _group(folders, group_from),
        "probe_error": None if path == str(base / relative) else _NOT_UTF8,
    }


def _group(folders: tuple[str, ...], group_from: str) -> str | None:
    """Folders that are a file's group, as one text; None where it has none."""
    least = {"parent": 1, "second": 2}.get(group_from)
    if least is None or len(folders) < least:
        return None
    return printable("/".join(folders if group_from == "parent" else folders[:2]))


def _separate_ids(rows: list[dict[str, Any]]) -> None:
    r"""Give a row whose escaped name equals another file's true name (``a\xff.wav``) an id of its own."""
    taken = {row["track_id"] for row in rows if row["probe_error"] is None}
    for row in rows:
        if row["probe_error"] is not None:
            while row["track_id"] in taken:
                row["track_id"] += "~"
            taken.add(row["track_id"])
