"""AST, CLAP and codecs as encoders, on small random checkpoints: equality with the library's own forward, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
import transformers
from safetensors.torch import load_file, save_file

from featstore.errors import CheckpointError, SpecError
from featstore.extract import ExtractOptions, extract
from featstore.features import expand_features, resolve
from featstore.models.ast_encoder import kaldi_filterbank
from featstore.models.encoders import load_encoder
from featstore.specs import parse_spec
from featstore.store.ledger import read_ledger
from featstore.store.opening import open_store
from featstore.workflows.indexing import index_tracks

CARD = "---\nlicense: bsd-3-clause\ndatasets:\n- AudioSet\n---\nA model.\n"


def shaken(model):
    """Random weights without zeros: biases and norms count."""
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    return model.eval()


def make_ast(folder, **saved):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    model = shaken(transformers.ASTModel(transformers.ASTConfig(**sizes, attn_implementation="eager")))
    model.save_pretrained(folder, **saved)
    transformers.ASTFeatureExtractor().save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return model


def make_clap(folder):
    torch.manual_seed(0)
    audio = {"patch_embeds_hidden_size": 16, "hidden_size": 128, "depths": [1, 1, 1, 1], "num_attention_heads": [2] * 4}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ClapConfig(audio_config=audio, text_config=text | {"vocab_size": 50}, projection_dim=24)
    model = shaken(transformers.ClapModel(config))
    model.save_pretrained(folder)
    transformers.ClapFeatureExtractor(frequency_min=50, frequency_max=14000, truncation="rand_trunc").save_pretrained(
        folder
    )
    return model


def make_codec(folder, name):
    torch.manual_seed(0)
    if name == "encodec":
        sizes = {"hidden_size": 16, "num_filters": 4, "upsampling_ratios": [4, 2], "codebook_size": 16}
        model = transformers.EncodecModel(transformers.EncodecConfig(**sizes, sampling_rate=24000))
    else:
        sizes = {"encoder_hidden_size": 8, "downsampling_ratios": [2, 4], "decoder_hidden_size": 16, "n_codebooks": 2}
        model = transformers.DacModel(transformers.DacConfig(**sizes, hidden_size=32, codebook_size=16))
    shaken(model).save_pretrained(folder)
    return model


def change(folder, name="config.json", **changes):
    path = folder / name
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def noise(n, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n).astype(np.float32)


# -- AST ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ast(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ast")
    return folder, make_ast(folder)


def test_the_filterbank_is_kaldis():
    """Against a plain computation of each frame in float64."""
    signal = noise(2000) + 0.1
    found = kaldi_filterbank(signal, n_mels=64)
    mels = np.linspace(*(1127 * np.log(1 + np.array([20, 8000]) / 700)), 66)
    bins = 1127 * np.log(1 + np.arange(257) * 16000 / 512 / 700)
    rise, fall = ((bins[:, None] - mels[:-2]) / np.diff(mels)[0], (mels[2:] - bins[:, None]) / np.diff(mels)[0])
    bank = np.maximum(0, np.minimum(rise, fall))
    for frame in range(len(found)):
        x = signal[160 * frame : 160 * frame + 400].astype(float)
        x = x - x.mean()
        x = np.append(x[0] * (1 - 0.97), x[1:] - 0.97 * x[:-1]) * np.hanning(400)
        power = np.abs(np.fft.rfft(x, 512)) ** 2
        np.testing.assert_allclose(found[frame], np.log(np.maximum(power @ bank, 1.192092955078125e-07)), atol=1e-3)
    assert found.shape == (11, 64)


def test_ast_is_the_librarys(ast):
    folder, model = ast
    encoder = load_encoder("ast", str(folder))
    info = encoder.info
    assert (info.sample_rate, info.window, info.licence, info.trained_on.data) == (
        16000,
        160000,
        "bsd-3-clause",
        "AudioSet",
    )
    window = noise(160_000)
    prepared = transformers.ASTFeatureExtractor()(window, sampling_rate=16000, return_tensors="pt").input_values
    with torch.inference_mode():
        out = model(prepared, output_hidden_states=True)
    found = dict(zip(info.layers, encoder.layers_of(window[None], list(info.layers)), strict=True))
    np.testing.assert_allclose(found["pooled"][0, :, 0], out.pooler_output[0], atol=1e-5)
    tokens = out.last_hidden_state[0, 2:].reshape(12, 101, 32).mean(dim=0)
    np.testing.assert_allclose(found["2"][0], tokens[:99].T, atol=1e-5)
    first = out.hidden_states[0][0, 2:].reshape(12, 101, 32).mean(dim=0)
    np.testing.assert_allclose(found["0"][0], first[:99].T, atol=1e-5)
    short = encoder.layers_of(window[None, :16_000], ["1"])[0]
    assert short.shape == (1, 32, 9)  # 98 frames: 1 + (98 - 16) // 10 patches


def test_spellings_of_ast(ast, tmp_path):
    folder, model = ast
    digest = load_encoder("ast", str(folder)).info.digest
    stored = load_file(folder / "model.safetensors")
    assert any("attention.attention.query" in name for name in stored)
    make_ast(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    wrapped = {f"audio_spectrogram_transformer.{name}": value for name, value in model.state_dict().items()}
    torch.save(wrapped | {"classifier.dense.weight": torch.zeros(3, 32)}, tmp_path / "pytorch_model.bin")
    assert load_encoder("ast", str(tmp_path)).info.digest == digest
    change(tmp_path, "preprocessor_config.json", mean=-5.0)
    assert load_encoder("ast", str(tmp_path)).info.digest != digest
    change(tmp_path, "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(CheckpointError, match=r"names 8000 Hz, not 16000 Hz"):
        load_encoder("ast", str(tmp_path))


# -- CLAP --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clap")
    return folder, make_clap(folder)


def test_clap_finds_the_tensors_of_a_whole_folder(clap):
    folder, model = clap
    encoder = load_encoder("clap", str(folder))
    info = encoder.info
    assert (info.window, info.least, info.most, info.layers["projected"].width) == (480_000, 480_000, 480_000, 24)
    windows = np.stack([noise(480_000, seed) for seed in range(2)])
    prepared = transformers.ClapFeatureExtractor.from_pretrained(folder)
    spectra = prepared(list(windows), sampling_rate=48_000, truncation="rand_trunc", return_tensors="pt")
    with torch.inference_mode():
        out = model.audio_model(**spectra)
        projected = model.audio_projection(out.pooler_output)
    frames, pooled, last = encoder.layers_of(windows, ["frames", "pooled", "projected"])
    np.testing.assert_allclose(last[..., 0], projected, atol=1e-5)
    np.testing.assert_allclose(pooled[..., 0], out.pooler_output, atol=1e-5)
    np.testing.assert_allclose(frames, out.last_hidden_state.mean(dim=2), atol=1e-5)
    assert frames.shape == (2, 128, 32) and info.layers["frames"].step * 32 == 480_000
    np.testing.assert_array_equal(encoder.layers_of(windows[1:], ["projected"])[0], last[1:])


def test_clap_that_draws_at_random_is_refused(clap, tmp_path):
    make_clap(tmp_path)
    with pytest.raises(SpecError, match=r"window=5 s is shorter than clap takes: 10 s"):
        resolve(parse_spec(f"embedding(model=clap,weights={tmp_path},window=5)"))
    change(tmp_path, "preprocessor_config.json", frequency_min=None)
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json does not say frequency_min"):
        load_encoder("clap", str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    change(tmp_path, audio_config=config["audio_config"] | {"enable_fusion": True})
    with pytest.raises(CheckpointError, match=r"enable_fusion=true draws parts of a clip at random"):
        load_encoder("clap", str(tmp_path))


# -- codecs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["encodec", "dac"])
def test_latents_are_those_before_the_quantizer(name, tmp_path):
    model = make_codec(tmp_path / "codec", name)
    encoder = load_encoder(name, str(tmp_path / "codec"))
    assert encoder.info.layers["latent"].step == 8 and encoder.info.window % 8 == 0
    rate = encoder.info.sample_rate
    n = 4005  # no multiple of the hop: EnCodec fills its last frame, DAC drops it
    signal = noise(n)
    with torch.inference_mode():
        expected = model.encoder(torch.from_numpy(signal[None, None, : n if name == "encodec" else 4000]))[0]
    np.testing.assert_allclose(encoder.layers_of(signal[None], ["latent"])[0][0], expected, rtol=1e-5, atol=1e-5)
    soundfile.write(tmp_path / "a.wav", signal, rate, subtype="FLOAT")
    spec = resolve(parse_spec(f"embedding(model={name},weights={tmp_path / 'codec'},pool=none)"))
    options = ExtractOptions(scheduler="sync", jobs=1, progress="none")
    extract(index_tracks("folder", tmp_path), expand_features([spec]), tmp_path / "s", options)
    stored = open_store(tmp_path / "s")[str(spec)]["a.wav"]
    assert stored.shape[-1] == spec.frames(n) == (501 if name == "encodec" else 500)
    np.testing.assert_allclose(stored[0], expected, rtol=1e-5, atol=1e-5)


def test_codecs_of_two_channels_are_refused(tmp_path):
    make_codec(tmp_path, "encodec")
    change(tmp_path, audio_channels=2)
    with pytest.raises(CheckpointError, match=r"audio_channels=2: the codec scales each second"):
        load_encoder("encodec", str(tmp_path))


# -- all of them -------------------------------------------------------------------------------------------------------


def made(name, folder):
    return {"ast": make_ast, "clap": make_clap}[name](folder) if name in ("ast", "clap") else make_codec(folder, name)


@pytest.mark.parametrize("name", ["ast", "clap", "encodec", "dac"])
def test_folders_that_are_no_such_encoder(name, tmp_path):
    made(name, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    others = ("text", "logit", "decoder", "quantizer")
    first = next(key for key in weights if weights[key].is_floating_point() and not key.startswith(others))
    odd = weights[first].flatten()[:1].reshape(1, 1, 1, 1, 1)
    cases = [
        ({"model_type": "hubert"}, None, r"config.json is of model_type 'hubert', not"),
        (
            {"auto_map": {"AutoModel": "code.Model"}},
            None,
            r"asks for code from the folder \(auto_map\), which is never run",
        ),
        ({}, {key: value for key, value in weights.items() if key != first}, r"the checkpoint lacks "),
        ({}, weights | {"encoder.more": torch.ones(2), "other": torch.ones(2)}, r"has no place in the model"),
        ({}, weights | {first: torch.full_like(weights[first], torch.nan)}, r"holds a value that is not finite"),
        (
            {},
            weights | {first: odd},
            r"has shape \(1, 1, 1, 1, 1\), not",
        ),
    ]
    before = (tmp_path / "config.json").read_text()
    for config, tensors, message in cases:
        (tmp_path / "config.json").write_text(before)
        change(tmp_path, **config)
        save_file(tensors or weights, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=message):
            load_encoder(name, str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ast", "encodec", "dac"])
def test_pass_sizes_agree_to_rounding(name, tmp_path):
    made(name, tmp_path)
    encoder = load_encoder(name, str(tmp_path))
    windows = np.stack([noise(8000, seed) for seed in range(4)])
    names = list(encoder.info.layers)
    found = {}
    for encoder.batch in (1, 3, 16):
        found[encoder.batch] = encoder.layers_of(windows, names)
    for size in (3, 16):
        for one, many in zip(found[1], found[size], strict=True):
            assert np.abs(one - many).max() <= 1e-5 * max(1, np.abs(one).max())


def test_a_silent_and_a_short_track(ast, tmp_path):
    folder, _ = ast
    soundfile.write(tmp_path / "silent.wav", np.zeros(20_000, np.float32), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", noise(1000), 16000, subtype="FLOAT")
    options = ExtractOptions(scheduler="sync", jobs=1, progress="none")
    extract(
        index_tracks("folder", tmp_path),
        expand_features([f"embedding(model=ast,weights={folder})"]),
        tmp_path / "s",
        options,
    )
    store = open_store(tmp_path / "s")
    ledger = read_ledger(store).set_index("track_id")
    assert ledger["status"].to_dict() == {"silent.wav": "silent", "short.wav": "short"}
    (name,) = store.features
    assert np.isfinite(store[name]["silent.wav"]).all()
