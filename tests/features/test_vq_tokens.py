"""Token features: names without paths, extraction into stores, code vectors as a view, loaders, refusals."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
import soundfile
import torch

import featstore.features.weights as places
from featstore.errors import CheckpointError, CorruptFeature, MissingFeature, SpecError, StoreError
from featstore.extract import ExtractOptions, extract
from featstore.features import dims_of, expand_features, graph_of, make_stream, resolve
from featstore.features.graph import TrackContext
from featstore.features.vq_tokens import VqCodesSpec, VqTokensSpec, tokenizer_of
from featstore.features.weights import PLACES_VARIABLE
from featstore.features.windows import TooShort
from featstore.specs import KINDS, Encoding, FeatureSpec, parse_feature, parse_spec, view_of
from featstore.store.ledger import read_ledger
from featstore.store.opening import open_store
from featstore.store.verify import verify
from featstore.workflows.derive import derive
from featstore.workflows.indexing import index_tracks
from tests.models.jukebox_files import random_level, small_config, write_container

RATE = 44100
SYNC = ExtractOptions(scheduler="sync", jobs=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    levels = [random_level(small_config(level), level) for level in range(3)]
    return write_container("original", levels, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory):
    levels = [random_level(small_config(level), 10 + level) for level in range(3)]
    return write_container("safetensors file", levels, tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for name, n, rate in (("a", 50_000, RATE), ("b", 30_001, RATE), ("slow", 11_025, 22050), ("tiny", 60, RATE)):
        soundfile.write(folder / f"{name}.wav", rng.uniform(-0.5, 0.5, n), rate, subtype="FLOAT")
    return folder


def name_of(weights, level=2, kind="vq_tokens", **more):
    extra = "".join(f",{key}={value}" for key, value in more.items())
    return f"{kind}(codec=jukebox,level={level},weights={weights}{extra})"


def spec_of(*args, **more) -> FeatureSpec:
    return resolve(parse_spec(name_of(*args, **more)))


def stored(music, target, *features, backend="zarr"):
    options = ExtractOptions(scheduler="sync", jobs=1, backend=backend)
    return extract(index_tracks("folder", music), expand_features(features), target, options)


# -- names -------------------------------------------------------------------------------------------------------


def test_a_name_has_everything_but_the_path(weights):
    spec = spec_of(weights)
    assert str(weights) not in str(spec) and "/" not in str(spec)
    assert (spec.sample_rate, spec.hop, spec.n_codebooks, spec.n_codes, spec.code_width) == (RATE, 128, 1, 40, 5)
    assert (spec.frame_step, spec.vocabulary, len(spec.weights)) == (128, 40, 32)
    assert parse_spec(str(spec)) == spec and resolve(parse_spec(spec.short())) == spec
    assert spec_of(spec.weights) == spec and resolve(spec) is spec
    assert spec_of(weights, normalize="peak") != spec
    assert str(Encoding.default(spec)) == "uint8"
    assert parse_feature(f"{spec}@uint16").encoding.fill_value == 65535


def test_a_level_is_a_setting_of_jukebox_alone():
    for codec in ("encodec", "dac", "mimi"):
        assert {parse_spec(f"vq_tokens(codec={codec}{text})").level for text in ("", ",level=0", ",level=2")} == {0}
        with pytest.raises(SpecError, match=rf"level=9 is a setting of jukebox alone.*codec={codec}.*Leave level out"):
            parse_spec(f"vq_codes(codec={codec},level=9)")


def test_a_spec_opens_no_file_until_it_is_resolved(weights, monkeypatch):
    """Making a spec reads nothing; without its weights' digest it has no name, and no key."""
    from featstore.models import tokenizers

    def refuse(*_, **__):
        raise AssertionError("a checkpoint was opened")

    with monkeypatch.context() as patch:
        patch.setattr(tokenizers, "describe_weights", refuse)
        for text in (name_of(weights), name_of("/no/where"), name_of("0" * 32), "vq_tokens(codec=encodec)"):
            spec = parse_spec(text)
            assert not spec.is_resolved and parse_feature(f"{text}@uint8").encoding.name == "uint8"
            for name in (str, spec.key, spec.canonical):
                with pytest.raises(SpecError, match=r"has no name yet.*featstore.features.resolve"):
                    name(spec) if name is str else name()
    request = resolve(parse_feature(f"{name_of(weights)}@uint16"))
    assert request.spec == spec_of(weights) and request.encoding.vocabulary == 40
    with pytest.raises(SpecError, match=r"float32 is not for tokens"):
        resolve(parse_feature(f"{name_of(weights)}@float32"))


def test_every_container_gives_the_same_name(weights, tmp_path):
    levels = [random_level(small_config(level), level) for level in range(3)]
    for form in ("transformers whole model safetensors", "original old module"):
        path = write_container(form, levels, tmp_path / form.replace(" ", "_"))
        assert spec_of(path) == spec_of(weights)


def test_names_that_cannot_be(weights):
    with pytest.raises(SpecError, match=r"no weights are given.*weights=PATH"):
        resolve(parse_spec("vq_tokens(codec=jukebox,level=2)"))
    with pytest.raises(SpecError, match=r"weights=/no/where is neither a file nor a known digest"):
        spec_of("/no/where")
    with pytest.raises(
        SpecError, match=r"are not available here, and sample_rate, hop.*\[vq_tokens spec, codec=jukebox"
    ):
        spec_of("0" * 32)
    with pytest.raises(SpecError, match=r"hop=64 does not fit the checkpoint, which has 128"):
        spec_of(weights, hop=64)
    digest = spec_of(weights).weights
    with pytest.raises(SpecError, match=r"n_codes=50 does not fit the checkpoint, which has 40"):
        spec_of(digest, n_codes=50)
    with pytest.raises(SpecError, match=r"sample_rate=16000 does not fit"):
        spec_of(weights, sample_rate=16000)
    with pytest.raises(SpecError, match=r"engine=librosa has no codec"):
        parse_spec(name_of(weights, engine="librosa"))
    with pytest.raises(CheckpointError, match=r"level 7 is not in the checkpoint"):
        spec_of(weights, level=7)
    with pytest.raises(SpecError, match=r"jukebox has one codebook and no bandwidth"):
        spec_of(weights, bandwidth=3)
    with pytest.raises(SpecError, match=r"hop_length=.* longer than the clip|holds no sample"):
        graph_of(spec_of(weights, clip="start(0.001 s)"))


@pytest.mark.slow
def test_a_store_completes_what_is_left_open(weights, other_weights, music, tmp_path):
    """Fields given are matched with the stored names, a digest by its start; one match, or an error with them all."""
    stored(music, tmp_path / "s", name_of(weights), name_of(weights, level=1), name_of(weights, normalize="peak"))
    store, spec = open_store(tmp_path / "s"), spec_of(weights)
    for text in (name_of(spec.weights[:8]), "vq_tokens(level=2)", name_of(spec.weights)):
        assert store[text].spec == spec and text in store
    assert store[f"vq_tokens(level=1,weights={spec_of(weights, level=1).weights[:6]})@uint8"].spec.level == 1
    assert store["vq_codes(level=2,normalize=peak)"].spec == spec_of(weights, kind="vq_codes", normalize="peak")
    with pytest.raises(SpecError, match=rf"fits none of the stored.*{spec.weights[:12]}.*has to be resolved first"):
        store[name_of(weights)]
    with pytest.raises(SpecError, match=r"fits none of the stored features.*level=1.*normalize=peak"):
        store["vq_tokens(level=0)"]
    stored(music, tmp_path / "s", name_of(other_weights))
    first, second = sorted(each.weights[:12] for each in (spec, spec_of(other_weights)))
    with pytest.raises(SpecError, match=rf"fits 2 of the stored.*{first}.*{second}"):
        open_store(tmp_path / "s")["vq_tokens(level=2)"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("vq_")])
def test_shapes_and_dims_fit(kind, weights):
    spec = spec_of(weights, kind=kind)
    assert len(dims_of(spec)) == len(spec.item_shape) + 1 and dims_of(spec)[-1] == "frame"
    assert spec.frames(3000) == 23
    if kind == "vq_codes":
        assert spec.item_shape == (5,) and spec.stored_as == spec_of(weights)
    stream = make_stream(graph_of(spec), TrackContext(RATE))
    taken = np.full((1, 23), 3) if kind == "vq_codes" else np.full(3000, 0.1, np.float32)
    ready = [stream.push(taken), stream.finish()]
    assert np.concatenate(ready, axis=-1).shape == (*spec.item_shape, 23)


def test_views_of_tokens(weights):
    tokens, codes = spec_of(weights), spec_of(weights, kind="vq_codes")
    view = view_of(codes, tokens)
    assert view is not None and view.exact and not view.is_identity
    assert view_of(tokens, codes) is None
    assert view_of(spec_of(weights, level=1, kind="vq_codes"), tokens) is None
    table = np.random.default_rng(0).normal(size=(1, 40, 5)).astype(np.float32)
    ready = view.with_table(table)
    x = np.array([[3, 39, -1]])
    values = ready.apply(x)
    assert np.array_equal(values[:, :2], table[0, [3, 39]].T) and np.isnan(values[:, 2]).all()
    same = ready.apply(torch.from_numpy(x)[None], xp=torch)
    assert same.shape == (1, 5, 3) and np.array_equal(same[0].numpy(), values, equal_nan=True)


def test_several_codebooks_add_up_or_stand_side_by_side():
    from featstore.specs.code_table import CodeTable

    table = np.arange(2 * 3 * 2, dtype=np.float32).reshape(2, 3, 2)
    tokens = np.array([[0, 2], [1, 1]])
    added = CodeTable(table).look_up(tokens, "sum")
    assert np.array_equal(added, (table[0, [0, 2]] + table[1, [1, 1]]).T)
    beside = CodeTable(table).look_up(tokens, "concat")
    assert np.array_equal(beside, np.concatenate([table[0, [0, 2]].T, table[1, [1, 1]].T]))
    for combine in ("sum", "concat"):
        found = CodeTable(table).look_up(torch.from_numpy(tokens), combine, torch)
        assert np.array_equal(found.numpy(), CodeTable(table).look_up(tokens, combine))
    with pytest.raises(StoreError, match=r"tokens of 3 codebooks"):
        CodeTable(table).look_up(np.zeros((3, 1), int), "sum")
    facts = {"sample_rate": 16000, "hop": 320, "n_codes": 64, "code_width": 6, "n_codebooks": 3, "weights": "a" * 32}
    assert VqCodesSpec(codec="dac", **facts).width == 18
    assert VqCodesSpec(codec="encodec", **facts | {"weights": "b" * 32}).width == 6
    with pytest.raises(SpecError, match=r"of dac do not add up"):
        VqCodesSpec(codec="dac", combine="sum", **facts)


# -- extraction ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_extraction_codebook_ledger_and_codes(backend, weights, music, tmp_path):
    target = tmp_path / "s"
    codes = name_of(weights, level=1, kind="vq_codes")
    report = stored(music, target, name_of(weights), codes, "mel(scale=db)", backend=backend)
    assert report.status["ok"] == 3 and report.status["by_reason"] == {"short": 1}
    store = open_store(target)
    assert verify(store.location) == []
    spec = spec_of(weights)
    tokenizer = tokenizer_of(spec)
    samples, _ = soundfile.read(music / "a.wav", dtype="float32")
    tokens = store[spec_of(weights)]
    assert np.array_equal(tokens["a.wav"], tokenizer.encode(samples)) and tokens["a.wav"].dtype == np.int32
    assert tokens.base.dtype == np.uint8 and tokens.read(["a.wav", "b.wav"])[1, 0, -1] == -1

    vectors, about = store.codebook(spec)
    assert np.array_equal(vectors[0], tokenizer.codebook_vectors(0))
    assert about["provenance"]["sha256"] and about["provenance"]["file"] == "vqvae.pth.tar"
    looked_up = store[spec_of(weights, level=1, kind="vq_codes")]
    level1 = tokenizer_of(spec_of(weights, level=1)).codebook_vectors(0)
    plain = level1[store[spec_of(weights, level=1)]["b.wav"][0]].T
    assert np.array_equal(looked_up["b.wav"], plain) and looked_up["b.wav"].dtype == np.float32
    assert np.isnan(looked_up.read(["a.wav", "b.wav"])[1, :, -1]).all()
    assert looked_up.shape_of_item == (5,) and looked_up.bytes_added == 0
    assert looked_up.to_xarray().dims == ("track", "dimension", "frame")

    ledger = read_ledger(store)
    notes = ledger[ledger["stage"] == "resample"]
    assert set(notes["track_id"]) == {"slow.wav"} and set(notes["status"]) == {"ok"} and len(notes) == 2
    assert "resampled from 22050 Hz to 44100 Hz" in notes["error"].iloc[0]
    assert store.tracks.loc["slow.wav", "status"] == "ok"
    short = ledger[(ledger["track_id"] == "tiny.wav")]
    assert set(short["status"]) == {"short"} and "60 samples are too few for one token of" in short["error"].iloc[0]
    versions = next(iter(store.records(tokens.base.header.key).values())).versions
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    assert not any("/" in line for line in store.features if line.startswith("vq_"))


def test_plain_readers_see_tokens_and_codebook(weights, music, tmp_path):
    import h5py
    import zarr

    stored(music, tmp_path / "z", name_of(weights))
    stored(music, tmp_path / "h", name_of(weights), backend="hdf5")
    store = open_store(tmp_path / "z")
    reader, row = store[spec_of(weights)], store.tracks.loc["a.wav", "row"]
    key = reader.base.header.key
    array = zarr.open_array(str(tmp_path / "z" / "features" / key / "data"), mode="r")
    assert array.attrs["_FillValue"] == 255 and array.metadata.dimension_names == ("track", "codebook", "frame")
    assert np.array_equal(array[row, :, : reader.lengths[row]], reader["a.wav"])
    book = zarr.open_array(str(tmp_path / "z" / "codebooks" / reader.spec.codebook_name), mode="r")
    assert np.array_equal(book[...], store.codebook(reader.spec)[0])
    with h5py.File(tmp_path / "h" / "master.h5", "r") as master:
        assert np.array_equal(master[f"codebooks/{reader.spec.codebook_name}"][...], book[...])
        assert master[f"features/{key}/data"].shape[1] == 1


def test_conversion_takes_the_codebook_along(weights, music, tmp_path):
    from featstore.store.convert import convert

    stored(music, tmp_path / "z", name_of(weights, kind="vq_codes"))
    new = convert(tmp_path / "z", tmp_path / "h")
    assert verify(new.location) == []
    codes = spec_of(weights, kind="vq_codes")
    assert np.array_equal(new[codes]["a.wav"], open_store(tmp_path / "z")[codes]["a.wav"])


def test_the_same_bytes_whatever_the_run(weights, music, tmp_path):
    stored(music, tmp_path / "one", name_of(weights), "mel()")
    stored(music, tmp_path / "two", name_of(weights))
    key = spec_of(weights).key("uint8")
    for path in sorted((tmp_path / "one" / "features" / key).rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
    again = stored(music, tmp_path / "one", name_of(weights))
    assert again.shards == 0


def test_tokens_of_other_weights(weights, other_weights, music, tmp_path, caplog):
    stored(music, tmp_path / "s", name_of(weights))
    store = open_store(tmp_path / "s")
    digest = spec_of(weights).weights
    with pytest.raises(MissingFeature, match=rf"the store has no vq_tokens.*Did you mean.*{digest[:12]}"):
        store[spec_of(other_weights)]
    with pytest.raises(MissingFeature, match=rf"no vq_codes.*nothing it derives from.*{digest[:12]}"):
        store[spec_of(other_weights, kind="vq_codes")]
    with caplog.at_level(logging.WARNING):
        stored(music, tmp_path / "s", name_of(other_weights))
    assert "mixes tokens of different settings: weights=" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        stored(music, tmp_path / "s", name_of(weights, normalize="peak"))
    assert "normalize=none and peak" in caplog.text


def test_peak_normalisation_is_of_the_whole_track(weights, music, tmp_path):
    spec = spec_of(weights, normalize="peak")
    stored(music, tmp_path / "s", str(spec))
    samples, _ = soundfile.read(music / "b.wav", dtype="float32")
    wanted = tokenizer_of(spec).encode(samples / np.abs(samples).max())
    assert np.array_equal(open_store(tmp_path / "s")[spec]["b.wav"], wanted)


def test_excerpts_have_tokens_of_their_own(weights, music, tmp_path):
    spec = spec_of(weights, clip="start(0.5 s)")
    stored(music, tmp_path / "s", str(spec))
    samples, _ = soundfile.read(music / "a.wav", dtype="float32")
    reader = open_store(tmp_path / "s")[spec]
    assert np.array_equal(reader["a.wav"], tokenizer_of(spec).encode(samples[:22050]))


# -- weights that moved ----------------------------------------------------------------------------------------------


def test_weights_are_found_again_through_the_store_and_missed_when_gone(weights, music, tmp_path, monkeypatch):
    path = tmp_path / "own.pth.tar"
    shutil.copy(weights, path)
    stored(music, tmp_path / "s", name_of(path))
    spec = spec_of(path)
    hint = json.loads((tmp_path / "s" / "log" / "weights" / f"{spec.weights}.json").read_text())
    assert hint["path"] == str(path)
    monkeypatch.setattr(places, "_places", {})
    monkeypatch.delenv(PLACES_VARIABLE, raising=False)
    table = index_tracks("folder", music)
    extract(table, [parse_feature(f"{spec}@uint16")], tmp_path / "s", SYNC)  # the store knows where
    path.unlink()
    places._places.clear()
    monkeypatch.delenv(PLACES_VARIABLE, raising=False)
    assert extract(table, [parse_feature(spec)], tmp_path / "s", SYNC).shards == 0  # nothing to compute, nothing missed
    with pytest.raises(
        CheckpointError, match=rf"the jukebox weights {spec.weights} are not available here.*weights=PATH"
    ):
        extract(table, [parse_feature(spec)], tmp_path / "new", SYNC)
    monkeypatch.setenv(PLACES_VARIABLE, str(weights))
    assert extract(table, [parse_feature(spec)], tmp_path / "new2", SYNC).status["ok"] == 3


def test_a_file_with_other_weights_by_now_is_refused(weights, other_weights, tmp_path):
    path = tmp_path / "own.pth.tar"
    shutil.copy(weights, path)
    spec = spec_of(path)
    shutil.copy(other_weights, path)
    places.remember_weights(spec.weights, path)
    with pytest.raises(CheckpointError, match=r"this is no checkpoint|the file holds the weights"):
        tokenizer_of(spec)
    places.remember_weights(spec.weights, weights)


def test_a_damaged_codebook_is_noticed_and_restored(weights, music, tmp_path):
    stored(music, tmp_path / "s", name_of(weights))
    spec = spec_of(weights)
    chunk = tmp_path / "s" / "codebooks" / spec.codebook_name / "c" / "0" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[17] ^= 4
    chunk.write_bytes(bytes(data))
    with pytest.raises(CorruptFeature, match=r"fail their checksum"):
        open_store(tmp_path / "s")[spec_of(weights, kind="vq_codes")]
    assert verify(open_store(tmp_path / "s").location)
    chunk.unlink()
    with pytest.raises(CorruptFeature, match=r"codebook of stored tokens is missing.*featstore store repair"):
        open_store(tmp_path / "s").codebook(spec)
    stored(music, tmp_path / "s", name_of(weights))
    assert open_store(tmp_path / "s").codebook(spec)[0].shape == (1, 40, 5)
    assert verify(open_store(tmp_path / "s").location) == []


def test_codes_are_not_written_out(weights, music, tmp_path):
    stored(music, tmp_path / "s", name_of(weights))
    with pytest.raises(StoreError, match=r"code vectors are never stored"):
        derive(str(tmp_path / "s"), expand_features([name_of(weights, kind="vq_codes")]))


def test_a_track_of_no_token_has_an_error_of_its_own(weights):
    stream = make_stream(graph_of(spec_of(weights)), TrackContext(RATE, where="x.wav"))
    stream.push(np.zeros(127, np.float32))
    with pytest.raises(TooShort, match=r"127 samples are too few for one token of 128 \[x.wav\]"):
        stream.finish()


# -- loaders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", ["disk", "ram", "gpu"])
@pytest.mark.parametrize("encoding", ["uint8", "uint16"])
def test_loaders_look_codes_up(tier, encoding, weights, music, tmp_path):
    from featstore.loaders import BatchLoader

    spec = spec_of(weights)
    stored(music, tmp_path / "s", f"{spec}@{encoding}")
    store = open_store(tmp_path / "s")
    tokens, codes = store[spec], store[spec_of(weights, kind="vq_codes")]
    loader = BatchLoader(
        {"codes": codes, "tokens": tokens}, ["a.wav", "b.wav"], batch_size=2, crop_frames=50, tier=tier, seed=1
    )
    batch = next(iter(loader))
    assert batch["codes"].shape == (2, 5, 50) and batch["codes"].dtype == torch.float32
    assert batch["tokens"].shape == (2, 1, 50) and not batch["tokens"].dtype.is_floating_point
    table = torch.from_numpy(store.codebook(spec)[0][0])
    assert torch.equal(table[batch["tokens"][:, 0].long()].transpose(1, 2), batch["codes"])
    for k in range(2):
        track, start = ["a.wav", "b.wav"][int(batch["index"][k])], int(batch["start"][k])
        assert np.array_equal(batch["codes"][k].numpy(), codes[track][:, start : start + 50])


def test_specs_travel_between_processes(weights):
    import pickle

    spec = spec_of(weights)
    assert pickle.loads(pickle.dumps(spec)) == spec and isinstance(spec, VqTokensSpec)
