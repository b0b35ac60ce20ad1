"""Files that are held in memory while libsndfile decodes them.

A decoder of mp3 asks for a frame's header, then for the frame: 1,600 requests to the system for half a minute, a sixth
of the time that decoding takes, and more on a file system that is far away. A file that is opened by its name is also
looked for under three further names, where other systems keep resource forks. Neither happens to a file in memory.
libsndfile calls functions for its virtual files; these are machine code, because Python would take longer than the
system does.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np

from featstore.audio.content import syncsafe
from featstore.audio.views import ViewOf
from featstore.compiling import Bytes, Int, Integers, Library
from featstore.kernel_code import Code, Index

__all__ = ["MOST_HELD", "MemoryFile", "read_held", "sound_file_class"]

MOST_HELD = 1 << 26  # bytes of a file, before it is left where it is: half an hour of 16-bit stereo

# state of a file: address, length and claimed length of its bytes; where zeros begin behind them; position
_ADDRESS, _LENGTH, _CLAIMED, _ZEROS_FROM, _AT = range(5)

_functions = Library(__file__)


@_functions.callback
def length_of(code: Code, state: Integers) -> Index:
    """Length that the file claims to have."""
    return code.integer(state, _CLAIMED)


@_functions.callback
def position_of(code: Code, state: Integers) -> Index:
    """Position."""
    return code.integer(state, _AT)


@_functions.callback
def seek_to(code: Code, offset: Index, whence: Int, state: Integers) -> Index:
    """Go to a position; one before the start changes nothing."""
    at, end = code.integer(state, _AT), code.integer(state, _CLAIMED)
    wanted = offset + code.chosen(whence < 1, 0, code.chosen(whence < 2, at, end))
    code.put(state, _AT, code.chosen(wanted < 0, at, wanted))
    return code.chosen(wanted < 0, -1, wanted)


@_functions.callback
def read_into(code: Code, target: Bytes, count: Index, state: Integers) -> Index:
    """Copy what is there from the position on; the number of bytes."""
    at = code.integer(state, _AT)
    held = code.lesser(count, code.integer(state, _LENGTH) - at)
    held = code.chosen(held < 0, 0, held)
    code.copy(target, code.integer(state, _ADDRESS) + at, held)
    zeros = code.lesser(count, code.integer(state, _CLAIMED) - at)
    zeros = code.chosen(at < code.integer(state, _ZEROS_FROM), 0, code.chosen(zeros < 0, 0, zeros))
    code.clear(target, zeros)  # no bytes are held where zeros begin
    code.put(state, _AT, at + held + zeros)
    return held + zeros


class MemoryFile:
    """The bytes of a file, as a view shows them, and a position among them.

    Parameters
    ----------
    name : str
        Path of the file, for errors.
    content : bytes
    view : ViewOf, optional
        What of it is shown, and how.

    Attributes
    ----------
    is_tagged : bool
        Whether ID3v2 tags at the start are left out. libsndfile reads few formats behind such a tag.

    See Also
    --------
    featstore.audio.views.FileView : The same for a file that stays on the disk.
    """

    def __init__(self, name: str, content: bytes, view: ViewOf | None = None) -> None:
        self.name = name
        shown = content if view is None else view.shown(content)
        behind = id3_end(shown)
        self.is_tagged = behind > 0
        self._shown = memoryview(shown)[behind:] or shown  # no second copy of a file with a tag
        claimed, zeros_from = (view or ViewOf()).claims(len(self._shown))
        address = np.frombuffer(self._shown, np.uint8).__array_interface__["data"][0]
        self.state = np.array([address, len(self._shown), claimed, zeros_from, 0], np.int64)


def id3_end(content: bytes) -> int:
    """Position behind ID3v2 tags at the start.

    libsndfile passes over them, but counts positions in virtual files from the start of the file nevertheless.
    """
    at = 0
    while content[at : at + 3] == b"ID3" and len(content) >= at + 10:
        at += 10 + syncsafe(content[at + 6 : at + 10])
    return at


def read_held(path: str, size: int) -> bytes | None:
    """All bytes of a file of ``size`` bytes, None where it is too large to be held."""
    if size > MOST_HELD:
        return None
    with open(path, "rb") as file:
        return file.read()


@functools.cache
def sound_file_class() -> Any:
    """Soundfile's class of files, for files that are only read onwards, of those in memory too."""
    import soundfile

    ffi, library = soundfile._ffi, soundfile._snd
    # The error of a failing call is that of the process. Releases before 0.14 have no lock for it.
    errors = getattr(soundfile.SoundFile, "_sf_error_lock", threading.Lock())

    @functools.cache
    def calls() -> Any:
        """Libsndfile's table of functions, made when a first file needs it."""
        made = {"get_filelen": length_of(), "seek": seek_to(), "read": read_into(), "tell": position_of(), "write": 0}
        return ffi.new("SF_VIRTUAL_IO*", {name: ffi.cast(f"sf_vio_{name}", at) for name, at in made.items()})

    class SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
        """A file that is only read onwards.

        soundfile seeks after every read of a seekable file. In mp3 that throws away the bits that frames leave for
        later ones, and the start of the next block decodes wrongly (seen at 16 kHz).
        """

        def seekable(self) -> bool:
            return False

        def _open(self, file: Any, mode_int: int, closefd: bool) -> Any:
            if not isinstance(file, MemoryFile):
                return super()._open(file, mode_int, closefd)
            self._held = file  # libsndfile has its address alone
            state = ffi.cast("void*", file.state.__array_interface__["data"][0])
            with errors:
                opened = library.sf_open_virtual(calls(), mode_int, self._info, state)
                if opened == ffi.NULL:
                    raise soundfile.LibsndfileError(library.sf_error(opened))
            return opened

    return SequentialFile
