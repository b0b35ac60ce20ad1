"""Masked prediction of values and of ids, by the transformers of frames, tokens and code vectors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from killing import killed_after
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from featstore.errors import ConfigError, DatasetError
from featstore.loaders import BatchLoader
from featstore.models.checkpoint_file import load_checkpoint
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.missing import find_missing
from featstore.store.writing import add_arrays, write_shard
from featstore.training import TrainConfig, evaluate, train
from featstore.training.folders import RunFolder
from featstore.training.losses import crops_by_class
from featstore.training.masked_positions import MaskedPositions, mean_of_known, skill_of
from featstore.training.masked_targets import (
    Bins,
    KMeans,
    RandomProjection,
    StoredTokens,
    bigram_entropy,
    count_pairs,
)
from featstore.training.masked_values import MaskedValues
from featstore.training.masking import draw_bands, draw_spans, frames_of
from featstore.training.masking_settings import CONVENTIONS, MaskedPositionsConfig
from featstore.training.work import model_of_checkpoint

Make = Callable[..., TrainConfig]
N_CODES, N_DIMS, N_FRAMES, N = 24, 6, 256, 40
MEL = "mel(sample_rate=44100,n_fft=512,hop_length=128,framing=token,n_mels=8,scale=ln)"
SIZES = f"n_codes={N_CODES},code_width={N_DIMS},hop=128,n_codebooks=1,sample_rate=44100"
TOKENS = f"vq_tokens(codec=jukebox,level=2,weights={'ab' * 16},{SIZES})"
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
    store.backend.write_codebook(specs[1].codebook_name, codebook, {})
    add_arrays(store, headers)
    ids = {row: track for track, row in store.tracks["row"].items()}
    for shard, keys in find_missing(store, [header.key for header in headers]):
        with write_shard(store, shard, keys) as writer:
            for slot, row in enumerate(store.shard_rows(shard)):
                writer.begin(slot, ids[row])
                found = tokens[ids[row]]
                mel = bands[found].T + 0.1 * rng.normal(size=(8, len(found)))
                writer.append(headers[0].key, mel.astype(np.float32))
                writer.append(headers[1].key, found[None].astype(np.int32))
                writer.end()
            writer.commit({"featstore": "test"})
    consolidate(store)
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
    for setting, message in (
        ("share=1", "share=1.0"),
        ("span_ms=-1", "negative"),
        ("hidden=0.95", "shares of a whole"),
    ):
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
    counted: list[Counter[int]] = [Counter()]
    count_pairs(torch.tensor([[[0, 1, 0, 1, 0, 0]]]), 2, counted)
    assert counted == [{1: 2, 2: 2, 0: 1}]
    # after 0 (three times) 1 twice and 0 once, after 1 (twice) always 0
    expected = -(2 * np.log(2 / 3) + np.log(1 / 3)) / 5
    assert bigram_entropy(counted, 2) == pytest.approx(expected)


def test_positions_of_which_nothing_is_known_give_no_gradient_of_nan() -> None:
    errors = torch.ones(3, 2, 2, requires_grad=True)
    known = torch.tensor([[[1.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    found = mean_of_known(errors, known)
    assert found[[0, 2]].tolist() == [1.0, 1.0] and bool(found[1].isnan())
    found[~found.isnan()].sum().backward()
    assert errors.grad is not None and errors.grad.isfinite().all() and errors.grad[1].eq(0).all()


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
    ("spectroformer", "masked-values", ("objective.band_share=0.5",)),
    ("spectroformer", "masked-ids", ()),
    ("spectroformer", "masked-ids", ("objective.targets=kmeans", "objective.codes=24")),
    ("spectroformer", "masked-ids", ("objective.targets=random_projection", "objective.codes=64")),
    ("spectroformer", "masked-ids", ("objective.targets=bins", "objective.codes=4")),
    ("tokenformer", "masked-ids", ()),
    ("codebookformer", "masked-ids", ()),
    ("codebookformer", "masked-values", ()),
]


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_same_seconds_are_hidden_from_all_three(steps: Store, tmp_path: Path, hidden: Make, monkeypatch) -> None:
    seen: dict[str, list[torch.Tensor]] = {}
    choose = MaskedPositions.choose

    def noted(self, batch, *, epoch, split):
        found = choose(self, batch, epoch=epoch, split=split)
        if split == "train":
            seen.setdefault(name, []).append(torch.cat([batch.index[:, None], found.chosen, found.hidden], dim=1))
        return found

    monkeypatch.setattr(MaskedPositions, "choose", noted)
    for name, feature in FEATURES.items():
        config = hidden("objective.name=masked-ids", "loop.epochs=2", "objective.convention=w2v2")
        train(steps, feature, name, tmp_path / name, config=config)
    one, *others = (torch.cat(each) for each in seen.values())
    assert len(others) == 2 and all(torch.equal(one, other) for other in others)
    assert not torch.equal(*(each.float() for each in one.chunk(2)))  # drawn again in each epoch


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tokenformer", "spectroformer"])
def test_killed_at_any_batch_it_goes_on_bit_for_bit(
    steps: Store, tmp_path: Path, hidden: Make, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    targets = "tokens" if model == "tokenformer" else "kmeans"
    config = hidden(
        "objective.name=masked-ids",
        f"objective.targets={targets}",
        "objective.codes=24",
        "loop.checkpoint_batches=1",
        "data.crops_per_track=1",
        "model.dropout=0.1",
    )
    whole = train(steps, FEATURES[model], model, tmp_path / "whole", config=config)
    with killed_after(4, monkeypatch):
        train(steps, FEATURES[model], model, tmp_path / "cut", config=config)
    assert train(steps, FEATURES[model], model, tmp_path / "cut", config=config)["scores"] == whole["scores"]
    one, two = (load_checkpoint(tmp_path / run / "checkpoints/last.safetensors")[0] for run in ("whole", "cut"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_padding_is_never_chosen_and_does_not_count(tmp_path: Path, hidden: Make) -> None:
    store = make_store(tmp_path / "short.zarr", [N_FRAMES if i % 2 else 70 for i in range(N)])
    for model, feature in FEATURES.items():
        config = hidden("objective.name=masked-ids", "data.ragged=pad", "loop.epochs=1", "data.crops_per_track=1")
        scores = train(store, feature, model, tmp_path / model, config=config)["scores"]["valid"]
        assert scores["chosen_share"] == pytest.approx(0.3, abs=0.04)


def test_tracks_and_artists_of_other_splits_are_refused(steps: Store, tmp_path: Path, hidden: Make) -> None:
    shared = steps.tracks.assign(group=[f"artist {i // 2}" for i in range(N)])
    config = hidden("objective.name=masked-ids")
    with pytest.raises(DatasetError, match=r"group artist .* is in the splits train and (valid|test)"):
        train(steps, TOKENS, "tokenformer", tmp_path / "a", config=config, tracks=shared)


def test_fine_tuning_with_decay_moves_the_embedding_least(steps: Store, tmp_path: Path, hidden: Make) -> None:
    first = hidden("objective.name=masked-ids", "loop.epochs=1", "data.crops_per_track=1")
    train(steps, TOKENS, "tokenformer", tmp_path / "first", config=first)
    before, _ = load_checkpoint(tmp_path / "first/checkpoints/best.safetensors")
    small = ["model.size=tiny", "data.batch_size=8", "loop.epochs=1", "data.crop_frames=128", "device.accelerator=cpu"]
    moved = {}
    for name, extra in (("frozen", "start.trunk_rate=0"), ("gradual", "start.layer_decay=0.1")):
        config = TrainConfig.resolve(assignments=[*small, f"start.run={tmp_path / 'first'}", extra])
        result = train(steps, TOKENS, "tokenformer", tmp_path / name, config=config)
        assert result["classes"] == ["down", "up"]
        after, _ = load_checkpoint(tmp_path / name / "checkpoints/last.safetensors")
        moved[name] = {
            part: float((after[f"model.model.{part}"] - before[f"model.model.{part}"]).abs().max())
            for part in ("front.tables.weight", "layers.0.inner.weight", "layers.1.inner.weight", "norm.weight")
        }
    assert set(moved["frozen"].values()) == {0.0}
    steps_down = list(moved["gradual"].values())
    assert 0 < steps_down[0] < steps_down[1] < steps_down[2]


def test_wrong_use(steps: Store, tmp_path: Path, hidden: Make) -> None:
    def run(model: str, *extra: str, feature: str = MEL) -> None:
        train(steps, feature, model, tmp_path / "run", config=hidden("objective.name=masked-ids", *extra))

    with pytest.raises(ConfigError, match=r"no symbol for hidden positions .*Choose spectroformer, tokenformer"):
        train(
            steps,
            MEL,
            "conv-encoder",
            tmp_path / "run",
            config=TrainConfig.resolve({"objective": {"name": "masked-ids"}}),
        )
    with pytest.raises(ConfigError, match=r"codes=7, but it is 24 here"):
        run("tokenformer", "objective.codes=7", feature=TOKENS)
    with pytest.raises(ConfigError, match="no whole number of tokens of 128"):
        StoredTokens.beside(steps[TOKENS], parse_spec(MEL.replace("hop_length=128", "hop_length=200")))


# ---- probes of the trunk ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_probes_of_the_trunk_stand_beside_the_loss_and_change_nothing(
    steps: Store, tmp_path: Path, hidden: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("objective.name=masked-ids", "loop.epochs=3", "data.crops_per_track=1", "model.dropout=0.1")
    plain = train(steps, TOKENS, "tokenformer", tmp_path / "plain", config=hidden(*common))
    probed = hidden(*common, "loop.probe_every=2", "loop.checkpoint_batches=1")
    whole = train(steps, TOKENS, "tokenformer", tmp_path / "whole", config=probed)
    assert whole["run_id"] == plain["run_id"] and whole["scores"] == plain["scores"]
    assert "probes" not in plain
    assert [line["step"] for line in whole["probes"]] == [0, 2, 4, 6, 8, 9]  # the first weights, and the last
    assert whole["probes"][3]["epoch"] == 2.0
    last = RunFolder(tmp_path / "whole").read_probes()[-1]
    assert last == whole["probes"][-1] and set(last["probe"]) > {"accuracy", "macro_f1_all"}
    assert last["valid"]["loss"] < whole["probes"][0]["valid"]["loss"]
    with killed_after(5, monkeypatch):
        train(steps, TOKENS, "tokenformer", tmp_path / "cut", config=probed)
    assert train(steps, TOKENS, "tokenformer", tmp_path / "cut", config=probed)["probes"] == whole["probes"]


def test_a_probe_needs_labels(steps: Store, tmp_path: Path, hidden: Make) -> None:
    config = hidden("objective.name=masked-ids", "loop.probe_every=2", "data.label_column=genre")
    with pytest.raises(DatasetError, match="genre"):
        train(steps, TOKENS, "tokenformer", tmp_path / "run", config=config)


def test_a_probe_is_logistic_regression_on_the_pooled_vectors(steps: Store, tmp_path: Path, hidden: Make) -> None:
    config = hidden("objective.name=masked-ids", "loop.epochs=1", "loop.probe_every=5", "loop.keep=last")
    found = train(steps, TOKENS, "tokenformer", tmp_path / "run", config=config)["probes"][-1]["probe"]
    run = json.loads((tmp_path / "run/run.json").read_text())
    normed = model_of_checkpoint(run, RunFolder(tmp_path / "run").last).eval()
    vectors, labels = {}, {}
    for split in ("train", "valid"):
        ids = [track for track in steps.tracks.index if steps.tracks.loc[track, "split"] == split]
        tokens = torch.from_numpy(np.stack([steps[TOKENS][track] for track in ids]).astype(np.int64))
        with torch.no_grad():  # two windows of each track
            windows = [normed.model.forward_features(tokens[..., a : a + 128]) for a in (0, 128)]
        vectors[split] = torch.stack(windows).mean(dim=0).numpy()
        labels[split] = [steps.tracks.loc[track, "labels"][0] for track in ids]
    scaler = StandardScaler().fit(vectors["train"])
    fitted = LogisticRegression(C=1.0, tol=1e-9, max_iter=10_000)
    fitted.fit(scaler.transform(vectors["train"]), labels["train"])
    scores = fitted.decision_function(scaler.transform(vectors["valid"]))
    assert found["roc_auc"] == pytest.approx(roc_auc_score(labels["valid"], scores))


def test_seconds_of_audio_are_counted_with_those_of_the_start(steps: Store, tmp_path: Path, hidden: Make) -> None:
    first = hidden("objective.name=masked-ids", "loop.epochs=2", "data.crops_per_track=1")
    seen = train(steps, TOKENS, "tokenformer", tmp_path / "first", config=first)["audio_seen_s"]
    crop_s = 128 * 128 / 44100
    assert seen == {"run": pytest.approx(2 * 24 * crop_s), "start": 0.0}
    small = ["model.size=tiny", "data.batch_size=8", "loop.epochs=1", "data.crop_frames=128", "device.accelerator=cpu"]
    config = TrainConfig.resolve(assignments=[*small, f"start.run={tmp_path / 'first'}"])
    seen = train(steps, TOKENS, "tokenformer", tmp_path / "second", config=config)["audio_seen_s"]
    assert seen == {"run": pytest.approx(24 * crop_s), "start": pytest.approx(48 * crop_s)}


# ---- bands ----------------------------------------------------------------------------------------------------------


def test_neighbouring_bands_are_drawn_by_crop_and_epoch() -> None:
    index, start = np.arange(2000), np.zeros(2000)
    found = draw_bands(index, start, 64, share=0.25, seed=0, epoch=0).numpy()
    assert found.sum(axis=1).min() == 0 and found.sum(axis=1).max() == 16
    assert found.sum(axis=1).mean() == pytest.approx(8, abs=0.3)
    assert (np.abs(np.diff(found.astype(int), axis=1)).sum(axis=1) <= 2).all()  # one stretch
    assert found[:, 0].any() and found[:, -1].any()
    same = draw_bands(index[5:6], start[5:6], 64, share=0.25, seed=0, epoch=0).numpy()
    assert (same == found[5:6]).all()
    assert (draw_bands(index, start, 64, share=0.25, seed=0, epoch=1).numpy() != found).any()


def test_hidden_bands_cannot_be_read_and_are_what_the_loss_is_about(
    steps: Store, tmp_path: Path, hidden: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other values under a hidden band change the loss by what is wanted there, and nothing that is predicted."""
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    judge = MaskedValues._errors_of_loss

    def noted(self, prediction, wanted, choice, bands):
        errors = judge(self, prediction, wanted, choice, bands)
        changed = wanted + 100 * (~bands.repeat(1, 1)[choice.real.nonzero()[:, 0]])[:, None].float()
        free = ~choice.chosen[choice.real]  # positions that are shown: the visible bands do not count there
        seen.append((errors[free], judge(self, prediction, changed, choice, bands)[free], bands))
        return errors

    monkeypatch.setattr(MaskedValues, "_errors_of_loss", noted)
    config = hidden("objective.name=masked-values", "objective.band_share=0.6", "loop.epochs=1")
    train(steps, MEL, "spectroformer", tmp_path / "run", config=config)
    before, after, bands = (torch.cat(each) for each in zip(*seen, strict=True))
    assert bands.any() and not bands.all()
    known = ~before.isnan()
    assert known.any() and not known.all()  # crops without a hidden band count at chosen positions alone
    torch.testing.assert_close(before[known], after[known])


def test_bands_are_hidden_of_spectra_alone(steps: Store, tmp_path: Path, hidden: Make) -> None:
    assert TrainConfig.resolve({"objective": {"name": "masked-values", "convention": "cfm+ccm"}}).objective.band_share
    config = hidden("objective.name=masked-ids", "objective.band_share=0.2")
    with pytest.raises(ConfigError, match="bands are hidden of spectra alone"):
        train(steps, TOKENS, "tokenformer", tmp_path / "run", config=config)
    with pytest.raises(ConfigError, match=r"band_share=1.0 is not in \[0, 1\)"):
        hidden("objective.name=masked-values", "objective.band_share=1.0")


# ---- classes of different size --------------------------------------------------------------------------------------


def test_rare_classes_give_more_crops(steps: Store) -> None:
    ids, targets = list(steps.tracks.index[:12]), np.array([0] * 9 + [1] * 3)
    repeats = crops_by_class(targets, 2)[targets]
    settings = {"targets": targets, "batch_size": 4, "crop_frames": 32, "seed": 3}
    loader = BatchLoader({"x": steps[MEL]}, ids, repeats=repeats, **settings)
    batches = list(loader)
    seen = torch.cat([batch["target"] for batch in batches])
    assert torch.bincount(seen).tolist() == [9, 9]
    places = {(int(i), int(s)) for batch in batches for i, s in zip(batch["index"], batch["start"], strict=True)}
    assert len(places) == 18  # the further crops of a track lie elsewhere
    state = BatchLoader({"x": steps[MEL]}, ids, repeats=repeats, **settings)
    with pytest.raises(ConfigError, match="distinct crops of tracks that are repeated"):
        BatchLoader({"x": steps[MEL]}, ids, repeats=repeats, distinct=True, crops_per_track=2, **settings)
    assert [b["start"].tolist() for b in state] == [b["start"].tolist() for b in batches]


def test_the_sampler_is_a_way_to_weigh_classes(steps: Store, tmp_path: Path) -> None:
    few = steps.tracks.assign(labels=[["up"] if i % 4 else ["down"] for i in range(N)])
    small = ["model.size=tiny", "data.batch_size=8", "loop.epochs=1", "data.crop_frames=128", "data.task=single_label"]
    config = TrainConfig.resolve(assignments=[*small, "loop.class_weights=balanced_sampler"])
    result = train(steps, TOKENS, "tokenformer", tmp_path / "run", tracks=few, config=config)
    of = [labels[0] for labels, split in zip(few["labels"], few["split"], strict=True) if split == "train"]
    crops = of.count("up") + round(of.count("up") / of.count("down")) * of.count("down")
    assert crops > len(of)
    assert result["audio_seen_s"]["run"] == pytest.approx(crops // 8 * 8 * 128 * 128 / 44100)
    with pytest.raises(ConfigError, match="balanced_sampler is for single labels"):
        many = [*small[:-1], "data.task=multi_label"]
        other = TrainConfig.resolve(assignments=[*many, "loop.class_weights=balanced_sampler"])
        train(steps, TOKENS, "tokenformer", tmp_path / "other", config=other)


@pytest.mark.slow
def test_what_a_line_leaves_starts_at_the_line_s_own_error(steps: Store, tmp_path: Path, hidden: Make) -> None:
    """With a decoder that says nothing, the error is that of interpolation; unchosen positions want nothing."""
    config = hidden("objective.name=masked-values", "objective.residual=true", "loop.probe_every=100", "loop.epochs=1")
    first = train(steps, MEL, "spectroformer", tmp_path / "run", config=config)["probes"][0]["valid"]
    assert first["loss"] == pytest.approx(first["line_baseline"], rel=0.1)
    whole = hidden("objective.name=masked-values", "loop.probe_every=100", "loop.epochs=1")
    plain = train(steps, MEL, "spectroformer", tmp_path / "plain", config=whole)["probes"][0]["valid"]
    assert plain["line_baseline"] == first["line_baseline"] and plain["loss"] != first["loss"]
