"""Clips for a report's page: a few seconds of some tracks, to be played beside what the features keep of them."""

from __future__ import annotations

import base64
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featstore.audio import clip_bounds, decode_audio, resample_signal
from featstore.audio.writing import write_audio
from featstore.datasets.table import label_list
from featstore.errors import ConfigError, FeatstoreError
from featstore.results.figure_spectrum import hz_ticks
from featstore.results.frames import metrics_in
from featstore.results.fronts import ParetoFront, pareto
from featstore.results.run_set import RunSet
from featstore.results.summary import summarise
from featstore.store import open_store
from featstore.store.reader import FeatureReader

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["make_clips"]

_PICTURES = 3  # features a clip is shown in
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz that MP3 knows
_USUAL_RATE = 24000


class _Shown(NamedTuple):
    """A configuration with its feature, and the tracks of the store that holds it."""

    row: dict[str, Any]
    reader: FeatureReader
    tracks: pd.DataFrame


def make_clips(runs: RunSet, count: int, *, seconds: float = 6.0) -> list[dict[str, Any]]:
    """Cut a clip from some test tracks, as sound and as the spectra of what is to be kept and of the best.

    The data set with the most runs is taken; its tracks are chosen so that as many labels as possible occur. What is
    heard is the signal that was analysed: mono, at the rate of the feature.

    Parameters
    ----------
    runs : RunSet
        Their store and the music it was made from have to be there.
    count : int > 0
    seconds : float
        Of a clip, from the middle of what is stored.

    Returns
    -------
    list of dict
        ``track, labels, start_s, seconds, audio`` (a data URI) and ``pictures``, each ``label, rate_bps, unit, low,
        high, bands, frames, step_s, lead_s`` (seconds from the clip's start to the first frame's centre), ``ticks``
        (place among the bands, text) and ``values`` (base64 of uint8, band by band, the lowest first).

    Raises
    ------
    ConfigError
        When no feature of the front has bands, or store or music are not where the runs say.

    See Also
    --------
    featstore.results.page.write_html : Puts them on the page.
    """
    front = _front_of(runs)
    places = {record.run_id: record.store_path for record in runs}
    fix = "Make the page where the store and the music are, or leave --audio out"
    try:
        stores = [(row, open_store(places[row["run_ids"][0]])) for row in _shown_rows(front)]
        found = [_Shown(row, store[row["feature"]], store.table.frame) for row, store in stores]
        found = [each for each in found if _has_picture(each.reader)]
        kept = [each for each in found if _same_signal(each.reader, found[0].reader)][:_PICTURES]
        clips = [_clip(track, kept, seconds) for track in (_chosen_tracks(kept[0], count) if kept else ())]
    except (FeatstoreError, OSError) as error:
        raise ConfigError(f"clips cannot be cut: {error}", "--audio", fix) from error
    if not clips:
        raise ConfigError("no feature worth keeping has bands and frames", "--audio", "Leave --audio out")
    return clips


def _front_of(runs: RunSet) -> ParetoFront:
    """The front of the data set with the most runs."""
    [(dataset, _)] = Counter(record.dataset for record in runs).most_common(1)
    part = runs.select(lambda record: record.dataset == dataset)
    return pareto(summarise(part), "bytes_alone", metrics_in(part.frame)[0], runs=part)


def _shown_rows(front: ParetoFront) -> list[dict[str, Any]]:
    """One row for each feature: the answer's, the best's, then those of the guaranteed and of the measured front."""
    rows = front.frame.to_dict("records")
    order = [front.best] if front.answer is None else [front.answer, front.best]
    order += [int(place) for name in ("guaranteed", "on_front") for place in np.flatnonzero(front.frame[name])]
    found: dict[str, dict[str, Any]] = {}
    for place in order:
        found.setdefault(str(rows[place]["feature"]), {str(key): value for key, value in rows[place].items()})
    return list(found.values())


def _has_picture(reader: FeatureReader) -> bool:
    return len(reader.shape_of_item) == 1 and reader.spec.band_centres is not None and reader.clip_frames is None


def _same_signal(reader: FeatureReader, other: FeatureReader) -> bool:
    return (reader.spec.clip, reader.spec.sample_rate) == (other.spec.clip, other.spec.sample_rate)


def _chosen_tracks(shown: _Shown, count: int) -> list[str]:
    """Test tracks, one of each label in turn; any tracks where nothing is known of the split."""
    frame = shown.tracks.loc[list(shown.reader.track_ids)]
    test = frame[frame["split"] == "test"] if "split" in frame else frame.iloc[:0]
    frame = test if len(test) else frame
    groups: dict[str, list[str]] = {}
    for track in frame.index:
        groups.setdefault(" ".join(_labels(frame, track)[:1]), []).append(str(track))
    turns = [
        track for turn in range(len(frame)) for label in sorted(groups) for track in groups[label][turn : turn + 1]
    ]
    return turns[:count]


def _labels(frame: pd.DataFrame, track: str) -> list[str]:
    return label_list(frame["labels"][track]) if "labels" in frame else []


def _clip(track: str, kept: Sequence[_Shown], seconds: float) -> dict[str, Any]:
    """Sound and pictures of one track."""
    frame, spec = kept[0].tracks, kept[0].reader.spec
    signal, rate = decode_audio(str(frame["path"][track]), decoder=getattr(spec, "decoder", "soundfile"))
    mono = resample_signal(signal.mean(axis=0), source_rate=rate, sample_rate=spec.sample_rate)
    begin, end = clip_bounds(len(mono), spec.sample_rate, spec.clip, track)
    start_s = max(0.0, (min(end, len(mono)) - begin) / spec.sample_rate - seconds) / 2
    at = begin + round(start_s * spec.sample_rate)
    part = mono[at : at + round(seconds * spec.sample_rate)]
    return {
        "track": track,
        "labels": _labels(frame, track),
        "start_s": round(at / spec.sample_rate, 3),
        "seconds": len(part) / spec.sample_rate,
        "audio": _as_uri(part, spec.sample_rate),
        "pictures": [_picture(each, track, start_s, len(part) / spec.sample_rate) for each in kept],
    }


def _as_uri(signal: NDArray[np.float32], sample_rate: int) -> str:
    """The signal as MP3 in a data URI."""
    if sample_rate not in _RATES:
        signal = resample_signal(signal, source_rate=sample_rate, sample_rate=_USUAL_RATE)
        sample_rate = _USUAL_RATE
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp3"
        write_audio(path, [signal], sample_rate=sample_rate)
        return "data:audio/mpeg;base64," + base64.b64encode(path.read_bytes()).decode()


def _picture(shown: _Shown, track: str, start_s: float, seconds: float) -> dict[str, Any]:
    """What one feature keeps of the clip, in 256 steps from its 2nd to its 99.8th percentile."""
    row, reader = shown.row, shown.reader
    spec = reader.spec
    step = spec.frame_step / spec.sample_rate
    values = np.asarray(reader[track], dtype=np.float32)
    first = max(0, int(np.ceil((start_s - spec.first_centre_s) / step - 0.5)))
    part = np.nan_to_num(values[:, first : first + max(1, round(seconds / step))])
    low, high = (float(value) for value in np.percentile(part, [2, 99.8]))
    codes = np.clip((part - low) / max(high - low, 1e-9) * 255, 0, 255).round().astype(np.uint8)
    places, texts = hz_ticks(spec.band_centres, 5)
    return {
        "label": row["label"],
        "rate_bps": row["rate_bps"],
        "unit": "dB" if spec.unit == "dB" else "",
        "low": low,
        "high": high,
        "bands": codes.shape[0],
        "frames": codes.shape[1],
        "step_s": step,
        "lead_s": first * step + spec.first_centre_s - start_s,
        "ticks": [[place, text] for place, text in zip(places, texts, strict=True)],
        "values": base64.b64encode(codes.tobytes()).decode(),
    }
