"""Masked prediction of values and of ids, by the transformers of frames, tokens and code vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from killing import killed_after

from featstore.errors import ConfigError, DatasetError
from featstore.models import create
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.training import TrainConfig, evaluate, train
from featstore.training.checkpoints import load_checkpoint
from featstore.training.masked_positions import CONVENTIONS, MaskedPositionsConfig, skill_of
from featstore.training.masked_targets import Bins, KMeans, RandomProjection, bigram_entropy, count_pairs
from featstore.training.masking import draw_spans, frames_of

Make = Callable[..., TrainConfig]
N_CODES, N_DIMS, N_FRAMES, N = 24, 6, 256, 40
MEL = "mel(sample_rate=44100,n_fft=512,hop_length=128,framing=token,n_mels=8,scale=ln)"
TOKENS = f"vq_tokens(codec=jukebox,level=2,weights={'ab' * 16},n_codes={N_CODES},code_width={N_DIMS},hop=128,n_codebooks=1,sample_rate=44100)"
CODES = TOKENS.replace("vq_tokens", "vq_codes")
FEATURES = {"spectroformer": MEL, "tokenformer": TOKENS, "codebookformer": CODES}


def write(path: Path, frame: pd.DataFrame, tokens: dict[str, np.ndarray]) -> Store:
    rng = np.random.default_rng(1)
    codebook = rng.normal(size=(1, N_CODES, N_DIMS)).astype(np.float32)
    bands = rng.normal(size=(N_CODES, 8))
    specs = [parse_spec(MEL), parse_spec(TOKENS)]
    headers = [
        ArrayHeader(specs[0], Encoding.parse("float32", specs[0]), (8,), ("band", "frame")),
        ArrayHeader(specs[1], Encoding.parse("uint16", specs[1]), (1,), ("codebook", "frame")),
    ]
    store = create_store(path, frame, headers, shard_tracks=16)
    store.put_codebook(specs[1], codebook, {})
    store.add_arrays(headers)
    ids = {row: track for track, row in store.tracks["row"].items()}
    for shard, keys in store.missing([header.key for header in headers]):
        with store.shard_writer(shard, keys) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot, ids[row])
                found = tokens[ids[row]]
                mel = bands[found].T + 0.1 * rng.normal(size=(8, len(found)))
                writer.append(headers[0].key, mel.astype(np.float32))
                writer.append(headers[1].key, found[None].astype(np.int32))
                writer.end()
            writer.commit({"featstore": "test"})
    store.consolidate()
    return open_store(path)


def make_store(path: Path, lengths: list[int] | None = None) -> Store:
    """Tokens that step through the codes at a pace of each track's own, and spectra that follow them."""
    frame = pd.DataFrame(
        {
            "track_id": [f"t{i:03d}" for i in range(N)],
            "path": [f"/music/{i}.wav" for i in range(N)],
            "labels": [[("up", "down")[i % 2]] for i in range(N)],
            "split": [("train", "train", "train", "valid", "test")[i % 5] for i in range(N)],
            "group": [f"artist {i}" for i in range(N)],
        }
    )
    place = np.arange(N_FRAMES) // 4
    tokens = {
        track: ((7 * i + (1 if i % 2 else -1) * place) % N_CODES)[: lengths[i] if lengths else N_FRAMES]
        for i, track in enumerate(frame["track_id"])
    }
    return write(path, frame, tokens)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("steps") / "steps.zarr")


@pytest.fixture
def hidden() -> Make:
    def make(*assignments: str, seed: int | None = None) -> TrainConfig:
        small = ["model.size=tiny", "model.dropout=0", "data.batch_size=8", "loop.epochs=2", "data.crop_frames=128"]
        small += ["device.accelerator=cpu", "device.deterministic=true", "objective.span_ms=24"]
        small += ["optimizer.learning_rate=3e-3", "data.crops_per_track=4"]
        return TrainConfig.resolve(assignments=[*small, *assignments], seed=seed)

    return make


# ---- which positions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", list(CONVENTIONS))
def test_each_convention_covers_its_share(convention: str) -> None:
    how = MaskedPositionsConfig(convention=convention).how
    length, position = np.full(400, 6000.0), 11.6
    spans = draw_spans(
        np.arange(400), np.zeros(400), length, **how | {"span_ms": how["span_ms"] or position}, seed=0, epoch=0
    )
    chosen, source = frames_of(spans, hop_ms=position, n_frames=517)
    assert chosen.float().mean() == pytest.approx(how["share"], abs=0.03)
    shown = (source >= 0) & chosen
    assert shown.float().sum() / chosen.float().sum() == pytest.approx(1 - how["hidden"], abs=0.02)


def test_settings_follow_from_the_convention_unless_given() -> None:
    found = TrainConfig.resolve({"objective": {"name": "masked-ids", "convention": "hubert", "share": 0.4}}).objective
    assert (found.share, found.span_ms, found.hidden, found.overlap) == (0.4, 200.0, 1.0, True)
    for setting, message in (("share=1", "share=1.0"), ("span_ms=-1", "negative"), ("hidden=0.95", "shares of a whole")):
        with pytest.raises(ConfigError, match=message):
            TrainConfig.resolve(assignments=["objective.name=masked-ids", f"objective.{setting}"])


# ---- targets ----------------------------------------------------------------------------------------------------


def test_targets_of_frames() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [9, 0], [0, 9], [9, 9]], dtype=np.float32)
    which = rng.integers(0, 4, 400)
    frames = (centres[which] + rng.normal(0, 0.3, (400, 2))).astype(np.float32)
    kmeans = KMeans(2, 4)
    kmeans.fit(frames, seed=0)
    found = kmeans(torch.from_numpy(frames.T[None]), [""], [0])[0, 0].numpy()
    assert len({(a, b) for a, b in zip(which.tolist(), found.tolist(), strict=True)}) == 4
    bins = Bins(2, 4)
    bins.fit(np.arange(800, dtype=np.float32).reshape(400, 2), seed=0)
    levels = bins(torch.tensor([[[0.0, 790.0, 300.0], [1.0, 790.0, 500.0]]]), [""], [0])
    assert levels.tolist() == [[[0, 3, 1], [0, 3, 2]]]
    one, two = (RandomProjection(2, 64, seed=3)(torch.from_numpy(frames.T[None]), [""], [0]) for _ in range(2))
    assert torch.equal(one, two) and len(one.unique()) > 4
    scaled = RandomProjection(2, 64, seed=3)(torch.from_numpy(5 * frames.T[None]), [""], [0])
    assert torch.equal(one, scaled)
    with pytest.raises(ConfigError, match="3 training frames for 4 centres"):
        KMeans(2, 4).fit(frames[:3], seed=0)


def test_entropy_of_pairs_by_hand() -> None:
    counted: list[dict[int, int]] = [{}]
    count_pairs(torch.tensor([[[0, 1, 0, 1, 0, 0]]]), 2, counted)
    assert counted == [{1: 2, 2: 2, 0: 1}]
    # after 0 (three times) 1 twice and 0 once, after 1 (twice) always 0
    expected = -(2 * np.log(2 / 3) + np.log(1 / 3)) / 5
    assert bigram_entropy(counted, 2) == pytest.approx(expected)


def test_the_interval_of_skill_is_over_tracks() -> None:
    rng = np.random.default_rng(0)
    least = np.full(200, 2.0)
    loss = rng.choice([0.5, 1.5], 200)
    skill, low, high = skill_of(loss, [least, 3 * least])
    assert skill == pytest.approx(1 - loss.mean() / 2)
    assert low < skill < high and high - low == pytest.approx(2 * 1.96 * 0.25 / 200**0.5, rel=0.1)


# ---- runs -------------------------------------------------------------------------------------------------------

OBJECTIVES = [
    ("spectroformer", "masked-values", ()),
    ("spectroformer", "masked-values", ("objective.distance=l2", "objective.positions=all")),
    ("spectroformer", "masked-ids", ()),
    ("spectroformer", "masked-ids", ("objective.targets=kmeans", "objective.codes=24")),
    ("spectroformer", "masked-ids", ("objective.targets=random_projection", "objective.codes=64")),
    ("spectroformer", "masked-ids", ("objective.targets=bins", "objective.codes=4")),
    ("tokenformer", "masked-ids", ()),
    ("codebookformer", "masked-ids", ()),
    ("codebookformer", "masked-values", ()),
]


@pytest.mark.parametrize(("model", "objective", "extra"), OBJECTIVES)
def test_each_model_beats_what_needs_no_learning(
    steps: Store, tmp_path: Path, hidden: Make, model: str, objective: str, extra: tuple[str, ...], monkeypatch, capsys
) -> None:
    monkeypatch.setenv("FEATSTORE_PROGRESS", "1")
    config = hidden(f"objective.name={objective}", f"loop.epochs={8 if objective == 'masked-ids' else 5}", *extra)
    result = train(steps, FEATURES[model], model, tmp_path / "run", config=config)
    scores = result["scores"]["valid"]
    assert scores["skill"] > scores["skill_low"] > 0, scores
    assert scores["chosen_share"] == pytest.approx(0.3, abs=0.05)
    assert "to beat" in capsys.readouterr().err
    assert evaluate(tmp_path / "run") == result["scores"]
    if objective == "masked-ids" and not extra:
        assert scores["unigram"] == pytest.approx(np.log(N_CODES), abs=0.02)
        assert scores["bigram"] < 1.5 and scores["target_perplexity"] == pytest.approx(N_CODES, rel=0.02)
        assert scores["accuracy"] > 2 / N_CODES
