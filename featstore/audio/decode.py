"""From a file to samples, in blocks: the only place where audio is opened."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from featstore.arrays import FloatArray
from featstore.audio.av_decoder import av_blocks, av_versions, probe_av, require_av
from featstore.audio.content import fingerprint, fingerprint_of
from featstore.audio.faults import NonFiniteAudio, decoding_stopped, reason_of
from featstore.audio.memory_file import read_held
from featstore.audio.probe import (
    AudioInfo,
    examine_file,
    open_sound,
    read_header,
    regular_file_size,
    unreadable_file,
)
from featstore.audio.remote import local_copy
from featstore.audio.structure import Structure
from featstore.errors import DecodeError, check_known
from featstore.registry import load_optional

__all__ = [
    "CLIPPED_FROM",
    "DECODERS",
    "AudioSource",
    "AudioStatistics",
    "decode_audio",
    "decoder_versions",
    "open_audio",
]

_BEHIND = 1 << 12  # samples that are asked for behind the declared end
CLIPPED_FROM = 0.999  # of full scale, in absolute value


@dataclass(slots=True)
class AudioStatistics:
    """Statistics of the samples decoded so far.

    Attributes
    ----------
    n_samples : int
        Decoded so far, of one channel.
    peak : float
        Largest absolute value; full scale is 1.
    n_clipped : int
        Values of any channel at :data:`CLIPPED_FROM` of full scale or above.

    See Also
    --------
    featstore.extract : Judges each array by the statistics of its own signal.
    """

    n_samples: int = 0
    peak: float = 0.0
    n_clipped: int = 0

    @property
    def is_silent(self) -> bool:
        """Whether every sample was exactly zero."""
        return self.peak == 0.0

    def add(self, block: FloatArray, where: str) -> None:
        """Count a block (channels, n).

        Raises
        ------
        NonFiniteAudio
            With the position of the first NaN or infinite sample.
        """
        if block.shape[1]:
            high, low = float(block.max()), float(block.min())  # NaN and infinity survive both
            peak = max(high, -low)
            if not np.isfinite(high) or not np.isfinite(low):
                bad = int(np.flatnonzero(~np.isfinite(block).all(axis=0))[0])
                value = block[:, bad][~np.isfinite(block[:, bad])][0]
                raise NonFiniteAudio(
                    f"sample {self.n_samples + bad} is {value}, not a finite number",
                    where,
                    "Write the file again from its source, or leave the track out",
                )
            if peak >= CLIPPED_FROM:
                self.n_clipped += int(np.count_nonzero(np.abs(block) >= CLIPPED_FROM))
            self.peak = max(self.peak, peak)
        self.n_samples += block.shape[1]


class _Decoder(Protocol):
    def __call__(self, path: str, info: AudioInfo, structure: Structure, n_samples: int) -> Iterator[FloatArray]: ...


class AudioSource:
    """An audio file, ready to be decoded.

    Attributes
    ----------
    path : str
    info : AudioInfo
        What the header declares, corrected by what the file's bytes hold.
    statistics : AudioStatistics
        Of the latest walk through :meth:`blocks`; its ``n_samples`` is the true length once that has ended.
    """

    def __init__(
        self,
        path: str,
        info: AudioInfo,
        decoder: str,
        structure: Structure,
        content: bytes | None = None,
        sound: Any = None,
    ) -> None:
        self.path, self.info, self.decoder, self._structure = path, info, decoder, structure
        self._content, self._sound = content, sound
        self.statistics = AudioStatistics()

    def fingerprint(self) -> str:
        """Bytes of the file and the start of its sha256: enough to notice that it changed."""
        return fingerprint(self.path) if self._content is None else fingerprint_of(self._content)

    def blocks(self, n_samples: int = 1 << 18) -> Iterator[FloatArray]:
        """Decode from the start.

        Parameters
        ----------
        n_samples : int > 0
            Length of the blocks; the last one may be shorter. The samples do not depend on it.

        Yields
        ------
        float32 (channels, n)
            In [-1, 1] (decoders of lossy formats may go slightly beyond). Each block is the caller's to keep.

        Raises
        ------
        DecodeError
            When the decoder fails, with what it says, or the file holds no sample at all.
        NonFiniteAudio
        """
        self.statistics = statistics = AudioStatistics()
        for block in self._decoded(n_samples):
            statistics.add(block, self.path)
            yield block
        if statistics.n_samples == 0:
            raise DecodeError("the file holds no samples", self.path, "Fetch it again, or leave the track out")

    def _decoded(self, n_samples: int) -> Iterator[FloatArray]:
        decode = DECODERS[self.decoder]
        # a file that was opened for its header needs no copy of a remote one any more
        with local_copy(self.path) if self._sound is None else nullcontext(self.path) as local:
            if decode is None:
                yield from _sound_blocks(self._opened(local), local, self.info, n_samples)
            else:
                yield from decode(local, self.info, self._structure, n_samples)

    def _opened(self, local: str) -> Any:
        """The file at its start: as it was opened for its header, or opened again."""
        sound, self._sound = self._sound, None
        return open_sound(local, self._structure.view, content=self._content) if sound is None else sound


def open_audio(path: str | os.PathLike[str], *, decoder: str = "soundfile") -> AudioSource:
    """Open an audio file: read its header, decode nothing yet.

    Parameters
    ----------
    decoder : str
        ``soundfile`` (libsndfile, in blocks), ``av`` (FFmpeg through PyAV, in blocks; reads m4a, aac and wma too) or
        ``essentia`` (its AudioLoader, the whole file at once).

    Raises
    ------
    DecodeError
        As :func:`probe_audio`.
    ConfigError
        For an unknown decoder.
    MissingDependency
        When essentia or PyAV is asked for and not installed.

    See Also
    --------
    decode_audio : The whole signal at once.
    probe_audio : What the header declares, without decoding.
    """
    check_known(decoder, DECODERS, f"unknown decoder {decoder!r}")
    if decoder == "essentia":
        _essentia()
    place = os.fspath(path)
    if decoder == "av":
        require_av()
    with local_copy(place) as local:
        size = regular_file_size(local)
        try:
            content = read_held(local, size)
        except OSError as error:
            raise unreadable_file(error, local) from error
        structure = examine_file(local, thoroughly=True, content=content)
        if decoder == "av":
            return AudioSource(place, probe_av(local, structure), decoder, structure, content)
        sound = open_sound(local, structure.view, content=content)
        try:
            info = read_header(sound, local, size, structure, content)
        except DecodeError:
            sound.close()
            raise
    if decoder != "soundfile":
        sound.close()
        sound = None
    return AudioSource(place, info, decoder, structure, content, sound)


def decode_audio(path: str | os.PathLike[str], *, decoder: str = "soundfile") -> tuple[FloatArray, int]:
    """Decode a whole file: float32 (channels, n_samples), and its sample rate in Hz.

    Raises
    ------
    DecodeError, ConfigError, MissingDependency
        As :func:`open_audio` and :meth:`AudioSource.blocks`.

    See Also
    --------
    open_audio : Blocks instead of the whole signal.
    resample_signal : Another sample rate.
    """
    with local_copy(os.fspath(path)):
        source = open_audio(path, decoder=decoder)
        return np.concatenate(list(source.blocks()), axis=1), source.info.sample_rate


def _sound_blocks(sound: Any, path: str, info: AudioInfo, n_samples: int) -> Iterator[FloatArray]:
    import soundfile

    done = 0
    # Behind the last sample libsndfile finds tags, or nothing where it looks for more, and fails. Mp3 is read to its
    # end: frames that no header declares are music as well.
    left = info.n_samples if info.n_samples >= 0 and info.format != "MP3" else sys.maxsize
    block = np.zeros((0, info.channels), np.float32)
    try:
        with sound:
            while left > 0:
                # Behind the declared end there is little, mostly nothing. NaN marks the samples that a failing call has
                # not decoded.
                room = min(n_samples, left, max(info.n_samples - done, _BEHIND))
                block = np.full((room, info.channels), np.nan, np.float32)
                count = len(sound.read(out=block))
                if count == 0:
                    break
                done, left = done + count, left - count
                yield block[:count].T
                block = block[:0]
    except (soundfile.SoundFileError, OSError, ValueError, RuntimeError, MemoryError) as error:
        whole = np.flatnonzero(np.isfinite(block).all(axis=1) & block.any(axis=1))
        count = int(whole[-1]) + 1 if len(whole) else 0
        done += count
        if info.damage and done:  # known already: what could be decoded is for the caller to keep or to refuse
            yield block[:count].T
            return
        raise decoding_stopped(path, done / info.sample_rate, reason_of(error)) from error


def _essentia_blocks(path: str, info: AudioInfo, structure: Structure, n_samples: int) -> Iterator[FloatArray]:
    loader = _essentia().AudioLoader
    try:
        audio, _, channels, *_ = loader(filename=path)()
    except RuntimeError as error:
        raise DecodeError(f"decoding stopped: {error}", path, "Check the file, or convert it again") from error
    samples = np.asarray(audio, np.float32).T[: max(1, int(channels))]
    for start in range(0, samples.shape[1], n_samples):
        yield samples[:, start : start + n_samples].copy()


# name in specs -> blocks of a file; libsndfile goes on with the file that its header was read from
DECODERS: dict[str, _Decoder | None] = {"soundfile": None, "essentia": _essentia_blocks, "av": av_blocks}


def _essentia() -> Any:
    essentia = load_optional("essentia", "essentia", "decoder=essentia")
    essentia.log.infoActive = essentia.log.warningActive = False  # before the import below prints its own
    return load_optional("essentia.standard", "essentia", "decoder=essentia")


def decoder_versions(*, decoder: str = "soundfile") -> dict[str, str]:
    """Versions of the libraries that make samples: the decoder's, and the resampler's.

    See Also
    --------
    featstore.store.mixed_versions.mixed_versions : Reports shards that were made by different versions.

    Examples
    --------
    >>> sorted(decoder_versions())
    ['libsndfile', 'libsoxr', 'soundfile', 'soxr']
    """
    import soundfile
    import soxr

    versions = {"soxr": soxr.__version__, "libsoxr": soxr.__libsoxr_version__}
    if decoder == "essentia":
        _essentia()
        import essentia

        return versions | {"essentia": str(essentia.__version__)}
    if decoder == "av":
        return versions | av_versions()
    return versions | {"soundfile": soundfile.__version__, "libsndfile": soundfile.__libsndfile_version__}
