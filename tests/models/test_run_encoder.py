"""Runs of ours as encoders: trained, pretrained, learned front ends; a probe refuses what they have seen."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from featstore.datasets import TableInfo, TrackTable
from featstore.errors import CheckpointError, ConfigError, DatasetError, SpecError
from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features, resolve
from featstore.features.embedding import encoder_of
from featstore.models import create
from featstore.models.checkpoint_file import load_checkpoint, save_checkpoint
from featstore.models.encoders import describe_encoder, load_encoder
from featstore.specs import parse_spec
from featstore.store.opening import open_store
from featstore.training.run import train
from featstore.training.work import model_of_checkpoint
from tests.models.jukebox_files import random_level, small_config, write_container

RATE = 16_000
MEL = "mel(sample_rate=16000,n_mels=16,n_fft=512,hop_length=256,scale=db)"
WAVE = "waveform(sample_rate=16000)"
QUICK = {
    "loop": {"epochs": 1, "validation_windows": 1},
    "evaluate": {"bootstrap": 0, "splits": ["test"]},
    "data": {"batch_size": 4},
}
FORMER = {"size": "tiny", "group": 2}
VGG = {"width": 0.02, "pools": "fit"}


INFO = TableInfo(name="tones", task="single_label", classes=("high", "low"), label_column="label")


def table(folder, splits):
    rng, rows = np.random.default_rng(0), []
    for k in range(12):
        t = np.arange(RATE + 100 * (k % 3)) / RATE
        x = 0.4 * np.sin(2 * np.pi * (220, 1760)[k % 2] * (1 + k / 50) * t) + 0.05 * rng.normal(size=len(t))
        soundfile.write(folder / f"{k}.wav", x, RATE, subtype="FLOAT")
        rows.append(
            {
                "track_id": str(k),
                "path": str(folder / f"{k}.wav"),
                "label": ("low", "high")[k % 2],
                "group": f"artist {k // 2}",
                "split": splits[k // 2],
            }
        )
    return TrackTable(pd.DataFrame(rows), INFO)


SPLITS = ("train", "train", "train", "valid", "valid", "test")


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return table(tmp_path_factory.mktemp("music"), SPLITS)


def extracted(tones, target, *features, **options):
    settings = ExtractOptions(scheduler="sync", jobs=1, progress="none", **options)
    extract(tones, expand_features(features), target, settings)
    return open_store(target)


@pytest.fixture(scope="module")
def spectra(tones, tmp_path_factory):
    return extracted(tones, tmp_path_factory.mktemp("stores") / "s", MEL, WAVE)


def settings(model, **data):
    return QUICK | {"model": model, "data": QUICK["data"] | {"crop_s": 0.32} | data}


@pytest.fixture(scope="module")
def runs(spectra, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    train(spectra, MEL, "vgg-cnn", out / "vgg-cnn", config=settings(VGG))
    train(spectra, MEL, "spectroformer", out / "spectroformer", config=settings(FORMER))
    pretrain = settings(FORMER) | {"objective": {"name": "masked"}, "evaluate": {"splits": ["valid"]}}
    train(spectra, MEL, "spectroformer", out / "pretrained", config=pretrain)
    sinc = {"filters": 8, "columns": 64, "width": 0.125, "fc_hidden": 12}
    train(spectra, WAVE, "ms-sinc-resnet", out / "ms-sinc-resnet", config=settings(sinc))
    return out


def vectors(tones, target, *names):
    store = extracted(tones, target, *names)
    return [store[str(resolve(parse_spec(name)))] for name in names]


@pytest.mark.parametrize("model", ["vgg-cnn", "spectroformer", "pretrained", "ms-sinc-resnet"])
def test_a_run_gives_what_its_trunk_gives(model, runs, spectra, tones, tmp_path):
    run = json.loads((runs / model / "run.json").read_text())
    normed = model_of_checkpoint(run, runs / model / "checkpoints" / "best.safetensors").eval()
    (reader,) = vectors(tones, tmp_path / "v", f"embedding(model={runs / model},layers=features,tail=drop)")
    assert reader.spec.model == run["model"] and str(runs) not in reader.name
    assert parse_spec(reader.name.partition("@")[0]) == reader.spec
    x = torch.from_numpy(spectra[MEL if model != "ms-sinc-resnet" else WAVE]["5"].copy())
    n_frames = run["input"]["n_frames"]
    windows = torch.stack(list(x.split(n_frames, dim=-1))[: x.shape[-1] // n_frames])
    with torch.inference_mode():
        found = normed.model.forward_features(normed.arranged(normed.normalised(windows)))
    np.testing.assert_allclose(reader["5"][0], found.T, atol=1e-5)
    assert reader["5"].shape[-1] == reader.spec.frames(RATE + 200) == len(windows) == 3


@pytest.mark.parametrize("model", ["vgg-cnn", "spectroformer", "ms-sinc-resnet"])
def test_pass_sizes_agree_to_rounding(model, runs):
    encoder = load_encoder(model, str(runs / model))
    size = json.loads((runs / model / "run.json").read_text())["input"]["inputs"]["input"]
    windows = np.random.default_rng(0).normal(size=(5, *size["axes"])).astype(np.float32)
    found = {}
    for encoder.batch in (1, 3, 16):
        (found[encoder.batch],) = encoder.layers_of(windows, ["features"])
    for size in (3, 16):
        assert np.abs(found[1] - found[size]).max() <= 1e-5 * max(1, np.abs(found[1]).max())


def test_inner_layers_by_number_and_other_windows(runs, spectra, tones, tmp_path):
    run = runs / "pretrained"
    names = [f"embedding(model={run},window=0.512,{more})" for more in ("layers=0+1+2", "layers=2,pool=none")]
    every, last = vectors(tones, tmp_path / "v", *names)
    normed = model_of_checkpoint(json.loads((run / "run.json").read_text()), run / "checkpoints" / "best.safetensors")
    x = torch.from_numpy(spectra[MEL]["0"][:, :32].copy())[None]
    with torch.inference_mode():
        found = normed.eval().model.encode(normed.arranged(normed.normalised(x)))[0]
    np.testing.assert_allclose(last["0"][0, :, :16], found, atol=1e-5)
    np.testing.assert_allclose(every["0"][2, :, 0], found.mean(dim=1), atol=1e-5)
    assert every["0"].shape[:2] == (3, 64) and last.dims[-1] == "frame"
    assert last["0"].shape[-1] == last.spec.frames(RATE) == 31


def test_the_identity_of_a_run(runs, spectra, tmp_path):
    info = describe_encoder("vgg-cnn", str(runs / "vgg-cnn"))
    assert parse_spec(info.takes) == parse_spec(MEL) and info.sample_rate == RATE and info.licence == "own"
    assert info.trained_on.data == "tones"
    assert {"tones: track 0", "tones: group artist 2"} <= set(info.trained_on.members)
    assert "tones: track 6" not in info.trained_on.members
    copy = shutil.copytree(runs / "vgg-cnn", tmp_path / "copy")
    assert describe_encoder("vgg-cnn", str(copy)).digest == info.digest
    file = copy / "checkpoints" / "best.safetensors"
    assert describe_encoder("", str(file)).digest == info.digest  # a checkpoint says all about itself
    tensors, state = load_checkpoint(file)
    tensors["model.model.output.bias"] += 1  # the head takes no part
    save_checkpoint(file, tensors, state)
    assert describe_encoder("vgg-cnn", str(file)).digest == info.digest
    for change in ("model.model.norm.running_mean", "feature"):
        changed, said = dict(tensors), dict(state)
        if change == "feature":
            said["feature"] = state["feature"].replace("fmin=0.0", "fmin=30.0")
        else:
            changed[change] = tensors[change] + 1
        save_checkpoint(tmp_path / "other.safetensors", changed, said)
        assert describe_encoder("vgg-cnn", str(tmp_path / "other.safetensors")).digest != info.digest, change


def test_a_probe_refuses_what_the_run_was_trained_on(runs, tones, tmp_path, caplog):
    name = f"embedding(model={runs / 'vgg-cnn'},per=track)"
    store = extracted(tones, tmp_path / "v", name)
    (feature,) = store.features
    encoder = encoder_of(store[feature].spec)
    before = {key: value.clone() for key, value in encoder.model.state_dict().items()}
    result = train(store, feature, "probe", tmp_path / "probe", config={"evaluate": {"bootstrap": 0}})
    assert result["outside_data"] == ""  # of its own data set alone
    after = encoder.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)  # buffers of batch norms among them
    assert encoder is encoder_of(store[feature].spec) and not encoder.model.training
    moved = tones.frame.assign(split=[("valid", "train", "train", "train", "train", "test")[k // 2] for k in range(12)])
    with pytest.raises(DatasetError, match=r"encoder was trained on group artist 0 and 2 more .* split valid"):
        train(store, feature, "probe", tmp_path / "refused", tracks=TrackTable(moved, tones.info))
    other = TrackTable(
        moved, TableInfo(name="others", task="single_label", classes=("high", "low"), label_column="label")
    )
    result = train(store, feature, "probe", tmp_path / "other", tracks=other, config={"evaluate": {"bootstrap": 0}})
    assert result["outside_data"] == "tones"
    tracks = TrackTable(moved, tones.info)
    shutil.rmtree(tmp_path / "v" / "log" / "weights")  # logs may be lost: then nothing can be checked, which is said
    result = train(store, feature, "probe", tmp_path / "lost", tracks=tracks, config={"evaluate": {"bootstrap": 0}})
    assert "does not say what its encoder was trained on" in caplog.text
    assert result["outside_data"] == "unknown data"


def test_a_run_that_started_from_another_has_seen_its_tracks(runs, spectra, tmp_path):
    config = settings(FORMER) | {"start": {"run": str(runs / "pretrained")}}
    fewer = spectra.tracks.reset_index()
    fewer["split"] = [{0: "train", 1: "train", 2: None, 5: "test"}.get(int(k) // 2, "valid") for k in fewer["track_id"]]
    fewer = fewer[["track_id", "label", "group", "split"]]
    train(
        spectra,
        MEL,
        "spectroformer",
        tmp_path / "run",
        tracks=TrackTable(fewer.assign(path="x.wav"), INFO),
        config=config,
    )
    seen = describe_encoder("spectroformer", str(tmp_path / "run")).trained_on
    assert {"tones: track 0", "tones: track 4"} <= set(seen.members) and seen.data == "tones"


def test_runs_that_are_no_encoder(runs, spectra, tmp_path):
    with pytest.raises(SpecError, match=r"model='vgg-cn' is no encoder.*vgg-cnn"):
        parse_spec("embedding(model=vgg-cn)")
    with pytest.raises(SpecError, match=r"no weights of vgg-cnn are here.*weights=PATH"):
        resolve(parse_spec("embedding(model=vgg-cnn)"))
    with pytest.raises(SpecError, match=r"weights=/no/run is neither a file nor"):
        resolve(parse_spec("embedding(model=/no/run)"))
    with pytest.raises(CheckpointError, match=r"there is no run of ours.*featstore train"):
        resolve(parse_spec(f"embedding(model={tmp_path})"))
    with pytest.raises(CheckpointError, match=r"the run is of vgg-cnn, not conv-encoder"):
        resolve(parse_spec(f"embedding(model=conv-encoder,weights={runs / 'vgg-cnn'})"))
    with pytest.raises(SpecError, match=r"window=1 s is longer than vgg-cnn takes: 0.32 s.*Leave window out"):
        resolve(parse_spec(f"embedding(model={runs / 'vgg-cnn'},window=1)"))
    with pytest.raises(SpecError, match=r"spectroformer has no layer 3"):
        resolve(parse_spec(f"embedding(model={runs / 'spectroformer'},layers=3)"))
    empty = shutil.copytree(runs / "vgg-cnn", tmp_path / "empty")
    shutil.rmtree(empty / "checkpoints")
    with pytest.raises(CheckpointError, match=r"there is no checkpoint"):
        load_encoder("vgg-cnn", str(empty))
    damaged = shutil.copytree(runs / "vgg-cnn", tmp_path / "damaged")
    (damaged / "run.json").write_text("{")  # what else its weights have heard is not known then
    with pytest.raises(CheckpointError, match=r"cannot be read.*run\.json"):
        load_encoder("vgg-cnn", str(damaged))
    tensors, state = load_checkpoint(runs / "vgg-cnn" / "checkpoints" / "best.safetensors")
    for key, value, message in (
        ("feature", f"{state['feature']} + {state['feature']}", r"the run has several features"),
        ("model", "spectroformer", r"The checkpoint is of another model|unknown setting"),
    ):
        save_checkpoint(tmp_path / "odd.safetensors", tensors, state | {key: value})
        with pytest.raises((CheckpointError, ConfigError), match=message):
            load_encoder("", str(tmp_path / "odd.safetensors"))
    del state["input"]
    save_checkpoint(tmp_path / "odd.safetensors", tensors, state)
    with pytest.raises(CheckpointError, match=r"does not say its input"):
        load_encoder("", str(tmp_path / "odd.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tokenformer", "codebookformer"])
def test_models_of_tokens_and_of_their_vectors_read_tokens_as_they_come(model, tones, tmp_path):
    levels = [random_level(small_config(level), level) for level in range(3)]
    weights = write_container("safetensors file", levels, tmp_path)
    tokens = f"vq_tokens(codec=jukebox,level=2,weights={weights})"
    store = extracted(tones, tmp_path / "tokens", tokens)
    (feature,) = store.features
    taken = feature if model == "tokenformer" else feature.replace("vq_tokens.", "vq_codes.").partition("@")[0]
    config = settings({"size": "tiny", "group": 2}) | {"start": {}}
    run = train(store, taken, model, tmp_path / "run", config=config)
    assert run["outside_data"] == "unknown data"  # of the codec
    name = f"embedding(model={tmp_path / 'run'},layers=1)"
    plain, waiting = (
        extracted(tones, tmp_path / place, name, tokens, token_batches=batches)
        for place, batches in (("plain", False), ("waiting", True))
    )
    reader = plain[str(resolve(parse_spec(name)))]
    for track in reader.track_ids:
        np.testing.assert_array_equal(waiting[reader.name][track], reader[track])
        np.testing.assert_array_equal(waiting[feature][track], store[feature][track])
    normed = model_of_checkpoint(
        json.loads((tmp_path / "run" / "run.json").read_text()), tmp_path / "run" / "checkpoints" / "best.safetensors"
    )
    n = normed.model.config.n_frames
    values = store[taken]["0"][None, :, :n]
    x = torch.from_numpy(values.astype(np.int64 if model == "tokenformer" else np.float32))
    with torch.inference_mode():
        expected = normed.eval().model.inner_values(normed.arranged(normed.normalised(x)), ["1"])["1"][0].mean(dim=1)
    np.testing.assert_allclose(reader["0"][0, :, 0], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gafx-r", "gafx-a", "gafx-u"])
def test_extractors_are_stored_and_read_as_pictures(model, tones, tmp_path):
    n_samples = 12_000
    small = {"gafx-u": {"hdemucs": {"channels": 4}}}.get(model, {"width": 0.125})
    built = create(model, n_samples=n_samples, n_classes=2, depth=1, **small).eval()
    state = {"model": model, "feature": f"{parse_spec(WAVE)}@float32", "model_settings": {"depth": 1, **small}}
    state |= {"input": {"n_frames": n_samples, "stride": n_samples, "kind": "waveform"}, "classes": ["a", "b"]}
    file = tmp_path / "run.safetensors"
    save_checkpoint(file, {f"model.model.{key}": value for key, value in built.state_dict().items()}, state)
    name = f"embedding(model={file},pool=none,clip=start(0.75 s))"
    store = extracted(tones, tmp_path / "v", WAVE, name)
    reader = store[str(resolve(parse_spec(name)))]
    wave = torch.from_numpy(store[WAVE]["0"][..., :n_samples].reshape(-1).copy())
    with torch.inference_mode():
        expected = built.draw(wave[None, None])[0] if model == "gafx-u" else built.draw(wave[None, None])
    np.testing.assert_allclose(reader["0"], expected, atol=1e-4)
    frames = -(-n_samples // 1024) if model == "gafx-u" else n_samples // 200
    assert reader["0"].shape == ((4 if model == "gafx-u" else 1), 128, frames) == (*reader.spec.item_shape, frames)
    assert reader.spec.layers == {"gafx-u": "drums+bass+other+vocals"}.get(model, "picture")
    config = QUICK | {"model": {"depth": 1}, "data": {"batch_size": 4}}
    result = train(store, reader.name, "ast", tmp_path / "run", config=config)
    assert result["scores"]["test"]["accuracy"] >= 0 and result["outside_data"] == "unknown data"
    sizes = json.loads((tmp_path / "run" / "run.json").read_text())["input"]["inputs"]["input"]
    assert sizes == {"kind": "embedding", "axes": list(reader["0"].shape)}
    assert result["parameters"] == sum(
        p.numel()
        for p in create("ast", n_mels=128, n_frames=frames * len(reader["0"]), n_classes=2, depth=1).parameters()
    )


@pytest.mark.slow
@pytest.mark.parametrize("rate", [44_100, 16_000])
def test_a_published_hybrid_demucs(rate, tones, tmp_path):
    from demucs.hdemucs import HDemucs
    from safetensors.torch import save_file

    from featstore.models.demucs_spectra import SOURCES

    torch.manual_seed(0)
    network = HDemucs(sources=list(SOURCES), channels=4)
    save_file(network.state_dict(), tmp_path / "h.safetensors")
    name = f"embedding(model=gafx-u,weights={tmp_path / 'h.safetensors'},pool=none,window=0.75,clip=start(0.75 s))"
    described = resolve(parse_spec(name))
    assert (described.sample_rate, described.window) == (44_100, 0.75)
    assert resolve(parse_spec(name.replace("window=0.75,", ""))).window == 30
    if rate != 44_100:  # that of the paper is asked for
        name = name.replace("window", f"sample_rate={rate},window")
        assert resolve(parse_spec(name.replace("window=0.75,", ""))).window == 30
    wave = f"waveform(sample_rate={rate},clip=start(0.75 s))"
    reader, signal = vectors(tones, tmp_path / "v", name, wave)
    n_samples = rate * 3 // 4
    built = create("gafx-u", n_samples=n_samples, n_classes=2, depth=1, hdemucs={"channels": 4}).eval()
    built.extractor.load_state_dict(network.state_dict())
    with torch.inference_mode():
        expected = built.draw(torch.from_numpy(signal["0"].reshape(1, 1, -1).copy()))[0]
    assert expected.shape[-1] == -(-n_samples // 1024) == reader.spec.frames(rate)
    np.testing.assert_allclose(reader["0"], expected, atol=1e-4)
    with pytest.raises(SpecError, match=r"sample_rate=22050 Hz.*was trained at 44100 Hz, and is used at 16000 Hz"):
        resolve(parse_spec(name.replace("pool=none", "pool=none,sample_rate=22050").replace("sample_rate=16000,", "")))
    with pytest.raises(SpecError, match=r"gafx-u has no layer features.*It has drums"):
        resolve(parse_spec(name.replace("pool=none", "layers=features")))
