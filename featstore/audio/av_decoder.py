"""Files that libsndfile does not read (m4a, aac, wma and whatever else FFmpeg knows), through PyAV: ``decoder=av``.

FFmpeg conceals damage that libsndfile reports. Here it is asked not to: a frame that cannot be decoded, or that changes
its sample rate or its channels on the way, ends the track with an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.audio.probe import RATES, AudioInfo
from featstore.errors import DecodeError, MissingDependency

__all__ = ["av_blocks", "av_versions", "probe_av", "require_av"]

_SCALES = {
    "u8": (128.0, 128.0),
    "s16": (0.0, 32768.0),
    "s32": (0.0, 2147483648.0),
    "flt": (0.0, 1.0),
    "dbl": (0.0, 1.0),
}

_GAP = 1000  # samples between frames that show that one is lost; containers round times to a thousandth of a second


def require_av() -> Any:
    """Return the module ``av``.

    Raises
    ------
    MissingDependency
        When it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependency.of("av", "av", "decoder=av") from error
    return av


def av_versions() -> dict[str, str]:
    """Versions of PyAV and of the FFmpeg libraries in it."""
    av = require_av()
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"av": str(av.__version__)} | {name: libraries[name] for name in ("libavcodec", "libavformat")}


def probe_av(path: str) -> AudioInfo:
    """Read what the header of a regular file declares, by FFmpeg.

    Raises
    ------
    DecodeError
        When FFmpeg finds no audio in it.
    MissingDependency
        Without PyAV.
    """
    av = require_av()
    try:
        with av.open(path, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise DecodeError("the file holds no audio stream", path, "Check the file")
            stream = container.streams.audio[0]
            rate, channels = int(stream.rate or 0), int(stream.channels or 0)
            length = stream.duration * stream.time_base if stream.duration else None
            if length is None and container.duration:
                length = container.duration / 1_000_000
            kind = container.format.name.split(",")[0].upper()
            codec = str(stream.codec_context.name).upper()
    except DecodeError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError, TypeError) as error:
        raise _unreadable(error, path) from error
    if not RATES[0] <= rate <= RATES[1] or channels <= 0:
        raise DecodeError(f"the header declares {channels} channels at {rate} Hz", path, "Check the file")
    n_samples = -1 if length is None else round(float(length) * rate)
    seconds = n_samples / rate if n_samples >= 0 else float("nan")
    return AudioInfo(rate, channels, n_samples, seconds, os.path.getsize(path), kind, codec)


def av_blocks(path: str, info: AudioInfo, n_samples: int) -> Iterator[FloatArray]:
    """Blocks (channels, n) of the first audio stream of a file."""
    av = require_av()
    held: list[FloatArray] = []
    count = done = 0
    first: int | None = None
    try:
        with av.open(path, metadata_errors="replace") as container:
            stream = container.streams.audio[0]
            stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
            for frame in container.decode(stream):
                block = _samples(frame)
                first = frame.pts if first is None else first
                if frame.pts is not None and first is not None:
                    due = round(float((frame.pts - first) * frame.time_base) * info.sample_rate)
                    if due - done > _GAP:
                        raise DecodeError(
                            f"decoding stopped after {done / info.sample_rate:.1f} s: the next {due - done} samples "
                            "cannot be decoded",
                            path,
                            "The file is damaged there: fetch it again, or convert what can be played",
                        )
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
    except (av.FFmpegError, OSError, ValueError, IndexError, TypeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DecodeError(
            f"decoding stopped after {done / info.sample_rate:.1f} s: {reason}",
            path,
            "The file is damaged there: fetch it again, or convert what can be played",
        ) from error


def _samples(frame: Any) -> FloatArray:
    """Samples of a frame as float32 (channels, n), full scale 1."""
    values = frame.to_ndarray()
    channels = len(frame.layout.channels)
    if not frame.format.is_planar:
        values = values.reshape(-1, channels).T
    offset, scale = _SCALES[frame.format.name.removesuffix("p")]
    return np.ascontiguousarray((values - offset) / scale, dtype=np.float32)


def _unreadable(error: Exception, path: str) -> DecodeError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return DecodeError(f"not readable as audio: {reason}", path, "Check the file, or convert it to FLAC, WAV or MP3")
