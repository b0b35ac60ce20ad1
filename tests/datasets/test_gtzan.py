"""GTZAN: miniatures of both trees, and what may be wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from featstore.datasets import check_table, index
from featstore.datasets.gtzan import FAULT_FILTERED, GENRES, fault_filtered_split
from featstore.errors import ConfigError, DatasetError
from featstore.workflows.indexing import index_tracks

Tone = Callable[..., Path]


def miniature(root: Path, tone: Tone, *, inside: str = "genres", suffix: str = "au", per_genre: int = 10) -> Path:
    """A few clips of every genre; jazz.00054 cannot be decoded, as in one copy of the set."""
    for position, genre in enumerate(GENRES):
        for number in range(per_genre):
            tone(root / inside / genre / f"{genre}.{number:05d}.{suffix}", hz=200 + 10 * position + number)
    (root / inside / "jazz" / f"jazz.00054.{suffix}").write_bytes(b"RIFF\x00\x00\x00\x00WAVEjunk")
    (root / "features_30_sec.csv").write_text("filename\n")
    (root / inside / "jazz" / ".DS_Store").write_bytes(b"x")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gtzan")
    for genre in GENRES:  # names are enough where no file is opened
        (root / "genres" / genre).mkdir(parents=True)
        for number in range(100):
            (root / "genres" / genre / f"{genre}.{number:05d}.au").touch()
    return root


@pytest.mark.parametrize(
    ("inside", "suffix"), [("genres", "au"), ("genres", "wav"), ("genres_original", "wav"), ("", "au")]
)
def test_both_trees_and_endings(tmp_path: Path, tone: Tone, inside: str, suffix: str) -> None:
    table = index_tracks("gtzan", miniature(tmp_path, tone, inside=inside, suffix=suffix, per_genre=2))
    frame = table.frame.set_index("track_id")
    assert table.info.classes == GENRES and len(frame) == 21
    assert frame.loc["blues.00001", "path"] == str(tmp_path / inside / "blues" / f"blues.00001.{suffix}")
    assert frame["probe_error"].notna().sum() == 1 and frame.loc["jazz.00054", "probe_error"] is not None
    assert frame.loc["blues.00000", "duration_s"] == 0.1, "the true length, not 30 s"
    assert "not 100 clips: blues 2" in table.info.notes


def test_published_split_to_the_file() -> None:
    splits = fault_filtered_split()
    counts = Counter(splits.values())
    assert counts == {"train": 443, "valid": 197, "test": 290} and len(FAULT_FILTERED) == 10
    per_genre = {s: [sum(v == s and k.startswith(g) for k, v in splits.items()) for g in GENRES] for s in counts}
    assert per_genre["train"] == [46, 48, 45, 42, 47, 43, 44, 41, 43, 44]
    assert per_genre["valid"] == [23, 20, 23, 22, 18, 17, 20, 13, 17, 24]
    assert per_genre["test"] == [31, 31, 30, 29, 27, 27, 27, 30, 26, 32]
    assert splits["jazz.00054"] == "train" and "classical.00042" not in splits


def test_fault_filtered(root: Path) -> None:
    table = index("gtzan", root, split="fault_filtered")
    assert Counter(table.frame["split"]) == {"train": 443, "valid": 197, "test": 290}
    assert table.info.name == "gtzan-fault-filtered" and "70 faulty tracks left out" in table.info.notes
    assert [each for each in check_table(table, compare_audio=False) if each.kind == "unexpected_count"] == []


def test_folds_are_stratified_and_follow_from_the_seed(root: Path, tmp_path: Path) -> None:
    table = index("gtzan", root, split="folds", fold=3, seed=1)
    frame = table.frame
    assert Counter(frame["split"]) == {"train": 800, "valid": 100, "test": 100}
    assert set(Counter(zip(frame["track_id"].str.split(".").str[0], frame["fold"], strict=True)).values()) == {10}
    assert set(frame.loc[frame["split"] == "test", "fold"]) == {3}
    assert set(frame.loc[frame["split"] == "valid", "fold"]) == {4}
    assert index("gtzan", root, split="folds", fold=3, seed=1).frame["fold"].equals(frame["fold"])
    assert not index("gtzan", root, split="folds", fold=3, seed=2).frame["fold"].equals(frame["fold"])
    listed = tmp_path / "folds.txt"
    lines = [f"{track}.au, {fold}" for track, fold in zip(frame["track_id"], frame["fold"], strict=True)]
    listed.write_text("\n".join(lines))
    given = index("gtzan", root, split="folds", fold=3, folds_file=str(listed))
    assert given.frame["split"].equals(frame["split"])
    for text, message in (
        ("\n".join(lines[1:]), "1 tracks have no fold, blues.00000 among them"),
        ("blues.00000.au\n", "line 1 is not a track and its fold"),
        ("\n".join([*lines, lines[0]]), "line 1001 is not a track"),
    ):
        listed.write_text(text)
        with pytest.raises(DatasetError, match=message):
            index("gtzan", root, split="folds", folds_file=str(listed))


def test_stratified_80_20_keeps_repeats_together(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = index("gtzan", root).frame
    assert Counter(frame["split"]) == {"train": 800, "test": 200} and "holds repeats of recordings" in caplog.text
    assert set(Counter(frame.loc[frame["split"] == "test", "labels"].str[0]).values()) == {20}
    repeats = tmp_path / "repeats.json"
    repeats.write_text(json.dumps([["jazz.00033", "jazz.00051"], ["metal.00058", "rock.00016", "rock.00017"]]))
    table = index("gtzan", root, repeats=str(repeats))
    split = table.frame.set_index("track_id")["split"]
    assert split["jazz.00033"] == split["jazz.00051"]
    assert split["metal.00058"] == split["rock.00016"] == split["rock.00017"]
    caplog.clear()
    leak = index("gtzan", root, split="folds", repeats=str(repeats), folds_file=str(every_other(root, tmp_path)))
    assert "1 recordings are on two sides: repeat of jazz.00033" in leak.info.notes and "on two sides" in caplog.text
    found = [each.message for each in check_table(leak, compare_audio=False) if each.kind == "group_overlap"]
    assert found[0].startswith("group 'repeat of jazz.00033' is in")
    repeats.write_text('[["jazz.99999"]]')
    with pytest.raises(
        DatasetError, match=r"ids belong to no track of the table, such as 'jazz\.99999' .*repeats\.json"
    ):
        index("gtzan", root, repeats=str(repeats))
    repeats.write_text('["jazz.00033"]')
    with pytest.raises(DatasetError, match=r'entry 1 is "jazz\.00033", not a list of track ids'):
        index("gtzan", root, repeats=str(repeats))


def test_lists_of_repeats_that_share_a_track_are_one_group(root: Path, tmp_path: Path) -> None:
    lists = [["jazz.00033", "jazz.00051"], ["pop.00001", "pop.00002"], ["jazz.00060", "jazz.00051"]]
    (tmp_path / "r.json").write_text(json.dumps(lists))
    group = index("gtzan", root, repeats=str(tmp_path / "r.json")).frame.set_index("track_id")["group"].dropna()
    assert set(group[["jazz.00033", "jazz.00051", "jazz.00060"]]) == {"repeat of jazz.00033"}
    assert set(group[["pop.00001", "pop.00002"]]) == {"repeat of pop.00001"} and len(group) == 5


def every_other(root: Path, folder: Path) -> Path:
    """Folds that change from one file number to the next but one."""
    names = sorted(path.name for path in root.rglob("*.au"))
    (folder / "f.txt").write_text(
        "\n".join(f"{n} {(int(n.split('.')[1]) // 4 + n.startswith('r')) % 3}" for n in names)
    )
    return folder / "f.txt"


def test_faults(tmp_path: Path, tone: Tone) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        index("gtzan", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no folder of a genre is in"):
        index("gtzan", tmp_path / "empty")
    miniature(tmp_path / "g", tone, per_genre=1)
    with pytest.raises(ConfigError, match="split='random' is not a choice"):
        index("gtzan", tmp_path / "g", split="random")
    with pytest.raises(ConfigError, match=r"fold=10 is not one of 10.*Use 0 to 9"):
        index("gtzan", tmp_path / "g", split="folds", fold=10)
    tone(tmp_path / "g/genres/pop/pop.00000.wav")
    with pytest.raises(DatasetError, match=r"two files of pop.00000: pop.00000.au and pop.00000.wav"):
        index("gtzan", tmp_path / "g")


def test_lists_are_the_published_ones() -> None:
    digests = {}
    for part in ("train", "valid", "test"):
        tracks = [track for track, split in fault_filtered_split().items() if split == part]
        text = "".join(f"{track.partition('.')[0]}/{track}.wav\n" for track in tracks)
        digests[part] = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert digests == {"train": "2b04966cef14", "valid": "f8fbee7c5239", "test": "09cafa6a89ce"}
