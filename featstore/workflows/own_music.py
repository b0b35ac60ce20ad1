"""What a folder or list of one's own music allows: labels, groups, splits and clip length, decided before any work."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.datasets import SPLITS, TrackTable
from featstore.datasets.folder import AUDIO_SUFFIXES
from featstore.errors import DatasetError
from featstore.models.encoder_fetch import fetched_place
from featstore.units import format_bytes
from featstore.workflows.indexing import artists_of, index_tracks, with_groups, with_splits
from featstore.workflows.recipe_features import TOKENIZER
from featstore.workflows.recipes import Recipe, load_recipe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Survey", "survey_music"]

_LEAST = 3  # groups of a class: one each to train, to choose and to test
_SHARES = (0.6, 0.2, 0.2)
_CLIP_S, _SHORTEST_CLIP_S, _CROP_S = 29.1, 1.0, 3.0
_ENOUGH = 0.5  # share of the tracks that must have an artist tag, or a second folder, for it to be the group
_USUAL_TRACKS = 240  # what the recipe's number of epochs is made for
_ENCODER, _WINDOW_S = "mtt-musicnn", 3.0


@dataclass(slots=True)
class Survey:
    """What was found, and what follows from it.

    Attributes
    ----------
    music : str
        The folder or list, as it was given.
    table : TrackTable
        Its tracks with their groups.
    data : dict
        Data set of a recipe that makes this table: ``kind``, ``root`` and options of the adapter.
    settings : dict
        Of training, over the recipe's.
    clip : str
        Clip policy of the features.
    clip_s : float
        Its seconds.
    sentences : list of str
        What was found and decided, for people.
    advice : list of str
        What to do to get a better answer, or one at all.
    trains : bool
        Whether there are labels to learn.
    tokens : bool
        Whether a tokenizer can be trained: some track lasts a second.
    """

    music: str
    table: TrackTable
    data: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    clip: str = ""
    clip_s: float = 0.0
    sentences: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    trains: bool = False
    tokens: bool = False

    def recipe(self, name: str = "quickstart", *, smoke: bool = False) -> Recipe:
        """The recipe ``name`` on this music: with its clip length, classes and splits."""
        # a smoke run keeps its own number of epochs
        settings = {section: values for section, values in self.settings.items() if not (smoke and section == "loop")}
        found = load_recipe(name, smoke=smoke, data=self.data["kind"], changes={"settings": settings})
        features = [{**entry, "clip": self.clip} for entry in found.features]
        if not self.fills_window:
            features = [entry for entry in features if entry.get("model") != _ENCODER]
            found = replace(found, optional=[])
        if self.trains and self.tokens:
            return replace(found, data=self.data, features=features)
        features = [entry for entry in features if entry.get("weights") != TOKENIZER]
        return replace(found, data=self.data, features=features, tokenizer={})

    @property
    def fills_window(self) -> bool:
        """Whether a clip is as long as what the encoder sees at once."""
        return self.clip_s >= _WINDOW_S

    @property
    def vectors(self) -> bool:
        """Whether vectors of the encoder are extracted: its weights are there, and a clip fills its window."""
        return self.fills_window and fetched_place(_ENCODER) is not None

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "music": self.music,
            "tracks": len(self.table),
            "trains": self.trains,
            "data": self.data,
            "found": self.sentences,
            "advice": self.advice,
        }


def survey_music(music: str, *, label_column: str | None = None, jobs: int | None = None) -> Survey:
    """Look at a folder or CSV list of music, and decide what can be done with it. Nothing is written.

    Sub-folders are labels. The group is the artist tag where at least half of the tracks have one, else the folder
    below the label (LABEL/ARTIST/TRACK); in a list it is the column ``group``. Classes with fewer than three groups are
    left out, as they cannot be in all three splits; where fewer than two classes remain, groups are given up first.

    Raises
    ------
    DatasetError
        For a missing or empty folder, a list that cannot be read, or music of which no file can be read.
    """
    kind, root, first = _place(music)
    options = {} if label_column is None else {"label_column": label_column}
    table = index_tracks(kind, root, jobs=jobs, **options, **({"group_from": "second"} if kind == "folder" else {}))
    survey = Survey(music, table, {"kind": kind, "root": root, **options}, sentences=first)
    readable = table.frame[table.frame["probe_error"].isna()]
    if readable.empty:
        reason = f"{table.frame['track_id'].iloc[0]}: {table.frame['probe_error'].iloc[0]}"
        raise DatasetError(
            f"none of {len(table)} files can be read ({reason})", music, "Check them with: featstore doctor"
        )
    _describe_tracks(survey, readable)
    _choose_clip(survey, readable)
    if table.info.task == "none":
        _say_unlabelled(survey)
    else:
        _choose_classes(survey, _choose_groups(survey, jobs))
    survey.sentences.append(_say_vectors(survey))
    if survey.trains:
        _choose_splits(survey)
        scaled = round(10 * _USUAL_TRACKS / len(survey.table))
        if scaled < 10:
            survey.settings["loop"] = {"epochs": max(2, scaled)}
            survey.sentences.append(f"{max(2, scaled)} epochs instead of 10, as there are many tracks.")
    return survey


def _place(music: str) -> tuple[str, str, list[str]]:
    """Kind and root of the data set; a folder that holds one folder and nothing else stands for that folder."""
    path = Path(os.path.expanduser(music))
    if not path.exists():
        raise DatasetError("no such folder or list", music, "Check the path")
    if not path.is_dir():
        if path.suffix.lower() in AUDIO_SUFFIXES:
            raise DatasetError("this is one audio file", music, "Name the folder that it is in")
        return "csv", music, []
    root = path
    while len(inner := _visible(root)) == 1 and inner[0].is_dir():
        root = inner[0]
    if root == path or not _visible(root):
        return "folder", music, []
    if not any(each.is_dir() for each in _visible(root)):
        root = root.parent  # its one folder is the only label there is
    return "folder", str(root), [] if root == path else [f"All music is in {root}."]


def _visible(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.iterdir() if not each.name.startswith(".")]
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", str(folder), "Check the permissions") from error


def _describe_tracks(survey: Survey, readable: pd.DataFrame) -> None:
    frame = survey.table.frame
    hours, size = float(readable["duration_s"].sum()) / 3600, format_bytes(float(readable["size_bytes"].sum()))
    length = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
    survey.sentences.append(f"{len(frame)} {_plural(len(frame), 'track')}, {length}, {size}.")
    broken = frame[frame["probe_error"].notna()]
    if len(broken):
        shown = "; ".join(f"{row.track_id}: {row.probe_error}" for row in broken.head(3).itertuples())
        survey.sentences.append(
            f"{len(broken)} {_plural(len(broken), 'file')} cannot be read and will be listed as failed: {shown}"
            + (" …" if len(broken) > 3 else ".")
        )


def _choose_clip(survey: Survey, readable: pd.DataFrame) -> None:
    """The middle of each track, as long as nine tracks in ten have it; shorter ones are filled up."""
    lengths = readable["duration_s"].dropna().to_numpy(dtype=float)
    usual = float(np.quantile(lengths, 0.1)) if len(lengths) else _CLIP_S
    seconds = _CLIP_S if usual >= _CLIP_S else max(_SHORTEST_CLIP_S, int(10 * usual) / 10)
    shorter = int((lengths < seconds).sum())
    survey.clip_s = seconds
    survey.clip = f"centre({seconds:g} s{',pad=zeros' if shorter else ''})"
    padded = f"; {shorter} shorter {_plural(shorter, 'one')} filled up with zeros" if shorter else ""
    survey.sentences.append(f"Of each track the middle {seconds:g} s are used{padded}.")
    survey.settings["data"] = {"crop_s": min(_CROP_S, seconds)}
    survey.tokens = bool(len(lengths)) and float(lengths.max()) >= _SHORTEST_CLIP_S


def _say_vectors(survey: Survey) -> str:
    """Whether there are vectors of the encoder, or why not."""
    if survey.vectors:
        return f"Vectors of the encoder {_ENCODER} are extracted as well."
    if not survey.fills_window:
        return f"There are no vectors: the encoder {_ENCODER} takes clips of {_WINDOW_S:g} s and more."
    return f"No encoder is installed, so there are no vectors: featstore models fetch {_ENCODER} gets one."


def _choose_groups(survey: Survey, jobs: int | None) -> str:
    """Set the groups; returns what they are, empty where there are none."""
    table = survey.table
    if survey.data["kind"] == "csv" and table.frame["group"].notna().any():
        return _groups_are(table, "column 'group' of the list")
    artists = artists_of(table, jobs=jobs)
    if _many(artists):
        survey.table, survey.data["group_from"] = with_groups(table, artists), "artist"
        return _groups_are(survey.table, "artist tags")
    if _many(list(table.frame["group"])):
        survey.data["group_from"] = "second"
        return _groups_are(table, "folders below the labels")
    survey.table = with_groups(table, [None] * len(table))
    return ""


def _many(groups: Sequence[str | None]) -> bool:
    there = [group for group in groups if group]
    return len(there) >= _ENOUGH * len(groups) and len(set(there)) > 1


def _groups_are(table: TrackTable, what: str) -> str:
    count, alone = table.frame["group"].nunique(), int(table.frame["group"].isna().sum())
    rest = f"; {alone} {_plural(alone, 'track')} without one {_plural(alone, 'is', 'are')} alone" if alone else ""
    return f"Groups are the {what} ({count} of them{rest}): none is on two sides of a split."


def _choose_classes(survey: Survey, groups_are: str) -> None:
    """Leave out classes that cannot be in all splits; without two classes there is nothing to learn."""
    table = survey.table
    tracks, groups = _members(table, by_group=False), _members(table, by_group=True)
    source = "sub-folders" if survey.data["kind"] == "folder" else "labels of the list"
    survey.sentences.append(f"Classes are the {source}: {_listed(tracks)}.")
    _say_bare(survey)
    given = _given_splits(survey)
    kept = [name for name in tracks if given or len(groups[name]) >= _LEAST]
    enough = [name for name in tracks if len(tracks[name]) >= _LEAST]
    if len(kept) < 2 <= len(enough):
        groups_are = _give_up_groups(survey, {name: groups[name] for name in tracks if name not in kept})
        kept = enough
    if len(kept) < 2:
        _say_too_few(survey, tracks)
        return
    lost = {name: groups[name] for name in tracks if name not in kept}
    if lost:
        survey.settings["data"] |= {"classes": kept}
        fix = f"a class needs {_LEAST} tracks{' of different groups' if groups_are else ''} to be in every split."
        survey.sentences.append(f"Left out of training: {_listed(lost)}; {fix}")
    survey.trains = True
    survey.sentences.append(groups_are or "There are no groups: no artist tags and no folders below the labels.")
    if not groups_are:
        survey.advice.append(
            "Tracks of one artist or album may be on two sides of a split, and the scores too good: sort the files as "
            "LABEL/ARTIST/TRACK, tag the artist, or list a column `group` in a CSV"
        )


def _say_bare(survey: Survey) -> None:
    """Say which tracks have no label."""
    frame = survey.table.frame
    bare = int((frame["probe_error"].isna() & (frame["labels"].map(len) == 0)).sum())
    if bare:
        beside = " beside the sub-folders" if survey.data["kind"] == "folder" else ""
        used = "extracted, not trained on" if survey.table.info.task == "single_label" else "used as having none"
        have, they_are = _plural(bare, "has", "have"), _plural(bare, "it is", "they are")
        survey.sentences.append(f"{bare} {_plural(bare, 'track')}{beside} {have} no label: {they_are} {used}.")


def _give_up_groups(survey: Survey, few: Mapping[str, set[str]]) -> str:
    """Let every track stand alone; returns why."""
    survey.table = with_groups(survey.table, [None] * len(survey.table))
    survey.data["group_from"] = "none"
    survey.advice.append(
        "The scores also count how well single artists are recognised: add music of other artists to each class"
    )
    return (
        f"Groups are given up, and each track is one: {_listed(few)} {_plural(len(few), 'has', 'have')} too few, and a "
        f"class needs {_LEAST} to be in every split."
    )


def _members(table: TrackTable, *, by_group: bool) -> dict[str, set[str]]:
    """Tracks, or groups, of each class; files that cannot be read do not count."""
    found: dict[str, set[str]] = defaultdict(set)
    frame = table.frame[table.frame["probe_error"].isna()]
    for track_id, labels, group in zip(frame["track_id"], frame["labels"], frame["group"], strict=True):
        for name in labels:
            found[name].add(f"group {group}" if by_group and group else f"track {track_id}")
    return {name: found[name] for name in table.info.classes}


def _given_splits(survey: Survey) -> bool:
    """Whether the splits that came with the music will do."""
    splits = set(survey.table.frame["split"].dropna())
    source = "folders" if survey.data["kind"] == "folder" else "list"
    lacking = [name for name in SPLITS if name not in splits]
    if splits and lacking:
        survey.sentences.append(f"The {source} give no split {' and no split '.join(lacking)}: new splits are drawn.")
    return not lacking


def _choose_splits(survey: Survey) -> None:
    frame = survey.table.frame
    if set(SPLITS) <= set(frame["split"].dropna()):
        survey.sentences.append(f"Splits are those that came with it: {_counted(frame['split'])}.")
        return
    if frame["split"].notna().any():
        survey.data["split_from"] = "none"
    survey.settings["data"] |= {"fractions": list(_SHARES), "split_seed": 0}
    survey.table = with_splits(survey.table, _SHARES)
    frame = survey.table.frame
    classes = survey.settings["data"].get("classes", survey.table.info.classes)
    used = [any(name in classes for name in labels) for labels in frame["labels"]]
    whole = ", whole groups at a time" if frame["group"][used].notna().any() else ""
    survey.sentences.append(
        f"Splits are drawn in proportion in each class{whole}: {_counted(frame['split'][used].dropna())}."
    )


def _counted(splits: pd.Series[str]) -> str:
    counts = Counter(splits)
    return ", ".join(f"{counts[name]} {name}" for name in SPLITS)


def _say_unlabelled(survey: Survey) -> None:
    """No labels: how they are given."""
    if survey.data["kind"] == "folder":
        advice = "To train, sort the files into one folder for each label, or list them in a CSV path,labels"
        _train_nothing(survey, "There are no sub-folders, hence no labels", advice)
        return
    first, *others = _label_like(survey.table.frame) or [""]
    advice = f"Name the column of the labels: --label-column {first}"
    if others:
        advice += f" (there are also {', '.join(others)})"
    none = "Add a column `labels` to the list, several labels of a track separated by |"
    _train_nothing(survey, "The list has no labels", advice if first else none)


def _train_nothing(survey: Survey, reason: str, advice: str) -> None:
    survey.sentences.append(f"{reason}: features are extracted, nothing is trained.")
    survey.advice.append(advice)


def _label_like(frame: pd.DataFrame) -> list[str]:
    """Further columns of text with a few values that repeat, the one with the fewest values first."""
    own = ["track_id", "path", "labels", "split", "group", "probe_error"]
    found = {}
    for name in frame.columns.difference(own, sort=False):
        values = frame[name].dropna()
        if len(values) and all(isinstance(each, str) for each in values) and 2 <= values.nunique() <= len(values) / 2:
            found[str(name)] = values.nunique()
    return sorted(found, key=lambda name: (found[name], name))


def _say_too_few(survey: Survey, tracks: Mapping[str, set[str]]) -> None:
    if len(tracks) == 1:
        advice = "A classifier needs two classes: add a folder or label of other music"
        _train_nothing(survey, "There is only one class", advice)
    else:
        advice = f"Give each class {_LEAST} tracks or more (20 and more for an answer that means something)"
        _train_nothing(survey, f"Fewer than two classes have {_LEAST} tracks ({_listed(tracks)})", advice)


def _listed(members: Mapping[str, set[str]], most: int = 8) -> str:
    shown = [f"{name} ({len(each)})" for name, each in list(members.items())[:most]]
    return ", ".join(shown) + (f" and {len(members) - most} more" if len(members) > most else "")


def _plural(count: int, one: str, many: str = "") -> str:
    return one if count == 1 else many or f"{one}s"
