"""The artist that a file's own tags name, read without decoding."""

from __future__ import annotations

import os

__all__ = ["read_artist"]


def read_artist(path: str | os.PathLike[str]) -> str:
    """Artist tag of a local audio file (ID3, Vorbis comment, RIFF INFO); empty where none can be read.

    What libsndfile does not open (m4a, wma) has no artist here.
    """
    import soundfile

    if not os.path.isfile(path):
        return ""
    try:
        with soundfile.SoundFile(os.fspath(path)) as file:
            return str(file.artist or "").replace("\0", " ").strip()
    except (soundfile.LibsndfileError, OSError, ValueError, UnicodeError):
        return ""
