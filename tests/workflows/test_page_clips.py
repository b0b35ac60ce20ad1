"""Clips on a report's page: what is heard is what the pictures show."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from featstore.datasets import TableInfo, TrackTable
from featstore.errors import ConfigError
from featstore.extract import ExtractOptions, extract
from featstore.results import RunSet, read_results, write_html, write_result
from featstore.specs import expand_features, parse_feature
from featstore.workflows.page_clips import make_clips
from tests.results.chromium import PROGRAM, Browser
from tests.results.conftest import RESULT

FEATURES = ["mel(sample_rate=16000,n_mels=24,scale=db)@uint8", "mel(sample_rate=16000,n_mels=8,scale=db)@float32"]
RATE, SECONDS = 22050, 9


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    """Runs of two features of a store of four tracks: silence, then a tone from second 5 on."""
    root = tmp_path_factory.mktemp("clips")
    rows = []
    for number in range(4):
        seconds = np.arange(SECONDS * RATE) / RATE
        tone = 0.5 * np.sin(2 * np.pi * 1000 * (1 + number) * seconds) * (seconds >= 5)
        soundfile.write(root / f"{number}.wav", tone, RATE)
        split = "train" if number == 0 else "test"
        rows.append((f"t{number}", str(root / f"{number}.wav"), [("a", "b")[number // 3]], split, float(SECONDS)))
    frame = pd.DataFrame(rows, columns=["track_id", "path", "labels", "split", "duration_s"])
    table = TrackTable(frame, TableInfo(name="demo", task="multi_label", classes=("a", "b")))
    extract(table, expand_features(FEATURES), root / "s.zarr", ExtractOptions(scheduler="sync"))
    for number, feature in enumerate(FEATURES):
        sizes = {"alone": 4000 - 2000 * number, "added": 0, "audio": 8000}
        place = {"store": {"path": str(root / "s.zarr"), "fingerprint": ""}, "bytes": sizes}
        for seed in range(2):
            scores = {"test": {"roc_auc": 0.9 - 0.02 * number + 0.001 * seed}}
            own = {"feature": str(parse_feature(feature)), "seed": seed, "scores": scores}
            write_result(root / "runs" / f"{number}-{seed}", RESULT | own | place)
    return read_results(root / "runs")


def test_what_is_heard_is_what_is_shown(runs: RunSet) -> None:
    clips = make_clips(runs, 2)
    assert [clip["labels"] for clip in clips] == [["a"], ["b"]], "one track of each label"
    clip = clips[0]
    assert clip["track"] in ("t1", "t2"), "of those in the test split"
    tone = 1000 * (1 + int(clip["track"][1]))
    assert clip["start_s"] == 1.5 and clip["seconds"] == 6.0
    data = base64.b64decode(clip["audio"].removeprefix("data:audio/mpeg;base64,"))
    heard, rate = soundfile.read(io.BytesIO(data))
    assert rate == 16000 and len(heard) == pytest.approx(6 * rate, abs=3000)
    assert np.abs(heard[: 3 * rate]).max() < 0.05 < 0.3 < np.abs(heard[4 * rate : 5 * rate]).max()
    assert len(clip["pictures"]) == 2 and {picture["bands"] for picture in clip["pictures"]} == {24, 8}
    for picture in clip["pictures"]:
        shape = picture["bands"], picture["frames"]
        codes = np.frombuffer(base64.b64decode(picture["values"]), np.uint8).reshape(shape)
        begins = np.flatnonzero(codes.max(axis=0) > 128)[0] * picture["step_s"] + picture["lead_s"]
        assert begins == pytest.approx(3.5, abs=0.04), "the tone begins where it is heard"
        centres = parse_feature(FEATURES[0] if picture["bands"] == 24 else FEATURES[1]).spec.band_centres
        assert abs(codes[:, -1].argmax() - np.abs(centres - tone).argmin()) <= 1
        assert (
            picture["unit"] == "dB" and picture["low"] < picture["high"] and abs(picture["lead_s"]) < picture["step_s"]
        )


def test_without_music_the_way_out_is_named(runs: RunSet, tmp_path: Path) -> None:
    lost = runs[0].result | {"store": {"path": str(tmp_path / "gone.zarr"), "fingerprint": ""}}
    write_result(tmp_path / "run", lost)
    with pytest.raises(ConfigError, match=r"clips cannot be cut: .*gone\.zarr.*or leave --audio out"):
        make_clips(read_results(tmp_path), 1)


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here: apt-get install chromium")
def test_clips_play_beside_their_spectra(runs: RunSet, tmp_path: Path) -> None:
    page = write_html(runs, tmp_path / "page.html", clips=make_clips(runs, 1))
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        audio = "document.querySelector('#clips audio')"
        browser.run(f"""new Promise(done => {{ const a = {audio};
                        a.readyState ? done() : a.addEventListener('loadedmetadata', done); }})""")
        assert browser.run(f"{audio}.duration") == pytest.approx(6, abs=0.3)
        texts = browser.run("""[...document.querySelectorAll('#clips .spectrum')]
                               .map(e => [...e.querySelectorAll('text')].map(t => t.textContent))""")
        assert len(texts) == 2 and all({"Hz", "seconds", "dB", "1000"} <= set(own) for own in texts)
        browser.run(f"new Promise(done => {{ {audio}.addEventListener('seeked', done); {audio}.currentTime = 3; }})")
        x = browser.run("+document.querySelector('#clips .playhead').getAttribute('x1')")
        edges = browser.run("""[...document.querySelectorAll('#clips .spectrum svg svg')]
            .map(plot => +plot.getAttribute('x') - plot.parentNode.querySelector('line.axis').getAttribute('x2'))""")
        assert edges and set(edges) == {0}, "pictures are cut off at the axis"
        width = browser.run("document.querySelector('#clips .spectrum').clientWidth")
        assert x == pytest.approx((56 + width - 62) / 2, abs=2)
        assert browser.problems() == [] and browser.requests() == []
