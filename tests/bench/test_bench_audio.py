"""The benchmarks run, with tiny inputs, and their contenders compute the same things."""

import numpy as np
import pytest

from tests.bench import bench_hpss, bench_mel, bench_workers
from tests.bench.bench_audio_common import FORMS, lines, make_clips, take_turns


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_bench_mel(tmp_path, form):
    clips = make_clips(tmp_path / "clips", form, 2, seconds=1.2)
    found = bench_mel.contenders(clips, tmp_path, clip_s=0.8, loops=False)
    seconds = take_turns(found, 1)
    records = lines("mel", seconds, 0.8, ("decoding alone",), form=form)
    assert [record["contender"] for record in records] == list(found)
    assert all(record["ms_a_clip"] > 0 for record in records)


@pytest.mark.slow
def test_the_loops_over_configurations(tmp_path):
    clips = make_clips(tmp_path / "clips", "16 kHz mono mp3", 1, seconds=1.2)
    assert len(take_turns(bench_mel.contenders(clips, tmp_path, clip_s=0.8, loops=True), 1)) >= 4


def test_essentia_contender_makes_our_numbers(tmp_path):
    pytest.importorskip("essentia")
    from tests.features.runner import run_file

    (clip,) = make_clips(tmp_path, "16 kHz mono mp3", 1, seconds=1.2)
    spec = next(s for s in bench_mel.study(0.8) if s.sample_rate == 16000 and s.n_mels == 48 and s.hop_length == 256)
    (theirs,) = bench_mel._essentia_mels(clip, 16000, 256, [48], spec)
    (ours,) = run_file([spec.replace(scale="power")], clip)
    assert ours.shape == theirs.shape == (48, 51)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9  # the two decoders start mp3 files differently


@pytest.mark.slow
def test_bench_workers(tmp_path):
    clips = make_clips(tmp_path / "clips", "16 kHz mono mp3", 2, seconds=1.2)
    assert bench_workers.seconds_of(clips, tmp_path, 1, clip_s=0.8) > 0
    assert not (tmp_path / "workers.zarr").exists()


def test_bench_hpss():
    assert set(bench_hpss.measure(1.0, 1)) == {"librosa", "featstore"}
