"""A small store of spectrogram-like features whose labels can be heard in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.missing import find_missing
from featstore.store.writing import add_arrays, write_shard

SPEC = "mel(sample_rate=16000,n_mels=16,hop_length=512,scale=db)"
CLASSES = ("high", "low", "middle")


def spectrogram(rng: np.random.Generator, labels: list[str], n_frames: int, bands: int) -> np.ndarray:
    """Noise around -60 dB; each label lifts a region of the bands now and then."""
    values = rng.normal(-60, 6, (bands, n_frames))
    fifth = bands // 3
    rows = {"low": slice(0, fifth), "middle": slice(fifth, 2 * fifth), "high": slice(bands - fifth, bands)}
    for label in labels:
        values[rows[label], :: 2 + len(label) % 3] += 9
    return values.astype(np.float32)


def write_store(
    path: Path, frame: pd.DataFrame, values: dict[str, np.ndarray], *, spec: str, failed: tuple[str, ...] = ()
) -> Store:
    """Store with one stored feature; ``failed`` tracks have none."""
    parsed = parse_spec(spec)
    header = ArrayHeader(parsed, Encoding.parse("float32", parsed), (parsed.n_mels,), ("band", "frame"))
    return fill_store(path, frame, values, header, failed)


def fill_store(
    path: Path, frame: pd.DataFrame, values: dict[str, np.ndarray], header: ArrayHeader, failed: tuple[str, ...] = ()
) -> Store:
    """Store with one array."""
    store = create_store(path, frame, [header], shard_tracks=8)
    add_arrays(store, [header])
    ids = {row: track for track, row in store.tracks["row"].items()}
    for shard, keys in find_missing(store, [header.key]):
        with write_shard(store, shard, keys) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot, ids[row])
                if ids[row] in failed:
                    writer.fail(slot, "failed", "decode", "cannot be decoded", "/music/x")
                    continue
                writer.append(header.key, values[ids[row]])
                writer.end()
            writer.commit({"featstore": "test"})
    consolidate(store)
    return open_store(path)


@dataclass
class Collection:
    """A store and the track frame behind it."""

    store: Store
    frame: pd.DataFrame
    values: dict[str, np.ndarray]


def make_collection(
    path: Path,
    *,
    n: int = 60,
    n_frames: int | list[int] = 48,
    single: bool = False,
    seed: int = 0,
    spec: str = SPEC,
    **settings,
) -> Collection:
    rng = np.random.default_rng(seed)
    lengths = [n_frames] * n if isinstance(n_frames, int) else n_frames[:n]
    if single:
        labels = [[CLASSES[i % 3]] for i in range(n)]
    else:
        labels = [[name for name in CLASSES if rng.random() < 0.4] for _ in range(n)]
    frame = pd.DataFrame(
        {
            "track_id": [f"t{i:03d}" for i in range(n)],
            "path": [f"/music/{i}.wav" for i in range(n)],
            "labels": labels,
            "split": [("train", "train", "train", "valid", "test")[i % 5] for i in range(n)],
            "group": [f"g{i // 2}" for i in range(n)],
            "style": ["loud" if i % 2 else "quiet" for i in range(n)],
            "duration_s": [length * 512 / 16000 for length in lengths],
            "size_bytes": [1000] * n,
        }
    )
    rows = zip(frame["track_id"], labels, lengths, strict=True)
    bands = parse_spec(spec).n_mels
    values = {track: spectrogram(rng, each, length, bands) for track, each, length in rows}
    return Collection(write_store(path, frame, values, spec=spec, **settings), frame, values)
