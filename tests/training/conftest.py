"""A small store of spectrogram-like features whose labels can be heard in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.training import TrainConfig

BANDS = 16
SPEC = "mel(sample_rate=16000,n_mels=16,hop_length=512,scale=db)"
CLASSES = ("high", "low", "middle")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def spectrogram(rng: np.random.Generator, labels: list[str], n_frames: int) -> np.ndarray:
    """Noise around -60 dB; each label lifts a region of the bands now and then."""
    values = rng.normal(-60, 6, (BANDS, n_frames))
    rows = {"low": slice(0, 5), "middle": slice(5, 10), "high": slice(11, 16)}
    for label in labels:
        values[rows[label], :: 2 + len(label) % 3] += 9
    return values.astype(np.float32)


def write_store(
    path: Path, frame: pd.DataFrame, values: dict[str, np.ndarray], *, spec: str = SPEC, failed: tuple[str, ...] = ()
) -> Store:
    """Store with one stored feature; ``failed`` tracks have none."""
    parsed = parse_spec(spec)
    header = ArrayHeader(parsed, Encoding.parse("float32", parsed), (BANDS,), ("band", "frame"))
    store = create_store(path, frame, [header], shard_tracks=8)
    store.add_arrays([header])
    ids = {row: track for track, row in store.tracks["row"].items()}
    for shard, keys in store.missing([header.key]):
        with store.shard_writer(shard, keys) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot, ids[row])
                if ids[row] in failed:
                    writer.fail(slot, "failed", "decode", "cannot be decoded", "/music/x")
                    continue
                writer.append(header.key, values[ids[row]])
                writer.end()
            writer.commit({"featstore": "test"})
    store.consolidate()
    return open_store(path)


@dataclass
class Collection:
    """A store and the track frame behind it."""

    store: Store
    frame: pd.DataFrame
    values: dict[str, np.ndarray]


def make_collection(
    path: Path, *, n: int = 60, n_frames: int | list[int] = 48, single: bool = False, seed: int = 0, **settings
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
    values = {track: spectrogram(rng, each, length) for track, each, length in rows}
    return Collection(write_store(path, frame, values, **settings), frame, values)


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return make_collection(tmp_path_factory.mktemp("multi") / "music.zarr")


@pytest.fixture(scope="session")
def styles(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return make_collection(tmp_path_factory.mktemp("single") / "styles.zarr", single=True)


@pytest.fixture
def config() -> Callable[..., TrainConfig]:
    """Settings of a run that takes a fraction of a second."""

    def make(*assignments: str, seed: int | None = None) -> TrainConfig:
        small = ["model.width=0.02", "model.pools=fit", "data.batch_size=8", "data.crop_frames=24", "loop.epochs=2"]
        small += ["evaluate.bootstrap=20", "device.accelerator=cpu", "device.deterministic=true"]
        return TrainConfig.resolve(assignments=[*small, *assignments], seed=seed)

    return make
