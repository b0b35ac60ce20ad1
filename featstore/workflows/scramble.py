"""Music without its phases: files whose short-time magnitudes are those of the originals.

Open question 2 of Kamuni et al. 2024 (arXiv 2404.01058): a neural codec codes phase, a mel-spectrogram drops it. Tokens
of such copies beside those of the originals say how much of a token is phase, and a model scored on them what that is
worth. Phases are drawn at random and then fitted to each other (Griffin and Lim), so that the magnitudes survive.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featstore.arrays import FloatArray
from featstore.audio import decode_audio
from featstore.audio.writing import write_audio
from featstore.cluster import cpu_count
from featstore.datasets import TrackTable
from featstore.dsp.inverse import griffin_lim, overlap_add
from featstore.dsp.windows import make_window
from featstore.errors import FeatstoreError
from featstore.log import progress

__all__ = ["Scrambled", "scramble_phases", "scramble_tracks"]

logger = logging.getLogger(__name__)

_WINDOW, _HOP = 2048, 512
_PIECE_S = 60.0  # longer signals are treated piece by piece: all frames of a piece are held in memory


@dataclass(slots=True)
class Scrambled:
    """What became of a table.

    Attributes
    ----------
    table : TrackTable
        Tracks that have a copy, with the paths of the copies.
    failed : dict of str to str
        Track to reason.
    """

    table: TrackTable
    failed: dict[str, str]


def scramble_phases(signal: FloatArray, *, rng: np.random.Generator, iterations: int = 32) -> FloatArray:
    """Return a signal of the same length and short-time magnitudes whose phases are drawn anywhere.

    Parameters
    ----------
    signal : float32 (n_samples,)
    iterations : int
        Rounds in which the phases are fitted to each other.
    """
    window = make_window("hann", win_length=_WINDOW)
    count = 1 + -(-(len(signal) + _WINDOW) // _HOP)
    padded = np.zeros((count - 1) * _HOP + _WINDOW, np.float32)
    padded[_WINDOW : _WINDOW + len(signal)] = signal
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    magnitude = np.abs(np.fft.rfft(frames * window, axis=-1)).astype(np.float32)
    fitted = griffin_lim(magnitude, window=window, hop_length=_HOP, rng=rng, iterations=iterations)
    joined = np.concatenate(list(overlap_add([fitted], window=window, hop_length=_HOP)))
    return np.ascontiguousarray(joined[_WINDOW : _WINDOW + len(signal)])


def scramble_tracks(
    table: TrackTable, folder: str | os.PathLike[str], *, seed: int = 0, iterations: int = 32, jobs: int | None = None
) -> Scrambled:
    """Write a mono copy without its phases of each track, as FLAC; copies that are there already stay.

    Parameters
    ----------
    table : TrackTable
    folder : path
    seed : int
        With the track's id it decides the phases.
    iterations : int
    jobs : int, optional
        Processes; all cores by default.

    Returns
    -------
    Scrambled
        A track that cannot be decoded is in it with its error, and the others are not held up.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    frame = table.frame
    work = [
        (str(track), str(path), str(target / f"{_digest(str(track))}.flac"), seed, iterations)
        for track, path in zip(frame["track_id"], frame["path"], strict=True)
    ]
    found = list(progress(_carried_out(work, jobs or cpu_count()), total=len(work), desc="scramble", unit="track"))
    failed = {one[0]: error for one, error in zip(work, found, strict=True) if error}
    copies = {one[0]: os.path.abspath(one[2]) for one in work}
    kept = frame[~frame["track_id"].isin(list(failed))].copy()
    kept["path"] = [copies[str(track)] for track in kept["track_id"]]
    kept["channels"] = 1
    kept["size_bytes"] = [Path(path).stat().st_size for path in kept["path"]]
    return Scrambled(TrackTable(kept.reset_index(drop=True), table.info), failed)


def _carried_out(work: list[tuple[str, str, str, int, int]], jobs: int) -> Iterator[str]:
    if jobs == 1 or len(work) < 2:
        yield from map(_scramble_file, work)
        return
    with ProcessPoolExecutor(min(jobs, len(work)), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_scramble_file, work)


def _digest(track: str) -> str:
    return hashlib.sha256(track.encode()).hexdigest()[:16]


def _scramble_file(work: tuple[str, str, str, int, int]) -> str:
    """Write one copy; return what went wrong, or nothing."""
    track, path, target, seed, iterations = work
    if Path(target).is_file():
        return ""
    try:
        channels, sample_rate = decode_audio(path)
    except FeatstoreError as error:
        return str(error)
    signal = channels.mean(axis=0, dtype=np.float32)
    rng = np.random.default_rng([seed, int(_digest(track), 16)])
    step = int(_PIECE_S * sample_rate)
    pieces = (signal[start : start + step] for start in range(0, len(signal), step))
    copies = (scramble_phases(piece, rng=rng, iterations=iterations) for piece in pieces)
    write_audio(target, copies, sample_rate=sample_rate)
    return ""
