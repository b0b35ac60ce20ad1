"""AudioSet: a miniature of its lists, labels, ontology and audio, with what is wrong with real copies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from featstore.datasets import check_table, index
from featstore.datasets.audioset import TEMPLATES, balance_weights, read_segments
from featstore.datasets.audioset_ontology import Ontology, read_ontology
from featstore.errors import ConfigError, DatasetError
from featstore.workflows.indexing import index_tracks

Tone = Callable[..., Path]
CLASSES = {"/m/09x0r": "Speech", "/m/05zppz": "Male speech, man speaking", "/m/04rlf": "Music", "/t/dd00088": "Gush",
           "/m/042v_gx": "Acoustic guitar", "/m/0342h": "Guitar"}  # fmt: skip
# id, start, end, labels; -0aBcDeFgHi begins with a dash, two ids differ in case, one has no label, one an unknown one
BALANCED = [
    ("-0aBcDeFgHi", 30.0, 40.0, "/m/09x0r,/t/dd00088"),
    ("AbCdEfGhIjK", 0.0, 10.0, "/m/04rlf,/m/0342h,/m/042v_gx"),
    ("abCdEfGhIjK", 0.0, 10.0, "/m/04rlf"),
    ("missing__01", 5.0, 15.0, "/m/09x0r"),
    ("missing__02", 5.0, 15.0, "/m/09x0r"),
    ("short___001", 20.0, 26.0, "/m/05zppz"),
    ("_nolabel_01", 0.0, 10.0, ""),
    ("unknown__01", 0.0, 10.0, "/m/04rlf,/m/0zzzzz"),
]
EVAL = [
    ("eval_____01", 0.0, 10.0, "/m/04rlf,/m/09x0r"),
    ("eval_____02", 10.5, 20.5, "/m/09x0r"),
    ("eval_____03", 0.0, 10.0, "/m/0342h"),
    ("missing__03", 0.0, 10.0, "/m/0342h"),
]
ONTOLOGY = [
    ("/m/04rlf", "Music", ["/m/0342h", "/m/0str"], []),
    ("/m/0str", "Plucked string instrument", ["/m/0342h"], ["abstract"]),
    ("/m/0342h", "Guitar", ["/m/042v_gx"], []),
    ("/m/042v_gx", "Acoustic guitar", [], ["blacklist"]),
    ("/m/09x0r", "Speech", ["/m/05zppz"], []),
    ("/m/05zppz", "Male speech, man speaking", [], []),
    ("/t/dd00088", "Gush", [], []),
]


def segments_text(rows: list[tuple[str, float, float, str]], *, comments: bool = True) -> str:
    head = "# Segments csv created Sun Mar  5\n# num_ytids=8\n# YTID, start_seconds, end_seconds, positive_labels\n"
    lines = [f'{ytid}, {start:.3f}, {end:.3f}, "{mids}"' for ytid, start, end, mids in rows]
    if comments:
        return head + "\n".join(lines) + "\n"
    plain = [f'{ytid},{start:.3f},{end:.3f},"{mids}"' for ytid, start, end, mids in rows]
    return "\n".join(["YTID,start_seconds,end_seconds,positive_labels", *plain]) + "\n"


def miniature(root: Path, tone: Tone, *, template: str = TEMPLATES[0], comments: bool = True) -> Path:
    """Lists, labels, ontology and audio; three segments have no file."""
    root.mkdir(parents=True, exist_ok=True)
    for name, rows in (("balanced_train", BALANCED), ("eval", EVAL)):
        (root / f"{name}_segments.csv").write_text(segments_text(rows, comments=comments))
        for number, (ytid, start, end, _) in enumerate(rows):
            if not ytid.startswith("missing"):
                path = template.format(
                    split=name, ytid=ytid, c1=ytid[0], c2=ytid[1], start=start, end=end,
                    start_ms=round(1000 * start), end_ms=round(1000 * end),
                )  # fmt: skip
                tone(root / "audio" / path, seconds=(end - start) / 10, hz=200 + 10 * number)
    lines = [f'{place},{mid},"{name}"' for place, (mid, name) in enumerate(CLASSES.items())]
    (root / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *lines]) + "\n")
    keys = ("id", "name", "child_ids", "restrictions")
    (root / "ontology.json").write_text(json.dumps([dict(zip(keys, node, strict=True)) for node in ONTOLOGY]))
    return root


@pytest.fixture
def root(tmp_path: Path, tone: Tone) -> Path:
    return miniature(tmp_path / "audioset", tone)


@pytest.mark.parametrize("comments", [True, False])
def test_lists_labels_and_presence(tmp_path: Path, tone: Tone, comments: bool) -> None:
    table = index_tracks("audioset", miniature(tmp_path, tone, comments=comments))
    frame = table.frame.set_index("track_id")
    assert table.info.classes == tuple(CLASSES.values()) and table.info.task == "multi_label"
    assert len(frame) == 12 and frame["probe_error"].dropna().tolist() == ["no such file"] * 3
    assert frame.loc["-0aBcDeFgHi_30.000", "labels"] == ["Speech", "Gush"]
    assert frame.loc["-0aBcDeFgHi_30.000", "path"] == str(tmp_path / "audio/balanced_train/-/0/-0aBcDeFgHi_30.000.flac")
    assert frame.loc["_nolabel_01_0.000", "labels"] == [] and frame.loc["unknown__01_0.000", "labels"] == ["Music"]
    assert frame.loc["AbCdEfGhIjK_0.000", "group"] != frame.loc["abCdEfGhIjK_0.000", "group"]
    assert set(frame["split"]) == {"train", "test"} and frame.loc["short___001_20.000", "listed_s"] == 6.0
    assert "balanced_train: 6 of 8 segments present (sha256 " in table.info.notes
    assert "1 listed as short" in table.info.notes and "eval: 3 of 4" in table.info.notes
    assert "the published list has 22,160 segments" in table.info.notes
    assert "1 labels that are not among the 6 left out: /m/0zzzzz" in table.info.notes
    assert any(each.kind == "short_clip" for each in check_table(table, compare_audio=False))


def test_the_digest_of_presence_changes_with_the_files(root: Path) -> None:
    before = index("audioset", root).info.notes
    assert index("audioset", root).info.notes == before
    (root / "audio/eval/e/v/eval_____02_10.500.flac").unlink()
    after = index("audioset", root).info.notes
    assert "eval: 2 of 4" in after
    digests = [text.split("eval: ")[1].split("sha256 ")[1][:16] for text in (before, after)]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("template", TEMPLATES)
def test_known_layouts_are_found(tmp_path: Path, tone: Tone, template: str) -> None:
    table = index("audioset", miniature(tmp_path, tone, template=template))
    assert f"audio as {template}" in table.info.notes and table.frame["probe_error"].notna().sum() == 3


def test_a_layout_of_ones_own(tmp_path: Path, tone: Tone) -> None:
    own = "all/{start_ms}/{ytid}.wav"
    root = miniature(tmp_path, tone, template=own)
    with pytest.raises(DatasetError, match=r"none of 12 segments is in .*--set 'template="):
        index("audioset", root)
    assert index("audioset", root, template=own).frame["probe_error"].notna().sum() == 3
    with pytest.raises(ConfigError, match=r"cannot be filled.*Fields: split, ytid"):
        index("audioset", root, template="{name}.wav")
    with pytest.raises(ConfigError, match="leads out of the audio folder"):
        index("audioset", root, template="../{ytid}.wav")


def test_balance_weights_count_what_is_present(root: Path) -> None:
    labels = [["a", "b"], ["a"], ["a"], [], ["b"]]
    weights = balance_weights(labels, ["train"] * 4 + ["test"], [True, True, False, True, True])
    assert weights == [0.5 + 1.0, 0.5, 0.0, 0.0, 1.0]
    frame = index("audioset", root).frame.set_index("track_id")
    assert frame.loc["-0aBcDeFgHi_30.000", "balance_weight"] == 2.0  # the other two with speech are missing
    assert frame.loc["missing__01_5.000", "balance_weight"] == 0.0


def test_a_node_of_the_ontology_and_everything_below(root: Path) -> None:
    ontology = read_ontology(root / "ontology.json")
    parents = [mid for mid, below in ontology.children.items() if "/m/0342h" in below]
    assert parents == ["/m/04rlf", "/m/0str"], "a graph, not a tree"
    assert ontology.below("/m/04rlf") == {"/m/04rlf", "/m/0str", "/m/0342h", "/m/042v_gx"}
    assert ontology.names["/m/04rlf"] == "Music" and ontology.find("Music") == ontology.find("/m/04rlf") == "/m/04rlf"
    tracks = index("audioset", root, under="Music").frame["track_id"].tolist()
    assert len(tracks) == 6 and "eval_____02_10.500" not in tracks
    with pytest.raises(ConfigError, match=r"no node 'Musik'.*Did you mean Music"):
        index("audioset", root, under="Musik")


def test_an_ontology_may_be_deep_and_join_often() -> None:
    names = [str(number) for number in range(3000)]
    below = {name: tuple(names[at + 1 : at + 3]) for at, name in enumerate(names)}  # two parents each
    assert Ontology({name: name for name in names}, below).below("0") == set(names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda nodes: nodes[0]["child_ids"].append("/m/00"), "has the child /m/00, which does not exist"),
        (lambda nodes: nodes[3]["child_ids"].append("/m/04rlf"), "is below itself"),
        (lambda nodes: nodes[0].pop("name"), "not the ontology: 'name'"),
    ],
)
def test_damaged_ontology(root: Path, change: Callable[[list[dict[str, list[str]]]], object], message: str) -> None:
    nodes = json.loads((root / "ontology.json").read_text())
    change(nodes)
    (root / "ontology.json").write_text(json.dumps(nodes))
    with pytest.raises(DatasetError, match=message):
        read_ontology(root / "ontology.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('-PJHxphWEsA,30,40,"/m/09x0r,/t/dd00088",,\n', "6 cells with labels spread over them: a spreadsheet saved"),
        ('-PJHxphWEsA,30,40,"""/m/09x0r",/t/dd00088"""\n', "a spreadsheet saved this list"),
        ("PJHxphWEsAB,30,40,/m/09x0r,/t/dd00088\n", "5 cells with labels spread"),
        ("=-PJHxphWEs(),30,40,/m/09x0r\n", "a spreadsheet saved this list|not an id of 11"),
        ('#NAME?,30,40,"/m/09x0r"\nPJHxphWEsA,30,40,"/m/09x0r"\n', "line 2 is not an id of 11 characters"),
        ('PJHxphWEsAB,40,30,"/m/09x0r"\n', "not an id of 11 characters and two times"),
        ('PJHxphWEsAB,30,40,"Speech"\n', "'Speech' is no id of a label"),
        ("PJHxphWEsAB,30,40\n", "line 1 has 3 cells"),
        ("# only\n", "the list has no segments"),
    ],
)
def test_lists_that_a_spreadsheet_saved(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "eval_segments.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_segments(tmp_path / "eval_segments.csv")


def test_nothing_there_and_wrong_choices(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no class_labels_indices\.csv here"):
        index("audioset", tmp_path)
    with pytest.raises(ConfigError, match="lists='test' is not a choice"):
        index("audioset", root, lists="test")
    with pytest.raises(DatasetError, match=r"no list unbalanced_train_segments\.csv here"):
        index("audioset", root, lists="unbalanced_train")
    (root / "eval_segments.csv").write_text(segments_text(EVAL + BALANCED[:1]))
    with pytest.raises(DatasetError, match=r"-0aBcDeFgHi_30\.000 is listed twice, in balanced_train and eval"):
        index("audioset", root)
    (root / "class_labels_indices.csv").write_text("index,mid,display_name\n1,/m/09x0r,Speech\n")
    with pytest.raises(DatasetError, match="line 2 is not index 0"):
        index("audioset", root)
