"""ISMIR 2004 genre: a miniature of its trees and lists with their known faults."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from featstore.datasets import check_table, index
from featstore.datasets.ismir2004 import CLASSES, COUNTS
from featstore.errors import ConfigError, DatasetError
from featstore.workflows.indexing import index_tracks

Tone = Callable[..., Path]
FOLDERS = ("classical", "electronic", "jazz", "metal", "pop", "punk", "rock", "world")


def quoted(*cells: str) -> str:
    return ",".join(f'"{cell}"' for cell in cells) + "\n"


def miniature(root: Path, tone: Tone, *, header: bool = False) -> Path:
    """Ten training, two evaluation and two development songs of every folder; three names differ from the lists."""
    lists: dict[str, list[str]] = {"training": [], "evaluation": [], "development": []}
    for position, genre in enumerate(FOLDERS):
        for number in range(12):
            part = "training" if number < 10 else "evaluation"
            artist, album = f"{genre} artist {number % 5}", f"album {number % 5}"
            path = f"{genre}/{artist}/{album}/{number}-song.mp3".replace(" ", "_")
            disk = path
            if (genre, number) == ("classical", 0):
                path = path.replace("0-song", "0-libro_d'intavolatura")
                disk = path.replace("'", "_")
            if (genre, number) == ("world", 10):
                path = path.replace("10-song", "5-kruhov\u00fd_objazd")
                disk = path.replace("\u00fd", "y\u0301")
            tone(root / "audio" / part / disk.replace(".mp3", ".wav"), hz=200 + 20 * position + number)
            wave = root / "audio" / part / disk.replace(".mp3", ".wav")
            wave.rename(wave.with_suffix(".mp3"))
            more = ["4711"] if part == "evaluation" else []
            lists[part].append(quoted(genre, artist, album, f"Song, {number}", str(number), path, *more))
        for number in range(2):
            name = f"artist_{position}_album_1_track_{number}.mp3"
            tone(root / "audio/development" / name.replace(".mp3", ".wav")).rename(root / "audio/development" / name)
            lists["development"].append(quoted(genre, f"artist_{position}", "album_1", "track", str(number), name))
    for part, lines in lists.items():
        (root / "metadata" / part).mkdir(parents=True)
        first = quoted("class", "artist", "album", "track", "tracknumber", "file") if header else ""
        (root / "metadata" / part / "tracklist.csv").write_text(first + "".join(lines), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def tone(path: Path, **settings: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        return path

    return miniature(tmp_path_factory.mktemp("ismir"), tone)


def test_published_counts() -> None:
    assert [sum(counts) for counts in COUNTS.values()] == [729, 729, 729]
    both = [a + b for a, b in zip(COUNTS["training"], COUNTS["development"], strict=True)]
    assert both == [640, 229, 52, 90, 203, 244]


def test_official_split(root: Path) -> None:
    table = index("ismir2004", root)
    frame = table.frame
    assert table.info.name == "ismir2004-development" and table.info.classes == CLASSES
    assert Counter(frame["split"]) == {"train": 72, "valid": 8, "test": 16}
    per_class = Counter(frame.loc[frame["split"] == "valid", "labels"].str[0])
    assert per_class == {"classical": 1, "electronic": 1, "jazz_blues": 1, "metal_punk": 2, "rock_pop": 2, "world": 1}
    assert set(frame.loc[frame["split"] == "test", "part"]) == {"development"}
    assert "test: development" in table.info.notes and "artists of development are anonymous" in table.info.notes
    assert "training has 10/10/10/20/20/10 songs, published 320/115/26/45/101/122" in table.info.notes
    other = index("ismir2004", root, seed=1).frame
    assert not other["split"].equals(frame["split"]) and index("ismir2004", root).frame["split"].equals(frame["split"])


def test_overlap_stands_beside_evaluation(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        table = index("ismir2004", root, test="evaluation")
    assert "16 of 16 test songs have an artist of training, 16 an album of training" in table.info.notes
    assert "16 of 16 test songs" in caplog.text
    assert {each.kind for each in check_table(table, compare_audio=False)} >= {"group_overlap"}


def test_split_by_artists(root: Path) -> None:
    table = index("ismir2004", root, split="artists")
    sides: dict[str, set[str]] = {}
    for group, split in zip(table.frame["group"], table.frame["split"], strict=True):
        sides.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in sides.values()) and len(sides) == 40
    assert set(table.frame["split"]) == {"train", "valid", "test"} and table.info.name == "ismir2004-artists"


def test_names_that_differ_from_the_lists(tmp_path: Path, tone: Tone) -> None:
    table = index_tracks("ismir2004", miniature(tmp_path, tone, header=True), test="evaluation")
    assert table.frame["probe_error"].isna().all() and len(table.frame) == 96
    assert "2 paths were matched without marks and punctuation" in table.info.notes
    assert "libro_d'intavolatura" in table.info.notes
    frame = table.frame.set_index("track_id")
    track = "training/classical/classical_artist_0/album_0/0-libro_d'intavolatura"
    assert frame.loc[track, "path"].endswith("0-libro_d_intavolatura.mp3")
    next((tmp_path / "audio/training/jazz").rglob("*.mp3")).unlink()
    errors = index_tracks("ismir2004", tmp_path).frame["probe_error"]
    assert errors[errors.notna()].tolist() == ["no such file"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"jazz","a"\n', "line 1 has 2 cells, a song has 6 or 7"),
        ('"jaz","a","b","c","1","x.mp3"\n', "unknown class 'jaz'.*Did you mean jazz"),
        ('"jazz","a","b","c","1","../../x.mp3"\n', "leads out of the set"),
        ('"jazz","a\n', "not readable as CSV"),
        ("", "the list has no songs"),
    ],
)
def test_faulty_lists(root: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "audio").symlink_to(root / "audio")
    (tmp_path / "metadata/training").mkdir(parents=True)
    (tmp_path / "metadata/training/tracklist.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        index("ismir2004", tmp_path)


def test_nothing_there_and_wrong_choices(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder audio here"):
        index("ismir2004", tmp_path)
    (tmp_path / "audio").mkdir()
    with pytest.raises(DatasetError, match=r"no tracklist\.csv here"):
        index("ismir2004", tmp_path)
    (tmp_path / "metadata").symlink_to(root / "metadata")
    with pytest.raises(DatasetError, match="none of the songs is there"):
        index("ismir2004", tmp_path)
    with pytest.raises(ConfigError, match="split='random' is not a choice"):
        index("ismir2004", root, split="random")
    with pytest.raises(ConfigError, match="test='training' is not a choice"):
        index("ismir2004", root, test="training")
