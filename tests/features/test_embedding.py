"""Vectors of frozen encoders as a feature: windows, names, pooling, the same vector in any company, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import torch

from featstore.errors import CheckpointError, PlanError, SpecError
from featstore.extract import ExtractOptions, extract
from featstore.extract.weights import weights_facts
from featstore.features import expand_features, resolve
from featstore.features.embedding import encoder_of
from featstore.loaders.codes import Decoder
from featstore.models.encoder_fetch import FETCHABLE
from featstore.models.encoder_windows import TrackPool, n_windows, pooled
from featstore.models.token_windows import WindowValues
from featstore.models.window_cutters import GridCutter
from featstore.specs import Encoding, parse_feature, parse_spec
from featstore.specs.encoding import MEASURED
from featstore.specs.ranges import Ranges
from featstore.store.ledger import read_ledger
from featstore.store.opening import open_store
from featstore.store.verify import verify
from featstore.testing.musicnn_package import write_untrained
from featstore.workflows.alter import alter_tracks
from featstore.workflows.derive import derive
from featstore.workflows.indexing import index_tracks
from featstore.workflows.selection import Selection
from featstore.workflows.shifts import extract_copies
from featstore.workflows.vector_ranges import vector_cost

RATE = 16000
WINDOW = 24  # columns: short enough for quick tests
SECONDS = WINDOW * 256 / RATE


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_untrained(tmp_path_factory.mktemp("musicnn"), "mtt-musicnn", "msd-musicnn")


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for k, n in enumerate((20_000, 20_000, 13_333, 20_000, 9_000, 26_001)):
        soundfile.write(folder / f"{k}.wav", rng.uniform(-0.5, 0.5, n), RATE, subtype="FLOAT")
    soundfile.write(folder / "tiny.wav", rng.uniform(-0.5, 0.5, 700), RATE, subtype="FLOAT")
    return folder


def name_of(weights, **more):
    settings = {"model": "mtt-musicnn", "weights": weights, "window": SECONDS} | more
    return f"embedding({','.join(f'{key}={value}' for key, value in settings.items())})"


def spec_of(weights, **more):
    return resolve(parse_spec(name_of(weights, **more)))


def stored(music, target, *features, **options):
    settings = ExtractOptions(**({"scheduler": "sync", "jobs": 1, "progress": "none"} | options))
    extract(index_tracks("folder", music), expand_features(features), target, settings)
    return open_store(target)


# -- windows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize(("window", "hop"), [(10, 10), (10, 4), (10, 15)])
def test_windows_lie_on_one_grid_however_the_signal_arrives(window, hop, align):
    for total in (3, 5, 10, 11, 19, 20, 47):
        signal = np.arange(2 * total, dtype=np.float32).reshape(2, total)
        seen = []
        for block in (1, 7, 100):
            cutter = GridCutter(window=window, hop=hop, least=5, align=align)
            found = [w for at in range(0, total, block) for w in cutter.push(signal[:, at : at + block])]
            found += cutter.finish()
            seen.append([(w.samples.tolist(), w.drop, w.keep) for w in found])
        assert seen[0] == seen[1] == seen[2]
        assert len(seen[0]) == n_windows(total, window=window, hop=hop, least=5, align=align)
        if hop <= window and seen[0]:  # each column once, none twice
            kept = [column for samples, drop, _ in seen[0] for column in samples[0][drop:]]
            assert kept == list(range(len(kept))) and (not align or len(kept) == total)
        assert all(len(samples[0]) == window for samples, _, _ in seen[0]) or total < window


def test_pooling_over_a_track_counts_each_frame_once():
    frames = np.random.default_rng(0).normal(3, 2, (2, 5, 41)).astype(np.float32)
    for pool, expected in (
        ("mean", frames.mean(axis=-1)),
        ("max", frames.max(axis=-1)),
        ("mean_std", np.concatenate([frames.mean(axis=-1), frames.std(axis=-1)], axis=-1)),
    ):
        gathered = TrackPool(pool, expected.shape)
        for part in np.split(frames, [7, 8, 30], axis=-1):
            assert gathered.push([WindowValues(part)]).shape == (*expected.shape, 0)
        np.testing.assert_allclose(gathered.finish()[..., 0], expected, rtol=1e-6)
        np.testing.assert_allclose(pooled(frames, pool)[..., 0], expected, rtol=1e-6)


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_name_has_everything_but_the_path(weights):
    spec = spec_of(weights)
    assert str(weights) not in str(spec) and parse_spec(str(spec)) == spec and resolve(spec) is spec
    assert (spec.n_layers, spec.n_dims, spec.layers, spec.tail) == (1, 200, "penultimate", "drop")
    assert spec_of(weights, layers="last") == spec and resolve(parse_spec(spec.short())) == spec
    assert spec_of(weights, window="track").per == "track"
    assert spec_of(weights, window="track").window == pytest.approx(2.992)
    assert spec_of(weights, model="msd-musicnn").weights != spec.weights
    assert spec_of(weights, layers="cnn3+cnn1", pool="mean_std").item_shape == (2, 128)
    assert spec_of(weights, layers="cnn3+cnn1") == spec_of(weights, layers="cnn1+cnn3")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": "cnn4"}, r"mtt-musicnn has no layer cnn4.*It has timbral"),
        ({"layers": "all"}, r"layers of different shapes fit no array: timbral 408"),
        ({"sample_rate": 44100}, r"sample_rate=44100 Hz, and mtt-musicnn was trained at 16000 Hz"),
        ({"pool": "max"}, r"pool=max has one vector to pool"),
        ({"pool": "none", "per": "track"}, r"pool=none leaves more than one vector"),
        ({"window": 0.01}, r"window=0.01 s is shorter than mtt-musicnn takes"),
        ({"n_dims": 7}, r"n_dims=7 does not fit the encoder, which gives 200"),
        ({"model": "mtt-music"}, r"model='mtt-music' is no encoder.*mtt-musicnn"),
        ({"weights": "/no/where"}, r"weights=/no/where is neither a file.*\[embedding spec, model=mtt-musicnn\]"),
    ],
)
def test_names_that_cannot_be(weights, settings, message):
    with pytest.raises(SpecError, match=message):
        spec_of(settings.pop("weights", weights), **settings)


def test_weights_that_were_never_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"no weights of mtt-musicnn are here.*featstore models fetch mtt-musicnn"):
        resolve(parse_spec("embedding(model=mtt-musicnn)"))
    with pytest.raises(CheckpointError, match=r"are not available here"):
        encoder_of(parse_spec("embedding()").replace(weights="0" * 32))


# -- the vectors -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_vectors_are_those_of_the_network_on_the_stored_spectrogram(weights, music, tmp_path):
    mel = "mel(sample_rate=16000,n_mels=96,pad_mode=reflect,scale=log10_1p)"
    features = [name_of(weights), name_of(weights, layers="cnn1+cnn2", pool="none"), name_of(weights, per="track")]
    features += [name_of(weights, layers="cnn3", pool="mean_std", per="track", tail="align")]
    store = stored(music, tmp_path / "s", mel, *features)
    assert verify(tmp_path / "s") == []
    spectrum, windows, frames, track, both = (store[str(resolve(each))] for each in map(parse_spec, [mel, *features]))
    model = encoder_of(windows.spec).model
    x = torch.from_numpy(spectrum["5.wav"])
    n = x.shape[-1] // WINDOW
    pieces = x[:, : n * WINDOW].reshape(96, n, WINDOW).permute(1, 0, 2)[:, None]
    with torch.no_grad():
        whole = model.activations(pieces)
        rest = model.activations(x[None, None, :, -WINDOW:])["cnn3"][0, :, -(x.shape[-1] - n * WINDOW) :]
    np.testing.assert_allclose(windows["5.wav"][0], whole["penultimate"].T, atol=1e-5)
    np.testing.assert_allclose(frames["5.wav"][1], whole["cnn2"].permute(1, 0, 2).flatten(1), atol=1e-5)
    np.testing.assert_allclose(track["5.wav"][0, :, 0], whole["penultimate"].mean(dim=0), atol=1e-5)
    every = torch.cat([whole["cnn3"].permute(1, 0, 2).flatten(1), rest], dim=1)
    expected = torch.cat([every.mean(dim=1), every.std(dim=1, correction=0)])
    np.testing.assert_allclose(both["5.wav"][0, :, 0], expected, atol=1e-5)
    assert windows.dims == ("track", "layer", "dimension", "window") and frames.dims[-1] == "frame"
    assert track.base.layout.chunk_frames == 1  # 800 bytes of a track take no more room
    for reader, spec in ((windows, windows.spec), (frames, frames.spec), (track, track.spec)):
        assert reader["5.wav"].shape[-1] == spec.frames(26_001)
    ledger = read_ledger(store).set_index("track_id")
    assert set(ledger.index[ledger["status"] != "ok"]) == {"tiny.wav"}
    assert "3 columns are too few for a window of 24" in ledger.loc["tiny.wav", "error"].iloc[0]


@pytest.mark.slow
def test_the_same_track_gives_the_same_vector(weights, music, tmp_path):
    """Bit for bit over shards, processes, waiting windows and company."""
    feature = name_of(weights)
    first = stored(music, tmp_path / "a", feature, shard_tracks=4)
    others = [
        stored(music, tmp_path / "b", feature, shard_tracks=64),
        stored(music, tmp_path / "c", feature, name_of(weights, per="track"), shard_tracks=4, token_batches=True),
    ]
    name = str(resolve(parse_spec(feature)))
    tracks = first[name].track_ids
    assert len(tracks) == 6
    for other in others:
        assert other[name].track_ids == tracks
        for track in tracks:
            np.testing.assert_array_equal(other[name][track], first[name][track])
    pooled_name = str(resolve(parse_spec(name_of(weights, per="track"))))
    plain = stored(music, tmp_path / "d", pooled_name)
    for track in tracks:
        np.testing.assert_array_equal(plain[pooled_name][track], others[1][pooled_name][track])


@pytest.mark.slow
def test_two_processes_give_the_same_bytes(weights, music, tmp_path):
    feature = name_of(weights, per="track")
    name = str(resolve(parse_spec(feature)))
    one = stored(music, tmp_path / "a", feature, shard_tracks=4)
    two = stored(music, tmp_path / "b", feature, shard_tracks=4, scheduler="processes", jobs=2)
    for track in one[name].track_ids:
        np.testing.assert_array_equal(one[name][track], two[name][track])


def test_pass_sizes_agree_to_rounding(weights):
    encoder = encoder_of(spec_of(weights))
    windows = np.random.default_rng(1).uniform(0, 4, (5, 96, WINDOW)).astype(np.float32)
    names, before = list(encoder.info.layers), encoder.batch
    found = {}
    for size in (1, 3, 16):
        encoder.batch = size
        found[size] = encoder.layers_of(windows, names)
    encoder.batch = before
    for size in (3, 16):
        for name, one, many in zip(names, found[1], found[size], strict=True):
            assert np.abs(one - many).max() <= 1e-5 * max(1, np.abs(one).max()), name


def test_a_value_that_is_not_finite_names_layer_and_track(weights, music, tmp_path, monkeypatch):
    spec = spec_of(weights)
    encoder = encoder_of(spec)

    def spoil(windows, names):
        found = type(encoder).layers_of(encoder, windows, names)
        return [np.where(windows.shape[-1] == WINDOW, np.float32(np.nan), each) for each in found]

    monkeypatch.setattr(encoder, "layers_of", spoil, raising=False)
    ledger = read_ledger(stored(music, tmp_path / "s", str(spec))).set_index("track_id")
    assert "layer penultimate of mtt-musicnn gives a value that is not finite" in ledger.loc["0.wav", "error"]
    assert "0.wav" in ledger.loc["0.wav", "error"] and set(ledger["status"]) <= {"failed", "short"}


# -- provenance --------------------------------------------------------------------------------------------------------


def test_licences_are_shown_and_refused(weights, music, tmp_path):
    feature = name_of(weights, per="track")
    with pytest.raises(PlanError, match=r"weights of mtt-musicnn have the licence ISC.*Allowed: MIT"):
        stored(music, tmp_path / "s", feature, licence_allow=("MIT",))
    assert not (tmp_path / "s").exists()
    store = stored(music, tmp_path / "s", feature, licence_allow=("mit", "isc"))
    (facts,) = weights_facts(store).values()
    assert facts == {
        "model": "mtt-musicnn",
        "licence": "ISC",
        "source": "package musicnn 0.1.0, MTT_musicnn",
        "trained_on": "MagnaTagATune",
    }


@pytest.mark.parametrize("name", FETCHABLE)
def test_every_encoder_says_what_it_is(name, weights):
    info = encoder_of(spec_of(weights, model=name)).info
    assert info.model == name and len(info.digest) == 32
    assert info.least <= info.window and math.isfinite(info.sample_rate)
    assert set(info.usual_layers.split("+")) <= set(info.layers) | {"all", "last"}


# -- encodings ---------------------------------------------------------------------------------------------------------


def test_eight_bits_with_a_range_for_each_dimension(weights, music, tmp_path):
    name = str(spec_of(weights))
    stored(music, tmp_path / "s", name)
    with pytest.raises(SpecError, match=r"needs the range of each dimension.*featstore store derive"):
        stored(music, tmp_path / "t", f"{name}@uint8")
    requests = expand_features(["embedding()@uint8", "embedding()@float16"])  # the store completes them
    written = derive(str(tmp_path / "s"), requests)
    assert len(written) == 2 and all(written.values())
    store = open_store(tmp_path / "s")
    exact, small, half = store[f"{name}@float32"], store[f"{name}@uint8"], store[f"{name}@float16"]
    assert small.name != exact.name and small.name == store[small.name].name and "ranges=" in small.name
    every = np.concatenate([exact[track] for track in exact.track_ids], axis=-1)
    table = small.encoding.table
    np.testing.assert_array_equal(table.low, every.min(axis=-1))
    step = (table.high - table.low)[..., None] / 254
    decoder = Decoder(small.encoding, small.view)
    for track in exact.track_ids:
        assert (np.abs(small[track] - exact[track]) <= 0.501 * step + 1e-6).all()
        np.testing.assert_allclose(half[track], exact[track], rtol=1e-3, atol=1e-4)
        codes = torch.from_numpy(np.array(small.base.read(small.row_of(track))))[None]
        np.testing.assert_allclose(decoder.values(codes)[0], small[track], rtol=1e-6, atol=1e-6)
    assert verify(tmp_path / "s") == []
    cost = vector_cost(store, parse_feature(f"{name}@uint8"))
    assert 0.999 < cost["min_cosine"] <= cost["mean_cosine"] <= 1 + 1e-12 and cost["retrieval_at_10"] == 1
    derive(str(tmp_path / "s"), requests)  # a second time finds the ranges that are there
    assert len(open_store(tmp_path / "s").arrays) == 3


@pytest.mark.slow
def test_altered_copies_take_the_ranges_of_the_originals(weights, music, tmp_path):
    """Whatever their own values are: a model reads both by one name."""
    exact = expand_features([str(spec_of(weights))])
    small = resolve(parse_feature(f"{spec_of(weights)}@uint8"))
    stored(music, tmp_path / "s", str(spec_of(weights)))
    derive(str(tmp_path / "s"), [small])
    known = open_store(tmp_path / "s")[small]
    copies = alter_tracks(index_tracks("folder", music), "gain-20dB", tmp_path / "c" / "audio", jobs=1)
    copies.table.write(tmp_path / "c" / "tracks.parquet")
    options = ExtractOptions(scheduler="sync", jobs=1, progress="none")
    extract_copies(tmp_path / "c" / "store.zarr", Selection({}, exact, [small]), tmp_path / "s", options)
    found = open_store(tmp_path / "c" / "store.zarr")[known.name]
    assert found.view.is_identity and found.encoding == known.encoding
    np.testing.assert_array_equal(found.encoding.table.low, known.encoding.table.low)


def test_ranges_that_never_change_and_values_outside():
    table = Ranges(np.array([[0.0, 2.0]]), np.array([[1.0, 2.0]]))
    encoding = Encoding("uint8", ranges=MEASURED).with_ranges(table)
    codes, outside = encoding.encode(np.array([[[0.0, 1.5], [2.0, 2.0]]], np.float32))
    assert codes.tolist() == [[[0, 254], [0, 0]]] and outside == 1
    assert encoding.decode(codes).tolist() == [[[0.0, 1.0], [2.0, 2.0]]]
    codes[0, 0, 0] = encoding.fill_value
    assert np.isnan(encoding.decode(codes)[0, 0, 0])
    with pytest.raises(SpecError, match=r"not low <= high everywhere"):
        Ranges([1.0], [0.0])
    with pytest.raises(SpecError, match=r"the ranges of .* are not known"):
        Encoding("uint8", ranges="abc").decode(codes)
