"""The built-in music played with another sound font: the same notes and labels, other instruments' samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featstore.audio.writing import write_audio
from featstore.errors import ConfigError
from featstore.workflows.alterations import Alteration

__all__ = ["Timbre", "find_font"]

_PLACES = ("/usr/share/sounds", "/usr/local/share/sounds", "~/.local/share/sounds")
_SUFFIXES = ("sf2", "sf3")


class Timbre(Alteration):
    """Clips of the built-in music played again, with a sound font of the machine: ``timbre-FluidR3Mono_GM``."""

    pattern, example = r"timbre-(?P<value>[\w.-]+)", "timbre-FluidR3Mono_GM"

    def write(self, track: Mapping[str, Any], target: Path, *, rng: np.random.Generator) -> None:
        """Play the clip again, as mono FLAC."""
        from featstore.datasets.demo.again import play_again

        audio, sample_rate = play_again(track, find_font(self.value))
        write_audio(target, [audio.mean(axis=0, dtype=np.float32)], sample_rate=sample_rate)


def find_font(name: str) -> Path:
    """File of an installed sound font, such as those of Debian's packages.

    Raises
    ------
    ConfigError
        When there is none of this name.
    """
    places = [Path(place).expanduser() / suffix / f"{name}.{suffix}" for place in _PLACES for suffix in _SUFFIXES]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        folders = ", ".join(str(Path(place) / "{sf2,sf3}") for place in _PLACES)
        fix = "Install one, such as Debian's fluidr3mono-gm-soundfont"
        raise ConfigError(f"no sound font {name!r}", folders, fix)
    return found
