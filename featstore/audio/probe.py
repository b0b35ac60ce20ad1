"""Read what an audio file's header declares, without decoding it."""

from __future__ import annotations

import os
import stat
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from featstore.audio.absence import absent, check_name
from featstore.audio.content import RangedContent, mapped
from featstore.audio.examination import examine
from featstore.audio.faults import reason_of
from featstore.audio.memory_file import MemoryFile, sound_file_class
from featstore.audio.remote import ranged_file
from featstore.audio.structure import Structure
from featstore.audio.views import FileView, ViewOf
from featstore.errors import DecodeError
from featstore.object_storage import is_object_url

__all__ = [
    "AV_SUFFIXES",
    "RATES",
    "AudioInfo",
    "examine_file",
    "needs_av",
    "open_sound",
    "probe_audio",
    "read_header",
    "regular_file_size",
    "unreadable_file",
]

# libsndfile reports a length near the largest integer when the header leaves it open (streamed FLAC, piped WAV).
_UNKNOWN_LENGTH = 2**62
# Endings of formats that FFmpeg reads and libsndfile does not, or not always.
AV_SUFFIXES = (".m4a", ".m4b", ".mp4", ".aac", ".wma", ".ac3", ".amr", ".ape", ".wv", ".opus", ".webm", ".mka", ".mkv")

RATES = (1000, 1_000_000)  # Hz; a header outside says nothing that can be believed


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a header declares; decoding may find less.

    Attributes
    ----------
    sample_rate : int > 0
        Hz.
    channels : int > 0
    n_samples : int
        Length in samples of one channel, as far as the header and the file's bytes tell; -1 where they leave it open.
    duration_s : float
        The same in seconds; NaN where it is open.
    size_bytes : int > 0
        Size of the file.
    format, subtype : str
        libsndfile's names of container and coding, such as ``"WAV"`` and ``"PCM_16"``.
    damage : str
        What the file's structure shows to be missing or passed over; complete when it is opened for decoding.
    """

    sample_rate: int
    channels: int
    n_samples: int
    duration_s: float
    size_bytes: int
    format: str
    subtype: str
    damage: str = ""


def probe_audio(path: str | os.PathLike[str]) -> AudioInfo:
    """Read an audio file's header; never waits on a pipe and never reads past what the header needs.

    Where the header and the size of a local file disagree, its frames are counted.

    Raises
    ------
    DecodeError
        When there is no such file, or it is a dangling link, a folder, a pipe or device, unreadable, empty, or
        not audio that libsndfile knows.

    See Also
    --------
    open_audio : Decodes, and judges the length by the bytes of the file.
    """
    place = os.fspath(path)
    if is_object_url(place):
        with ranged_file(place) as file:
            size = file.seek(0, os.SEEK_END)
            structure = examine(RangedContent(file, size), thoroughly=False)
            file.seek(0)
            with open_sound(place, file=file) as sound:
                return read_header(sound, place, size, structure)
    size = regular_file_size(place)
    structure = examine_file(place, thoroughly=False)
    with open_sound(place, structure.view) as sound:
        return read_header(sound, place, size, structure)


def needs_av(info: AudioInfo) -> bool:
    """Whether FFmpeg read a header that libsndfile does not: decoding takes ``decoder=av``."""
    import soundfile

    return info.format not in soundfile.available_formats()


def examine_file(path: str, *, thoroughly: bool, content: bytes | None = None) -> Structure:
    """Structure of a local file that is not empty; see :func:`featstore.audio.examination.examine`.

    Raises
    ------
    DecodeError
        When it cannot be read.
    """
    try:
        with mapped(path) if content is None else nullcontext(content) as held:
            return examine(held, thoroughly=thoroughly)
    except (OSError, ValueError) as error:
        raise unreadable_file(error, path) from error


def unreadable_file(error: Exception, path: str) -> DecodeError:
    """What is said of a file whose bytes cannot be had."""
    return DecodeError(f"cannot be read: {reason_of(error)}", path, "Fetch it again, or leave the track out")


def open_sound(
    place: str, view: ViewOf | None = None, *, content: bytes | None = None, file: BinaryIO | None = None
) -> Any:
    """Open a file with libsndfile, to be read onwards.

    Parameters
    ----------
    place : str
        A local file, or a name for errors.
    view : ViewOf, optional
        How it is shown.
    content : bytes, optional
        All of it, where it is in memory.
    file : binary file, optional
        Where its bytes are read from, where it is not local.

    Raises
    ------
    DecodeError
        When it is not audio that libsndfile knows.
    """
    import soundfile

    make = sound_file_class()
    if content is not None:
        # of some formats the name's ending says what they are; of a .raw file it says that its header is not read
        with suppress(soundfile.SoundFileError, ValueError, TypeError):
            held = MemoryFile(place, content, view)
            sound = make(held)
            if sound.format == "MP3" or not held.is_tagged:
                return sound
            sound.close()
    try:
        if view is not None:
            return make(FileView(place, view))
        try:
            return make(place if file is None else file)
        except soundfile.SoundFileError:
            # Macs leave "._a.mp3" beside "a.mp3" on other file systems, and libsndfile looks there for the music.
            if file is not None or not _has_fork(place):
                raise
            return make(FileView(place, ViewOf()))
    except (soundfile.SoundFileError, OSError, ValueError, TypeError, UnicodeError) as error:
        raise _unreadable(error, place) from error


def read_header(
    sound: Any, place: str, size_bytes: int, structure: Structure, content: bytes | None = None
) -> AudioInfo:
    """What the header of an open sound file declares, corrected by what its bytes hold.

    Raises
    ------
    DecodeError
        When it cannot be audio.
    """
    container, coding = sound.format, sound.subtype
    if container == "MP3" and _begins_like_av(place, content):  # the name was believed, not the content
        raise _unreadable(ValueError("no audio found in the file"), place)
    sample_rate, channels, n_samples = int(sound.samplerate), int(sound.channels), int(sound.frames)
    if not RATES[0] <= sample_rate <= RATES[1] or channels <= 0:
        raise DecodeError(
            f"the header declares {channels} channels at {sample_rate} Hz", place, "Check the file, or convert it again"
        )
    if not 0 <= n_samples < _UNKNOWN_LENGTH or (structure.view is not None and structure.view.is_open_ended):
        n_samples = structure.n_samples
    n_samples, damage = structure.promised(n_samples, coding, channels)
    duration_s = n_samples / sample_rate if n_samples >= 0 else float("nan")
    return AudioInfo(sample_rate, channels, n_samples, duration_s, size_bytes, container, coding, damage)


_FORKS = ("._", ".AppleDouble")  # where libsndfile looks for the resource fork of a file that it reads by functions


def _has_fork(place: str) -> bool:
    """Whether something lies where libsndfile looks for the resource fork of a file that it reads by its name."""
    folder, name = os.path.split(place)
    forks = (os.path.join(folder, f"._{name}"), os.path.join(folder, ".AppleDouble", name))
    return any(map(os.path.exists, forks))


def _unreadable(error: Exception, place: str) -> DecodeError:
    reason = reason_of(error)
    if "does not exist" in reason:  # libsndfile's words for an mp3 without a single frame; the file is there
        reason = "no audio found in the file"
    fix = "Check the file, convert it to FLAC, WAV or MP3, or let FFmpeg read it (decoder=av)"
    is_named_so = place.lower().endswith(AV_SUFFIXES) and not place.lower().endswith(".opus")  # libsndfile reads Opus
    if is_named_so or _begins_like_av(place):
        fix = "libsndfile does not read this format: ask for decoder=av, as in mel(decoder=av)"
    found = [name for name in _FORKS if os.path.exists(name)]
    if found:  # what it then reads in place of a file that has no name for it
        reason += f"; libsndfile looked into {found[0]} of the working folder"
        fix = f"Run from a folder without {found[0]}, or remove it"
    return DecodeError(f"not readable as audio: {reason}", place, fix)


def _begins_like_av(place: str, content: bytes | None = None) -> bool:
    """Whether a local file's first bytes are of a format that FFmpeg reads and libsndfile does not."""
    head = content or b""
    if content is None:
        with suppress(OSError), open(place, "rb") as file:
            head = file.read(12)
    is_adts = len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0  # raw aac, which no mp3 begins with
    return head[4:8] == b"ftyp" or head[:4] in (b"\x30\x26\xb2\x75", b"\x1a\x45\xdf\xa3", b"wvpk") or is_adts


def regular_file_size(place: str) -> int:
    """Size in bytes of a regular, non-empty file; anything else is named in the error.

    The kind of file is checked before opening it: opening a pipe without a writer blocks.
    """
    check_name(place)
    try:
        status = os.stat(place)
    except FileNotFoundError:
        if Path(place).is_symlink():
            target = os.readlink(place)
            raise DecodeError(
                f"the link points to {target!r}, which does not exist", place, "Restore the target"
            ) from None
        raise absent(place) from None
    except (OSError, ValueError) as error:
        fix = "Check the path and its permissions"
        raise DecodeError(f"cannot be examined: {reason_of(error)}", place, fix) from error
    if stat.S_ISDIR(status.st_mode):
        raise DecodeError("this is a folder, not an audio file", place, "Name the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError("this is a pipe, socket or device, not a regular file", place, "Copy the audio into a file")
    if status.st_size == 0:
        raise DecodeError("the file is empty (0 bytes)", place, "Fetch it again")
    if not os.access(place, os.R_OK):
        raise DecodeError("the file may not be read", place, "Give yourself read permission")
    return status.st_size
