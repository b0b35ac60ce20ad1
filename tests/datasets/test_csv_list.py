from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from featstore.datasets import TableInfo, TrackTable, index
from featstore.errors import DatasetError


def miniature(root: Path, tone: Callable[..., Path]) -> Path:
    for name in ("a.wav", "b.wav", "c, d.wav"):
        tone(root / name)
    return written(root, 'path,labels,split,group\na.wav,x|y,train,g\nb.wav,x,test,h\n"c, d.wav",,val,\nno.wav,y,,\n')


def written(tmp_path: Path, text: str, name: str = "list.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_all_columns(tmp_path: Path) -> None:
    source = written(
        tmp_path,
        "\ufefftrack_id,path,labels,split,group,year,code,gain\n"
        "one,a.wav,rock|live,train,g1,1999,007,1.5\n"
        ",sub/b.wav,,val,,,010,-2e1\n"
        'three,/abs/c.wav,"rock| ",TEST,g2,2001,,\n\n',
    )
    table = index("csv", source)
    frame = table.frame
    assert frame["track_id"].tolist() == ["one", "sub/b.wav", "three"]
    assert frame["path"].tolist() == [str(tmp_path / "a.wav"), str(tmp_path / "sub/b.wav"), "/abs/c.wav"]
    assert frame["labels"].tolist() == [["rock", "live"], [], ["rock"]]
    assert frame["split"].tolist() == ["train", "valid", "test"]
    assert frame["group"].tolist() == ["g1", None, "g2"]
    assert frame["year"].tolist()[::2] == [1999, 2001] and frame["year"].isna()[1]
    assert frame["code"].tolist()[:2] == ["007", "010"]
    assert frame["gain"].tolist()[:2] == [1.5, -20.0]
    assert table.info.task == "multi_label" and table.info.classes == ("live", "rock") and table.info.name == "list"


def test_other_columns_separators_and_delimiters(tmp_path: Path) -> None:
    source = written(tmp_path, "path;genre;mood\na.wav;rock;calm/sad\nb.wav;jazz|fusion;\n")
    assert index("csv", source).info.task == "none"
    genre = index("csv", source, label_column="genre", separator="")
    assert genre.info.task == "single_label" and genre.info.classes == ("jazz|fusion", "rock")
    mood = index("csv", source, label_column="mood", separator="/")
    assert mood.info.classes == ("calm", "sad") and mood.info.task == "multi_label"
    assert mood.frame["genre"].tolist() == ["rock", "jazz|fusion"]
    tabs = written(tmp_path, "path\tlabel\na,b.wav\tx\n", "list.tsv")
    assert index("csv", tabs).frame["track_id"].tolist() == ["a,b.wav"]
    assert index("csv", tabs).info.classes == ("x",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list is empty"),
        ("path,labels\n", "the list has no tracks"),
        ("file,labels\na.wav,x\n", "no column 'path'.*Known: file, labels"),
        ("path,labels,labels\na,b,c\n", "two columns are called 'labels'"),
        ("path,labels\na.wav,x\nb.wav\n", "line 3 has 1 cells, the header has 2"),
        ("path,labels\n,x\n", "line 2 has no path"),
        ("path,split\na.wav,tset\n", "unknown split 'tset' in line 2.*Did you mean test"),
        ("path\na.wav\nb.wav\na.wav\n", "two tracks have the id 'a.wav': lines 2 and 4"),
        ('path\nb.wav\n"a.wav\n', "not readable as CSV.* in the record that begins in line 3"),
        ('path,label\n\n"Heroes".wav,rock\n', "not readable as CSV: ',' expected.* in line 3.*a quote within quotes"),
        ("path,label\na.wav,ro\0ck\n", "a NUL byte in line 2"),
        ("# made by x\npath,label\na.wav,rock\n", "no column 'path'.*Known: # made by x"),
    ],
)
def test_faulty_lists(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        index("csv", written(tmp_path, text))


def test_faulty_files_and_columns(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        index("csv", tmp_path / "absent.csv")
    with pytest.raises(DatasetError, match="not a file"):
        index("csv", tmp_path)
    (tmp_path / "latin.csv").write_bytes(b"path\ncaf\xe9.wav\n")
    with pytest.raises(DatasetError, match=r"not UTF-8 text \(.* in line 2\)"):
        index("csv", tmp_path / "latin.csv")
    source = written(tmp_path, "path,genre\na.wav,x\n")
    with pytest.raises(DatasetError, match=r"no column 'gener'.*Did you mean genre.*Known: genre, path"):
        index("csv", source, label_column="gener")
    with pytest.raises(DatasetError, match="2 labels on one track of a single-label set in line 2"):
        index("csv", written(tmp_path, "path,labels\na,x|y\n"), task="single_label")


@pytest.mark.parametrize(
    ("header", "cells"),
    [("duration_s", "3:21"), ("duration_s", "300"), ("channels", "stereo"), ("channels", "7"), ("probe_error", "none"),
     ("source_sample_rate", "44.1"), ("size_bytes", "big"), ("status", "gold"), ("row", "5"), ("labels", "q")],
)  # fmt: skip
def test_a_column_of_the_list_never_meets_one_of_ours(tmp_path: Path, header: str, cells: str) -> None:
    source = written(tmp_path, f"path,label,{header},listed_{header}\na.wav,rock,{cells},x\nb.wav,jazz,,y\n")
    table = index("csv", source, label_column="label")
    kept = table.frame[f"listed_{header}_"].tolist()
    assert [str(kept[0]), table.frame[f"listed_{header}"].tolist()] in ([cells, ["x", "y"]], [f"{cells}.0", ["x", "y"]])
    assert table.frame["probe_error"].tolist() == [None, None] and table.frame["duration_s"].isna().all()
    assert table.info.classes == ("jazz", "rock")
    assert f"the column {header!r} is kept as 'listed_{header}_'" in table.info.notes
    table.write(tmp_path / "t.parquet")
    again = TrackTable.read(tmp_path / "t.parquet").frame
    assert list(again.columns) == list(table.frame.columns) and again["probe_error"].tolist() == [None, None]


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("M\u00fasica", "Mu\u0301sica", "M\u00fasica"),
        ("rock\u200b", "rock", "rock"),
        ("hip\u00a0hop", "hip hop", "hip hop"),
        ("rock ", "\ufeffrock", "rock"),
        ("hip  hop", "hip\u2009hop", "hip hop"),
    ],
)
def test_names_that_print_alike_are_one(tmp_path: Path, one: str, other: str, name: str) -> None:
    source = written(tmp_path, f"path,label,group,mood\na.wav,{one},{one},{one}\nb.wav,{other},{other},{other}\n")
    table = index("csv", source)
    assert table.info.classes == (name,) and table.frame["group"].tolist() == [name, name]
    assert table.frame["mood"].tolist() == [name, name]
    assert "names were normalised" in table.info.notes


def test_blanks_around_cells_and_quotes(tmp_path: Path) -> None:
    source = written(
        tmp_path,
        'path, label, split, group\na.wav, "rock|pop", train, X\n"c, d.wav", "jazz" , test ,X\n'.replace('" ,', '",'),
    )
    table = index("csv", source)
    assert table.info.classes == ("jazz", "pop", "rock")
    assert table.frame["track_id"].tolist() == ["a.wav", "c, d.wav"]
    assert table.frame["split"].tolist() == ["train", "test"] and table.frame["group"].tolist() == ["X", "X"]


def test_paths_are_found_as_the_disk_has_them(tmp_path: Path) -> None:
    names = [" lead.wav", "trail .wav", "e\u0301.wav", "plain.wav"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    source = written(tmp_path, "path\n lead.wav\ntrail .wav\n\u00e9.wav\n plain.wav \n")
    assert index("csv", source).frame["path"].tolist() == [str(tmp_path / name) for name in names]


def test_long_cells_unnamed_columns_and_other_delimiters(tmp_path: Path) -> None:
    source = written(tmp_path, f",path|label,\n0,a.wav,{'x' * 200_000}\n".replace("|", ","))
    with pytest.raises(DatasetError, match="line 2 has 3 cells, the header has 4"):
        index("csv", source)
    source = written(tmp_path, f",path,lyrics,,\n0,a.wav,{'x' * 200_000},,\n")
    frame = index("csv", source).frame
    assert len(frame["lyrics"][0]) == 200_000 and frame["column 1"].tolist() == [0] and "column 4" not in frame
    assert index("csv", written(tmp_path, "path|label\na.wav|rock\n")).info.classes == ("rock",)
    assert index("csv", written(tmp_path, "path\tlabel\na.wav\trock\n")).info.classes == ("rock",)


def test_a_frame_with_a_wrong_number_is_refused() -> None:
    for column, value in (("duration_s", "3:21"), ("channels", 1.5), ("channels", 2**70), ("size_bytes", "big")):
        frame = pd.DataFrame({"track_id": ["a"], "path": ["a.wav"], column: [value]})
        with pytest.raises(DatasetError, match=f"{column} of row 0 is .*{value}.*, not a"):
            TrackTable(frame, TableInfo(name="t"))
