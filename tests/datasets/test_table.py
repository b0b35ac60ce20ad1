from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.datasets import TableInfo, TrackTable
from featstore.datasets.frame_facts import frame_facts
from featstore.datasets.table import track_table
from featstore.errors import DatasetError

INFO = TableInfo(name="tiny", task="multi_label", classes=("fast", "slow"))


def frame(**columns: object) -> pd.DataFrame:
    base = {"track_id": ["a", "b", "c"], "path": ["/x/a.wav", "/x/b.wav", "/x/c.wav"]}
    return pd.DataFrame(base | columns)


def test_a_table_without_a_folder_is_logged_without_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        track_table(frame(), name="tracks")
        track_table(frame(), name="tracks", root="/x")
    assert caplog.messages == ["tracks: 3 tracks", "tracks: 3 tracks under /x"]


def test_columns_that_are_not_given_become_unknown() -> None:
    table = TrackTable(frame(), TableInfo(name="tiny"))
    assert list(table.frame.columns) == [
        "track_id", "path", "labels", "split", "group",
        "duration_s", "source_sample_rate", "channels", "size_bytes", "probe_error",
    ]  # fmt: skip
    assert table.frame["labels"].tolist() == [[], [], []]
    assert table.frame["split"].tolist() == [None, None, None]
    assert table.frame["duration_s"].isna().all() and str(table.frame["channels"].dtype) == "Int64"


def test_two_rows_with_one_id_are_named() -> None:
    with pytest.raises(DatasetError, match="two tracks have the id 'a': rows 0 and 2"):
        TrackTable(frame(track_id=["a", "b", "a"]), INFO)


def test_empty_table() -> None:
    with pytest.raises(DatasetError, match=r"the table has no tracks \[data set tiny\]"):
        TrackTable(frame().iloc[:0], INFO)


@pytest.mark.parametrize("name", ["track_id", "path"])
def test_missing_column_names_those_there_are(name: str) -> None:
    with pytest.raises(DatasetError, match=f"there is no column '{name}'.*Known: .*extra"):
        TrackTable(frame(extra=1).drop(columns=name), INFO)


def test_missing_label_column_names_those_there_are() -> None:
    info = TableInfo(name="tiny", task="single_label", label_column="gener")
    with pytest.raises(DatasetError, match=r"no column 'gener'.*Did you mean genre.*Known: genre, path, track_id"):
        TrackTable(frame(genre=["a", "b", "c"]), info)


@pytest.mark.parametrize("value", ["", None, float("nan")])
def test_row_without_path(value: object) -> None:
    with pytest.raises(DatasetError, match="row 1 has no path"):
        TrackTable(frame(path=["/a", value, "/c"]), INFO)


def test_row_without_id() -> None:
    with pytest.raises(DatasetError, match="row 0 has no track_id"):
        TrackTable(frame(track_id=["", "b", "c"]), INFO)


def test_unknown_split() -> None:
    with pytest.raises(DatasetError, match=r"unknown split 'dev' in row 1 \(b\).*Use train, valid, test"):
        TrackTable(frame(split=["train", "dev", None]), INFO)


def test_label_outside_the_classes() -> None:
    with pytest.raises(DatasetError, match=r"label 'fats' is not among the 2 classes.*track b.*Did you mean fast"):
        TrackTable(frame(labels=[["fast"], ["fats"], []]), INFO)


def test_two_labels_in_a_single_label_set() -> None:
    info = TableInfo(name="tiny", task="single_label", classes=("fast", "slow"))
    with pytest.raises(DatasetError, match=r"2 labels on one track: fast, slow.*track c"):
        TrackTable(frame(labels=[["fast"], [], ["fast", "slow"]]), info)


def test_unknown_task_and_classes_listed_twice() -> None:
    with pytest.raises(DatasetError, match=r"unknown task 'multi'.*Use multi_label, single_label or none"):
        TableInfo(name="x", task="multi")  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="classes listed twice: a"):
        TableInfo(name="x", classes=("a", "b", "a"))


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    made = frame(
        labels=[["fast"], [], ["fast", "slow"]], split=["train", None, "test"], group=["g", None, "h"],
        duration_s=[1.5, float("nan"), 3.0], channels=[1, None, 2], probe_error=[None, "broken", None],
        style=["reel", "jig", None], count=[1, 2, 3],
    )  # fmt: skip
    table = TrackTable(made, INFO)
    table.write(tmp_path / "one.parquet")
    table.write(tmp_path / "two.parquet")
    again = TrackTable.read(tmp_path / "one.parquet")
    again.write(tmp_path / "three.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "three.parquet").read_bytes()
    assert again.info == INFO
    assert again.frame["split"].tolist() == ["train", None, "test"]
    assert again.frame["probe_error"].tolist() == [None, "broken", None]
    assert [list(each) for each in again.frame["labels"]] == [["fast"], [], ["fast", "slow"]]
    assert again.frame["channels"].tolist()[0::2] == [1, 2] and again.frame["channels"].isna()[1]
    assert again.frame["count"].tolist() == [1, 2, 3]
    assert again.frame["style"].tolist()[:2] == ["reel", "jig"]


def test_a_folder_moves_with_its_table(tmp_path: Path) -> None:
    home = tmp_path / "here"
    home.mkdir()
    outside = str(tmp_path / "c.wav")
    paths = [str(home / "a.wav"), str(home / "sub/b.wav"), outside]
    TrackTable(frame(path=paths), TableInfo(name="tiny")).write(home / "t.parquet")
    moved = home.rename(tmp_path / "there")
    found = TrackTable.read(moved / "t.parquet").frame["path"].tolist()
    assert found == [str(moved / "a.wav"), str(moved / "sub/b.wav"), outside]


def test_plain_programs_can_read_it(tmp_path: Path) -> None:
    TrackTable(frame(labels=[["fast"], [], []]), INFO).write(tmp_path / "t.parquet")
    plain = pd.read_parquet(tmp_path / "t.parquet")
    assert plain["track_id"].tolist() == ["a", "b", "c"]
    assert str(pq.read_schema(tmp_path / "t.parquet").field("labels").type) in (
        "list<element: string>",
        "list<item: string>",
    )


def test_reading_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no track table here.*featstore datasets index"):
        TrackTable.read(tmp_path / "absent.parquet")
    with pytest.raises(DatasetError, match="no track table here"):
        TrackTable.read(tmp_path)
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(DatasetError, match=r"not a parquet file.*text\.parquet"):
        TrackTable.read(tmp_path / "text.parquet")
    frame().drop(columns="path").to_parquet(tmp_path / "foreign.parquet")
    with pytest.raises(DatasetError, match="not a track table of featstore"):
        TrackTable.read(tmp_path / "foreign.parquet")


def test_a_table_that_pandas_wrote(tmp_path: Path) -> None:
    """Its description is gone; what the columns say is enough, and classes keep their order where pandas kept it."""
    info = TableInfo(name="tiny", task="multi_label", classes=("slow", "fast", "calm"))
    table = TrackTable(frame(labels=[["slow"], ["fast"], []], path=[str(tmp_path / f"{n}.wav") for n in "abc"]), info)
    table.write(tmp_path / "t.parquet")
    pd.read_parquet(tmp_path / "t.parquet").assign(split="test").to_parquet(tmp_path / "edited.parquet")
    edited = TrackTable.read(tmp_path / "edited.parquet")
    assert edited.info == TableInfo(name="edited", task="single_label", classes=("fast", "slow"))
    assert edited.frame["path"].tolist() == table.frame["path"].tolist() and set(edited.frame["split"]) == {"test"}
    table.frame.set_index("track_id").to_parquet(tmp_path / "indexed.parquet")
    assert TrackTable.read(tmp_path / "indexed.parquet").info == info
    table.frame.assign(labels=[["new"], [], []]).to_parquet(tmp_path / "relabelled.parquet")
    relabelled = TrackTable.read(tmp_path / "relabelled.parquet").info
    assert relabelled == TableInfo(name="tiny", task="single_label", classes=("new",))


@pytest.mark.parametrize(
    "attributes",
    [{"featstore": 3}, {"featstore": {"name": 5, "classes": 7}}, [], {"featstore": {"task": "x", "classes": ["r"]}}],
)
def test_odd_attributes_of_a_frame(attributes: object) -> None:
    facts = frame_facts(frame(labels=[["r"], [], []]), attributes, "here")
    assert facts == {"name": "here", "label_column": "labels", "task": "single_label", "classes": ("r",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"format": 99, "name": "x"}', "written in format 99, this featstore reads up to 1.*Update"),
        (b'{"format": 1, "name": "x", "odd": 2}', "description is damaged"),
        (b"{", "description is damaged"),
    ],
)
def test_strange_descriptions(tmp_path: Path, text: bytes, message: str) -> None:
    TrackTable(frame(), TableInfo(name="tiny")).write(tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet").replace_schema_metadata({b"featstore": text})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DatasetError, match=message):
        TrackTable.read(tmp_path / "t.parquet")


def test_writing_to_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="this is a folder, not a file to write to"):
        TrackTable(frame(), TableInfo(name="tiny")).write(tmp_path)


def test_targets() -> None:
    table = TrackTable(frame(labels=[["slow"], [], ["fast", "slow"]]), INFO)
    np.testing.assert_array_equal(table.targets(), np.array([[0, 1], [0, 0], [1, 1]], np.float32))
    single = TrackTable(
        frame(labels=[["slow"], [], ["fast"]]), TableInfo(name="t", task="single_label", classes=("fast", "slow"))
    )
    assert single.targets().tolist() == [1, -1, 0] and single.targets().dtype == np.int64
    with pytest.raises(DatasetError, match="the table has no labels"):
        TrackTable(frame(), TableInfo(name="tiny")).targets()


def test_labels_from_another_column() -> None:
    table = TrackTable(frame(labels=[["slow"], [], []], style=["reel", "jig", "reel"]), INFO).with_labels("style")
    assert table.info.task == "single_label" and table.info.classes == ("jig", "reel")
    assert table.frame["labels"].tolist() == [["reel"], ["jig"], ["reel"]]
    with pytest.raises(DatasetError, match=r"no column 'stile'.*Did you mean style"):
        table.with_labels("stile")


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    ids=st.lists(names, min_size=1, max_size=6, unique=True),
    labels=st.lists(names, min_size=1, max_size=4, unique=True),
)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, ids: list[str], labels: list[str]) -> None:
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    made = pd.DataFrame({"track_id": ids, "path": ["/" + each for each in ids], "labels": [labels] * len(ids)})
    info = TableInfo(name="any", task="multi_label", classes=tuple(labels))
    TrackTable(made, info).write(path)
    again = TrackTable.read(path)
    assert again.info == info
    assert again.frame["track_id"].tolist() == ids
    assert again.frame["path"].tolist() == ["/" + each for each in ids]
    assert [list(each) for each in again.frame["labels"]] == [labels] * len(ids)


@pytest.mark.parametrize(("column", "value"), [("duration_s", -5.0), ("duration_s", float("inf")), ("size_bytes", -1)])
def test_sizes_are_not_negative(column: str, value: float) -> None:
    with pytest.raises(DatasetError, match=rf"{column} of row 0 is {value!r}, not a (whole )?number from 0 on"):
        TrackTable(frame(**{column: [value, 1, 2]}), TableInfo(name="tiny"))
