"""A clip that is there played again with another sound font: the same notes, at the same level."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featstore.datasets.demo.arrange import window
from featstore.datasets.demo.build import arranged
from featstore.datasets.demo.packages import require_packages
from featstore.datasets.demo.render import render
from featstore.errors import DatasetError

if TYPE_CHECKING:
    from featstore.arrays import FloatArray

__all__ = ["play_again"]

_FOLDER = re.compile(r"(?:mp3|flac)-(?P<rate>\d+)-(?P<channels>mono|stereo)(?:-seed(?P<seed>\d+))?")


def play_again(track: Mapping[str, Any], font: Path) -> tuple[FloatArray, int]:
    """Play the notes of a clip with another sound font.

    Parameters
    ----------
    track : mapping
        Row of the track table that ``index_demo`` makes: ``path``, ``work``, ``style``, ``window``, ``identity``.
    font : path
        A General MIDI sound font.

    Returns
    -------
    float32 (channels, n_samples), and its sample rate
        At the rate, channels and level of the clip.

    Raises
    ------
    DatasetError
        When the track is no clip of the built-in music, when its notes are no longer the same, or when the font plays
        nothing.
    """
    path = Path(str(track["path"]))
    settings = _FOLDER.fullmatch(path.parents[1].name) if len(path.parents) > 1 else None
    if settings is None or not {"work", "style", "window", "identity"} <= set(track):
        raise DatasetError("the track is no clip of the built-in music", str(path), "Only that can be played again")
    require_packages()
    arrangement = arranged(
        str(track["work"]), str(track["style"]), seed=int(settings["seed"] or 0), notes=path.parents[2] / "notes"
    )
    clip = window(arrangement, int(track["window"]))
    if clip.identity != track["identity"]:
        raise DatasetError("the clip was made from other notes", str(path), "Make the built-in music again")
    sample_rate, channels = int(settings["rate"]), 1 if settings["channels"] == "mono" else 2
    audio, loudness = render(clip, sample_rate=sample_rate, channels=channels, font=font)
    if loudness.is_silent:
        raise DatasetError(f"{font.name} plays next to nothing of it", str(path), "Take another sound font")
    return audio, sample_rate
