"""What ``featstore plan`` predicts, against what then happens."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from featstore.errors import ConfigError, PlanError
from featstore.extract import ExtractOptions, extract, make_plan
from featstore.extract.forecast import forecast
from featstore.extract.plan import check_clips
from featstore.specs import expand_features
from featstore.store import record_pack
from featstore.testing.audio import make_collection
from featstore.workflows.indexing import index_tracks

FEATURES = ["mel(scale=db)", "mel(scale=db,hop_length=768)@uint8", "waveform(clip=every(1 s,0.5 s))@int16", "stft()"]


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    folder = make_collection(tmp_path_factory.mktemp("m"), n_tracks=40, seconds=(1, 12), suffixes=(".mp3", ".wav"))
    return index_tracks("folder", folder)


def weigh(path: Path) -> tuple[int, int]:
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return sum(sizes), len(sizes)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_bytes_files_and_seconds(tracks, tmp_path, backend, compression) -> None:
    """Within 20 %: bytes and files. Seconds are measured by a bench; a busy machine allows no more than this here."""
    requests = expand_features(FEATURES)
    settings = {"backend": backend, "compression": compression}
    result = forecast(tracks, requests, jobs=1, **settings)
    began = time.perf_counter()
    extract(tracks, requests, tmp_path / "s", ExtractOptions(scheduler="sync", **settings))
    seconds = time.perf_counter() - began
    n_bytes, n_files = weigh(tmp_path / "s")
    assert result.n_files == n_files
    assert result.n_bytes == pytest.approx(n_bytes, rel=0.02 if compression == "none" else 0.2)
    assert result.core_s == pytest.approx(seconds, rel=2.0) and result.seconds >= result.core_s


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_packed_records_are_counted_as_one_file(tracks, tmp_path, backend, monkeypatch) -> None:
    requests = expand_features(["mel(n_mels=8)", "mel(n_mels=8,scale=db)@uint8"])
    unpacked = forecast(tracks, requests, sample=0, backend=backend).n_files
    monkeypatch.setattr(record_pack, "PACK_FROM", 3)
    result = forecast(tracks, requests, sample=0, backend=backend)
    assert (result.n_shards, unpacked - result.n_files) == (3, 2 * (3 - 1))
    extract(tracks, requests, tmp_path / "s", ExtractOptions(scheduler="sync", backend=backend))
    assert weigh(tmp_path / "s")[1] == result.n_files


def test_long_tracks_have_more_files(tracks, tmp_path) -> None:
    """A shard file holds about ten minutes of each track, and goes on in the next one."""
    frame = tracks.frame.assign(duration_s=np.where(np.arange(40) < 2, 3600.0, 30.0))
    longer = type(tracks)(frame, tracks.info)
    plain = forecast(tracks, expand_features(["mel()"]), sample=0)
    assert plain.n_files == 6 + 3 + 3 * 3 and plain.seconds is None
    assert forecast(longer, expand_features(["mel()"]), sample=0).n_files in (plain.n_files + 6, plain.n_files + 12)


def test_many_tracks_weigh_in_proportion(tracks) -> None:
    requests = expand_features(["mel(n_mels=48,scale=db)@uint8", "hpss(hop_length=512)"])
    few, many = (forecast(tracks, requests, n_tracks=n, sample=0) for n in (400, 40000))
    assert many.n_bytes / few.n_bytes == pytest.approx(100, rel=0.05)
    assert many.duration_s == pytest.approx(100 * few.duration_s)
    assert many.n_files < 40000


def test_what_makes_no_sense(tracks) -> None:
    requests = expand_features(["mel()"])
    with pytest.raises(ConfigError, match="shard_tracks=-1 is too small"):
        forecast(tracks, requests, shard_tracks=-1)


def test_clips_longer_than_the_tracks(tracks, caplog) -> None:
    def check(clip: str) -> None:
        check_clips(make_plan(expand_features([f"mel(clip={clip})"])), tracks)

    with pytest.raises(PlanError, match=r"clip=centre\(30 s\) needs 30 s, and the longest of 40 tracks has 12\.\d\d s"):
        check("centre(30 s)")
    check("centre(30 s,pad=repeat)")
    with pytest.raises(PlanError, match=r"needs 13 s"):
        check("offset(13 s,1 s,pad=zeros)")
    assert not caplog.records
    check("start(6 s)")
    assert "tracks are shorter than clip=start(6 s)" in caplog.text
    frame = tracks.frame.assign(duration_s=[float("nan"), *tracks.frame["duration_s"][1:]])
    check_clips(make_plan(expand_features(["mel(clip=centre(30 s))"])), type(tracks)(frame, tracks.info))
    broken = frame.assign(probe_error=["not readable as audio", *frame["probe_error"][1:]])
    with pytest.raises(PlanError, match="the longest of 39 tracks has"):  # it gives nothing, whatever the clip
        check_clips(make_plan(expand_features(["mel(clip=centre(30 s))"])), type(tracks)(broken, tracks.info))


def test_unknown_lengths_count_as_the_mean_and_unreadable_files_as_nothing(tracks) -> None:
    known = tracks.frame["duration_s"]
    lost = tracks.frame.assign(duration_s=known.mask(np.arange(40) < 10))
    lost.loc[lost.index[:5], "probe_error"] = "not readable as audio"
    result = forecast(type(tracks)(lost, tracks.info), expand_features(["mel()"]), sample=0)
    assert result.duration_s == pytest.approx(known[10:].sum() + 5 * known[10:].mean())
    blank = type(tracks)(tracks.frame.assign(duration_s=np.nan), tracks.info)
    assert forecast(blank, expand_features(["mel()"]), sample=0).duration_s == 40 * 240.0


@pytest.mark.slow
def test_one_timed_track_is_forecast_without_what_it_compiles(tracks, tmp_path, monkeypatch) -> None:
    """The track that warms up is unreadable here: compiling must not count for the one that is timed."""
    import featstore.extract.timing as timing

    seen: list[str] = []
    run_track = timing.run_track

    def slow_at_first(path, *args, **kwargs):
        report = run_track(path, *args, **kwargs)
        if not seen:
            time.sleep(2.0)
        seen.append(path)
        return report

    monkeypatch.setattr(timing, "run_track", slow_at_first)
    monkeypatch.setattr(timing, "_start_seconds", lambda plan, path: 0.0)
    order = np.random.default_rng(0).permutation(40)
    paths = tracks.frame["path"].tolist()
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    paths[order[0]] = str(tmp_path / "broken.wav")
    table = type(tracks)(tracks.frame.assign(path=paths), tracks.info)
    result = forecast(table, expand_features(["mel()"]), sample=1, jobs=1)
    assert seen == [paths[order[1]]] * 2 and result.sampled == 1
    assert result.core_s < 0.2 * result.duration_s  # 2 s for the one of a few seconds would be more
