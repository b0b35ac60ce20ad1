"""Read what an audio file's header declares, without decoding it."""

from __future__ import annotations

import os
import stat
import struct
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from featstore.audio.absence import absent
from featstore.audio.remote import ranged_file
from featstore.errors import DecodeError
from featstore.object_storage import is_object_url

__all__ = ["RATES", "AudioInfo", "probe_audio", "regular_file_size"]

# libsndfile reports a length near the largest integer when the header leaves it open (streamed FLAC, piped WAV).
_UNKNOWN_LENGTH = 2**62
# Writers to pipes put 2**31 - 1, 2**32 - 1 or something near for a size that they cannot know.
_OPEN_RIFF_SIZE = 2**31 - 2**16

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
        Declared length in samples of one channel; -1 when the header leaves it open.
    duration_s : float
        Declared length in seconds; NaN when the header leaves it open.
    size_bytes : int > 0
        Size of the file.
    format, subtype : str
        libsndfile's names of container and coding, such as ``"WAV"`` and ``"PCM_16"``.
    damage : str
        What the file's structure shows to be missing or passed over; known when it is opened for decoding.
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

    Raises
    ------
    DecodeError
        When there is no such file, or it is a dangling link, a folder, a pipe or device, unreadable, empty, or
        not audio that libsndfile knows.
    """
    place = os.fspath(path)
    if is_object_url(place):
        with ranged_file(place) as file:
            return read_header(file, place, file.seek(0, os.SEEK_END))
    return read_header(place, place, regular_file_size(place))


def read_header(source: str | BinaryIO, place: str, size_bytes: int) -> AudioInfo:
    """Read the header of a local file, or of an open one; ``place`` is its name in errors.

    Raises
    ------
    DecodeError
        When it is not audio that libsndfile knows.
    """
    import soundfile

    try:
        if not isinstance(source, str):
            source.seek(0)
        header = soundfile.info(source)
        sample_rate, channels, n_samples = int(header.samplerate), int(header.channels), int(header.frames)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError, UnicodeError) as error:
        reason = getattr(error, "error_string", None) or str(error) or type(error).__name__
        if "does not exist" in str(reason):  # libsndfile's words for an mp3 without a single frame; the file is there
            reason = "no audio found in the file"
        raise DecodeError(
            f"not readable as audio: {str(reason).strip().rstrip('.')}",
            place,
            "Check the file, or convert it to FLAC, WAV or MP3",
        ) from error
    if not RATES[0] <= sample_rate <= RATES[1] or channels <= 0:
        raise DecodeError(
            f"the header declares {channels} channels at {sample_rate} Hz", place, "Check the file, or convert it again"
        )
    if not 0 <= n_samples < _UNKNOWN_LENGTH:
        n_samples = -1
    elif header.format.startswith("WAV"):
        with open(source, "rb") if isinstance(source, str) else nullcontext(source) as file:
            n_samples = max(n_samples, _riff_samples(file))
    duration_s = n_samples / sample_rate if n_samples >= 0 else float("nan")
    return AudioInfo(sample_rate, channels, n_samples, duration_s, size_bytes, header.format, header.subtype)


def _riff_samples(file: BinaryIO) -> int:
    """Samples that a WAV file's own header promises, 0 where it leaves that open or is of another kind.

    libsndfile corrects the length of a file that was cut to what is there; the promise is what shows the cut.
    """
    file.seek(0)
    if file.read(12)[:4] != b"RIFF":
        return 0
    block_align = 0
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"fmt " and size >= 14:
            block_align = struct.unpack("<H", file.read(size)[12:14])[0]
        elif name == b"data":
            return size // block_align if block_align and size < _OPEN_RIFF_SIZE else 0
        else:
            file.seek(size, os.SEEK_CUR)
        if size % 2 and name != b"fmt ":
            file.seek(1, os.SEEK_CUR)
    return 0


def regular_file_size(place: str) -> int:
    """Size in bytes of a regular, non-empty file; anything else is named in the error.

    The kind is asked before opening: opening a pipe that nobody writes to would wait for ever.
    """
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
        reason = getattr(error, "strerror", None) or str(error)
        raise DecodeError(f"cannot be looked at: {reason}", place, "Check the path and its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise DecodeError("this is a folder, not an audio file", place, "Name the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError("this is a pipe, socket or device, not a regular file", place, "Copy the audio into a file")
    if status.st_size == 0:
        raise DecodeError("the file is empty (0 bytes)", place, "Fetch it again")
    if not os.access(place, os.R_OK):
        raise DecodeError("the file may not be read", place, "Give yourself read permission")
    return status.st_size
