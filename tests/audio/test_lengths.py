"""The length of a file is what its bytes can hold; less than declared is a cut, more is music that would be lost."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featstore.audio import open_audio, probe_audio
from featstore.audio.containers import find_extent
from featstore.errors import DecodeError
from featstore.testing.audio import tone

RATE = 22050
WAVE = tone(4.0, RATE, seed=5)
TOLERANCE_S = 0.25


def judged(path: Path, decoder: str = "soundfile") -> tuple[str, float]:
    """("whole" or what is wrong, seconds decoded) as an extraction judges it."""
    source = open_audio(path, decoder=decoder)
    count = sum(block.shape[1] for block in source.blocks())
    rate = source.info.sample_rate
    if source.info.damage:
        return source.info.damage, count / rate
    missing = (source.info.n_samples - count) / rate
    return ("whole" if missing <= TOLERANCE_S else f"{missing:.2f} s missing"), count / rate


def encoded(tmp_path: Path, form: str, wave: np.ndarray = WAVE, rate: int = RATE, **settings: object) -> bytes:
    path = tmp_path / "encoded"
    soundfile.write(path, wave, rate, format=form, **settings)
    return path.read_bytes()


def written(tmp_path: Path, content: bytes, name: str = "a.bin") -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


CONTAINERS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "ULAW"),
    ("WAV", "ALAW"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"), ("W64", "PCM_24"), ("AU", "PCM_16"), ("AU", "ULAW"), ("AU", "FLOAT"), ("AIFF", "PCM_16"),
    ("AIFF", "FLOAT"), ("AIFF", "PCM_S8"), ("NIST", "PCM_16"), ("SVX", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "FLOAT"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "subtype"), CONTAINERS)
def test_half_of_a_file_is_cut(tmp_path: Path, form: str, subtype: str) -> None:
    content = encoded(tmp_path, form, subtype=subtype)
    assert judged(written(tmp_path, content))[0] == "whole"
    try:
        verdict, seconds = judged(written(tmp_path, content[: len(content) // 2]))
    except DecodeError as error:
        assert form == "CAF" and "malformed" in str(error)  # libsndfile refuses these by itself
        return
    assert verdict != "whole" and 1.5 < seconds < 2.5
    promised = open_audio(tmp_path / "a.bin").info.duration_s
    assert promised == pytest.approx(4.0, abs=0.15)


def test_big_endian_wav(tmp_path: Path) -> None:
    samples = np.round(WAVE * 32767).astype(">i2").tobytes()
    form = struct.pack(">IHHIIHH", 16, 1, 1, RATE, RATE * 2, 2, 16)
    head = b"RIFX" + struct.pack(">I", 36 + len(samples)) + b"WAVEfmt " + form + b"data"
    whole = head + struct.pack(">I", len(samples)) + samples
    assert judged(written(tmp_path, whole)) == ("whole", 4.0)
    assert judged(written(tmp_path, whole[: len(whole) // 2]))[0].endswith("missing")
    half = head + struct.pack(">I", len(samples) // 2) + samples
    verdict, seconds = judged(written(tmp_path, half))
    assert "88200 more follow" in verdict and seconds == 4.0


def wav(declared: int, samples: bytes, riff: int | None = None, before: bytes = b"", after: bytes = b"") -> bytes:
    form = before + b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, RATE * 2, 2, 16)
    total = 12 + len(form) + len(samples) + len(after) if riff is None else riff
    head = b"RIFF" + struct.pack("<I", total) + b"WAVE" + form
    return head + b"data" + struct.pack("<I", declared) + samples + after


PCM = np.round(WAVE * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize("riff", [None, 36 + len(PCM) // 2])
@pytest.mark.parametrize("share", [2, 4])
def test_more_samples_than_a_wav_declares(tmp_path: Path, riff: int | None, share: int) -> None:
    path = written(tmp_path, wav(len(PCM) // share, PCM, riff))
    verdict, seconds = judged(path)
    assert f"declares {len(PCM) // share} bytes of samples, and {len(PCM) - len(PCM) // share} more follow" in verdict
    assert seconds == 4.0, "accepted with a flag, all of it is there"


@pytest.mark.parametrize("declared", [0, 2**31 - 1, 2**31 - 37, 2**32 - 1, 2**32 - 37])
def test_a_size_that_is_left_open(tmp_path: Path, declared: int) -> None:
    assert judged(written(tmp_path, wav(declared, PCM))) == ("whole", 4.0)


def test_a_size_of_three_gigabytes_is_no_open_one(tmp_path: Path) -> None:
    assert judged(written(tmp_path, wav(3 << 30, PCM)))[0].endswith("missing")


def test_a_size_that_wrapped_at_4_gib(tmp_path: Path) -> None:
    """3 s by the header, 6.8 hours by the bytes; the file is sparse."""
    rest = 3 * 44100 * 2 * 2
    form = struct.pack("<IHHIIHH", 16, 1, 2, 44100, 44100 * 4, 4, 16)
    path = written(
        tmp_path, b"RIFF" + struct.pack("<I", 36 + rest) + b"WAVEfmt " + form + b"data" + struct.pack("<I", rest)
    )
    with open(path, "ab") as file:
        file.write(b"\1\0" * 1000)
    os.truncate(path, 44 + (1 << 32) + rest - 4)
    with open(path, "ab") as file:
        file.write(b"\1\0\1\0")
    hours = ((1 << 32) + rest) / (44100 * 4)
    for info in (probe_audio(path), open_audio(path).info):
        assert info.duration_s == pytest.approx(hours) and info.damage == ""
    block = next(iter(open_audio(path).blocks(1000)))
    assert block.shape == (2, 1000)
    with open(path, "ab") as file:
        file.write(b"LIST" + struct.pack("<I", 10) + b"INFOISFT\0\0")
    assert probe_audio(path).duration_s == pytest.approx(hours), "a chunk behind them is no music"


LIST = b"LIST" + struct.pack("<I", 26) + b"INFOIART" + struct.pack("<I", 14) + b"Somebody else\0"
ODD = b"LIST" + struct.pack("<I", 17) + b"INFOIART" + struct.pack("<I", 5) + b"Abcde"
ID3 = b"ID3\x03\0\0\0\0\x02\0" + bytes(256)


AFTER = [
    b"", b"\0", LIST, ODD + b"\0", ODD, LIST + LIST, LIST[:20], ID3, b"TAG" + b"x" * 125, bytes(100_000), b"?" * 2000,
    b"id3 " + struct.pack("<I", 266) + ID3, b"xyz!" + struct.pack("<I", 8) + b"12345678",
    b"bext" + struct.pack("<I", 100_000) + b"\1" * 100_000,
    b"APETAGEX" + struct.pack("<IIII", 2000, 9000, 1, 0xA0000000) + bytes(8) + b"y" * 9000,
]  # fmt: skip


@pytest.mark.parametrize("after", AFTER, ids=range(len(AFTER)))
@pytest.mark.parametrize("before", [b"", LIST, b"JUNK" + struct.pack("<I", 28) + bytes(28)])
def test_what_may_lie_around_the_samples_of_a_wav(tmp_path: Path, before: bytes, after: bytes) -> None:
    assert judged(written(tmp_path, wav(len(PCM), PCM, before=before, after=after))) == ("whole", 4.0)
    odd = PCM[:-2]
    mono8 = wav(len(odd), odd, before=before, after=after)
    assert judged(written(tmp_path, mono8))[0] == "whole"


@pytest.mark.parametrize(
    ("form", "subtype"), [("AIFF", "PCM_16"), ("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("WAV", "FLOAT")]
)
def test_tags_around_other_files(tmp_path: Path, form: str, subtype: str) -> None:
    content = encoded(tmp_path, form, subtype=subtype)
    for case in (ID3 + content, content + b"TAG" + b"a" * 125, content + ID3, content + bytes(4096)):
        path = written(tmp_path, case)
        try:
            soundfile.info(path)
        except soundfile.SoundFileError:
            continue
        assert judged(path) == ("whole", 4.0)


@pytest.mark.parametrize("first", ["WAV", "AIFF", "AU", "W64", "RF64", "CAF"])
@pytest.mark.parametrize("second", ["WAV", "AIFF", "AU", "FLAC", "OGG", "MP3"])
def test_joined_files(tmp_path: Path, first: str, second: str) -> None:
    one, other = encoded(tmp_path, first), encoded(tmp_path, second, tone(3.0, RATE))
    verdict, _ = judged(written(tmp_path, one + other))
    assert "follow" in verdict


@pytest.mark.parametrize("form", ["FLAC", "OGG", "MP3"])
def test_files_of_one_kind_joined(tmp_path: Path, form: str) -> None:
    content = encoded(tmp_path, form) + encoded(tmp_path, form, tone(3.0, RATE))
    verdict, seconds = judged(written(tmp_path, content))
    assert ("joined" in verdict or "more music follows" in verdict) and seconds == 4.0


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_flac_that_counts_less_or_more_than_it_holds(tmp_path: Path, subtype: str, channels: int) -> None:
    wave = np.stack([tone(20.0, RATE, seed=k) for k in range(channels)], 1)
    content = bytearray(encoded(tmp_path, "FLAC", wave, subtype=subtype))
    packed = int.from_bytes(content[18:26], "big")
    mask = (1 << 36) - 1
    assert packed & mask == len(wave)

    def counting(n: int) -> Path:
        content[18:26] = (packed & ~mask | n).to_bytes(8, "big")
        return written(tmp_path, bytes(content))

    assert judged(counting(len(wave))) == ("whole", 20.0)
    verdict, seconds = judged(counting(len(wave) // 2))
    assert (
        verdict == f"the header declares {len(wave) // 2} samples where the frames hold {len(wave)}" and seconds == 20.0
    )
    assert judged(counting(0)) == ("whole", 20.0), "a count that is left open"
    assert probe_audio(tmp_path / "a.bin").n_samples == len(wave)
    try:
        assert judged(counting(2 * len(wave)))[0] == "20.00 s missing"
    except DecodeError as error:
        assert "decoding stopped after 20.0" in str(error)


def test_flac_with_an_id3v1_tag_at_its_end(tmp_path: Path) -> None:
    content = encoded(tmp_path, "FLAC", tone(25.0, RATE))
    for tag in (b"TAG" + b"title".ljust(125, b"\0"), b"TAG" + b"\xff\xf8" * 62 + b"\0"):
        path = written(tmp_path, content + tag)
        assert judged(path) == ("whole", 25.0)


def test_the_position_of_a_fault_is_exact(tmp_path: Path) -> None:
    content = encoded(tmp_path, "FLAC", tone(25.0, RATE))
    path = written(tmp_path, content[: int(len(content) * 0.6)])
    source = open_audio(path)
    with pytest.raises(DecodeError, match=r"decoding stopped after 1[3-6]\.\d\d s"):
        list(source.blocks(10 * RATE))


# -- Ogg ----------------------------------------------------------------------------------------------------------


def ogg_crc(page: bytes) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return value


def pages(content: bytes) -> list[bytearray]:
    found, at = [], 0
    while at < len(content):
        size = 27 + content[at + 26] + sum(content[at + 27 : at + 27 + content[at + 26]])
        found.append(bytearray(content[at : at + size]))
        at += size
    return found


def joined_pages(found: list[bytearray]) -> bytes:
    for page in found:
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", ogg_crc(page))
    return b"".join(found)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_streams_joined_under_one_number(tmp_path: Path, subtype: str) -> None:
    wave = tone(2.0, 48000)
    one, other = (pages(encoded(tmp_path, "OGG", w, 48000, subtype=subtype)) for w in (wave, wave[::-1]))
    for page in other:
        page[14:18] = one[0][14:18]
    verdict, _ = judged(written(tmp_path, joined_pages(one + other)))
    assert verdict == "several streams were joined, and only the first is decoded"
    one[-1][5] &= ~4  # without an end between them
    assert "joined" in judged(written(tmp_path, joined_pages(one + other)))[0]
    assert judged(written(tmp_path, joined_pages(other))) == ("whole", 2.0)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_without_its_end_can_be_decoded(tmp_path: Path, subtype: str) -> None:
    found = pages(encoded(tmp_path, "OGG", tone(12.0, 48000), 48000, subtype=subtype))
    found[-1][5] &= ~4
    assert judged(written(tmp_path, joined_pages(found))) == (
        "the stream has no end: the file is cut",
        pytest.approx(12.0, abs=0.03),
    )


# -- every format that libsndfile writes ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", sorted(set(soundfile.available_formats()) - {"RAW", "SD2"}))
def test_whole_files_of_every_coding_are_whole(tmp_path: Path, form: str) -> None:
    tried = 0
    for subtype in soundfile.available_subtypes(form):
        for channels, count in ((1, 30001), (2, 30000), (1, 1)):
            rate = 8000 if form == "WVE" else 48000 if subtype == "OPUS" else 44100
            wave = np.stack([tone(1.0, rate, seed=k)[:count] for k in range(channels)], 1)
            path = tmp_path / f"{subtype}.{channels}.{count}"
            try:
                soundfile.write(path, wave, rate, format=form, subtype=subtype)
                plain = soundfile.read(path, always_2d=True)[0]
            except (soundfile.SoundFileError, RuntimeError, ValueError):
                continue
            if not len(plain):
                continue
            tried += 1
            source = open_audio(path)
            got = np.concatenate(list(source.blocks(4096)), axis=1)
            assert source.info.damage == "" and source.info.n_samples == len(plain), (subtype, channels, count)
            assert got.shape == plain.T.shape, (subtype, channels, count)
    assert tried


def test_a_form_is_known_by_both_of_its_marks() -> None:
    body = bytes(4) + b"WAVEfmt " + bytes(32)
    assert find_extent(b"JUNK" + body) is None
    assert find_extent(b"RIFX" + bytes(4) + b"AVI " + bytes(36)) is None
