"""Which works belong together, and hence to one split; and how the shipped catalogue is made."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np

from featstore.datasets.demo.catalogue import Entry, catalogue, write_table
from featstore.datasets.demo.readers import cached_notes
from featstore.datasets.demo.works import STYLES, Work, mass_of, scan_corpus, tune_field, tune_text, work_named
from featstore.datasets.splits import joined
from featstore.datasets.table import SPLITS
from featstore.errors import DatasetError
from featstore.grouping import assign_parts
from featstore.log import progress

__all__ = ["FEWEST_NOTES", "facts_of", "families_of", "incipit", "make_entries", "splits_of", "title_key"]

FEWEST_NOTES = 16
"""Works with fewer notes are left out."""

_STEPS = 16
_CHORALE_STEPS = 12  # chorale lines are short, and their melodies few
_GENERIC = r"\b(the|a|an|reel|jig|hornpipe|slip|double|single|clog|strathspey|air|no|set|version)\b"
# Clips of a work for the balance of the splits: full windows of 29.1 s at 110 quarter notes per minute.
_TICKS_PER_CLIP = round(29.1 * 110 / 60 * 480)


def title_key(title: str) -> str:
    """What two prints of one tune have in common in their titles; empty when it says too little.

    Examples
    --------
    >>> title_key("The Flogging Reel -- 2nd set"), title_key("Flogging")
    ('flogging', 'flogging')
    """
    text = re.sub(r"\s*--.*$", "", title.lower())
    key = re.sub(r"[^a-z]", "", re.sub(_GENERIC, " ", text))
    return key if len(key) > 4 else ""


def incipit(notes: np.ndarray, *, steps: int = _STEPS) -> str:
    """The first melodic steps of the first part in semitones, free of key and tempo; empty when there are fewer."""
    first = notes[notes[:, 0] == notes[0, 0]]
    onsets = np.unique(first[:, 1])[: steps + 1]
    if len(onsets) <= steps:
        return ""
    top = [int(first[first[:, 1] == onset, 3].max()) for onset in onsets]
    return ",".join(str(after - before) for before, after in pairwise(top))


def keys_of(work: Work) -> list[Hashable]:
    """What relates works, as far as it is known without parsing: mass, opus, piece, title."""
    collection, _, rest = work.name.partition("/")
    if work.style == "mass":
        return [("mass", mass_of(work.path))]
    if work.style == "string quartet":
        return [("opus", collection, rest.partition("/")[0])]
    if work.style == "trecento":  # versions a and b of one piece
        return [("piece", re.sub(r"(?<=\d)[ab](?=[-_])", "", rest))]
    if work.position < 0:
        return []
    title = title_key(tune_field(tune_text(work.path, work.position), "T"))
    return [("title", "essen" if collection == "essen" else "fiddle", title)] if title else []


def facts_of(work: Work, cache_folder: Path | None = None) -> tuple[str, int, int]:
    """Incipit, length in ticks and number of notes; zeros for a work that cannot be read."""
    try:
        notes = cached_notes(work, cache_folder)
    except DatasetError:
        return "", 0, 0
    steps = _CHORALE_STEPS if work.style == "chorale" else _STEPS
    return incipit(notes, steps=steps), int((notes[:, 1] + notes[:, 2]).max()), len(notes)


def families_of(works: Sequence[Work], incipits: Sequence[str]) -> list[str]:
    """Family of each work, named after its first member: works that share a key or an incipit, however indirectly."""
    first: dict[Hashable, int] = {}
    links = [
        (row, first.setdefault(key, row))
        for row, (work, steps) in enumerate(zip(works, incipits, strict=True))
        for key in [*keys_of(work), *([("incipit", steps)] if steps else [])]
    ]
    return [works[row].name for row in joined(len(works), links)]


def splits_of(entries: Iterable[Entry]) -> dict[str, str]:
    """Split of each family, over all entries given."""
    members: dict[Hashable, Counter[str]] = {}
    for each in entries:
        clips = 1 if "#" in each.work else max(1, each.ticks // _TICKS_PER_CLIP)
        members.setdefault(each.family, Counter())[each.style] += clips
    return {str(family): SPLITS[part] for family, part in assign_parts(members, shares=(0.7, 0.1, 0.2)).items()}


def make_entries(cache_folder: Path | None, jobs: int) -> list[Entry]:
    """Read every work of the installed scores and derive the whole catalogue."""
    from dataclasses import replace

    works = scan_corpus()
    with ProcessPoolExecutor(jobs) as pool:
        found = pool.map(facts_of, works, [cache_folder] * len(works), chunksize=8)
        facts = list(progress(found, total=len(works), desc="read scores", unit="work"))
    kept = [row for row, (_, _, notes) in enumerate(facts) if notes >= FEWEST_NOTES]
    families = families_of([works[row] for row in kept], [facts[row][0] for row in kept])
    entries = [
        Entry(works[row].name, works[row].style, family, "train", *facts[row][1:])
        for row, family in zip(kept, families, strict=True)
    ]
    splits = splits_of(entries)
    return [replace(entry, split=splits[entry.family]) for entry in entries]


def differences(every: int) -> list[str]:
    """Recompute the facts of every n-th entry of the shipped catalogue and report where they differ."""
    found = []
    for entry in catalogue()[::every]:
        _, ticks, notes = facts_of(work_named(entry.work, entry.style))
        if (ticks, notes) != (entry.ticks, entry.notes):
            found.append(f"{entry.work}: {entry.ticks} ticks, {entry.notes} notes in the table, {ticks}, {notes} found")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or check the shipped table; what is left out or differs goes to the standard output."""
    import sys

    parser = argparse.ArgumentParser(prog="python -m featstore.datasets.demo.families")
    parser.add_argument("--write", action="store_true", help="make the table again")
    parser.add_argument("--check", type=int, metavar="N", help="recompute the facts of about N works and compare")
    parser.add_argument("--cache", type=Path, help="folder for parsed note lists")
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args(arguments)
    lines: list[str] = []
    if chosen.write:
        entries = make_entries(chosen.cache, chosen.jobs)
        write_table(entries, Path(__file__).with_name("catalogue.csv.gz"))
        lines.append(f"{len(entries)} works, {len({each.family for each in entries})} families")
        for style in STYLES:
            mine = [each for each in entries if each.style == style]
            splits = Counter(each.split for each in mine)
            lines.append(f"{style}: {len(mine)} works, {len({each.family for each in mine})} families, {dict(splits)}")
    if chosen.check:
        lines += differences(max(1, len(catalogue()) // chosen.check)) or ["no difference"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
