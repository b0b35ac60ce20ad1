"""Miniatures of published data sets as they lie on a disk, with synthetic audio: for tests of adapters and recipes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

__all__ = ["MTAT_CLIPS", "mtat_header", "mtat_path", "write_msd", "write_mtat"]

MtatClip = tuple[str, str, str, int, tuple[str, ...]]  # id, folder, song, first second, tags
_BACH = "american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria"
# folders of all three splits, a song twice, a clip without any of the 50 tags, one with no tag at all, an unusable one
MTAT_CLIPS: tuple[MtatClip, ...] = (
    ("2", "f", _BACH, 30, ("classical", "violin")),
    ("6", "f", _BACH, 146, ("strings", "duet")),
    ("10", "0", "jag-four_strings-01-jump_up", 0, ("guitar", "no voice")),
    ("11", "3", "dj_cary-eastern_grooves-02-oriental_distortion", 59, ("techno", "beat", "synth")),
    ("12", "b", "lisa_debenedictis-fruitless-01-girl_and_supergirl", 88, ("female vocal", "pop")),
    ("21", "c", "phebe_craig-johann_kuhnau-05-sonata_ii", 117, ("harpsichord", "solo")),
    ("25", "c", "phebe_craig-johann_kuhnau-06-sonata_iii", 0, ("hard rock",)),
    ("29", "d", "satori-for_relaxation-10-desire", 30, ("ambient", "slow")),
    ("30", "e", "shane_jackman-equilibrium-02-it_s_the_road", 0, ()),
    ("35644", "6", "norine_braun-now_and_zen-08-gently", 117, ("guitar", "female")),
)


def mtat_header() -> list[str]:
    """The annotations' header: the 50 tags in another order than the published one, with others among them."""
    from featstore.datasets.mtat import TAGS

    tags = sorted(TAGS, reverse=True)
    return ["clip_id", *tags[:1], "singer", "duet", *tags[1:], "plucking", "hard rock", "mp3_path"]


def mtat_path(clip: MtatClip) -> str:
    """A clip's file, relative to the folder of the clips."""
    _, folder, song, start, _ = clip
    return f"{folder}/{song}-{start}-{start + 29}.mp3"


def write_mtat(
    root: str | Path, audio: Callable[[Path], object], clips: Sequence[MtatClip] = MTAT_CLIPS, *, inside: str = ""
) -> Path:
    """MagnaTagATune in small below ``root``; ``audio`` writes a file, the unusable one is empty."""
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    header = mtat_header()
    rows = [[c[0], *("01"[name in c[4]] for name in header[1:-1]), mtat_path(c)] for c in clips]
    _write_table(root / "annotations_final.csv", [header, *rows])
    facts = [[c[0], "1", f"Title {c[0]}", "A. Artist", "An Album"] for c in clips]
    _write_table(root / "clip_info_final.csv", [["clip_id", "track_number", "title", "artist", "album"], *facts])
    for letter in "0123456789abcdef":
        (root / inside / letter).mkdir(parents=True, exist_ok=True)
    for clip in clips:
        path = root / inside / mtat_path(clip)
        if clip[0] == "35644":
            path.write_bytes(b"")
        else:
            audio(path)
    return root


def _write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)


def write_msd(
    root: str | Path,
    audio: Callable[[Path], object],
    layout: str,
    *,
    n: int = 8,
    dump: Callable[[object], bytes] = lambda value: repr(value).encode(),
) -> list[str]:
    """Million Song Dataset in small: ``n`` tracks (half train), the split in ``layout``, previews by 7digital number.

    ``dump`` makes the files of the layout ``lee``, which are pickles: this package writes and loads none.

    Returns
    -------
    list of str
        MSD ids in the order of the split. Track i has the tags number i and 49.
    """
    from featstore.datasets.msd import TAGS

    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    ids = [f"TRAB{chr(65 + i // 26)}{chr(65 + i % 26)}X128F42{i:05X}"[:18] for i in range(n)]
    numbers = [f"{6010476 + 11 * i}" for i in range(n)]
    files = [f"{number[0]}/{number[1]}/{number}.clip.mp3" for number in numbers]
    targets = np.zeros((n, len(TAGS)), dtype=bool)
    targets[np.arange(n), np.arange(n) % 49] = targets[:, 49] = True
    half, rest = n // 2, n // 2 + n // 4
    parts = {"train": slice(0, half), "valid": slice(half, rest), "test": slice(rest, n)}
    (root / "50tagList.txt").write_text("\n".join(TAGS) + "\n", encoding="utf-8")
    if layout == "lee":
        tables = {
            "filtered_list_train.cP": ids[:rest],
            "filtered_list_test.cP": ids[rest:],
            "msd_id_to_tag_vector.cP": dict(zip(ids, targets, strict=True)),
            "MSD_id_to_7D_id.pkl": dict(zip(ids, numbers, strict=True)),
            "7D_id_to_path.pkl": dict(zip(numbers, files, strict=True)),
        }
        for name, value in tables.items():
            (root / name).write_bytes(dump(value))
    elif layout == "choi":
        for part, rows in parts.items():
            (root / f"{part}_x_msd_id.txt").write_text("\n".join(ids[rows]) + "\n", encoding="utf-8")
            names = [file.replace(".clip.mp3", ".npy") for file in files[rows]]
            (root / f"{part}_x_filename.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
            np.save(root / f"{part}_y.npy", targets[rows])
    else:
        for part, rows in parts.items():
            lines = [f"{i}\t{t.astype(int).tolist()}" for i, t in zip(ids[rows], targets[rows], strict=True)]
            short = "val" if part == "valid" else part
            (root / f"{short}_gt_msd.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (root / "index_msd.tsv").write_text("".join(f"{i}\t{f}\n" for i, f in zip(ids, files, strict=True)))
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        audio(root / file)
    return ids
