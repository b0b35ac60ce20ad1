"""The ``audioset`` data set: 10 s segments of videos with 527 labels; the audio is the user's own download.

Source: J. F. Gemmeke et al., "Audio Set: an ontology and human-labeled dataset for audio events", ICASSP 2017.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featstore.datasets.audioset_ontology import read_ontology
from featstore.datasets.card import described
from featstore.datasets.sources import absolute, places_of, read_text, refuse_repeats, rows_of
from featstore.datasets.table import TrackTable, track_table
from featstore.errors import ConfigError, DatasetError

__all__ = ["TEMPLATES", "Segment", "balance_weights", "index_audioset", "read_segments"]

logger = logging.getLogger(__name__)

_LISTS = {
    "balanced_train": ("train", "balanced_train_segments.csv"),
    "unbalanced_train": ("train", "unbalanced_train_segments.csv"),
    "eval": ("test", "eval_segments.csv"),
}
PUBLISHED = {"balanced_train": 22_160, "unbalanced_train": 2_041_789, "eval": 20_371}
# Ways in which people store the audio, which has no official layout; {c1} and {c2} are the first letters of the id.
TEMPLATES = (
    "{split}/{c1}/{c2}/{ytid}_{start:.3f}.flac",
    "{split}/{ytid}_{start:.3f}.flac",
    "{split}/{ytid}.wav",
    "{split}/{ytid}.flac",
    "{split}/Y{ytid}.wav",
    "{split}_segments/Y{ytid}.wav",
    "{split}/{ytid}_{start:.0f}.wav",
    "{split}/{ytid}_{start_ms}_{end_ms}.wav",
)
_TOPS = ("", "audio", "wav", "flac")
_YTID = re.compile(r"[A-Za-z0-9_-]{11}")
_MID = re.compile(r"/[mtg]/[0-9a-z_]+")
_PROBED = 300
_WHOLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Segment:
    """A line of a list: a stretch of a video, and the ids of its labels.

    Attributes
    ----------
    ytid : str
        Eleven characters, where case matters; may begin with ``-``.
    start_s, end_s : float
    mids : tuple of str
    """

    ytid: str
    start_s: float
    end_s: float
    mids: tuple[str, ...]

    @property
    def name(self) -> str:
        """Id of the track: video and start, as a video may be listed twice."""
        return f"{self.ytid}_{self.start_s:.3f}"


@described(
    citation=(
        "J. F. Gemmeke, D. P. W. Ellis, D. Freedman, A. Jansen, W. Lawrence, R. C. Moore, M. Plakal, M. Ritter, Audio "
        "Set: an ontology and human-labeled dataset for audio events, ICASSP 2017"
    ),
    licence="lists CC BY 4.0, ontology CC BY-SA 4.0; the audio keeps the terms of each video",
    clip_s=9.9,
)
def index_audioset(
    root: str | os.PathLike[str],
    *,
    lists: str = "balanced_train,eval",
    template: str = "",
    audio: str = "",
    under: str = "",
) -> TrackTable:
    """AudioSet: the segment lists, 527 labels, ontology, and your audio in any layout that a template describes.

    Segments without a file stay in the table, with the reason; the notes report how many are present and the SHA-256
    of their ids, because test sets shrink as videos vanish. ``balance_weight`` is the sum of 1 / frequency over a
    segment's labels, counted over the segments that are present in its split. Labels that are not among the 527 are
    left out, and counted in the notes.

    Parameters
    ----------
    root : path
        Folder of ``class_labels_indices.csv`` and the lists; with ``ontology.json`` labels are checked against it.
    lists : str
        Separated by commas: ``balanced_train``, ``unbalanced_train``, ``eval``.
    template : str
        Path of a file below the audio folder, such as ``{split}/{c1}/{c2}/{ytid}_{start:.3f}.flac``: fields are
        ``split`` (the list's name), ``ytid``, ``c1``, ``c2``, ``start``, ``end`` (seconds), ``start_ms``, ``end_ms``.
        By default the known layouts are tried.
    audio : str
        Folder of the audio; by default the root, or ``audio``, ``wav`` or ``flac`` in it.
    under : str
        Keep only segments with a label below this node of the ontology, such as ``Music`` or ``/m/04rlf``.

    Raises
    ------
    DatasetError
        A list or the labels are missing, or damaged by a spreadsheet; no audio.
    ConfigError
        An unknown list, or a template with unknown fields.
    """
    base = absolute(root)
    names = [each.strip() for each in lists.split(",") if each.strip()]
    if not names or not set(names) <= set(_LISTS):
        raise ConfigError(f"lists={lists!r} is not a choice", "data set audioset", f"Use {', '.join(_LISTS)}")
    classes = _read_classes(base / "class_labels_indices.csv")
    ontology = read_ontology(base / "ontology.json") if (base / "ontology.json").is_file() else None
    entries = [(name, segment) for name in names for segment in read_segments(base / _LISTS[name][1])]
    if under:
        if ontology is None:
            raise DatasetError("no ontology.json here, and a node was named", str(base), "It comes with the data set")
        wanted = ontology.below(ontology.find(under))
        entries = [(name, segment) for name, segment in entries if wanted & set(segment.mids)]
        if not entries:
            raise DatasetError(f"no segment has a label below {under!r}", str(base), "Name another node")
    _check_twice(entries, base)
    folder, shape = _layout(entries, base, audio, template)
    paths = [str(folder / _filled(shape, name, segment)) for name, segment in entries]
    present = [os.path.isfile(path) for path in paths]
    splits = [_LISTS[name][0] for name, _ in entries]
    labels = [[classes[mid] for mid in segment.mids if mid in classes] for _, segment in entries]
    foreign = Counter(mid for _, segment in entries for mid in segment.mids if mid not in classes)
    columns: dict[str, Any] = {
        "track_id": [segment.name for _, segment in entries],
        "path": paths,
        "labels": labels,
        "split": splits,
        "group": [segment.ytid for _, segment in entries],
        "probe_error": [None if there else "no such file" for there in present],
        "list": [name for name, _ in entries],
        "start_s": [segment.start_s for _, segment in entries],
        "listed_s": [round(segment.end_s - segment.start_s, 3) for _, segment in entries],
        "balance_weight": balance_weights(labels, splits, present),
    }
    notes = [f"audio as {shape}", *_presence(entries, present, limited=bool(under))]
    if foreign:
        shown = ", ".join(sorted(foreign)[:3])
        notes.append(f"{foreign.total()} labels that are not among the {len(classes)} left out: {shown}")
    all_names = tuple(classes.values())
    return track_table(columns, name="audioset", task="multi_label", classes=all_names, root=str(base), notes=notes)


def read_segments(source: Path) -> list[Segment]:
    """Segments of a list: three comment lines or a plain header, then ``YTID, start, end, "mid,mid"``.

    Raises
    ------
    DatasetError
        No such list, a list that a spreadsheet saved, or a line of another form.
    """
    segments: list[Segment] = []
    text = read_text(source, absent=f"no list {source.name} here")
    for line, cells in rows_of(text, str(source), skip_blanks=True):
        if cells[0].startswith(("#", '"#')) or (cells[0] == "YTID" and not segments):
            continue
        segments.append(_segment(cells, line, source))
    if not segments:
        raise DatasetError("the list has no segments", str(source), "Copy it again")
    return segments


def _segment(cells: list[str], line: int, source: Path) -> Segment:
    mids = tuple(mid.strip() for mid in cells[3].split(",") if mid.strip()) if len(cells) == 4 else ()
    spread = len(cells) > 4 or any('"' in cell for cell in cells) or (cells[0][:1] in "=-" and "(" in cells[0])
    if spread:
        what = f"line {line} has {len(cells)} cells with labels spread over them: a spreadsheet saved this list"
        raise DatasetError(what, str(source), "Copy the published list again, and do not open it in a spreadsheet")
    if len(cells) < 4:
        raise DatasetError(f"line {line} has {len(cells)} cells, a segment has 4", str(source), "Copy the list again")
    try:
        start, end = float(cells[1]), float(cells[2])
    except ValueError:
        start, end = 0.0, -1.0
    if not _YTID.fullmatch(cells[0]) or not 0 <= start < end:
        what = f"line {line} is not an id of 11 characters and two times: {','.join(cells[:3])!r}"
        raise DatasetError(what, str(source), "A spreadsheet may have changed it: copy the published list again")
    wrong = [mid for mid in mids if not _MID.fullmatch(mid)]
    if wrong:
        raise DatasetError(f"line {line}: {wrong[0]!r} is no id of a label", str(source), "Copy the list again")
    return Segment(cells[0], start, end, mids)


def balance_weights(labels: Sequence[Sequence[str]], splits: Sequence[str], present: Sequence[bool]) -> list[float]:
    """Weight of each segment: the sum of 1 / frequency over its labels, counted where segments are present.

    A segment that is not present, and one without labels, weighs 0.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for names, split, there in zip(labels, splits, present, strict=True):
        if there:
            counts.update((split, name) for name in names)
    return [
        sum(1 / counts[split, name] for name in names) if there else 0.0
        for names, split, there in zip(labels, splits, present, strict=True)
    ]


def _read_classes(source: Path) -> dict[str, str]:
    """Display name by id, in the order of the indices."""
    rows = list(rows_of(read_text(source), str(source)))
    classes: dict[str, str] = {}
    for number, (line, cells) in enumerate(rows[1:]):
        if len(cells) != 3 or cells[0] != str(number) or not _MID.fullmatch(cells[1]) or cells[1] in classes:
            what = f"line {line} is not index {number}, an id and a name: {','.join(cells)!r}"
            raise DatasetError(what, str(source), "Copy the published file again")
        classes[cells[1]] = cells[2]
    if not classes or rows[0][1] != ["index", "mid", "display_name"]:
        raise DatasetError("the header is not index,mid,display_name", str(source), "Copy the published file again")
    return classes


def _check_twice(entries: Sequence[tuple[str, Segment]], base: Path) -> None:
    places = ((segment.name, name) for name, segment in entries)
    refuse_repeats(places, "the segment {0} is listed twice, in {1} and {2}", base, "Copy the lists again")
    folded: dict[str, str] = {}
    for _, segment in entries:
        other = folded.setdefault(segment.ytid.casefold(), segment.ytid)
        if other != segment.ytid:
            logger.info("AudioSet: %s and %s differ in case alone: one file on some disks", other, segment.ytid)


# ---------------------------------------------------------------------------------------------------------------- audio


def _filled(template: str, name: str, segment: Segment) -> str:
    try:
        path = template.format(
            split=name, ytid=segment.ytid, c1=segment.ytid[0], c2=segment.ytid[1],
            start=segment.start_s, end=segment.end_s,
            start_ms=round(1000 * segment.start_s), end_ms=round(1000 * segment.end_s),
        )  # fmt: skip
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        what = f"template={template!r} cannot be filled: {error}"
        fix = "Fields: split, ytid, c1, c2, start, end, start_ms, end_ms"
        raise ConfigError(what, "data set audioset", fix) from None
    if path.startswith("/") or ".." in Path(path).parts:
        what = f"template={template!r} leads out of the audio folder"
        raise ConfigError(what, "data set audioset", "Set audio=FOLDER")
    return path


def _layout(entries: list[tuple[str, Segment]], base: Path, audio: str, template: str) -> tuple[Path, str]:
    """The audio folder and the template under which one of the first segments is found."""
    folders = places_of(base, audio, _TOPS)
    shapes = [template] if template else TEMPLATES
    step = max(1, len(entries) // _PROBED)
    for folder, shape in itertools.product(folders, shapes):
        if any((folder / _filled(shape, *entry)).is_file() for entry in entries[::step][:_PROBED]):
            return folder, shape
    places = f"{', '.join(map(str, folders))} as {', '.join(shapes)}"
    what = f"none of {min(len(entries), _PROBED)} segments is in {places}"
    raise DatasetError(what, str(base), "Describe your layout: --set 'template={split}/{ytid}.wav' --set audio=FOLDER")


def _presence(entries: list[tuple[str, Segment]], present: list[bool], *, limited: bool) -> Iterator[str]:
    """How many segments of each list are present and short, and the digest of the present ones."""
    for name in dict.fromkeys(name for name, _ in entries):
        mine = [(segment, there) for (each, segment), there in zip(entries, present, strict=True) if each == name]
        found = sorted(segment.name for segment, exists in mine if exists)
        digest = hashlib.sha256("".join(f"{each}\n" for each in found).encode()).hexdigest()[:16]
        short = sum(segment.end_s - segment.start_s < _WHOLE_S - 1e-6 for segment, _ in mine)
        yield f"{name}: {len(found):,} of {len(mine):,} segments present (sha256 {digest}), {short} listed as short"
        if not limited and len(mine) != PUBLISHED[name]:
            yield f"the published list has {PUBLISHED[name]:,} segments"
