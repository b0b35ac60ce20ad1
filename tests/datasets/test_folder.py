from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.datasets import DATASETS, describe, index
from featstore.datasets.folder import natural_key
from featstore.errors import ConfigError, DatasetError

Tone = Callable[..., Path]


def miniature(root: Path, tone: Tone) -> Path:
    for name in ("rock/10.wav", "rock/9.wav", "Jazz/live/1.flac", "top.WAV", "rock/caf\u00e9.wav"):
        tone(root / name)
    (root / "rock/empty.mp3").touch()
    return root


def ids(root: Path, **options: str) -> list[str]:
    return index("folder", root, **options).frame["track_id"].tolist()


def test_subfolders_are_labels_in_natural_order(tmp_path: Path, tone: Tone) -> None:
    for name in ("rock/10.wav", "rock/9.wav", "Jazz/live/1.flac", "top.WAV"):
        tone(tmp_path / name)
    (tmp_path / "rock/cover.jpg").write_bytes(b"x")
    table = index("folder", tmp_path)
    assert table.frame["track_id"].tolist() == ["Jazz/live/1.flac", "rock/9.wav", "rock/10.wav", "top.WAV"]
    assert table.frame["labels"].tolist() == [["Jazz"], ["rock"], ["rock"], []]
    assert table.info.task == "single_label" and table.info.classes == ("Jazz", "rock")
    assert table.frame["path"].tolist()[1] == str(tmp_path / "rock/9.wav")
    assert table.frame["split"].isna().all() and table.frame["group"].isna().all()
    assert index("folder", tmp_path, label_from="parent").info.classes == ("live", "rock")
    assert index("folder", tmp_path, label_from="none").info.task == "none"
    assert index("folder", tmp_path, group_from="parent").frame["group"].tolist() == ["Jazz/live", "rock", "rock", None]


def test_folders_called_like_splits(tmp_path: Path, tone: Tone) -> None:
    for name in ("train/rock/a.wav", "val/rock/b.wav", "Test/jazz/c.wav"):
        tone(tmp_path / name)
    table = index("folder", tmp_path)
    assert dict(zip(table.frame["track_id"], table.frame["split"], strict=True)) == {
        "Test/jazz/c.wav": "test",
        "train/rock/a.wav": "train",
        "val/rock/b.wav": "valid",
    }
    assert table.info.classes == ("jazz", "rock")
    tone(tmp_path / "blues/d.wav")
    assert index("folder", tmp_path).frame["split"].isna().all()


def test_odd_names_survive(tmp_path: Path, tone: Tone) -> None:
    names = [
        "-rf.wav",
        "new\nline.wav",
        "naïve 音楽.wav",
        " space .wav",
        "quote'\".wav",
        "x" * 251 + ".wav",
        ".hidden.wav",
    ]
    for name in names:
        tone(tmp_path / "a" / name)
    table = index("folder", tmp_path)
    assert sorted(table.frame["track_id"]) == sorted(f"a/{name}" for name in names)
    table.write(tmp_path / "t.parquet")
    assert all(os.path.exists(path) for path in type(table).read(tmp_path / "t.parquet").frame["path"])


def test_names_that_are_not_utf8_are_listed_with_the_reason(tmp_path: Path, tone: Tone) -> None:
    tone(tmp_path / "good.wav")
    tone(tmp_path / r"caf\xe9.wav")
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"x")
        (tmp_path / os.fsdecode(b"l\xff")).mkdir()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (tmp_path / os.fsdecode(b"l\xff") / "x.wav").write_bytes(b"x")
    table = index("folder", tmp_path)
    errors = dict(zip(table.frame["track_id"], table.frame["probe_error"], strict=True))
    assert set(errors) == {"good.wav", r"caf\xe9.wav", r"caf\xe9.wav~", r"l\xff/x.wav"}
    assert errors["good.wav"] is None and errors[r"caf\xe9.wav"] is None
    assert "not valid UTF-8; rename it" in errors[r"caf\xe9.wav~"] and "UTF-8" in errors[r"l\xff/x.wav"]
    table.write(tmp_path / "t.parquet")


def test_loops_end_and_links_are_followed_once(tmp_path: Path, tone: Tone) -> None:
    tone(tmp_path / "music/z/a.wav")
    tone(tmp_path / "elsewhere/b.wav")
    (tmp_path / "music/z/loop").symlink_to(tmp_path / "music")
    (tmp_path / "music/a_link_to_z").symlink_to(tmp_path / "music/z")
    (tmp_path / "music/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "music/self").symlink_to("self")
    assert ids(tmp_path / "music") == ["linked/b.wav", "z/a.wav"]


def test_what_only_looks_like_audio_is_still_listed(tmp_path: Path, tone: Tone) -> None:
    tone(tmp_path / "folder.wav/inside.wav")
    (tmp_path / "dangling.mp3").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "._mac.wav").write_bytes(b"x")
    tone(tmp_path / ".trash/gone.wav")
    assert ids(tmp_path) == ["dangling.mp3", "folder.wav/inside.wav", "pipe.wav"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_noted(tmp_path: Path, tone: Tone) -> None:
    tone(tmp_path / "good.wav")
    (tmp_path / "closed").mkdir(mode=0)
    assert "folder not read: closed" in index("folder", tmp_path).info.notes


def test_faults(tmp_path: Path, tone: Tone) -> None:
    with pytest.raises(DatasetError, match=r"no such folder.*absent"):
        index("folder", tmp_path / "absent")
    with pytest.raises(DatasetError, match="the folder is empty"):
        index("folder", tmp_path)
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"no audio in this folder.*\.flac"):
        index("folder", tmp_path)
    with pytest.raises(DatasetError, match=r"this is a file, not a folder.*csv"):
        index("folder", tone(tmp_path / "a.wav"))
    with pytest.raises(DatasetError, match=r"no folder or file given.*featstore datasets index folder ROOT"):
        index("folder")
    with pytest.raises(ConfigError, match=r"label_from='artist' is not a choice.*none, parent, top"):
        index("folder", tmp_path, label_from="artist")
    with pytest.raises(ConfigError, match=r"unknown option 'label_form'.*Did you mean label_from"):
        index("folder", tmp_path, label_form="top")
    with pytest.raises(ConfigError, match=r"unknown kind of data set 'foldr'.*Did you mean folder"):
        index("foldr", tmp_path)


def test_every_kind_describes_itself() -> None:
    for kind in DATASETS:
        summary, options = describe(kind)
        assert summary.endswith(".") and "root" not in options


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.text(max_size=8)))
def test_natural_key_orders_any_names(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    assert sorted(ordered) == sorted(names)
    backwards = list(reversed(names))
    assert sorted(backwards, key=natural_key) == ordered
