"""Find recordings that a data set holds twice, by fingerprints of their audio; decoding shows what cannot be read.

Two files that share many pairs of spectral peaks at one distance in time hold one recording. Copies, re-encodings and
overlapping excerpts of one recording are found; other versions of a piece are not.

References
----------
A. Wang, "An industrial-strength audio search algorithm", ISMIR 2003.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from featstore.audio.decode import decode_audio
from featstore.audio.resample import resample_signal
from featstore.datasets import Finding
from featstore.datasets.checks import twice_there
from featstore.datasets.splits import joined
from featstore.dsp.stft import compute_power
from featstore.errors import DecodeError
from featstore.log import progress

if TYPE_CHECKING:
    from featstore.arrays import FloatArray, IntArray
    from featstore.datasets import TrackTable

__all__ = ["Fingerprint", "find_repeats", "fingerprint", "repeat_findings"]

_RATE = 8000  # Hz
_N_FFT, _HOP = 1024, 256
_AROUND = (25, 15)  # bands and frames within which a peak is the largest value
_PARTNERS, _REACH = 5, 63  # later peaks that a peak is paired with, and the frames within which they lie
_COMMON = 40  # tracks that share a pair of peaks; a pair of more, such as a click, tells nothing
_FEWEST, _SHARE = 20, 0.05  # pairs at one distance that make two tracks one recording: in number, of the shorter one


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Pairs of peaks of a track.

    Attributes
    ----------
    keys : int64 (n_pairs,)
        Two bands and the frames between them, in one number.
    frames : int64 (n_pairs,)
        Where each pair begins.
    seconds : float
        Length that was decoded.
    error : str
        Why the file cannot be decoded; empty when it can.
    """

    keys: IntArray
    frames: IntArray
    seconds: float
    error: str = ""


def fingerprint(signal: FloatArray, *, sample_rate: int) -> Fingerprint:
    """Pairs of spectral peaks of a mono signal (n_samples,)."""
    from scipy.ndimage import maximum_filter

    seconds = len(signal) / sample_rate
    audio = resample_signal(signal, source_rate=sample_rate, sample_rate=_RATE)
    power = compute_power(audio, n_fft=_N_FFT, hop_length=_HOP)
    top = maximum_filter(power, size=_AROUND)
    # peaks far under the loudest are noise of an encoder
    bands, frames = np.nonzero((power == top) & (power > 1e-6 * power.max(initial=0.0)) & (power > 0))
    order = np.lexsort((bands, frames))
    bands, frames = bands[order].astype(np.int64), frames[order].astype(np.int64)
    keys, starts = [], []
    for step in range(1, _PARTNERS + 1):
        apart = frames[step:] - frames[:-step]
        near = (apart > 0) & (apart <= _REACH)
        keys.append((bands[:-step] << 20 | bands[step:] << 8 | apart)[near])
        starts.append(frames[:-step][near])
    return Fingerprint(np.concatenate(keys), np.concatenate(starts), seconds)


def fingerprint_file(path: str) -> Fingerprint:
    """Fingerprint of an audio file; one that cannot be decoded has the reason instead."""
    try:
        audio, sample_rate = decode_audio(path)
    except DecodeError as error:
        nothing = np.zeros(0, np.int64)
        return Fingerprint(nothing, nothing, 0.0, error.what)
    return fingerprint(audio.mean(axis=0), sample_rate=sample_rate)


def find_repeats(prints: Sequence[Fingerprint]) -> list[tuple[int, ...]]:
    """Groups of tracks (by position) that hold one recording, however indirectly; each group and the list sorted."""
    keys = np.concatenate([each.keys for each in prints] or [np.zeros(0, np.int64)])
    frames = np.concatenate([each.frames for each in prints] or [np.zeros(0, np.int64)])
    owner = np.repeat(np.arange(len(prints)), [len(each.keys) for each in prints])
    order = np.argsort(keys, kind="stable")
    keys, frames, owner = keys[order], frames[order], owner[order]
    edges = np.flatnonzero(np.diff(keys)) + 1
    shared: Counter[tuple[int, int, int]] = Counter()
    for first, last in zip([0, *edges.tolist()], [*edges.tolist(), len(keys)], strict=True):
        if last - first < 2 or len(set(owner[first:last].tolist())) > _COMMON or last - first > 4 * _COMMON:
            continue
        for a, b in combinations(range(first, last), 2):
            if owner[a] != owner[b]:  # stable sorting has the lower track first
                shared[int(owner[a]), int(owner[b]), int(frames[b] - frames[a])] += 1
    same = []
    for (one, other, distance), count in shared.items():
        near = count + shared[one, other, distance + 1]  # a distance between two frames counts in both
        if near >= max(_FEWEST, _SHARE * min(len(prints[one].keys), len(prints[other].keys))):
            same.append((one, other))
    groups: dict[int, list[int]] = defaultdict(list)
    for track, first in enumerate(joined(len(prints), same)):
        groups[first].append(track)
    return sorted(tuple(found) for found in groups.values() if len(found) > 1)


def repeat_findings(table: TrackTable, *, jobs: int | None = None) -> tuple[list[Finding], list[list[str]]]:
    """Recordings that are in a table twice, and files that do not decode to what their headers declare.

    Parameters
    ----------
    table : TrackTable
    jobs : int > 0, optional
        Files decoded at a time.

    Returns
    -------
    list of Finding
        An error where a recording is on two sides of the split, or a file cannot be decoded; else a warning.
    list of list of str
        Track ids of each recording that is there more than once.
    """
    frame = table.frame
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        found = pool.map(fingerprint_file, frame["path"])
        prints = list(progress(found, total=len(frame), desc="fingerprint", unit="file"))
    ids, splits = list(frame["track_id"]), list(frame["split"])
    findings = []
    for track, declared, error, each in zip(ids, frame["duration_s"], frame["probe_error"], prints, strict=True):
        if each.error and error is None:
            findings.append(Finding("undecodable", "error", f"{track}: {each.error}", (track,)))
        elif declared - each.seconds > 0.1 and not each.error:
            what = f"{track}: {each.seconds:.2f} s decoded, {declared:.2f} s declared"
            findings.append(Finding("decoded_short", "warning", what, (track,)))
    repeats = find_repeats(prints)
    for group in repeats:
        shown = ", ".join(f"{ids[track]} ({splits[track] or 'no split'})" for track in group)
        findings.append(twice_there(frame, group, "repeated_recording", f"one recording: {shown}"))
    return findings, [[ids[track] for track in group] for group in repeats]
