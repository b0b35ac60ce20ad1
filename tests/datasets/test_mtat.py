"""MagnaTagATune: a miniature of the true tree, and everything that may be wrong with it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from featstore.datasets import check_table, index
from featstore.datasets.mtat import COUNTS, TAGS, UNUSABLE
from featstore.errors import ConfigError, DatasetError
from featstore.testing.published import MTAT_CLIPS, mtat_path, write_mtat
from featstore.workflows.indexing import index_tracks
from featstore_cli.datasets import datasets


def miniature(root: Path, tone: Callable[..., Path]) -> Path:
    return write_mtat(root, tone)


@pytest.fixture
def root(tmp_path: Path, tone: Callable[..., Path]) -> Path:
    return write_mtat(tmp_path / "mtat", tone)


def edit(root: Path, change: Callable[[list[list[str]]], object]) -> None:
    """Change the cells of the annotations."""
    path = root / "annotations_final.csv"
    with open(path, newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    change(rows)
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)


def test_published_order_and_counts() -> None:
    assert len(TAGS) == len(set(TAGS)) == 50
    assert TAGS[:6] == ("guitar", "classical", "slow", "techno", "strings", "drums") and TAGS[-1] == "choral"
    assert UNUSABLE == ("35644", "55753", "57881")
    assert sum(COUNTS["full"].values()) + len(UNUSABLE) == 25_863
    assert COUNTS["full"]["valid"] - COUNTS["cleaned"]["valid"] == 296
    assert COUNTS["full"]["test"] - COUNTS["cleaned"]["test"] == 997


def test_full_split_goes_by_folders(root: Path) -> None:
    table = index("mtat", root)
    frame = table.frame.set_index("track_id")
    assert table.info.name == "mtat" and table.info.task == "multi_label" and table.info.classes == TAGS
    assert list(frame.index) == ["2", "6", "10", "11", "12", "21", "25", "29", "30"]
    assert Counter(frame["split"]) == {"train": 3, "valid": 2, "test": 4}
    assert frame["split"][["10", "12", "21", "29", "2"]].tolist() == ["train", "train", "valid", "test", "test"]
    assert frame["labels"]["11"] == ["techno", "beat", "synth"], "in the published order, whatever the file's"
    assert frame["labels"]["25"] == [] and frame["labels"]["30"] == []
    assert frame["group"]["2"] == frame["group"]["6"] and frame["group"].nunique() == 8
    assert frame["artist"]["21"] == frame["artist"]["25"] == "phebe_craig"
    assert frame["start_s"]["6"] == 146 and frame["title"]["6"] == "Title 6" and frame["album"]["6"] == "An Album"
    assert table.targets().shape == (9, 50) and table.targets()[3].sum() == 3
    assert "1 without audio left out" in table.info.notes


def test_cleaned_split_has_a_tag_everywhere(root: Path) -> None:
    table = index("mtat", root, split="cleaned")
    assert list(table.frame["track_id"]) == ["2", "6", "10", "11", "12", "21", "29"]
    assert table.info.name == "mtat-cleaned" and "2 without any of the 50 tags left out" in table.info.notes
    every = index("mtat", root, tags="all")
    assert len(every.info.classes) == 54 and every.frame["labels"][6] == ["hard rock"]


@pytest.mark.parametrize("inside", ["mp3", "audio"])
def test_clips_may_lie_in_a_folder_of_their_own(tmp_path: Path, tone: Callable[..., Path], inside: str) -> None:
    root = write_mtat(tmp_path, tone, inside=inside)
    assert index("mtat", root).frame["path"][0] == str(root / inside / mtat_path(MTAT_CLIPS[0]))
    elsewhere = index("mtat", root, annotations=str(root / "annotations_final.csv"), audio=inside)
    assert elsewhere.frame["path"][0] == str(root / inside / mtat_path(MTAT_CLIPS[0]))


def test_missing_and_empty_clips_stay_with_their_reason(root: Path) -> None:
    (root / mtat_path(MTAT_CLIPS[2])).unlink()
    (root / mtat_path(MTAT_CLIPS[3])).write_bytes(b"")
    table = index_tracks("mtat", root)
    errors = table.frame.set_index("track_id")["probe_error"]
    assert errors.notna().sum() == 2 and errors["10"] and errors["11"]
    found = {(each.kind, each.tracks) for each in check_table(table)}
    assert ("unreadable", ("10",)) in found and ("unreadable", ("11",)) in found


def test_a_missing_folder_is_reported(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (root / "d").iterdir():
        path.unlink()
    (root / "d").rmdir()
    assert index("mtat", root).info.notes.endswith("folders not there: d")
    assert "folders not there: d" in caplog.text


def test_check_reports_what_differs_from_the_published_counts(root: Path) -> None:
    messages = [each.message for each in check_table(index("mtat", root)) if each.kind == "unexpected_count"]
    assert messages == [
        "split train has 3 tracks; the published one has 18,706",
        "split valid has 2 tracks; the published one has 1,825",
        "split test has 4 tracks; the published one has 5,329",
    ]


def drop_tag(rows: list[list[str]]) -> None:
    place = rows[0].index("guitar")
    for row in rows:
        del row[place]


FAULTS: dict[str, tuple[Callable[[list[list[str]]], object], str]] = {
    "twice": (lambda rows: rows.append(rows[3]), "clip 10 is listed twice, in lines 4 and 12"),
    "file twice": (lambda rows: rows[2].__setitem__(-1, rows[1][-1]), "is listed twice, in lines 2 and 3"),
    "header": (lambda rows: rows[0].__setitem__(0, "id"), "the header is not that of the annotations: id,"),
    "tag": (drop_tag, "1 of the 50 tags have no column: guitar"),
    "two columns": (lambda rows: rows[0].__setitem__(1, "singer"), "two columns are called 'singer'"),
    "short line": (lambda rows: rows[4].pop(), "line 5 has 55 cells, the header has 56"),
    "value": (lambda rows: rows[5].__setitem__(1, "2"), "line 6: 'woman' is '2', neither 0 nor 1"),
    "id": (lambda rows: rows[1].__setitem__(0, "two"), "line 2: 'two' is no clip id"),
    "folder": (lambda rows: rows[1].__setitem__(-1, "g/x-0-29.mp3"), "line 2: 'g/x-0-29.mp3' is no path of a clip"),
    "outside": (lambda rows: rows[1].__setitem__(-1, "f/../../x-0-29.mp3"), "is no path of a clip"),
    "empty": (lambda rows: rows.__delitem__(slice(1, None)), "the annotations have no clips"),
    "nothing": (lambda rows: rows.clear(), "the header is not that of the annotations: nothing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_annotations(root: Path, fault: str) -> None:
    change, message = FAULTS[fault]
    edit(root, change)
    with pytest.raises(DatasetError) as error:
        index("mtat", root)
    assert message in str(error.value)


def test_commas_for_tabs_and_bytes_for_text(root: Path) -> None:
    source = root / "annotations_final.csv"
    good = source.read_text()
    source.write_text(good.replace("\t", ","))
    with pytest.raises(DatasetError, match="separated by tabs"):
        index("mtat", root)
    source.write_bytes(good.encode().replace(b"jag", b"j\xff"))
    with pytest.raises(DatasetError, match="not UTF-8 text"):
        index("mtat", root)
    source.unlink()
    with pytest.raises(DatasetError, match="no annotations here"):
        index("mtat", root)


def test_the_set_is_not_unpacked_or_not_there(tmp_path: Path, root: Path) -> None:
    import shutil

    for letter in "0123456789abcdef":
        shutil.rmtree(root / letter)
    with pytest.raises(DatasetError, match=r"none of the clip folders 0 to f is in .*Unpack the clips there"):
        index("mtat", root)
    (root / "mp3.zip.001").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"Unpack the archive first: cat mp3\.zip\.\* > all\.zip"):
        index("mtat", root)
    with pytest.raises(DatasetError, match="no such folder"):
        index("mtat", tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="a file, not a folder"):
        index("mtat", root / "annotations_final.csv")
    with pytest.raises(ConfigError, match=r"split='clean' is not a choice.*cleaned"):
        index("mtat", root, split="clean")


def test_unreadable_facts_are_left_out(root: Path) -> None:
    (root / "clip_info_final.csv").write_bytes(b"\xff\xfe\x00")
    assert "title" not in index("mtat", root).frame


def test_command(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    result = CliRunner().invoke(datasets, ["index", "mtat", str(root), "-o", str(out), "--set", "split=cleaned"])
    assert result.exit_code == 0, result.output
    assert "7 tracks" in result.output and "test 3, train 3, valid 1" in result.output
