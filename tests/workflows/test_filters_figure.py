"""Learned filters of a run: movement, responses, the maps of a clip, the command and its figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from featstore.errors import CheckpointError, ConfigError
from featstore.models.sinc import initial_bands, sinc_taps
from featstore.specs import Encoding, parse_spec
from featstore.store import ArrayHeader, Store, create_store, open_store
from featstore.store.consolidate import consolidate
from featstore.store.writing import add_arrays, write_shard
from featstore.training import TrainConfig, train
from featstore.workflows.filters_figure import draw_filters, read_banks, read_clip, response_db
from featstore_cli.filters import filters as filters_command

WAVE = "waveform(sample_rate=8000)"
RATE = 8000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    spec, n = parse_spec(WAVE), 10
    header = ArrayHeader(spec, Encoding.parse("int16", spec), (), ("sample",))
    splits = [("train", "train", "train", "valid", "test")[i // 2] for i in range(n)]
    labels = [["high" if i % 2 else "low"] for i in range(n)]
    frame = pd.DataFrame({"track_id": [f"t{i}" for i in range(n)], "path": "x.wav", "labels": labels, "split": splits})
    made = create_store(tmp_path_factory.mktemp("filters") / "store.zarr", frame, [header])
    add_arrays(made, [header])
    seconds = np.arange(2 * RATE) / RATE
    with write_shard(made, 0, [header.key]) as writer:
        for slot, row in enumerate(made.shard_rows(0)):
            number = int(str(made.tracks.index[made.tracks["row"] == row][0])[1:])
            writer.begin(slot)
            writer.append(header.key, (0.3 * np.sin(2 * np.pi * (1000 if number % 2 else 200) * seconds)).astype("f4"))
            writer.end()
        writer.commit({})
    consolidate(made)
    return open_store(made.location)


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    small = ["model.filters=12", "model.lengths=[41,81,161]", "model.columns=64", "model.width=0.125"]
    small += [f"model.sample_rate={RATE}", "model.fc_hidden=8", "loop.epochs=1", "loop.keep=last"]
    small += ["data.crop_s=0.5", "data.batch_size=4", "optimizer.cutoff_rate=1000", "optimizer.name=sgd"]
    config = TrainConfig.resolve(assignments=[*small, "evaluate.bootstrap=0", "device.accelerator=cpu"])
    train(store, WAVE, "ms-sinc-resnet", out, config=config)
    return out


def test_banks_before_and_after(run: Path) -> None:
    banks = read_banks(run)
    assert [bank.after.shape for bank in banks] == [(12, 41), (12, 81), (12, 161)]
    low, band = initial_bands(12, RATE)
    start = sinc_taps(50 + low, (100 + low + band).clamp(max=RATE / 2), 81, RATE)
    np.testing.assert_allclose(banks[1].before, start.numpy(), atol=2e-5)
    moved = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["model"]
    for number, bank in enumerate(banks):
        assert bank.mean_hz == pytest.approx(moved[f"maps.{number}.bank.mean_hz"]) and bank.mean_hz > 0
        assert not np.array_equal(bank.before, bank.after)


def test_response_peaks_inside_the_band() -> None:
    taps = sinc_taps([500.0, 1500.0], [1000.0, 2000.0], 161, RATE).numpy()
    frequencies = np.linspace(0, RATE / 2, 401)
    found = response_db(taps, frequencies, RATE)
    assert found.shape == (2, 401) and found.max() == 0 and found.min() == -60
    inside = (frequencies > 600) & (frequencies < 900)
    assert found[0, inside].min() > -1.5 and found[0, frequencies > 1200].max() < -35
    assert found[1, inside].max() < -35


def test_clip_is_the_stored_signal_and_the_model_s_picture(store: Store, run: Path) -> None:
    clip = read_clip(run, track="t3", start_s=1.0)
    assert clip.signal.shape == (RATE // 2,) and [each.shape for each in clip.maps] == [(12, 64)] * 3
    assert all((np.diff(centres) > 0).all() and centres.shape == (12,) for centres in clip.centres_hz)
    assert 50 < clip.centres_hz[0][0] < 500 and clip.centres_hz[0][-1] < RATE / 2
    assert np.array_equal(clip.signal, store[WAVE]["t3"][RATE : RATE + RATE // 2])
    assert read_clip(run, track="t3", start_s=1.9).signal[-1] == 0, "filled up behind the end of the track"
    with pytest.raises(ConfigError, match=r"start=2.0 s lies outside the track.*2.00 s"):
        read_clip(run, track="t3", start_s=2.0)


@pytest.mark.slow
def test_command_and_figure(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "filters.png"
    result = CliRunner().invoke(filters_command, [str(run), "--figure", str(target), "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["files"] == [str(target)] and target.read_bytes()[:4] == b"\x89PNG"
    assert [bank["taps"] for bank in found["banks"]] == [41, 81, 161]
    [path] = draw_filters(read_banks(run)[:1], tmp_path / "one.svg")
    text = path.read_text(encoding="utf-8")
    assert "after training" in text and "sum over the bank" in text and "learned, bank" not in text


def test_runs_without_filters(store: Store, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no run in this folder"):
        read_banks(tmp_path)
