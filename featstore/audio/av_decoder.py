"""Files that libsndfile does not read (m4a, aac, wma and whatever else FFmpeg knows), through PyAV: ``decoder=av``.

FFmpeg conceals damage that libsndfile reports. Here it is asked not to: a frame that cannot be decoded, or that changes
its sample rate or its channels on the way, ends the track with an error.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.audio.faults import decoding_stopped, reason_of
from featstore.audio.probe import RATES, AudioInfo
from featstore.audio.structure import Structure
from featstore.audio.views import FileView
from featstore.errors import DecodeError
from featstore.registry import load_optional

__all__ = ["av_blocks", "av_versions", "probe_av", "require_av"]

_SCALES = {
    "u8": (128.0, 128.0),
    "s16": (0.0, 32768.0),
    "s32": (0.0, 2147483648.0),
    "flt": (0.0, 1.0),
    "dbl": (0.0, 1.0),
}

# FFmpeg's name of a coding -> libsndfile's, where samples take whole bytes
_SUBTYPES = {f"PCM_S{bits}{order}": f"PCM_{bits}" for bits in (16, 24, 32) for order in ("LE", "BE")} | {
    "PCM_U8": "PCM_U8", "PCM_S8": "PCM_S8", "PCM_ALAW": "ALAW", "PCM_MULAW": "ULAW",
    "PCM_F32LE": "FLOAT", "PCM_F32BE": "FLOAT", "PCM_F64LE": "DOUBLE", "PCM_F64BE": "DOUBLE",
}  # fmt: skip
_NOTHING_KNOWN = Structure()
_LIBSNDFILE = "Decode it with decoder=soundfile"
_GAP = 1000  # samples between frames that show that one is lost; containers round times to a thousandth of a second


def require_av() -> Any:
    """Return the module ``av``.

    Raises
    ------
    MissingDependency
        When it is not installed.
    """
    return load_optional("av", "av", "decoder=av")


def av_versions() -> dict[str, str]:
    """Versions of PyAV and of the FFmpeg libraries in it."""
    av = require_av()
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"av": str(av.__version__)} | {name: libraries[name] for name in ("libavcodec", "libavformat")}


# Containers that store their length. Of others FFmpeg gives an estimate from the bit rate, which declares nothing.
_DECLARING = frozenset((
    "mov", "matroska", "ogg", "wav", "w64", "rf64", "flac", "aiff", "au", "caf", "asf", "ape", "wv", "tta", "avi",
    "voc", "nistsphere", "tak", "mpc8", "mp3",
))  # fmt: skip


@contextmanager
def _opened(path: str, structure: Structure) -> Iterator[Any]:
    """Open a file for reading, as its structure shows it; text in its tags that is not UTF-8 is replaced.

    Old releases of PyAV fail on such text without the argument, which new ones do not have.
    """
    av = require_av()
    options = {"metadata_errors": "replace"} if _takes_metadata_errors(av) else {}
    with open(path, "rb") as file:
        if file.read(4) == b"RIFX":  # FFmpeg takes its samples for little-endian ones: noise, and no error
            raise DecodeError("FFmpeg does not read big-endian WAV (RIFX)", path, _LIBSNDFILE)
    with ExitStack() as stack:
        source: Any = path
        if structure.view is not None:
            source = stack.enter_context(FileView(path, replace(structure.view, is_open_ended=False)))
        yield stack.enter_context(av.open(source, **options))


@functools.cache
def _takes_metadata_errors(av: Any) -> bool:
    """Whether this release's ``open`` has the argument; a call with a path that cannot be opened tells."""
    try:
        av.open("", metadata_errors="replace")
    except TypeError as error:
        return "metadata_errors" not in str(error)
    except (av.FFmpegError, OSError, ValueError):
        pass
    return True


def probe_av(path: str, structure: Structure = _NOTHING_KNOWN) -> AudioInfo:
    """Read what the header of a regular file declares, by FFmpeg; ``structure`` has what its bytes can hold.

    Raises
    ------
    DecodeError
        When FFmpeg finds no audio in it.
    MissingDependency
        Without PyAV.
    """
    av = require_av()
    try:
        with _opened(path, structure) as container:
            if not container.streams.audio:
                raise DecodeError("the file holds no audio stream", path, "Check the file")
            stream = container.streams.audio[0]
            rate, channels = int(stream.rate or 0), int(stream.channels or 0)
            length = stream.duration * stream.time_base if stream.duration else None
            if length is None and container.duration:
                length = container.duration / 1_000_000
            kind = container.format.name.split(",")[0].upper()
            codec = str(stream.codec_context.name).upper()
            if codec.startswith("G72"):  # other samples than libsndfile's, which are those that were encoded
                raise DecodeError("FFmpeg does not decode G.721 and G.723 exactly", path, _LIBSNDFILE)
    except DecodeError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        fix = "Check the file, or convert it to FLAC, WAV or MP3"
        raise DecodeError(f"not readable as audio: {reason_of(error)}", path, fix) from error
    if not RATES[0] <= rate <= RATES[1] or channels <= 0:
        raise DecodeError(f"the header declares {channels} channels at {rate} Hz", path, "Check the file")
    n_samples = -1 if length is None or kind.lower() not in _DECLARING else round(float(length) * rate)
    if kind == "MP3":  # frames are counted: FFmpeg estimates the length of a file without a table
        n_samples = structure.n_samples if structure.n_samples >= 0 or structure.view is not None else n_samples
    damage = structure.damage
    if structure.extent is None or codec in _SUBTYPES:  # FFmpeg does not correct what the header of others declares
        n_samples, damage = structure.promised(n_samples, _SUBTYPES.get(codec, ""), channels)
    seconds = n_samples / rate if n_samples >= 0 else float("nan")
    return AudioInfo(rate, channels, n_samples, seconds, os.path.getsize(path), kind, codec, damage)


def av_blocks(path: str, info: AudioInfo, structure: Structure, n_samples: int) -> Iterator[FloatArray]:
    """Blocks (channels, n) of the first audio stream of a file."""
    av = require_av()
    held: list[FloatArray] = []
    count = done = 0
    first: int | None = None
    try:
        with _opened(path, structure) as container:
            stream = container.streams.audio[0]
            stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
            for frame in container.decode(stream):
                block = _samples(frame)
                first = frame.pts if first is None else first
                if frame.pts is not None and first is not None:
                    due = round(float((frame.pts - first) * frame.time_base) * info.sample_rate)
                    if due - done > _GAP:
                        lost = f"the next {due - done} samples cannot be decoded"
                        raise decoding_stopped(path, done / info.sample_rate, lost)
                if frame.sample_rate != info.sample_rate or block.shape[0] != info.channels:
                    raise DecodeError(
                        f"after {done / info.sample_rate:.1f} s the file changes to {block.shape[0]} channels at "
                        f"{frame.sample_rate} Hz, from {info.channels} at {info.sample_rate} Hz",
                        path,
                        "Cut it there, or convert it to one format",
                    )
                held.append(block)
                count += block.shape[1]
                done += block.shape[1]
                while count >= n_samples:
                    joined = np.concatenate(held, axis=1)
                    yield joined[:, :n_samples]
                    held, count = [joined[:, n_samples:]], count - n_samples
        if count:
            yield np.concatenate(held, axis=1)
    except DecodeError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        if info.damage and done:  # known already: what could be decoded is for the caller to keep or to refuse
            if held:
                yield np.concatenate(held, axis=1)
            return
        raise decoding_stopped(path, done / info.sample_rate, reason_of(error)) from error


def _samples(frame: Any) -> FloatArray:
    """Samples of a frame as float32 (channels, n), full scale 1."""
    values = frame.to_ndarray()
    channels = len(frame.layout.channels)
    if not frame.format.is_planar:
        values = values.reshape(-1, channels).T
    offset, scale = _SCALES[frame.format.name.removesuffix("p")]
    return np.ascontiguousarray((values - offset) / scale, dtype=np.float32)
