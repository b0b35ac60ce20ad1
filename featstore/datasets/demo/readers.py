"""Scores to plain notes: tunes through abc2midi, which plays repeats and endings out, the rest through music21."""

from __future__ import annotations

import logging
import re
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from featstore.atomic import atomic_path
from featstore.datasets.demo.packages import package_folder
from featstore.datasets.demo.works import Work, tune_text
from featstore.errors import DatasetError

__all__ = [
    "READER_VERSION",
    "TICKS",
    "cached_notes",
    "clean_tune",
    "read_notes",
    "read_score",
    "read_tune",
]

logger = logging.getLogger(__name__)

TICKS = 480
"""Ticks in a quarter note, in every note list."""

READER_VERSION = 1
"""Raised whenever note lists change, so that cached ones no longer match."""

_FIELDS = "XMLKPV"
_ORNAMENT = re.compile(r"\[[KLMV]:[^\]]*\]|[~.HJLMORSTuv`&]")
_QUOTED = re.compile(r'"[^"]*"|\{[^}]*\}|![^!]*!')


def read_notes(work: Work) -> np.ndarray:
    """Notes of a work.

    Returns
    -------
    int32 (n_notes, 4): part, onset and duration in ticks, MIDI key; sorted by these.

    Raises
    ------
    DatasetError
        When the score cannot be read or has no notes.
    """
    try:
        notes = read_tune(tune_text(work.path, work.position)) if work.position >= 0 else read_score(work.path)
    except Exception as error:  # whatever a foreign parser raises
        reason = f"a score cannot be read: {type(error).__name__}: {error}"
        raise DatasetError(reason, work.name, "Install music21 and symusic again") from error
    if not len(notes):
        raise DatasetError("a score has no notes", work.name, "Install music21 again")
    return notes


def cached_notes(work: Work, cache_folder: Path | None) -> np.ndarray:
    """As ``read_notes``, kept in a folder, because some scores take seconds to read."""
    if cache_folder is None:
        return read_notes(work)
    path = cache_folder / f"v{READER_VERSION}" / f"{work.digest}.npy"
    try:
        notes: np.ndarray = np.load(path, allow_pickle=False)
        if notes.dtype == np.int32 and notes.ndim == 2 and notes.shape[1] == 4 and len(notes):
            return notes
    except (OSError, ValueError, EOFError):
        pass
    notes = read_notes(work)
    with atomic_path(path) as part, open(part, "wb") as file:
        np.save(file, notes, allow_pickle=False)
    return notes


def _sorted_notes(notes: list[tuple[int, int, int, int]]) -> np.ndarray:
    return np.array(sorted(notes), np.int32).reshape(-1, 4)


# ---------------------------------------------------------------------------------------------------------------- tunes


def clean_tune(text: str) -> str:
    """The tune without what is not melody: chord names, grace notes, ornaments, staccato, comments, other fields."""
    kept = []
    for line in text.split("\n"):
        line = re.sub(r"%.*", "", line).rstrip()
        if re.match(r"[A-Za-z]:(?![|:])", line):
            if line[0] in _FIELDS:
                kept.append(line)
        elif line.strip():
            kept.append(_ORNAMENT.sub(lambda found: found[0] if len(found[0]) > 1 else "", _QUOTED.sub("", line)))
    return "\n".join(kept) + "\n\n"


def read_tune(text: str) -> np.ndarray:
    """Notes of one ABC tune, repeats and endings played out.

    abc2midi is called as a program of its own: symusic's reader of ABC text would write to one file name of the
    temporary folder from all processes at once.
    """
    from symusic import Score

    program = package_folder("symusic") / "bin" / "abc2midi"
    with tempfile.TemporaryDirectory(prefix="featstore-tune-") as folder:
        source, target = Path(folder, "tune.abc"), Path(folder, "tune.mid")
        source.write_text(clean_tune(text), encoding="latin-1", errors="replace")
        command = [str(program), str(source), "-o", str(target), "-NFNP", "-NGRA", "-NGUI", "-NFER", "-NCOM"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        if not target.is_file():
            raise ValueError(f"abc2midi wrote nothing: {done.stdout.decode(errors='replace').strip()[-200:]}")
        score: Any = Score(str(target))
    scale = TICKS // score.ticks_per_quarter
    notes = []
    for note in score.tracks[0].notes if score.tracks else ():
        # abc2midi starts every note one tick late, so that a repeated note is heard as two
        start, end = (note.start - 1) * scale, (note.start + note.duration) * scale
        notes.append((0, max(start, 0), end - max(start, 0), note.pitch))
    return _sorted_notes(notes)


# --------------------------------------------------------------------------------------------------------------- scores


def read_score(path: Path) -> np.ndarray:
    """Notes of a MusicXML or Humdrum score as written: ties joined, grace notes and chord names left out.

    Only the parsed measures are walked: music21's ``stripTies`` and ``flatten`` take longer than the parsing.
    """
    from music21 import converter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = converter.parse(str(path), forceSource=True)
    notes: list[tuple[int, int, int, int]] = []
    for number, part in enumerate(list(getattr(score, "parts", ())) or [score]):
        notes += [(number, onset, length, key) for onset, length, key in _joined(_part_events(part))]
    return _sorted_notes(notes)


def _part_events(part: Any) -> list[tuple[int, int, int, str]]:
    """(onset, duration, key, kind of tie) of every note head of a part, in order of onset."""
    from music21.harmony import ChordSymbol

    events = []
    for container, base in _containers(part):
        for element in container.notes:
            length = round(element.duration.quarterLength * TICKS)
            if length <= 0 or isinstance(element, ChordSymbol):
                continue
            onset = round((base + element.offset) * TICKS)
            for head in getattr(element, "notes", (element,)):  # a chord's own notes carry the ties
                if hasattr(head, "pitch"):
                    events.append((onset, length, int(head.pitch.midi), head.tie.type if head.tie else ""))
    return sorted(events)


def _containers(part: Any) -> Iterator[tuple[Any, Any]]:
    """The streams that hold the notes of a part: its measures, or the voices in them, each with its offset."""
    from music21.stream import Measure, Voice

    for measure in part.getElementsByClass(Measure) or [part]:
        base = part.elementOffset(measure) if measure is not part else 0
        yield from ((voice, base + measure.elementOffset(voice)) for voice in measure.getElementsByClass(Voice))
        yield measure, base


def _joined(events: list[tuple[int, int, int, str]]) -> list[tuple[int, int, int]]:
    """Notes with tied heads made one: a tie that starts takes in the next head of its key, whatever that says.

    Some of the scores write only where ties start.
    """
    notes: list[list[int]] = []
    open_notes: dict[int, list[int]] = {}
    for onset, length, key, tie in events:
        note = open_notes.get(key)
        # a tick of slack: the parts of a tied tuplet are rounded each on its own
        if note is not None and abs(note[0] + note[1] - onset) <= 1:
            note[1] = onset + length - note[0]
        else:
            note = [onset, length, key]
            notes.append(note)
        if tie in ("start", "continue"):
            open_notes[key] = note
        else:
            open_notes.pop(key, None)
    return [(onset, length, key) for onset, length, key in notes]
