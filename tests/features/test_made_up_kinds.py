"""A kind is one file and one line: two made-up kinds go through every room without a change to any.

``contour`` computes from samples alone; ``probe`` runs a model with weights on windows and has two axes before time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile

from featstore.errors import ConfigError, SpecError
from featstore.extract import ExtractOptions, extract, make_plan
from featstore.features import Node, TrackContext, expand_features
from featstore.features.source_signal import signal_node
from featstore.features.weights import find_weights_file, is_digest, remember_weights
from featstore.features.windows import TooShort, TrackCutter, WindowStep
from featstore.loaders import BatchLoader
from featstore.models.token_windows import Window, WindowValues
from featstore.specs import KINDS, FeatureSpec, parse_spec
from featstore.specs.base import integer, text
from featstore.store import open_store
from featstore.store.sizes import describe_features
from featstore.store.verify import verify
from featstore.training.config import TrainConfig
from featstore.training.run import train
from featstore.workflows.indexing import index_tracks
from featstore.workflows.repair import repair
from featstore.workflows.sonify import sonify

RATE = 8000
SYNC = ExtractOptions(scheduler="sync", shard_tracks=4)

# -- a kind of samples alone -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ContourSpec(FeatureSpec):
    """Mean absolute value of each part of every ``step`` samples: (parts, frames)."""

    kind: ClassVar[str] = "contour"
    sample_rate: int = integer(RATE)
    step: int = integer(400)
    parts: int = integer(4)

    @property
    def frame_step(self) -> int:
        return self.step

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.parts,)

    @property
    def dims(self) -> tuple[str, ...]:
        return ("band", "frame")  # a spectrum to models

    @property
    def value_range(self) -> tuple[float, float]:
        return 0.0, 1.0

    def graph(self) -> Node:
        return Node.make("contour", signal_node(self), ContourStream, step=self.step, parts=self.parts)


class ContourStream:
    def __init__(self, node: Node, context: TrackContext) -> None:
        self._node, self._held = node, np.zeros(0, np.float32)

    def push(self, block: np.ndarray) -> np.ndarray:
        held = np.concatenate([self._held, block])
        frames = len(held) // self._node["step"]
        self._held = held[frames * self._node["step"] :]
        return contour(held, self._node["step"], self._node["parts"])

    def finish(self) -> np.ndarray:
        return np.zeros((self._node["parts"], 0), np.float32)


def contour(signal: np.ndarray, step: int, parts: int) -> np.ndarray:
    frames = len(signal) // step
    return np.abs(signal[: frames * step]).reshape(frames, parts, step // parts).mean(axis=-1).T.astype(np.float32)


# -- a kind with weights, window by window -----------------------------------------------------------------------------

WINDOW = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec(FeatureSpec):
    """Two layers of a matrix by window: (layers, dimensions, windows)."""

    kind: ClassVar[str] = "probe"
    wants_device: ClassVar[bool] = True
    sample_rate: int = integer(RATE)
    weights: str = text("")

    @property
    def is_resolved(self) -> bool:
        return is_digest(self.weights)

    def resolve(self) -> ProbeSpec:
        place = find_weights_file(self.weights, lambda path: Matrix(path).digest)
        if self.is_resolved or place is None:
            return self
        digest = Matrix(place).digest
        remember_weights(digest, place)
        return self.replace(weights=digest)

    @property
    def weights_digest(self) -> str:
        return self.weights

    @property
    def frame_step(self) -> int:
        return WINDOW

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (2, 3)

    @property
    def dims(self) -> tuple[str, ...]:
        return ("layer", "dimension", "window")

    def graph(self) -> Node:
        return Node.make("probe", signal_node(self), PROBE, weights=self.weights)


class Matrix:
    """The model: equal windows, the last one dropped where it is not whole."""

    batch = 4
    no_values = np.zeros((2, 3, 0), np.float32)
    passes: ClassVar[list[int]] = []

    def __init__(self, path: str) -> None:
        self.matrix = np.load(path, allow_pickle=False)
        self.digest = hashlib.sha256(self.matrix.tobytes()).hexdigest()[:32]

    def cutter(self) -> Matrix.Cutter:
        return Matrix.Cutter()

    def encode_windows(self, windows: list[Window]) -> list[WindowValues]:
        self.passes.append(len(windows))
        layers = [np.stack([self.matrix @ window.samples, np.tanh(self.matrix @ window.samples)]) for window in windows]
        return [WindowValues(layer[..., None]) for layer in layers]

    class Cutter:
        def __init__(self) -> None:
            self.held = np.zeros(0, np.float32)

        def push(self, block: np.ndarray) -> list[Window]:
            self.held = np.concatenate([self.held, block])
            whole = len(self.held) // WINDOW
            windows = [Window(part, 0, 1) for part in self.held[: whole * WINDOW].reshape(whole, WINDOW)]
            self.held = self.held[whole * WINDOW :]
            return windows

        def finish(self) -> list[Window]:
            return []


def open_matrix(node: Node) -> Matrix:
    return Matrix(find_weights_file(node["weights"], lambda path: Matrix(path).digest))


def cut(model: Matrix, node: Node, context: TrackContext) -> TrackCutter:
    return TrackCutter(model.cutter(), context=context, least=f"one window of {WINDOW}")


PROBE = WindowStep(open_matrix, cut)


# -- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def registered(monkeypatch) -> None:
    monkeypatch.setitem(KINDS, "contour", f"{__name__}:ContourSpec")
    monkeypatch.setitem(KINDS, "probe", f"{__name__}:ProbeSpec")


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Loud and quiet tracks, of which the table knows which are which."""
    rng = np.random.default_rng(0)
    for k in range(12):
        folder = tmp_path / "music" / ("loud" if k % 2 else "quiet")
        folder.mkdir(parents=True, exist_ok=True)
        size = 0.9 if k % 2 else 0.05
        soundfile.write(folder / f"{k:02}.wav", rng.uniform(-size, size, 8000 + 400 * (k % 3)), RATE, subtype="FLOAT")
    return tmp_path / "music"


@pytest.mark.slow
def test_a_kind_goes_through_every_room(music: Path, tmp_path: Path) -> None:
    table = index_tracks("folder", music)
    plan = make_plan(expand_features(["contour(parts=2)", "contour(parts=4)@uint8"]))
    assert [node.op for node in plan.graph.children] == ["decode", "mono", "resample", "contour", "contour"]
    report = extract(table, plan.requests, tmp_path / "s.zarr", SYNC)
    assert report.status["ok"] == 12 and verify(tmp_path / "s.zarr") == []

    store = open_store(tmp_path / "s.zarr")
    exact, coarse = store["contour(parts=2)"], store["contour"]
    track = "loud/01.wav"
    samples, _ = soundfile.read(music / track, dtype="float32")
    assert np.array_equal(exact[track], contour(samples, 400, 2))
    assert np.abs(coarse[track] - contour(samples, 400, 4)).max() <= coarse.view.bound
    assert coarse.view.bound == pytest.approx(1 / 254 / 2, abs=1e-6)
    rows = {row["name"]: row for row in describe_features(store)}
    assert (
        rows[
            "contour.r1(sample_rate=8000,decoder=soundfile,resampler=soxr_hq,clip=whole,engine=native,step=400,"
            "parts=2)@float32"
        ]["n_tracks"]
        == 12
    )

    loader = BatchLoader({"x": exact}, list(store.tracks.index), batch_size=4, crop_frames=10, seed=0)
    assert next(iter(loader))["x"].shape == (4, 2, 10)

    frame = table.frame.assign(
        labels=[[str(track).split("/")[0]] for track in table.frame["track_id"]],
        split=[("train", "train", "train", "valid", "test", "test")[k % 6] for k in range(12)],
    )
    settings = TrainConfig.resolve(
        assignments=["model.width=8", "data.crop_frames=16", "data.batch_size=4", "loop.epochs=8"]
    )
    result = train(store, exact.name, "conv-encoder", tmp_path / "run", tracks=frame, config=settings)
    assert result["scores"]["test"]["roc_auc"] > 0.9

    chunk = max((tmp_path / "s.zarr" / "features").rglob("c/*/*/*"), key=lambda path: path.stat().st_size)
    before = chunk.read_bytes()
    chunk.write_bytes(before[:-9] + b"damaged !")
    assert verify(tmp_path / "s.zarr")
    assert repair(tmp_path / "s.zarr", options=SYNC).left == [] and chunk.read_bytes() == before
    with pytest.raises(ConfigError, match="no sound can be made of contour features"):
        sonify(tmp_path / "s.zarr", track, "contour(parts=2)", tmp_path / "x.wav")
    with pytest.raises(SpecError, match="hop_length=400 is longer than the clip of 80 samples"):
        make_plan(expand_features(["contour(clip=start(0.01 s))"]))


def test_a_kind_with_weights_and_windows(music: Path, tmp_path: Path) -> None:
    """Values do not depend on what goes through the model together; the store knows where the weights are."""
    np.save(tmp_path / "w.npy", np.random.default_rng(1).normal(size=(3, WINDOW)).astype(np.float32))
    soundfile.write(music / "loud" / "tiny.wav", np.ones(WINDOW - 1, np.float32) / 9, RATE)
    table, requests = index_tracks("folder", music), expand_features([f"probe(weights={tmp_path / 'w.npy'})"])
    name = str(requests[0])
    assert "w.npy" not in name
    stores = {}
    for batches in (False, True):
        Matrix.passes.clear()
        path = tmp_path / f"{batches}.zarr"
        report = extract(table, requests, path, ExtractOptions(scheduler="sync", token_batches=batches))
        assert report.status["by_reason"] == {"short": 1} and max(Matrix.passes) == (4 if batches else 1)
        assert (path / "log" / "weights" / f"{requests[0].spec.weights}.json").exists()
        stores[batches] = open_store(path)
    reader = stores[True]["probe()"]
    assert reader.name == f"{name}@float32" and reader.base.header.dims == ("layer", "dimension", "window")
    for track in reader.track_ids:
        assert np.array_equal(reader[track], stores[False][name][track]) and reader[track].shape == (2, 3, 4)
    with pytest.raises(SpecError, match="has no name yet"):
        parse_spec("probe()").key()
    assert TooShort.reason == "short"
