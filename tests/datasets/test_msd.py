"""Million Song Dataset: miniatures of the layouts of its split and previews, and what may be wrong with them."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featstore.datasets import check_table, index
from featstore.datasets.inert_pickle import read_inert_pickle
from featstore.datasets.msd import COUNTS, TAGS
from featstore.errors import ConfigError, DatasetError
from featstore.testing.published import write_msd
from featstore.workflows.indexing import index_tracks

Tone = Callable[..., Path]
OPTIONS = {"n_train": 4}


def miniature(root: Path, tone: Tone) -> Path:
    write_msd(root, lambda path: tone(path.with_suffix(".wav")).rename(path), "lee", dump=pickle.dumps)
    return root


@pytest.fixture
def tone_mp3(tone: Tone) -> Callable[[Path], object]:
    """Previews are mp3; the adapter looks at names only, so a wave under that name will do."""

    def write(path: Path) -> None:
        tone(path.with_suffix(".wav")).rename(path)

    return write


def make(
    root: Path, audio: Callable[[Path], object], layout: str, protocol: int = 0
) -> tuple[list[str], dict[str, int]]:
    ids = write_msd(root, audio, layout, dump=lambda value: pickle.dumps(value, protocol=protocol))
    return ids, {"n_train": 4} if layout == "lee" else {}


def test_published_order_and_counts() -> None:
    assert len(TAGS) == len(set(TAGS)) == 50
    assert TAGS[:5] == ("rock", "pop", "alternative", "indie", "electronic") and TAGS[-1] == "happy"
    assert sum(COUNTS["lee"].values()) == 241_889


@pytest.mark.parametrize("layout", ["lee", "choi", "pons"])
@pytest.mark.parametrize("inside", ["", "MSD_split"])
def test_layouts_of_the_split(tmp_path: Path, tone_mp3: Callable[[Path], object], layout: str, inside: str) -> None:
    ids, options = make(tmp_path / "msd" / inside, tone_mp3, layout)
    table = index("msd", tmp_path / "msd", audio=inside or ".", **options)
    frame = table.frame
    assert table.info.name == ("msd-choi" if layout == "choi" else "msd") and table.info.classes == TAGS
    assert list(frame["track_id"]) == ids
    assert list(frame["split"]) == ["train"] * 4 + ["valid"] * 2 + ["test"] * 2
    assert [list(labels) for labels in frame["labels"]] == [[TAGS[i], "happy"] for i in range(8)]
    assert all(Path(path).is_file() and path.endswith(".clip.mp3") for path in frame["path"])
    assert frame["group"].isna().all() and layout in table.info.notes


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(tmp_path: Path, tone_mp3: Callable[[Path], object], protocol: int) -> None:
    ids, options = make(tmp_path, tone_mp3, "lee", protocol=protocol)
    assert list(index("msd", tmp_path, **options).frame["track_id"]) == ids


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("{a}/{b}/{c}/{id}.mp3", "A/B/C/ID.mp3"),
        ("{id}.mp3", "ID.mp3"),
        ("{n[0]}/{n[1]}/{n}.mp3", "0/1/NUMBER.mp3"),
        ("{n}.clip.mp3", "NUMBER.clip.mp3"),
    ],
)
def test_layouts_of_the_previews(tmp_path: Path, tone: Tone, name: str, shape: str) -> None:
    def nowhere(path: Path) -> None:
        path.parent.rmdir() if not list(path.parent.iterdir()) else None

    ids, options = make(tmp_path, nowhere, "lee")
    numbers = read_inert_pickle(tmp_path / "MSD_id_to_7D_id.pkl")
    (tmp_path / "7D_id_to_path.pkl").unlink()
    for each in ids[1:]:  # the first one is missing: the layout is learned from another
        place = name.format(a=each[2], b=each[3], c=each[4], id=each, n=numbers[each])
        tone((tmp_path / "previews" / place).with_suffix(".wav")).rename(tmp_path / "previews" / place)
    table = index_tracks("msd", tmp_path, **options)
    assert f"previews as {shape}" in table.info.notes
    errors = table.frame.set_index("track_id")["probe_error"]
    assert list(errors[errors.notna()].index) == [ids[0]], "a missing preview stays, with its reason"


def test_check_reports_what_differs_from_the_published_counts(
    tmp_path: Path, tone_mp3: Callable[[Path], object]
) -> None:
    _, options = make(tmp_path, tone_mp3, "lee")
    found = Counter(each.kind for each in check_table(index("msd", tmp_path, **options), compare_audio=False))
    assert found["unexpected_count"] == 3


def dump(path: Path, value: object) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


LEE_FAULTS: dict[str, tuple[Callable[[Path, list[str]], object], str]] = {
    "no list": (lambda r, i: (r / "filtered_list_test.cP").unlink(), "the lee split lacks filtered_list_test.cP"),
    "unknown id": (
        lambda r, i: dump(r / "filtered_list_test.cP", ["TRAAAAA128F0000000"]),
        "of the test list has no tags",
    ),
    "no id": (
        lambda r, i: [
            dump(r / "filtered_list_test.cP", ["42"]),
            dump(r / "msd_id_to_tag_vector.cP", dict.fromkeys([*i, "42"], np.zeros(50, bool))),
        ],
        "'42' is no id of the Million Song Dataset",
    ),
    "twice": (lambda r, i: dump(r / "filtered_list_test.cP", [i[0]]), "is listed twice, for train and test"),
    "short list": (lambda r, i: dump(r / "filtered_list_train.cP", i[:4]), "the list has 4 ids, and the first 4 train"),
    "no list of ids": (lambda r, i: dump(r / "filtered_list_test.cP", {"a": 1}), "it is not a list of ids"),
    "empty": (lambda r, i: dump(r / "filtered_list_test.cP", []), "the test list is empty"),
    "wrong vector": (
        lambda r, i: dump(r / "msd_id_to_tag_vector.cP", dict.fromkeys(i, np.zeros(49))),
        "not 50 numbers that are 0 or 1",
    ),
    "other tags": (
        lambda r, i: (r / "50tagList.txt").write_text("\n".join(TAGS[::-1])),
        "tag 1 is 'happy', not 'rock'",
    ),
    "fewer tags": (lambda r, i: (r / "50tagList.txt").write_text("\n".join(TAGS[:9])), "9 tags, not 50"),
    "cut short": (
        lambda r, i: (r / "filtered_list_test.cP").write_bytes(pickle.dumps(i, protocol=2)[:40]),
        "not a pickle of plain data",
    ),
    "no pickle": (lambda r, i: (r / "filtered_list_test.cP").write_text("<html>"), "not a pickle of plain data"),
    "outside": (
        lambda r, i: dump(r / "7D_id_to_path.pkl", {"6010476": "../../etc/passwd"}),
        "leads out of the folder of the previews",
    ),
}


@pytest.mark.parametrize("fault", LEE_FAULTS)
def test_faults_of_lees_files(tmp_path: Path, tone_mp3: Callable[[Path], object], fault: str) -> None:
    ids, options = make(tmp_path, tone_mp3, "lee")
    spoil, message = LEE_FAULTS[fault]
    spoil(tmp_path, ids)
    with pytest.raises(DatasetError) as error:
        index("msd", tmp_path, **options)
    assert message in str(error.value)


def test_faults_of_the_text_layouts(tmp_path: Path, tone_mp3: Callable[[Path], object]) -> None:
    make(tmp_path / "choi", tone_mp3, "choi")
    np.save(tmp_path / "choi/test_y.npy", np.zeros((3, 50)))
    with pytest.raises(DatasetError, match=r"targets of shape \(3, 50\) for 2 ids"):
        index("msd", tmp_path / "choi")
    np.save(tmp_path / "choi/test_y.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match="no array of plain numbers"):
        index("msd", tmp_path / "choi")
    np.save(tmp_path / "choi/test_y.npy", np.zeros((2, 50)))
    (tmp_path / "choi/test_x_filename.txt").write_text("a\n")
    with pytest.raises(DatasetError, match="1 lines for 2 ids"):
        index("msd", tmp_path / "choi")
    make(tmp_path / "pons", tone_mp3, "pons")
    gt = tmp_path / "pons/val_gt_msd.tsv"
    good = gt.read_text()
    for text, message in (
        ("TRAADIN128F931D672 [0]\n", "line 1 has no tab"),
        ("TRAADIN128F931D672\t[0\n", "line 1 holds no list of numbers"),
        ("TRAADIN128F931D672\t[0]\n", "not 50 numbers that are 0 or 1"),
        (good.replace("1]", "2]"), "not 50 numbers that are 0 or 1"),
    ):
        gt.write_text(text)
        with pytest.raises(DatasetError, match=message):
            index("msd", tmp_path / "pons")


def test_no_split_no_previews(tmp_path: Path, tone_mp3: Callable[[Path], object]) -> None:
    with pytest.raises(DatasetError, match=r"no split found in .*Known layouts: lee: filtered_list_train.cP"):
        index("msd", tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        index("msd", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="split='leo' is not a choice"):
        index("msd", tmp_path, split="leo")
    _, options = make(tmp_path, tone_mp3, "lee")
    with pytest.raises(DatasetError, match=r"the choi split|no split found"):
        index("msd", tmp_path, split="choi", **options)
    with pytest.raises(
        DatasetError,
        match=r"no preview of 8 tracks looked for is below .*clip.mp3.*A/B/A/TRABAAX.*or with other suffixes",
    ):
        index("msd", tmp_path, audio="elsewhere", **options)


class Evil:
    """What a hostile pickle holds: a call to be made when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return Path.write_text, (self.path, "owned")


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_in_a_pickle_is_carried_out(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "owned"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([Evil(trap)], protocol=protocol))
    with pytest.raises(DatasetError, match="not a pickle of plain data"):
        read_inert_pickle(tmp_path / "a.pkl")
    assert not trap.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_is_read_as_it_is(tmp_path: Path, protocol: int) -> None:
    value = {
        "a": [1, -5, 2.5, None, True, False, 10**30, ("x",), ("x", "y", "z", 4), [], {}, ()],
        "arrays": [np.arange(6, dtype=">i2").reshape(2, 3).T, np.array([], np.float32), np.array([0.1, 255.5])],
        "text": "café",
        7: {"deep": [[["er"]]]},
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
    found = read_inert_pickle(tmp_path / "a.pkl")
    assert found["a"] == value["a"] and found["text"] == "café" and found[7] == value[7]
    for mine, theirs in zip(found["arrays"], value["arrays"], strict=True):
        assert np.array_equal(mine, theirs) and mine.dtype.kind == theirs.dtype.kind


HOSTILE = {
    "import": b"cos\nsystem\n.",
    "call": b"cos\nsystem\n(S'true'\ntR.",
    "instance": b"(S'true'\nios\nsystem\n.",
    "object": b"(cos\nsystem\nS'true'\no.",
    "new object": b"\x80\x02cos\nsystem\n(t\x81.",
    "new object with keywords": b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent id": b"Pabc\n.",
    "next buffer": b"\x80\x05\x97.",
    "array of bytes without end": b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
    "bytes without end": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "text that ends": b"\x80\x04\x8c\xffabc.",
    "attribute of numpy": b"cnumpy\nload\n(S'x'\ntR.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.dot\x93.",
    "name alone": b"cnumpy\nndarray\n.",
    "call of a call": b"cnumpy\ndtype\n(S'i4'\ntR(tR.",
    "state of a name": b"cnumpy\ndtype\n(dS'x'\nI1\nsb.",
    "attributes of an array": b"cnumpy.core.multiarray\n_reconstruct\n(tR}(S'x'\nI1\nub.",
    "array without type": b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I1\ntNI00\nS'abcd'\ntb.",
    "array of objects": b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I1\ntcnumpy\ndtype\n(S'O8'\ntRI00\n(ltb.",
    "array larger than its bytes": b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I999999999\n"
    b"tcnumpy\ndtype\n(S'i1'\ntRI00\nS'ab'\ntb.",
    "bytes of a number": b"c__builtin__\nbytes\n(I999999999999\ntR.",
    "other encoding": b"c_codecs\nencode\n(S'a'\nS'zip'\ntR.",
    "circle": b"]q\x00h\x00a.",
    "deep": b"(" * 50_000 + b"l" * 50_000 + b".",
    "key that is a list": b"}(]I1\nu.",
    "huge number": b"I" + b"9" * 10_000 + b"\n.",
    "nothing": b"",
    "no end": b"]",
    "empty stack": b".",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_instructions_end_in_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.pkl").write_bytes(HOSTILE[name])
    with pytest.raises(DatasetError, match="not a pickle of plain data"):
        read_inert_pickle(tmp_path / "a.pkl")


def test_nothing_of_the_reader_changes(tmp_path: Path) -> None:
    for content in HOSTILE.values():
        (tmp_path / "a.pkl").write_bytes(content)
        with pytest.raises(DatasetError):
            read_inert_pickle(tmp_path / "a.pkl")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": np.arange(3)}))
    assert read_inert_pickle(tmp_path / "a.pkl")["a"].tolist() == [0, 1, 2]


def test_references_that_double_cost_nothing(tmp_path: Path) -> None:
    value: list[object] = [1]
    for _ in range(60):
        value = [value, value]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    found = read_inert_pickle(tmp_path / "a.pkl")
    for _ in range(60):
        found = found[1]
    assert found == [1]
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")  # a memo at two thousand million
    assert read_inert_pickle(tmp_path / "a.pkl") == []


def test_random_changes_never_leave_the_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = pickle.dumps({"TR1": np.zeros(50, bool), "list": ["a", 1, (2.5, None)]}, protocol=2)
    for _ in range(400):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 2):
            data[place] = rng.integers(0, 256)
        (tmp_path / "a.pkl").write_bytes(data)
        try:
            read_inert_pickle(tmp_path / "a.pkl")
        except DatasetError as error:
            assert "not a pickle of plain data" in str(error)
