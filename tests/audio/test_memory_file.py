"""Files that are held in memory decode to what they decode to from the disk, whatever is wrong with them."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featstore.audio import decode, decode_audio, fingerprint, open_audio, probe_audio
from featstore.audio.memory_file import MemoryFile, id3_end, sound_file_class
from featstore.audio.views import FileView, ViewOf
from featstore.errors import DecodeError
from featstore.testing.audio import tone

RATE = 22050
WAVE = tone(2.0, RATE, seed=7)
FORMS = [
    ("MP3", "MPEG_LAYER_III"), ("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"),
    ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"),
    ("CAF", "ALAC_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("NIST", "PCM_16"), ("VOC", "PCM_16"),
    ("SVX", "PCM_16"), ("IRCAM", "PCM_16"), ("PAF", "PCM_16"), ("HTK", "PCM_16"), ("SDS", "PCM_16"), ("AVR", "PCM_16"),
    ("MAT5", "FLOAT"), ("PVF", "PCM_16"), ("XI", "DPCM_16"), ("WVE", "ALAW"), ("MPC2K", "PCM_16"),
]  # fmt: skip
ID3 = b"ID3\x03\0\0\0\0\x02\0" + bytes(256)


def encoded(form: str, subtype: str) -> bytes:
    file = io.BytesIO()
    rate = {"OPUS": 24000, "ALAW": 8000}.get(subtype, RATE) if form in ("OGG", "WVE") else RATE
    wave = WAVE if form in ("XI", "WVE", "HTK", "SVX", "SDS") else np.stack([WAVE, -0.5 * WAVE], 1)
    soundfile.write(file, wave, 44100 if form == "XI" else rate, format=form, subtype=subtype)
    return file.getvalue()


def found(path: Path) -> tuple:
    """Everything that opening and decoding tells, or the error."""
    try:
        source = open_audio(path)
        samples = np.concatenate(list(source.blocks(10_000)), axis=1)
    except DecodeError as error:
        return type(error), error.what
    return source.info, source.fingerprint(), source.statistics, samples.tobytes()


def both(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[tuple, tuple]:
    """From memory, and from the disk."""
    held = found(path)
    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_held", lambda path, size: None)
        return held, found(path)


@pytest.mark.parametrize(("form", "subtype"), FORMS)
def test_from_memory_as_from_the_disk(form: str, subtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        whole = encoded(form, subtype)
    except (soundfile.SoundFileError, ValueError) as error:
        pytest.skip(f"this libsndfile does not write {form} to a file without a name: {error}")
    rng = np.random.default_rng(len(whole))
    flipped = bytearray(whole)
    for place in rng.integers(len(whole) // 4, len(whole), 20):
        flipped[place] ^= 0x55
    cases = {
        "whole": whole, "cut": whole[: len(whole) * 2 // 3], "tagged": ID3 + whole, "tagged twice": ID3 + ID3 + whole,
        "zeros behind": whole + bytes(5000), "joined": whole + whole, "flipped": bytes(flipped), "short": whole[:60],
    }  # fmt: skip
    for case, content in cases.items():
        for name in ("a.bin", f"b.{form.lower()}"):
            path = tmp_path / name
            path.write_bytes(content)
            held, from_disk = both(path, monkeypatch)
            assert held == from_disk, (case, name, held[:2], from_disk[:2])


def test_the_name_says_what_a_headerless_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.vox"
    path.write_bytes(np.random.default_rng(0).integers(0, 255, 8000, np.uint8).tobytes())
    held, from_disk = both(path, monkeypatch)
    assert held == from_disk
    assert held[0].format == "RAW"


def test_a_raw_file_is_refused_as_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in {"a.raw": bytes(4000), "b.RAW": encoded("WAV", "PCM_16")}.items():
        path = tmp_path / name
        path.write_bytes(content)
        held, from_disk = both(path, monkeypatch)
        assert held == from_disk == (DecodeError, "not readable as audio: samplerate must be specified")


APPLE_DOUBLE = (
    bytes.fromhex("0005160700020000")
    + b"Mac OS X        "
    + bytes.fromhex("0002")
    + struct.pack(">6I", 9, 0x32, 0xEB0, 2, 0xEE2, 0x11E)
)  # Finder's data, and an empty resource fork


@pytest.mark.parametrize("rest", [b"", bytes(4096), APPLE_DOUBLE[:4], APPLE_DOUBLE.ljust(0x1000, b"\0")])
@pytest.mark.parametrize("front", [b"", ID3])
@pytest.mark.parametrize("fork", ["._a.mp3", ".AppleDouble/a.mp3"])
def test_what_a_mac_leaves_beside_an_mp3(
    fork: str, front: bytes, rest: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(front + encoded("MP3", "MPEG_LAYER_III"))
    alone, length = found(path), probe_audio(path).n_samples
    (tmp_path / fork).parent.mkdir(exist_ok=True)
    (tmp_path / fork).write_bytes(rest)
    if not front:
        with pytest.raises(soundfile.SoundFileError, match=r"resource fork|data offset"):
            soundfile.info(path)
    held, from_disk = both(path, monkeypatch)
    assert held == from_disk == alone
    assert probe_audio(path).n_samples == length
    monkeypatch.chdir(tmp_path)
    (tmp_path / "._").write_bytes(rest)  # libsndfile takes it for what belongs to a file without a name
    assert found(path)[0] is DecodeError or found(path) == alone
    (tmp_path / fork).unlink()
    assert found(path) == alone


def test_a_folder_that_libsndfile_takes_for_a_part_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "music" / "a.mp3"
    path.parent.mkdir()
    path.write_bytes(bytes(2000) + encoded("MP3", "MPEG_LAYER_III"))  # shown from its first frame on
    alone = found(path)
    assert alone[0] is not DecodeError
    (tmp_path / ".AppleDouble").mkdir()  # file servers for Macs make one in every folder
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DecodeError, match=r"looked into \.AppleDouble of the working folder .* Run from a"):
        decode_audio(path)
    monkeypatch.chdir(path.parent)
    assert found(path) == alone


def test_a_tag_is_not_held_twice() -> None:
    content = ID3 + bytes(4_000_000)
    tracemalloc.start()
    held = MemoryFile("a.mp3", content)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held.is_tagged and held.state[1] == 4_000_000 and size < 100_000


def test_a_track_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(encoded("MP3", "MPEG_LAYER_III"))
    opened = []
    plain = open

    def watched(name: object, *given: object, **more: object) -> object:
        opened.append(str(name))
        return plain(name, *given, **more)

    monkeypatch.setattr("builtins.open", watched)
    source = open_audio(path)
    source_of_blocks = list(source.blocks())
    expected = fingerprint(str(path))
    path.unlink()  # nothing of it is read again
    assert opened == [str(path)] * 2, "once, and once for the fingerprint to compare with"
    assert np.array_equal(np.concatenate(list(source.blocks()), 1), np.concatenate(source_of_blocks, 1))
    assert source.fingerprint() == expected


def test_views_show_the_same_in_memory(tmp_path: Path) -> None:
    content = bytes(range(1, 201))
    path = tmp_path / "file"
    path.write_bytes(content)
    for view in (ViewOf(), ViewOf(3, 150, {2: b"ab", 60: b"cde"}), ViewOf(5, 120, is_open_ended=True)):
        assert len(view.shown(content)) == len(FileView(str(path), view).read(len(content)))
        assert view.shown(content) == FileView(str(path), view).read(len(view.shown(content)))


def test_reads_beyond_the_end_and_an_open_end(tmp_path: Path) -> None:
    mp3 = encoded("MP3", "MPEG_LAYER_III")
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3)
    for view in (ViewOf(), ViewOf(0, len(mp3), is_open_ended=True)):
        with (
            sound_file_class()(MemoryFile("a.mp3", mp3, view)) as held,
            sound_file_class()(FileView(str(path), view)) as other,
        ):
            assert held.frames == other.frames
            assert np.array_equal(held.read(10 * RATE, fill_value=0.0), other.read(10 * RATE, fill_value=0.0))


def test_tags_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert id3_end(ID3 + ID3 + b"abc") == 2 * len(ID3)
    assert id3_end(b"ID3\x03\0\0") == 0
    path = tmp_path / "a.mp3"
    path.write_bytes(ID3[:200])
    held, from_disk = both(path, monkeypatch)
    assert held == from_disk


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, WAVE, RATE)

    def refuse(path: str, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(decode, "read_held", refuse)
    with pytest.raises(DecodeError, match="cannot be read: Input/output error"):
        open_audio(path)
    assert probe_audio(path).n_samples == len(WAVE)
    monkeypatch.undo()
    assert decode_audio(path)[0].shape == (1, len(WAVE))
