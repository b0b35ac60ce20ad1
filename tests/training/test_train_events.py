from __future__ import annotations

import struct
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
import pytest
from small_store import SPEC, Collection

from featstore.errors import MissingDependency
from featstore.training import TrainConfig, train
from featstore.training.folders import RunFolder

Make = Callable[..., TrainConfig]
LINE = {"epoch": 300, "step": 4, "time": 12.5, "train": {"loss": 0.25}, "valid": {"roc_auc": 0.5, "pr_auc": None}}


def unmask(masked: int) -> int:
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def records(data: bytes) -> Iterator[bytes]:
    """Messages of a record file, their checksums verified with code of another hand."""
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        message = data[12 : 12 + length]
        for part, at in ((data[:8], 8), (message, 12 + length)):
            (masked,) = struct.unpack("<I", data[at : at + 4])
            assert unmask(masked) == google_crc32c.value(part)
        yield message
        data = data[16 + length :]


def fields(message: bytes) -> Iterator[tuple[int, object]]:
    """Fields of a protocol buffer."""

    def varint() -> int:
        nonlocal message
        value = shift = 0
        while True:
            byte, message = message[0], message[1:]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while message:
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
        elif kind == 2:
            length = varint()
            yield key >> 3, message[:length]
            message = message[length:]
        else:
            size, form = {1: (8, "<d"), 5: (4, "<f")}[kind]
            yield key >> 3, struct.unpack(form, message[:size])[0]
            message = message[size:]


def scalars(path: Path) -> list[tuple[int, dict[str, float]]]:
    found = []
    for message in list(records(path.read_bytes()))[1:]:
        event = dict(fields(message))
        values = [dict(fields(value)) for _, value in fields(event[5])]
        found.append((event[2], {value[1].decode(): value[2] for value in values}))
    return found


def test_lines_become_events_and_a_resumed_run_starts_its_file_anew(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.cut_metrics(0)
    assert dict(fields(next(records(folder.events.read_bytes()))))[3] == b"brain.Event:2"
    folder.append_metrics(LINE)
    folder.append_metrics(LINE | {"epoch": 301})
    assert scalars(folder.events) == [(e, {"train/loss": 0.25, "valid/roc_auc": 0.5}) for e in (300, 301)]
    folder.cut_metrics(301)
    assert [epoch for epoch, _ in scalars(folder.events)] == [300]
    assert len(folder.metrics.read_text().splitlines()) == 1


def test_tensorboard_reads_them(tmp_path: Path) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = RunFolder(tmp_path)
    folder.cut_metrics(0)
    folder.append_metrics(LINE)
    events = loading.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("valid/roc_auc")] == [(300, 0.5)]


def test_a_torn_line_is_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.cut_metrics(0)
    folder.append_metrics(LINE)
    with folder.metrics.open("a") as file:
        file.write('{"epoch": 301, "st')
    folder.cut_metrics(999)
    assert len(folder.metrics.read_text().splitlines()) == 1


def test_trackers_receive_every_epoch(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple] = []
    wandb_run = types.SimpleNamespace(
        log=lambda values, step: told.append(("wandb", step, sorted(values))),
        finish=lambda: told.append(("wandb end",)),
    )
    wandb = types.SimpleNamespace(init=lambda **settings: wandb_run)
    mlflow = types.SimpleNamespace(
        start_run=lambda **settings: None,
        log_params=lambda values: told.append(("mlflow", values["loop.epochs"])),
        log_metrics=lambda values, step: told.append(("mlflow", step)),
        end_run=lambda: told.append(("mlflow end",)),
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    result = train(music.store, SPEC, "vgg-cnn", tmp_path / "run", config=config("loop.trackers=[wandb,mlflow]"))
    assert [entry[1] for entry in told if entry[0] == "wandb"] == [0, 1]
    assert [entry[1] for entry in told if entry[0] == "mlflow"] == [2, 0, 1]
    assert told[-2:] == [("wandb end",), ("mlflow end",)]
    assert "valid/roc_auc" in told[1][2]
    assert [epoch for epoch, _ in scalars(tmp_path / "run" / "events.out.tfevents.0.featstore")] == [0, 1]
    assert result["run_id"] == train(music.store, SPEC, "vgg-cnn", tmp_path / "b", config=config())["run_id"]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_an_absent_tracker_is_named(
    music: Collection, tmp_path: Path, config: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=f"tracker '{name}' needs.*pip install {name}"):
        train(music.store, SPEC, "vgg-cnn", tmp_path / "run", config=config(f"loop.trackers={name}"))
