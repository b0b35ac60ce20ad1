from __future__ import annotations

from pathlib import Path

import pytest

from featstore.datasets import index
from featstore.errors import DatasetError


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
        ("path\na.wav\nb.wav\na.wav\n", "two tracks have the id 'a.wav': rows 0 and 2"),
        ('path\n"a.wav\n', "not readable as CSV"),
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
    with pytest.raises(DatasetError, match="not UTF-8 text"):
        index("csv", tmp_path / "latin.csv")
    source = written(tmp_path, "path,genre\na.wav,x\n")
    with pytest.raises(DatasetError, match=r"no column 'gener'.*Did you mean genre.*Known: genre, path"):
        index("csv", source, label_column="gener")
    with pytest.raises(DatasetError, match="2 labels on one track"):
        index("csv", written(tmp_path, "path,labels\na,x|y\n"), task="single_label")
