"""Mp3: a table is trusted when its frames, its bytes and the file's size agree; otherwise frames are counted."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import soundfile

from featstore.audio import open_audio, probe_audio
from featstore.audio.probe import examine_file
from featstore.testing.audio import tone
from tests.audio.test_lengths import judged, written

RATE = 44100
FRAME_S = 1152 / RATE
WAVE = tone(4.0, RATE, seed=5)
QUIET_END = np.concatenate([tone(2.0, RATE, seed=5), 1e-4 * np.random.default_rng(0).standard_normal(2 * RATE)])


def mp3(tmp_path: Path, wave: np.ndarray = WAVE, mode: str = "VARIABLE") -> bytes:
    path = tmp_path / "encoded.mp3"
    soundfile.write(path, wave, RATE, format="MP3", bitrate_mode=mode)
    return path.read_bytes()


def place(content: bytes) -> int:
    return max(content[:300].find(b"Xing"), content[:300].find(b"Info"))


def with_frames(content: bytes, share: float) -> bytes:
    at = place(content) + 8
    count = min(2**32 - 1, int(struct.unpack(">I", content[at : at + 4])[0] * share))
    return content[:at] + struct.pack(">I", count) + content[at + 4 :]


def with_flags(content: bytes, flags: int) -> bytes:
    """The same table without its count of frames (1) or bytes (2): later fields move up."""
    at = place(content)
    fields = content[at + 8 : at + 12] * (flags & 1) + content[at + 12 : at + 16] * (flags >> 1 & 1)
    rest = content[at + 16 : at + 150]
    new = content[at : at + 4] + struct.pack(">I", flags) + fields + rest
    return content[:at] + new.ljust(150, b"\0") + content[at + 150 :]


def without_table(content: bytes) -> bytes:
    at = place(content)
    return content[:at] + bytes(4) + content[at + 4 :]


def id3(size: int, version: int = 3, *, footer: bool = False) -> bytes:
    groups = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    head = bytes([version, 0, 0x10 if footer else 0]) + groups
    return b"ID3" + head + b"\xff\xd8" * (size // 2) + bytes(size % 2) + (b"3DI" + head if footer else b"")


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.8, 1, 1.3, 2, 1e9])
def test_a_wrong_count_in_a_table(tmp_path: Path, mode: str, share: float) -> None:
    path = written(tmp_path, with_frames(mp3(tmp_path, QUIET_END, mode), share))
    plain = open_audio(written(tmp_path, mp3(tmp_path, QUIET_END, mode), "plain"))
    verdict, seconds = judged(path)
    assert verdict == "whole" and seconds == pytest.approx(4.0, abs=0.06)
    if share in (0, 0.1, 1, 1e9):  # indexing believes a mean frame of plausible size; decoding counts
        assert probe_audio(path).duration_s == pytest.approx(4.0, abs=0.06)
    got, expected = (np.concatenate(list(source.blocks()), 1)[0] for source in (open_audio(path), plain))
    n = min(len(got), len(expected)) - 1152
    assert np.abs(got[:n] - expected[:n]).max() < 1e-3, "the encoder's delay is cut as without the fault"


@pytest.mark.parametrize("flags", [0b1101, 0b1110, 0b1100, 0b0000])
def test_tables_that_leave_counts_out(tmp_path: Path, flags: int) -> None:
    content = mp3(tmp_path, QUIET_END)
    verdict, seconds = judged(written(tmp_path, with_flags(content, flags)))
    assert verdict == "whole" and seconds == pytest.approx(4.0, abs=0.08)
    if flags & 3:
        cut = with_flags(content, flags)[: len(content) // 4]
        assert judged(written(tmp_path, cut))[0] != "whole", "either count shows a cut"


@pytest.mark.parametrize("share", [0.5, 1, 2])
def test_a_wrong_count_in_a_vbri_table(tmp_path: Path, share: float) -> None:
    """The other kind of table: bytes, then frames, at fixed places behind the first frame's header."""
    content = mp3(tmp_path, QUIET_END)
    at = place(content) + 8
    frames, size = struct.unpack(">II", content[at : at + 8])
    table = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 0, size, int(frames * share), 0, 1, 2, 1)
    bare = content[:4] + bytes(place(content) + 150 - 4) + content[place(content) + 150 :]
    whole = bare[:36] + table + bare[36 + len(table) :]
    verdict, seconds = judged(written(tmp_path, whole))
    assert verdict == "whole" and seconds == pytest.approx(4.0, abs=0.08)
    assert judged(written(tmp_path, whole[: len(whole) // 2]))[0] != "whole"


FRONTS = {
    "small and small": id3(2000) + id3(200),
    "cover": id3(2000) + id3(150_000),
    "footer": id3(2000, 4, footer=True),
    "footer and tag": id3(2000, 4, footer=True) + id3(100),
    "padding": id3(2000) + bytes(8192),
    "zeros": bytes(8192),
    "half a megabyte of zeros": bytes(500_000),
    "ape": b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 500, 1, 0xA0000000) + bytes(8) + b"x" * 532,
    "junk": b"junk" * 2000,
    "false frames": b"\xff\xfb\x90\x00" * 500,
}
ENDS = {
    "none": b"",
    "id3v1": b"TAG" + b"x" * 125,
    "zeros": bytes(5000),
    "ape": b"x" * 500 + b"APETAGEX" + struct.pack("<IIII", 2000, 532, 1, 0) + bytes(8),
    "lyrics": b"LYRICSBEGIN" + b"IND00002" + b"10" + b"000021LYRICS200" + b"TAG" + b"x" * 125,
}


@pytest.mark.parametrize("kind", ["table", "none", "constant"])
@pytest.mark.parametrize("front", FRONTS)
def test_what_lies_before_the_first_frame(tmp_path: Path, front: str, kind: str) -> None:
    content = mp3(tmp_path, QUIET_END, "CONSTANT" if kind == "constant" else "VARIABLE")
    path = written(tmp_path, FRONTS[front] + (content if kind == "table" else without_table(content)))
    verdict, seconds = judged(path)
    assert verdict == "whole" and seconds == pytest.approx(4.0, abs=0.12)
    assert probe_audio(path).duration_s == pytest.approx(4.0, abs=0.12)


@pytest.mark.parametrize("kind", ["table", "none", "constant"])
@pytest.mark.parametrize("end", ENDS)
def test_what_lies_behind_the_last_frame(tmp_path: Path, end: str, kind: str) -> None:
    content = mp3(tmp_path, QUIET_END, "CONSTANT" if kind == "constant" else "VARIABLE")
    path = written(tmp_path, (content if kind == "table" else without_table(content)) + ENDS[end])
    verdict, seconds = judged(path)
    assert verdict == "whole" and seconds == pytest.approx(4.0, abs=0.12)


@pytest.mark.parametrize("between", [b"", id3(1000), b"TAG" + b"x" * 125, bytes(512), ENDS["ape"], b"junk" * 100])
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize("flags", [3, 1])
def test_joined_files_are_found(tmp_path: Path, between: bytes, mode: str, flags: int) -> None:
    first = mp3(tmp_path, WAVE, mode)
    if flags == 1:
        first = with_flags(first, 0b1101)
    verdict, seconds = judged(written(tmp_path, first + between + mp3(tmp_path, tone(3.0, RATE), mode)))
    assert "joined" in verdict or "more music follows" in verdict
    assert seconds == pytest.approx(4.0, abs=0.1)


def test_joined_files_without_tables_are_decoded_whole(tmp_path: Path) -> None:
    one, other = without_table(mp3(tmp_path)), without_table(mp3(tmp_path, tone(3.0, RATE)))
    for between in (b"", id3(1000)):
        verdict, seconds = judged(written(tmp_path, one + between + other))
        assert verdict == "whole" and seconds == pytest.approx(7.0, abs=0.25)


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_cut_files(tmp_path: Path, mode: str) -> None:
    content = mp3(tmp_path, WAVE, mode)
    verdict, _ = judged(written(tmp_path, content[: len(content) // 2]))
    assert verdict == "the file is shorter than its table declares: it is cut"
    assert open_audio(tmp_path / "a.bin").info.duration_s == pytest.approx(4.0)
    verdict, _ = judged(written(tmp_path, without_table(content)[: len(content) // 2 + 1]))
    assert verdict == "the file ends inside a frame: it is cut"


def test_a_table_that_agrees_is_believed_without_a_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexing reads no more than the ends of a file whose header and size agree."""
    from featstore.audio import mp3 as module

    path = written(tmp_path, mp3(tmp_path))
    monkeypatch.setattr(module, "_walk", lambda *given: pytest.fail("all frames were counted"))
    assert probe_audio(path).duration_s == 4.0
    encoded = tmp_path / "constant.mp3"
    soundfile.write(encoded, WAVE, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.6)
    constant = written(tmp_path, without_table(encoded.read_bytes()))
    assert probe_audio(constant).duration_s == pytest.approx(4.0, abs=0.1)


def test_a_download_that_was_not_finished(tmp_path: Path) -> None:
    """The file has its whole size, and zeros where its second half should be."""
    content = mp3(tmp_path)
    half = len(content) // 2
    verdict, _ = judged(written(tmp_path, content[:half] + bytes(len(content) - half)))
    assert verdict == "the file is shorter than its table declares: it is cut"


def layer2(seconds: float) -> bytes:
    """Frames of silence, 192 kbit/s at 48 kHz: header, no allocation, zeros."""
    return (b"\xff\xfd\xa4\x00" + bytes(572)) * int(seconds * 48000 / 1152)


def test_layer_2(tmp_path: Path) -> None:
    whole = layer2(4.0)
    assert judged(written(tmp_path, whole)) == ("whole", pytest.approx(4.0, abs=0.05))
    assert judged(written(tmp_path, whole[: len(whole) // 2 + 100]))[0] == "the file ends inside a frame: it is cut"
    assert judged(written(tmp_path, whole + b"TAG" + b"x" * 125))[0] == "whole"


def test_frames_are_counted_while_a_profiler_looks_on(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(without_table(mp3(tmp_path)))
    kept = []  # Dask's profiler keeps frames of a running thread, and their locals with them

    def keep(frame: FrameType, event: str, _: object) -> None:
        kept.append(frame)

    sys.setprofile(keep)
    try:
        found = examine_file(str(path), thoroughly=True)
    finally:
        sys.setprofile(None)
    assert "follow_frames" in {frame.f_code.co_name for frame in kept}
    assert found == examine_file(str(path), thoroughly=True)
