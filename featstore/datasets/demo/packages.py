"""Where the packages that carry scores, sound font and synthesizer lie; none is imported to find that out."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import cache
from pathlib import Path

from featstore.errors import DatasetError, MissingDependency

__all__ = ["SCORES_VERSION", "corpus_folder", "font_path", "package_folder", "require_packages"]

SCORES_VERSION = "10.5.1"
"""Version of music21 whose corpus the catalogue describes."""


@cache
def package_folder(name: str) -> Path:
    """Folder of an installed package.

    Raises
    ------
    MissingDependency
        When it is not installed.
    """
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise MissingDependency.of(name, "demo", "the built-in music")
    return Path(found.origin).parent


def corpus_folder() -> Path:
    """Folder of the scores that music21 carries."""
    return package_folder("music21") / "corpus"


def font_path() -> Path:
    """The sound font that pretty_midi carries.

    Raises
    ------
    DatasetError
        When the installed pretty_midi has none.
    """
    path = package_folder("pretty_midi") / "TimGM6mb.sf2"
    if not path.is_file():
        fix = "pip install 'pretty_midi>=0.2.11.post0'"
        raise DatasetError("pretty_midi came without its sound font", str(path), fix)
    return path


def require_packages() -> None:
    """Check that everything the built-in music needs is installed, in the version the catalogue was made from.

    Raises
    ------
    MissingDependency, DatasetError
    """
    for name, wanted, what, fix in (
        ("music21", SCORES_VERSION, f"the catalogue describes {SCORES_VERSION}", f"music21=={SCORES_VERSION}"),
        ("symusic", "0.5", "its synthesizer is not the one of 0.5.9", "'symusic>=0.5.9,<0.6'"),
    ):
        package_folder(name)
        found = importlib.metadata.version(name)
        if not f"{found}.".startswith(f"{wanted}."):
            raise DatasetError(f"{name} {found} is installed, {what}", "built-in music", f"pip install {fix}")
    font_path()
