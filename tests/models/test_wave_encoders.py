"""Waveform encoders on small random checkpoints: equality with transformers' own forward, spellings, refusals."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
import transformers
from safetensors.torch import load_file, save_file

from featstore.errors import CheckpointError, SpecError
from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features, resolve
from featstore.models.encoder_windows import n_frames
from featstore.models.encoders import describe_encoder, load_encoder
from featstore.models.window_cutters import GridCutter
from featstore.specs import parse_spec
from featstore.store.opening import open_store
from featstore.workflows.indexing import index_tracks

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
STEMS = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "wavlm": "WavLM"}


def written(folder, name="hubert", *, pre_norm=False, **saved):
    """Random checkpoint as the library writes it; ``pre_norm`` is the form of the large models."""
    torch.manual_seed(0)
    form = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True} if pre_norm else {}
    config = getattr(transformers, f"{STEMS[name]}Config")(**SMALL, **form)
    model = getattr(transformers, f"{STEMS[name]}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder, **saved)
    return model


def change(folder, name="config.json", **changes):
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not None}))


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hubert")
    written(folder)
    return folder


@pytest.fixture
def copy(hubert, tmp_path):
    return shutil.copytree(hubert, tmp_path / "copy")


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("name", STEMS)
def test_layers_are_those_of_the_library(name, pre_norm, tmp_path):
    model = written(tmp_path, name, pre_norm=pre_norm)
    encoder = load_encoder(name, str(tmp_path), device="cpu")
    windows = np.random.default_rng(0).normal(0, 0.1, (2, 4000)).astype(np.float32)
    prepared = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)(list(windows), sampling_rate=16000)
    with torch.no_grad():
        out = model(torch.from_numpy(np.stack(prepared["input_values"])), output_hidden_states=True)
    expected = [*out.hidden_states[:-1], out.last_hidden_state]
    found = encoder.layers_of(windows, list(encoder.info.layers))
    assert len(found) == 4 and found[0].shape == (2, 32, 1 + (4000 - 400) // 320)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.transpose(1, 2), atol=1e-5)
    alone = encoder.layers_of(windows[:1], ["3"])[0]
    np.testing.assert_array_equal(alone[0], found[3][0])
    encoder.batch = 3
    np.testing.assert_allclose(encoder.layers_of(windows, ["3"])[0], found[3], atol=1e-5)


def test_every_spelling_has_one_digest(hubert, tmp_path):
    digest = describe_encoder("hubert", str(hubert)).digest
    written(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert describe_encoder("hubert", str(tmp_path / "shards")).digest == digest
    state = load_file(hubert / "model.safetensors")
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    old = {}
    for key, value in state.items():
        for new, plain in names.items():
            key = key.replace(new, plain)
        old[f"hubert.{key}"] = value
    old |= {"lm_head.weight": torch.ones(2, 2)}
    folder = shutil.copytree(hubert, tmp_path / "old")
    (folder / "model.safetensors").unlink()
    torch.save(old, folder / "pytorch_model.bin")
    assert describe_encoder("hubert", str(folder)).digest == digest
    change(folder, "preprocessor_config.json", do_normalize=False)
    assert describe_encoder("hubert", str(folder)).digest != digest


def test_mert_is_hubert_at_another_rate(hubert, copy):
    change(
        copy, model_type="mert_model", auto_map={"AutoModel": "modeling.Evil"}, sample_rate=24000, attention_relax=32
    )
    (copy / "modeling.py").write_text("raise SystemExit('code of a checkpoint was run')")
    (copy / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\nA card")
    info = describe_encoder("mert", str(copy))
    assert (info.sample_rate, info.licence, info.window) == (24000, "cc-by-nc-4.0", 30 * 24000)
    x = np.random.default_rng(0).normal(0, 0.1, (1, 2000)).astype(np.float32)
    one, other = (load_encoder(name, str(place)) for name, place in (("mert", copy), ("hubert", hubert)))
    np.testing.assert_array_equal(one.layers_of(x, ["2"])[0], other.layers_of(x, ["2"])[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, r"model_type 'bert', not hubert"),
        ({"auto_map": {"AutoModel": "x.Y"}}, r"asks for code from the folder"),
        ({"conv_pos_batch_norm": True}, r"conv_pos_batch_norm=True is another computation"),
        ({"num_attention_heads": 5}, r"num_attention_heads=5 does not divide hidden_size=32"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, r"does not multiply to 320"),
        ({"conv_kernel": [9, 3, 3, 3, 3, 2, 2]}, r"does not see 400 samples"),
        ({"num_hidden_layers": 2}, r"encoder.layers.2.* has no place in the model"),
        ({"num_hidden_layers": 4}, r"the checkpoint lacks encoder.layers.3.*more"),
        ({"intermediate_size": 40}, r"has shape \(48.*, not \(40"),
        ({"hidden_act": "no such"}, r"config.json makes no Hubert"),
        ({"sample_rate": 44100}, r"name the rates \[16000, 44100\]"),
    ],
)
def test_folders_that_are_refused(copy, changes, message):
    change(copy, "preprocessor_config.json", sampling_rate=16000)
    change(copy, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_encoder("hubert", str(copy))


def test_tensors_and_files_that_are_refused(copy, tmp_path):
    path = copy / "model.safetensors"
    state = load_file(path)
    save_file({**state, "encoder.layer_norm.bias": torch.full((32,), torch.nan)}, path)
    with pytest.raises(CheckpointError, match=r"encoder.layer_norm.bias holds a value that is not finite"):
        load_encoder("hubert", str(copy))
    save_file({key: value for key, value in state.items() if "original0" not in key}, path)
    with pytest.raises(CheckpointError, match=r"lacks encoder.pos_conv_embed.conv"):
        load_encoder("hubert", str(copy))
    path.unlink()
    torch.save({"model": print}, copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"reading that would run code"):
        load_encoder("hubert", str(copy))
    (copy / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"the folder holds none of"):
        load_encoder("hubert", str(copy))
    save_file(state, tmp_path / "outside.safetensors")
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state, "../outside.safetensors")}))
    with pytest.raises(CheckpointError, match=r"names \.\./outside.safetensors, outside its folder"):
        load_encoder("hubert", str(copy))
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state, "model-1-of-2.safetensors")}))
    with pytest.raises(CheckpointError, match=r"names model-1-of-2.safetensors, which is not there"):
        load_encoder("hubert", str(copy))
    with pytest.raises(CheckpointError, match=r"loaded from a folder with config.json"):
        load_encoder("hubert", str(tmp_path))


def test_frames_are_counted_as_they_come():
    for total in (400, 4000, 9000, 9500, 12_345):
        for window, hop in ((3000, 3000), (3000, 1000)):
            grid = {"window": window, "hop": hop, "least": 400, "align": True}
            cutter = GridCutter(**grid)
            found = [*cutter.push(np.zeros(total, np.float32)), *cutter.finish()]
            frames = [1 + (w.samples.shape[-1] - 400) // 320 - -(-w.drop // 320) for w in found]
            assert n_frames(total, **grid, step=320, field=400) == sum(max(0, each) for each in frames)


def test_vectors_in_a_store(hubert, tmp_path):
    rng = np.random.default_rng(0)
    for k, n in enumerate((9000, 4000, 12_345)):
        soundfile.write(tmp_path / f"{k}.wav", rng.uniform(-0.5, 0.5, n), 16000, subtype="FLOAT")
    texts = [
        f"embedding(model=hubert,weights={hubert},window=0.25,{more})"
        for more in ("layers=all,per=track", "layers=2,pool=none")
    ]
    extract(
        index_tracks("folder", tmp_path),
        expand_features(texts),
        tmp_path / "s",
        ExtractOptions(scheduler="sync", jobs=1, progress="none"),
    )
    store = open_store(tmp_path / "s")
    track, frames = (store[str(resolve(parse_spec(text)))] for text in texts)
    assert track["0.wav"].shape == (4, 32, 1) and track.spec.layers == "all"
    for name, n in (("0.wav", 9000), ("1.wav", 4000), ("2.wav", 12_345)):
        assert frames[name].shape == (1, 32, frames.spec.frames(n))
        np.testing.assert_allclose(track[name][2, :, 0], frames[name][0].mean(axis=-1), atol=1e-5)
    with pytest.raises(SpecError, match=r"hubert has no layer 4.*It has 0 to 3"):
        resolve(parse_spec(f"embedding(model=hubert,weights={hubert},layers=4)"))
