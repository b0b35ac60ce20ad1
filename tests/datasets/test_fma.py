"""Free Music Archive: a miniature of the real tree with its known faults."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featstore.datasets import check_table, index
from featstore.datasets.fma import GENRES, MEDIUM_COUNTS
from featstore.errors import ConfigError, DatasetError
from featstore.workflows.indexing import index_tracks

Tone = Callable[..., Path]
HEADER = {
    "album": "comments date_created date_released engineer favorites id information listens producer tags title tracks"
    " type",
    "artist": "active_year_begin active_year_end associated_labels bio comments date_created favorites id latitude"
    " location longitude members name related_projects tags website wikipedia_page",
    "set": "split subset",
    "track": "bit_rate comments composer date_created date_recorded duration favorites genre_top genres genres_all"
    " information interest language_code license listens lyricist number publisher tags title",
}
TOP = [top for top, names in HEADER.items() for _ in names.split()]
BELOW = [name for names in HEADER.values() for name in names.split()]
# id, subset, split, artist, genre; jazz has one test clip, 150 no genre, 99134 no audio, 98565 is short
TRACKS = [
    *((number, "small", "training", number % 7, "Rock") for number in range(2, 12)),
    *((number, "small", "validation", 20, "Rock") for number in (12, 13)),
    *((number, "small", "test", 21, "Hip-Hop") for number in (14, 15, 16)),
    *((number, "medium", "training", number % 5 + 30, "Jazz") for number in range(100, 110)),
    (110, "medium", "test", 40, "Jazz"),
    (111, "medium", "validation", 41, "Old-Time / Historic"),
    (120, "medium", "training", 50, "Electronic"),
    (150, "large", "training", 51, ""),
    (98565, "small", "test", 52, "Electronic"),
    (99134, "small", "training", 53, "Electronic"),
    (107535, "large", "test", 54, "Rock"),
    (130001, "medium", "training", 55, "Electronic"),
]


def tracks_csv(tracks: list[tuple[int, str, str, int, str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([["", *TOP], ["", *BELOW], ["track_id", *[""] * len(TOP)]])
    for number, subset, split, artist, genre in tracks:
        cells = dict.fromkeys(zip(TOP, BELOW, strict=True), "")
        cells |= {("set", "split"): split, ("set", "subset"): subset, ("artist", "id"): str(artist)}
        cells |= {
            ("track", "genre_top"): genre,
            ("track", "genres"): "[21, 58]",
            ("track", "genres_all"): "[21, 58, 12]",
        }
        cells |= {("track", "duration"): "208", ("artist", "name"): f"Artist, {artist}", ("track", "title"): 'A "B"\nC'}
        cells |= {("artist", "tags"): "['a', 'b']", ("artist", "bio"): "x" * (200_000 if number == 2 else 3)}
        writer.writerow([number, *cells.values()])
    return text.getvalue()


def miniature(root: Path, tone: Tone) -> Path:
    """Metadata and clips of ``fma_medium``; 000104 is missing, 99134 has no audio, 98565 has 1.6 s, 000106 is mono."""
    (root / "fma_metadata").mkdir(parents=True)
    (root / "fma_metadata/tracks.csv").write_text(tracks_csv(TRACKS), encoding="utf-8")
    (root / "fma_metadata/not_found.pickle").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    clip = tone(root / "clip.wav", seconds=0.5, sample_rate=44_100, channels=2)
    wave, rate = soundfile.read(clip)
    clip.unlink()
    lines = []
    for number, subset, *_ in TRACKS:
        path = root / "fma_medium" / f"{number:06d}"[:3] / f"{number:06d}.mp3"
        if subset == "large" or number == 104:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if number == 99134:
            path.write_bytes(b"ID3\x03\x00\x00\x00\x00\x00\x00")
        elif number == 98565:
            soundfile.write(path, np.tile(wave, (4, 1))[: round(1.6 * rate)], rate, format="MP3")
        elif number == 106:
            soundfile.write(path, wave[:, 0], 22_050, format="MP3")
        else:
            soundfile.write(path, wave * (0.5 + number % 50 / 100), rate, format="MP3")
        lines.append(f"{hashlib.sha1(path.read_bytes()).hexdigest()}  {path.parent.name}/{path.name}\n")
    (root / "fma_medium/checksums").write_text("".join(lines))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def tone(path: Path, *, seconds: float, sample_rate: int, channels: int) -> Path:
        wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * sample_rate)) / sample_rate)
        soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), sample_rate)
        return path

    return miniature(tmp_path_factory.mktemp("fma"), tone)


def test_there_are_52_columns_and_the_published_sums() -> None:
    assert len(TOP) == 52 and [TOP.count(top) for top in HEADER] == [13, 17, 2, 20]
    assert [sum(row[part] for row in MEDIUM_COUNTS.values()) for part in range(3)] == [19_922, 2_505, 2_573]
    assert list(GENRES) == sorted(GENRES) and len(GENRES) == 16


def test_a_subset_holds_the_smaller_ones(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        table = index("fma", root)
    frame = table.frame.set_index("track_id")
    assert Counter(frame["subset"]) == {"small": 17, "medium": 14} and "000150" not in frame.index
    assert len(index("fma", root, subset="small", audio="fma_medium").frame) == sum(t[1] == "small" for t in TRACKS)
    assert frame.loc["000002", "path"] == str(root / "fma_medium/000/000002.mp3")
    assert frame.loc["130001", "path"] == str(root / "fma_medium/130/130001.mp3")
    assert frame.loc["000110", "labels"] == ["Jazz"] and frame.loc["000110", "split"] == "test"
    assert frame.loc["000002", "genres_all"] == [21, 58, 12] and frame.loc["000002", "artist"] == "Artist, 2"
    assert table.info.classes == GENRES and table.info.name == "fma-medium"
    assert "Rock 10/2/0 (published 5681/711/711)" in table.info.notes and "Rock 10/2/0" in caplog.text


def test_large_has_tracks_without_a_genre(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "fma_medium", tmp_path / "fma_large")
    table = index("fma", tmp_path, subset="large", metadata=str(root / "fma_metadata"))
    frame = table.frame.set_index("track_id")
    assert frame.loc["000150", "labels"] == [] and len(frame) == len(TRACKS)
    assert frame.loc["107535", "fault"] == "distorted" and frame.loc["107535", "split"] == "test"
    strict = index("fma", tmp_path, subset="large", metadata=str(root / "fma_metadata"), exclude="reported")
    assert strict.frame.set_index("track_id").loc["107535", "split"] is None


def test_faulty_clips_stay_with_their_reason(root: Path) -> None:
    table = index_tracks("fma", root)
    frame = table.frame.set_index("track_id")
    assert frame.loc["099134", "probe_error"] == "known fault: no_audio" and frame.loc["099134", "split"] is None
    assert frame.loc["099134", "official_split"] == "train"
    assert frame.loc["098565", "fault"] == "short" and frame.loc["098565", "split"] == "test"
    assert frame.loc["098565", "duration_s"] == pytest.approx(1.6, abs=0.06)
    assert frame.loc["000104", "probe_error"] == "no such file"
    assert (frame.loc["000106", "channels"], frame.loc["000106", "source_sample_rate"]) == (1, 22_050)
    assert "1 clips left out for known faults" in table.info.notes
    shown = index_tracks("fma", root, exclude="none").frame.set_index("track_id").loc["099134"]
    assert shown["split"] == "train" and "known" not in shown["probe_error"], "what is not excluded is detected"
    short = next(each for each in check_table(table, compare_audio=False) if each.kind == "short_clip")
    assert "098565" in short.tracks


def test_zips_are_read(root: Path, tmp_path: Path) -> None:
    for name in ("fma_metadata", "fma_medium"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w", zipfile.ZIP_BZIP2) as archive:
            for path in sorted((root / name).rglob("*")):
                archive.write(path, path.relative_to(root))
    table = index("fma", tmp_path)
    assert table.frame["track_id"].tolist() == index("fma", root).frame["track_id"].tolist()
    assert not (tmp_path / "fma_metadata").exists()
    for path in table.frame["path"]:
        name = Path(path).relative_to(tmp_path)
        assert not (root / name).exists() or Path(path).read_bytes() == (root / name).read_bytes()
    (tmp_path / "fma_medium/000/000002.mp3").write_bytes(b"torn")
    index("fma", tmp_path)
    assert (tmp_path / "fma_medium/000/000002.mp3").stat().st_size > 1000
    (tmp_path / "fma_metadata.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match="the archive cannot be opened"):
        index("fma", tmp_path)


def test_checksums(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "fma")
    assert index("fma", tmp_path / "fma", verify="yes").frame["probe_error"].notna().sum() == 1
    with open(tmp_path / "fma/fma_medium/000/000003.mp3", "ab") as file:
        file.write(b"x")
    frame = index("fma", tmp_path / "fma", verify="yes").frame.set_index("track_id")
    assert "its SHA-1 differs" in frame.loc["000003", "probe_error"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.replace("genre_top", "genre"), "no columns track.genre_top"),
        (lambda t: t.replace("set,set", "x,x", 1), r"no columns set\.split, set\.subset"),
        (lambda t: t.replace("[21, 58]", "__import__('os')", 1), r"is no list of genre ids .*line 4"),
        (lambda t: t.replace("\n12,", "\n11,"), "track 11 is listed twice"),
        (lambda t: t.replace("\n12,", "\nx12,"), "'x12' is no track id"),
        (lambda t: t.replace("validation", "dev", 1), "set.split='dev'"),
        (lambda t: t.replace(",208,", ",3:28,", 1), "track.duration='3:28' is no number"),
        (lambda t: t + "7\n", "has 1 cells, the header has 53"),
        (lambda t: "\n".join(t.split("\n")[:3]), "no track is in the subset medium"),
    ],
)
def test_damaged_metadata(root: Path, tmp_path: Path, spoil: Callable[[str], str], message: str) -> None:
    text = spoil((root / "fma_metadata/tracks.csv").read_text())
    (tmp_path / "tracks.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        index("fma", root, metadata=str(tmp_path))


def test_an_artist_on_two_sides_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "tracks.csv").write_text(tracks_csv([*TRACKS, (17, "small", "test", 2, "Rock")]))
    with pytest.raises(DatasetError, match=r"1 artists are on two sides of the split: 2 \(test/train\)"):
        index("fma", root, metadata=str(tmp_path))


def test_nothing_there_and_wrong_choices(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no tracks\.csv in .*fma_metadata\.zip"):
        index("fma", tmp_path)
    with pytest.raises(DatasetError, match=r"no clips such as 000/000002\.mp3 in"):
        index("fma", tmp_path, metadata=str(root / "fma_metadata"))
    for option, value in (("subset", "tiny"), ("exclude", "all"), ("verify", "maybe")):
        with pytest.raises(ConfigError, match=f"{option}='{value}' is not a choice"):
            index("fma", root, **{option: value})
