"""Why a file is not there, when its name is: names that look alike may be other bytes on the disk."""

from __future__ import annotations

import os
import unicodedata

from featstore.errors import DecodeError

__all__ = ["absent", "check_name"]

_RENAME = "Rename it, then index again"
_OLD_ENCODINGS = ("cp1252", "latin-1")  # of names that were written before UTF-8


def check_name(place: str) -> None:
    """Refuse a path that is no UTF-8: track tables and decoding libraries have no way to write it.

    Raises
    ------
    DecodeError
    """
    try:
        place.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(place).decode("utf-8", "backslashreplace")
        raise DecodeError("the file's name is not valid UTF-8", shown, _RENAME) from None


def absent(place: str) -> DecodeError:
    """The error for a path without a file; it names a file beside it whose name only looks the same."""
    folder, name = os.path.split(os.fspath(place))
    error = DecodeError("no such file", place, "Check the path in the track table")
    if name.isascii() and "\\x" not in name:
        return error
    try:
        entries = os.listdir(os.fsencode(folder or "."))
    except OSError:
        return error
    wanted = unicodedata.normalize("NFC", name)
    for entry in entries:
        try:
            form = entry.decode()
        except UnicodeDecodeError:
            shown = {entry.decode("utf-8", "backslashreplace"), *(entry.decode(e, "replace") for e in _OLD_ENCODINGS)}
            if wanted in shown:
                return DecodeError("the file's name is not valid UTF-8", place, _RENAME)
        else:
            if unicodedata.normalize("NFC", form) == wanted:
                what = "no such file, but one whose name is written in another Unicode form"
                return DecodeError(what, place, "Index again, or rename the file")
    return error
