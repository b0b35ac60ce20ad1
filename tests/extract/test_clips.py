"""Overlapping excerpts: an axis of their own from the plan to the store, equal to analysing each excerpt by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featstore.audio import cut_signal, decode_audio, resample_signal
from featstore.errors import SpecError, StoreError
from featstore.extract import ExtractOptions, extract, make_plan
from featstore.extract.forecast import forecast
from featstore.features import check
from featstore.specs import Clip, expand_features, parse_spec
from featstore.store import open_store
from featstore.store.sizes import describe_features
from featstore.store.verify import verify
from featstore.testing.audio import make_collection
from featstore.workflows.derive import derive
from featstore.workflows.indexing import index_tracks
from featstore.workflows.repair import repair
from tests.features.runner import run_signal

SYNC = ExtractOptions(scheduler="sync", shard_tracks=3)
RATE = 8000
CLIP = "every(0.8 s, 0.3 s)"
MEL = f"mel(sample_rate={RATE},n_fft=256,hop_length=64,n_mels=12,clip={CLIP})"
WAVE = f"waveform(sample_rate={RATE},clip={CLIP})"
FEATURES = [
    MEL,
    MEL.replace("hop_length=64", "scale=db,hop_length=192"),  # a view: stride inside each excerpt
    f"{WAVE}@int16",
    f"hpss(sample_rate={RATE},hop_length=64,n_fft=128,kernel=7,clip={CLIP})@float16",
]


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    return make_collection(tmp_path_factory.mktemp("music"), n_tracks=8, seconds=(1.0, 4.0))


@pytest.fixture(scope="module", params=["zarr", "hdf5"])
def store(request, music, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / f"s.{request.param}"
    options = ExtractOptions(scheduler="sync", shard_tracks=3, backend=request.param)
    report = extract(index_tracks("folder", music), expand_features(FEATURES), path, options)
    assert report.status["ok"] == 8
    return path


def excerpts_of(path: str, clip: str = CLIP) -> list[np.ndarray]:
    """Whole signal decoded, then cut by hand."""
    samples, rate = decode_audio(path)
    signal = resample_signal(samples.mean(axis=0), source_rate=rate, sample_rate=RATE)
    policy = Clip.parse(clip)
    length, step = round(policy.length_s * RATE), round(policy.step_s * RATE)
    return [signal[start : start + length] for start in range(0, len(signal) - length + 1, step)]


def test_each_excerpt_is_analysed_by_itself(store) -> None:
    opened = open_store(store)
    assert len(opened.arrays) == 3
    plain = parse_spec(MEL.replace(f",clip={CLIP}", ""))
    mel, view, wave, hpss = (opened[name] for name in FEATURES)
    for track, path in opened.tracks["path"].items():
        excerpts = excerpts_of(path)
        expected = np.stack([run_signal(plain, excerpt) for excerpt in excerpts])
        assert np.array_equal(mel[track], expected) and mel[track].shape == (len(excerpts), 12, mel.clip_frames)
        strided = np.stack([run_signal(plain.replace(hop_length=192, scale="db"), one) for one in excerpts])
        assert np.array_equal(view[track], strided)
        assert np.abs(wave[track] - np.stack(excerpts)).max() <= 1.01 / 65534
        assert hpss[track].shape == (len(excerpts), 65, 101)
        assert int(mel.lengths[mel.row_of(track)]) == len(excerpts)


def test_reading_some_excerpts_of_several_tracks(store) -> None:
    mel = open_store(store)[MEL]
    ids = mel.track_ids
    values = mel.read(ids)
    assert values.shape == (8, int(mel.lengths.max()), 12, 101)
    for place, track in enumerate(ids):
        count = int(mel.lengths[mel.row_of(track)])
        assert np.array_equal(values[place, :count], mel[track]) and np.isnan(values[place, count:]).all()
    assert np.array_equal(mel.read(ids, 0, 1)[:, 0], values[:, 0])
    longest = max(ids, key=lambda track: mel.lengths[mel.row_of(track)])
    assert np.array_equal(mel.read_row(mel.row_of(longest), 3, 6), mel[longest][3:6])
    with pytest.raises(StoreError, match="lie outside the track's"):
        mel.read_row(mel.row_of(longest), 0, 999)


def test_as_xarray(store) -> None:
    mel = open_store(store)[FEATURES[1]]
    array = mel.to_xarray()
    assert array.dims == ("track", "clip", "band", "frame")
    assert array["clip"].values[:3] == pytest.approx([0, 0.3, 0.6])
    assert array.frame.values[:3] == pytest.approx([0, 0.024, 0.048])
    wave = open_store(store)[WAVE].to_xarray()
    assert wave.dims == ("track", "clip", "sample") and wave.shape[-1] == 6400


def test_plain_readers_see_the_axis(store) -> None:
    opened = open_store(store)
    mel = opened[MEL]
    key, longest = mel.base.header.key, int(mel.lengths.max())
    if store.suffix == ".zarr":
        import xarray
        import zarr

        group = zarr.open_group(store, mode="r")[f"features/{key}"]
        data, counts, frames = group["data"][:], group["n_clips"][:], group["n_frames"][:]
        assert group["data"].metadata.dimension_names == ("track", "clip", "band", "frame")
        assert xarray.open_zarr(store, group=f"features/{key}", consolidated=False)["data"].sizes["clip"] == longest
    else:
        import h5py

        with h5py.File(store / "master.h5") as file:
            group = file[f"features/{key}"]
            data, counts, frames = group["data"][:], group["n_clips"][:], group["n_frames"][:]
            assert [dim[0].name.rpartition("/")[2] for dim in group["data"].dims] == ["track", "clip", "band", "frame"]
    assert data.shape == (8, longest, 12, 101)
    assert (frames == 101).all()
    for track in mel.track_ids:
        row = mel.row_of(track)
        assert counts[row] == mel.lengths[row]
        assert np.array_equal(data[row, : counts[row]], mel[track])
        assert np.isnan(data[row, counts[row] :]).all()


def test_sizes_are_told(store) -> None:
    info = {row["name"]: row for row in describe_features(open_store(store))}
    mel = info[f"{parse_spec(MEL)}@float32"]
    assert mel["shape"] == [8, 11, 12, 101] and mel["n_tracks"] == 8
    view = next(row for row in info.values() if row["stored"] == "view")
    assert view["shape"] == [8, 11, 12, 34] and view["bytes"] < mel["bytes"]


def test_damage_is_found_and_repaired(store, tmp_path) -> None:
    import shutil

    copy = tmp_path / store.name
    shutil.copytree(store, copy)
    assert verify(copy) == []
    header = open_store(copy).arrays[open_store(copy)[MEL].base.header.key].header
    ends = ("c/1/0/0/0", "1.h5")
    (file,) = [f for f in copy.rglob("*") if header.key in str(f) and f.is_file() and str(f).endswith(ends)]
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)
    assert any(problem.shard == 1 and problem.tracks for problem in verify(copy))
    report = repair(copy, options=SYNC)
    assert report.shards == 1 and report.left == []
    whole, mended = open_store(store)[MEL], open_store(copy)[MEL]
    assert all(np.array_equal(whole[track], mended[track]) for track in whole.track_ids)


def test_a_view_is_written_out(store, tmp_path) -> None:
    import shutil

    copy = tmp_path / store.name
    shutil.copytree(store, copy)
    view = open_store(copy)[FEATURES[1]]
    expected = {track: view[track] for track in view.track_ids}
    forecasted = view.bytes_alone
    derive(str(copy), expand_features([FEATURES[1]]))
    reader = open_store(copy)[FEATURES[1]]
    assert reader.view.is_identity and all(np.array_equal(reader[t], values) for t, values in expected.items())
    assert verify(copy) == []
    if store.suffix == ".zarr":
        assert reader.bytes_alone == forecasted


def test_bytes_are_forecast(music) -> None:
    result = forecast(index_tracks("folder", music), expand_features([MEL]), sample=0)
    clips = sum(len(excerpts_of(str(path))) for path in index_tracks("folder", music).frame["path"])
    assert result.n_bytes >= clips * 12 * 101 * 4


def test_short_tracks(music, tmp_path) -> None:
    tracks = index_tracks("folder", music)
    report = extract(tracks, expand_features([MEL.replace("0.8 s", "2 s")]), tmp_path / "none.zarr", SYNC)
    assert report.status["by_reason"] == {"short": 3} and report.status["failed"] == 3
    filled = MEL.replace(CLIP, "every(2 s,0.3 s,pad=zeros)")
    report = extract(tracks, expand_features([filled]), tmp_path / "filled.zarr", SYNC)
    assert report.status["ok"] == 8
    reader = open_store(tmp_path / "filled.zarr")[filled]
    shortest = min(reader.track_ids, key=lambda t: reader.lengths[reader.row_of(t)])
    assert reader[shortest].shape == (1, 12, 251) and (reader[shortest][0, :, -5:] == 0).all()


def test_excerpts_that_lie_apart(tmp_path, music) -> None:
    wave = f"waveform(sample_rate={RATE},clip=every(0.2 s, 0.9 s))"
    extract(index_tracks("folder", music), expand_features([wave]), tmp_path / "s.zarr", SYNC)
    store = open_store(tmp_path / "s.zarr")
    for track, path in store.tracks["path"].items():
        assert np.array_equal(store[wave][track], np.stack(excerpts_of(path, "every(0.2 s, 0.9 s)")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("clip=every(3 s, 0.00001 s)", r"the step of every\(3 s,1e-05 s\) is shorter than a sample at 16000 Hz"),
        ("clip=every(0.01 s, 1 s)", r"hop_length=256 is longer than the clip of 160 samples"),
        ("framing=valid,n_fft=2048,clip=every(0.1 s, 1 s)", r"not one frame fits into the clip of 1600 samples"),
        ("framing=valid,n_fft=2048,clip=start(0.1 s)", r"not one frame fits into the clip of 1600 samples"),
    ],
)
def test_refused_before_any_audio(fields, message) -> None:
    with pytest.raises(SpecError, match=message):
        check(parse_spec(f"mel({fields})"))


@pytest.mark.slow
def test_waveforms_in_every_form(music, tmp_path) -> None:
    """Any rate, three number formats, whole, cut, and in overlapping excerpts, from one decoding."""
    names = [
        f"waveform(sample_rate={rate}{clip})@{encoding}"
        for rate in (RATE, 22050, 11025)
        for clip in ("", ",clip=centre(0.5 s)", f",clip={CLIP}")
        for encoding in ("float32", "float16", "int16")
    ]
    plan = make_plan(expand_features(names))
    assert len(plan.headers) == 27
    assert [node.op for node in plan.graph.children].count("resample") == 3
    extract(index_tracks("folder", music), expand_features(names), tmp_path / "s.zarr", SYNC)
    store = open_store(tmp_path / "s.zarr")
    for track, path in store.tracks["path"].items():
        samples, rate = decode_audio(path)
        for name in names:
            spec = parse_spec(name.partition("@")[0])
            signal = resample_signal(samples.mean(axis=0), source_rate=rate, sample_rate=spec.sample_rate)
            got = store[name][track]
            if spec.clip.policy == "every":
                starts = range(0, len(signal) - got.shape[1] + 1, round(0.3 * spec.sample_rate))
                signal = np.stack([signal[start : start + got.shape[1]] for start in starts])
            else:
                signal = cut_signal(signal, spec.sample_rate, spec.clip)
            tolerance = {"float32": 0, "float16": 2.5e-4, "int16": 1.01 / 65534}[name.rpartition("@")[2]]
            assert got.shape == signal.shape and np.abs(got - signal).max() <= tolerance, name


LONG = """
import sys
from featstore.extract import execute
from featstore.extract.plan import make_plan
from featstore.process_memory import peak_resident_bytes
from featstore.specs import expand_features
graph = make_plan(expand_features(sys.argv[2:])).graph
seen = 0
def deliver(key, block):
    global seen
    seen += len(block)
execute.run_track(sys.argv[1], graph, deliver)
print(seen, peak_resident_bytes() // 1024)
"""


@pytest.mark.slow
def test_three_hours_in_bounded_memory(tmp_path) -> None:
    """Excerpts that overlap fifteen times, of a track of three hours: what is held does not grow with its length."""
    import soundfile

    peaks = {}
    for minutes in (3, 180):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 8000, 1) as file:
            noise = np.random.default_rng(0).standard_normal(60 * 8000).astype(np.float32) * 0.1
            for _ in range(minutes):
                file.write(noise)
        features = [f"waveform(sample_rate=8000,clip={clip})" for clip in ("every(3 s,0.2 s)", "every(3 s,1 s)")]
        features.append("mel(sample_rate=8000,n_fft=512,n_mels=40,clip=every(3 s,1 s))")
        run = subprocess.run([sys.executable, "-c", LONG, str(path), *features], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        count, peaks[minutes] = map(int, run.stdout.split())
        seconds = minutes * 60
        assert count == (seconds - 3) * 5 + 1 + 2 * (seconds - 3 + 1)
    assert peaks[180] < 1.1 * peaks[3] + 20_000 and peaks[180] < 600_000  # kB
