"""Files of repeats: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from featstore.datasets.repeats import repeat_lists
from featstore.errors import DatasetError

KNOWN = {"a.wav", "b.wav", "ö.wav"}
SHAPE = r"\. Write a list of lists of track ids: "
AGAIN = "featstore datasets check TRACKS --fingerprint --repeats FILE"


def test_a_file_and_lists(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text('\ufeff[["a.wav", "ö.wav"], [], ["b.wav"]]', encoding="utf-8")
    lists = [["a.wav", "ö.wav"], [], ["b.wav"]]
    assert repeat_lists(file, KNOWN) == repeat_lists(str(file), KNOWN) == lists
    assert repeat_lists(tuple(map(tuple, lists)), KNOWN) == lists and repeat_lists((), KNOWN) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a.wav": ["b.wav"]}', rf"the repeats are an object, not a list of lists .*r\.json\]{SHAPE}"),
        ('"a.wav"', rf'the repeats are "a\.wav", not a list of lists .*r\.json\]{SHAPE}'),
        ("null", rf"the repeats are null, not a list of lists .*r\.json\]{SHAPE}"),
        ('["a.wav", "b.wav"]', rf'entry 1 is "a\.wav", not a list of track ids .*r\.json\]{SHAPE}'),
        ('[["a.wav"], {"a": "b"}]', rf"entry 2 is an object, not a list of track ids .*r\.json\]{SHAPE}"),
        ('[["a.wav", 5]]', rf"entry 1 holds 5, which is not a track id .*r\.json\]{SHAPE}"),
        ('[[["a.wav"]]]', rf"entry 1 holds a list, which is not a track id .*r\.json\]{SHAPE}"),
        ('[["a.wav", "b.wav"', rf"not readable as JSON: .*line 1 column 19 .*r\.json\]\. .*write it again: {AGAIN}"),
        ("", rf"not readable as JSON: .*r\.json\]\. Mend it, or write it again: {AGAIN}"),
        ("[" * 200_000, rf"not readable as JSON: .*r\.json\]\. Mend it, or write it again: {AGAIN}"),
        (
            '[["a.wav", "bb.wav"], ["x", "bb.wav"]]',
            rf"2 of 3 ids belong to no track of the table, such as 'bb\.wav' .*r\.json\]\. Did you mean b\.wav"
            rf".*{AGAIN}",
        ),
    ],
)
def test_refused_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        repeat_lists(tmp_path / "r.json", KNOWN)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"no file of repeats here .*none\.json\]\. Write one: {AGAIN}"):
        repeat_lists(tmp_path / "none.json", KNOWN)
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        repeat_lists(tmp_path, KNOWN)
    (tmp_path / "r.json").write_bytes('[["ö.wav"]]'.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"not UTF-8 text .* in line 1\) .*r\.json\]"):
        repeat_lists(tmp_path / "r.json", KNOWN)


def test_refused_lists() -> None:
    with pytest.raises(DatasetError, match=r'entry 1 is "a\.wav", not a list of track ids \[repeats\]'):
        repeat_lists(["a.wav"], KNOWN)
    with pytest.raises(DatasetError, match=r"1 of 1 ids belong to no track of the table, such as 'z' \[repeats\]"):
        repeat_lists([["z"]], KNOWN)
