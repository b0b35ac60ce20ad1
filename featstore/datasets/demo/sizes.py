"""Which clips a size holds: shares of the splits in every style, small works first, a smaller size inside a bigger."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from featstore.datasets.demo.arrange import CLIP_MS, tempo_of
from featstore.datasets.demo.catalogue import Entry
from featstore.datasets.demo.works import STYLES
from featstore.datasets.table import SPLITS
from featstore.errors import ConfigError

__all__ = ["SIZES", "ClipChoice", "clips_per_style", "ordered_clips", "quotas"]

SIZES = {"quick": 20, "standard": 100, "study": 175, "full": None}
"""Clips per style; None is all there are. ``study`` has 404 test clips; the 48 of ``quick`` resolve about 4 points."""

# Which split each further clip of a style is taken from: 14 train, 2 valid, 4 test of 20, and any start of it has
# a training clip first. Styles take turns in which of valid and test comes first, so that two a style hold both.
_EVEN = ("train", "test", "train", "valid", "train", "train", "train", "test", "train", "train")
_ODD = ("train", "valid", "train", "test", "train", "train", "train", "test", "train", "train")


@dataclass(frozen=True, slots=True)
class ClipChoice:
    """One clip that may be made: a window of a work."""

    entry: Entry
    window: int

    @property
    def name(self) -> str:
        """Id of the track, also the stem of its file: style and a digest of work and window."""
        digest = hashlib.sha256(f"{self.entry.work}|{self.window}".encode()).hexdigest()[:10]
        return f"{self.entry.style.lower().replace(' ', '-')}-{digest}"


def clips_per_style(size: str | int) -> int | None:
    """Clips per style that a size asks for, None for all.

    Raises
    ------
    ConfigError
        For a size that is neither a name nor a whole number above 0.
    """
    if isinstance(size, str) and size in SIZES:
        return SIZES[size]
    try:
        number = int(size)
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(
            f"size {size!r} does not exist", "data set demo", f"Use {', '.join(SIZES)}, or a number of clips per style"
        )
    return number


def quotas(number: int, style: str) -> dict[str, int]:
    """How many of ``number`` clips of a style come from each split.

    Examples
    --------
    >>> quotas(20, "reel")
    {'train': 14, 'valid': 2, 'test': 4}
    """
    pattern = _ODD if STYLES.index(style) % 2 else _EVEN
    taken = [pattern[position % len(pattern)] for position in range(number)]
    return {split: taken.count(split) for split in SPLITS}


def ordered_clips(entries: Sequence[Entry], *, seed: int) -> list[ClipChoice]:
    """All clips of one style and split in the order in which sizes take them.

    First the first window of every work, then all second windows, and so on; works of less than the median number of
    notes come first, because they are read sooner; among these the order is drawn from the seed.
    """
    if not entries:
        return []
    middle = median(entry.notes for entry in entries)
    choices = [ClipChoice(entry, number) for entry in entries for number in range(n_windows(entry, seed=seed))]

    def place(choice: ClipChoice) -> tuple[int, bool, bytes]:
        entry = choice.entry
        digest = hashlib.sha256(f"{seed}|{entry.work}".encode()).digest()
        return choice.window, entry.notes > middle and "#" not in entry.work, digest

    return sorted(choices, key=place)


def n_windows(entry: Entry, *, seed: int) -> int:
    """Clips that a work gives: one of a tune, of a score as many as are full, at least one."""
    if "#" in entry.work:
        return 1
    tempo = tempo_of(entry.work, entry.style, seed=seed)
    return max(1, entry.ticks * 60_000 // (tempo * 480) // CLIP_MS)
