"""Audio files as they are met: cut, damaged, mislabelled, odd, or no audio at all. Each is made here, from nothing.

``python -m tests.audio.nasty_files`` extracts a feature from all of them and writes docs/nasty_files.md.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from featstore.testing.audio import tone

RATE = 22050
FEATURE = "mel(n_mels=32,scale=db)"
PAGE = Path(__file__).parents[2] / "docs" / "nasty_files.md"
WAVE = tone(4.0, RATE, seed=5)


@dataclass(frozen=True)
class Nasty:
    """A file: how it is made, what it is, and whether its samples must equal those of the plain tone."""

    name: str
    what: str
    make: Callable[[Path], object]
    like: str = ""  # name of the file whose array this one's must equal, within the coarser one's rounding


def _encoded(form: str, wave: np.ndarray = WAVE, rate: int = RATE, **settings: object) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        soundfile.write(path, wave, rate, format=form, **settings)
        return path.read_bytes()


def _wav(samples: bytes, *, declared: int, rate: int = RATE, channels: int = 1, bits: int = 16) -> bytes:
    block = channels * bits // 8
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * block, block, bits)
    head = b"RIFF" + struct.pack("<I", min(2**32 - 1, 36 + declared)) + b"WAVEfmt " + form
    return head + b"data" + struct.pack("<I", declared) + samples


def _pcm16(wave: np.ndarray = WAVE) -> bytes:
    return (np.round(wave * 32767)).astype("<i2").tobytes()


def _id3(size: int) -> bytes:
    groups = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + groups


def _junk_between_frames() -> bytes:
    content = bytearray(_encoded("MP3"))
    middle = len(content) // 2
    return bytes(content[:middle] + np.random.default_rng(0).bytes(300) + content[middle:])


def _without_table() -> bytes:
    content = _encoded("MP3", np.concatenate([WAVE, 0.001 * WAVE]), bitrate_mode="VARIABLE")
    at = max(content.find(b"Xing"), content.find(b"Info"))
    return content[:at] + b"\0\0\0\0" + content[at + 4 :]


def _half_counted() -> bytes:
    content = _encoded("MP3")
    at = max(content.find(b"Xing"), content.find(b"Info")) + 8
    return content[:at] + struct.pack(">I", struct.unpack(">I", content[at : at + 4])[0] // 2) + content[at + 4 :]


def _half_counted_flac() -> bytes:
    content = _encoded("FLAC")
    packed = int.from_bytes(content[18:26], "big")
    return content[:18] + (packed - len(WAVE) // 2).to_bytes(8, "big") + content[26:]


def _bad_block() -> bytes:
    content = bytearray(_encoded("FLAC"))
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(b ^ 0x5A for b in content[middle : middle + 40])
    return bytes(content)


def _ogg_with_junk() -> bytes:
    content = bytearray(_encoded("OGG"))
    middle = len(content) // 2
    return bytes(content[:middle] + np.random.default_rng(1).bytes(2000) + content[middle:])


def _half(form: str) -> bytes:
    content = _encoded(form, np.concatenate([WAVE, WAVE]))
    return content[: len(content) // 2]


def _spiked(value: float) -> np.ndarray:
    wave = WAVE.copy()
    wave[1000] = value
    return wave


def _write(content: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content())


def _sound(wave: np.ndarray = WAVE, rate: int = RATE, **settings: object) -> Callable[[Path], object]:
    return lambda path: soundfile.write(path, wave, rate, **settings)


def _three_hours(path: Path) -> None:
    """At 8 kHz, 8 bits, so that it takes no longer to make than it must."""
    rate = 8000
    minute = tone(60.0, rate, seed=2)
    with soundfile.SoundFile(path, "w", rate, 1, subtype="PCM_U8") as file:
        for _ in range(180):
            file.write(minute)


def _beside_a_fork(path: Path) -> None:
    path.write_bytes(_encoded("MP3"))
    path.with_name(f"._{path.name}").write_bytes(bytes(4096))


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


FILES = [
    Nasty("plain.wav", "the tone that the others are made from", _sound(subtype="PCM_16")),
    Nasty("half.mp3", "mp3 cut in half", _write(lambda: _half("MP3"))),
    Nasty("junk_between_frames.mp3", "mp3 with 300 random bytes between frames", _write(_junk_between_frames)),
    Nasty("plain.mp3", "mp3 as it should be", _write(lambda: _encoded("MP3"))),
    Nasty("from_a_mac.mp3", "mp3 beside the `._from_a_mac.mp3` that a Mac leaves on other file systems", _beside_a_fork,
          like="plain.mp3"),
    Nasty("huge_tag.mp3", "mp3 behind an ID3 tag of 4 MB", _write(lambda: _id3(4 << 20) + bytes(4 << 20) + _encoded("MP3")),  # noqa: E501
          like="plain.mp3"),
    Nasty("lying_tag.mp3", "mp3 behind an ID3 tag that claims 200 MB", _write(lambda: _id3(200 << 20) + _encoded("MP3"))),  # noqa: E501
    Nasty("broken_tag.mp3", "mp3 behind an ID3 tag with an impossible version and flags",
          _write(lambda: b"ID3\xff\xff\xff\x80\x80\xff\xff" + _encoded("MP3"))),
    Nasty("tag_only.mp3", "ID3 tag and nothing else", _write(_id3(1000) + bytes(1000))),
    Nasty("no_xing.mp3", "variable bit rate without a Xing header, quieter at the end", _write(_without_table)),
    Nasty("two_rates.mp3", "mp3 at 22050 Hz, then mp3 at 44100 Hz stereo, in one file",
          _write(lambda: _encoded("MP3") + _encoded("MP3", np.stack([tone(2.0, 44100)] * 2, 1), 44100))),
    Nasty("joined.mp3", "mp3, an ID3v2 tag, and another mp3", _write(lambda: _encoded("MP3") + _id3(100) + bytes(100) + _encoded("MP3"))),  # noqa: E501
    Nasty("wrong_table.mp3", "mp3 whose table counts half of its frames", _write(_half_counted)),
    Nasty("two_tags.mp3", "mp3 behind two ID3 tags, the second of 150 kB",
          _write(lambda: _id3(100) + bytes(100) + _id3(150_000) + bytes(150_000) + _encoded("MP3")), like="plain.mp3"),
    Nasty("junk.ogg", "Ogg Vorbis with 2000 random bytes in the middle", _write(_ogg_with_junk)),
    Nasty("half.ogg", "Ogg Vorbis cut in half", _write(lambda: _half("OGG"))),
    Nasty("chained.ogg", "two Ogg streams, one behind the other, of different rates",
          _write(lambda: _encoded("OGG") + _encoded("OGG", tone(2.0, 44100), 44100))),
    Nasty("bad_block.flac", "FLAC with a damaged block", _write(_bad_block)),
    Nasty("half.flac", "FLAC cut in half", _write(lambda: _half("FLAC"))),
    Nasty("half.wav", "WAV cut in half", _write(lambda: _wav(_pcm16()[: len(_pcm16()) // 2], declared=len(_pcm16())))),
    Nasty("length_0.wav", "WAV whose header says 0 bytes, over 4 s of samples", _write(lambda: _wav(_pcm16(), declared=0))),  # noqa: E501
    Nasty("length_max.wav", "WAV whose header says 2^31 - 1 bytes (a pipe wrote it)",
          _write(lambda: _wav(_pcm16(), declared=2**31 - 1)), like="plain.wav"),
    Nasty("length_unsigned.wav", "WAV whose header says 2^32 - 1 bytes", _write(lambda: _wav(_pcm16(), declared=2**32 - 1)),  # noqa: E501
          like="plain.wav"),
    Nasty("length_half.wav", "WAV whose header says half of its bytes", _write(lambda: _wav(_pcm16(), declared=len(_pcm16()) // 2))),  # noqa: E501
    Nasty("joined.au", "two AU files, one behind the other", _write(lambda: 2 * _encoded("AU"))),
    Nasty("half.au", "AU cut in half", _write(lambda: _half("AU"))),
    Nasty("half.aiff", "AIFF cut in half", _write(lambda: _half("AIFF"))),
    Nasty("tagged.flac", "FLAC with an ID3v1 tag at its end", _write(lambda: _encoded("FLAC", subtype="PCM_16") + b"TAG" + bytes(125)),  # noqa: E501
          like="plain.wav"),
    Nasty("count_half.flac", "FLAC whose header counts half of its samples", _write(_half_counted_flac)),
    Nasty("rate_1.wav", "WAV that declares 1 Hz", _write(lambda: _wav(_pcm16(), declared=len(_pcm16()), rate=1))),
    Nasty("rate_0.wav", "WAV that declares 0 Hz", _write(lambda: _wav(_pcm16(), declared=len(_pcm16()), rate=0))),
    Nasty("rate_huge.wav", "WAV that declares 2147483647 Hz",
          _write(lambda: _wav(_pcm16(), declared=len(_pcm16()), rate=2**31 - 1))),
    Nasty("wrong_rate.wav", "the tone at 22050 Hz under a header that says 44100 Hz: nothing in the file tells",
          _write(lambda: _wav(_pcm16(), declared=len(_pcm16()), rate=44100))),
    Nasty("pcm_8.wav", "8-bit WAV", _sound(subtype="PCM_U8"), like="plain.wav"),
    Nasty("pcm_24.wav", "24-bit WAV", _sound(subtype="PCM_24"), like="plain.wav"),
    Nasty("pcm_32.wav", "32-bit WAV", _sound(subtype="PCM_32"), like="plain.wav"),
    Nasty("float.wav", "float WAV", _sound(subtype="FLOAT"), like="plain.wav"),
    Nasty("double.wav", "double WAV", _sound(subtype="DOUBLE"), like="plain.wav"),
    Nasty("nan.wav", "one NaN", _sound(_spiked(float("nan")), subtype="FLOAT")),
    Nasty("inf.wav", "one +inf", _sound(_spiked(float("inf")), subtype="FLOAT")),
    Nasty("minus_inf.wav", "one -inf", _sound(_spiked(float("-inf")), subtype="DOUBLE")),
    Nasty("beyond_float.wav", "a double of 1e300, infinite as float32", _sound(_spiked(1.0).astype(float) * 1e300, subtype="DOUBLE")),  # noqa: E501
    Nasty("one_sample.wav", "1 sample", _sound(WAVE[:1], subtype="PCM_16")),
    Nasty("no_samples.wav", "0 samples", _sound(WAVE[:0], subtype="PCM_16")),
    Nasty("empty.wav", "0 bytes", _write(b"")),
    Nasty("header_only.wav", "the first 20 bytes of a WAV", _write(lambda: _wav(b"", declared=100)[:20])),
    Nasty("eight_channels.wav", "8 equal channels", _sound(np.stack([WAVE] * 8, 1), subtype="PCM_16"), like="plain.wav"),  # noqa: E501
    Nasty("three_hours.wav", "3 hours", _three_hours),
    Nasty("silence.wav", "digital silence", _sound(np.zeros_like(WAVE), subtype="PCM_16")),
    Nasty("cancelling.wav", "right is the negative of left", _sound(np.stack([WAVE, -WAVE], 1), subtype="FLOAT")),
    Nasty("clipped.wav", "clipped", _sound(np.clip(40 * WAVE, -1, 1), subtype="PCM_16")),
    Nasty("dc.wav", "a constant of 0.5", _sound(np.full_like(WAVE, 0.5), subtype="PCM_16")),
    Nasty("text.mp3", "a web page named .mp3", _write(b"<!doctype html><html><body>404 Not Found</body></html>\n" * 30)),  # noqa: E501
    Nasty("random.mp3", "100 kB of random bytes named .mp3", _write(np.random.default_rng(3).bytes(100_000))),
    Nasty("flac_named.mp3", "FLAC named .mp3", _write(lambda: _encoded("FLAC", subtype="PCM_16")), like="plain.wav"),
    Nasty("folder.wav", "a folder named .wav", lambda path: path.mkdir()),
    Nasty("pipe.wav", "a FIFO", lambda path: os.mkfifo(path)),
    Nasty("dangling.wav", "a link to nothing", lambda path: path.symlink_to("nowhere.wav")),
    Nasty("loop.wav", "a link to itself", _loop),
    Nasty("absent.wav", "a path in the table without a file", lambda path: None),
    Nasty(unicodedata.normalize("NFC", "Ünïcødé_nfc ♪.wav"), "a name in composed Unicode (NFC)", _sound(subtype="PCM_16"),  # noqa: E501
          like="plain.wav"),
    Nasty(unicodedata.normalize("NFD", "Ünïcødé_nfd ♪.wav"), "a name in decomposed Unicode (NFD)", _sound(subtype="PCM_16"),  # noqa: E501
          like="plain.wav"),
    Nasty("new\nline.wav", "a newline in the name", _sound(subtype="PCM_16"), like="plain.wav"),
    Nasty("-leading-dash.wav", "a leading dash in the name", _sound(subtype="PCM_16"), like="plain.wav"),
]  # fmt: skip


def make_all(folder: Path) -> list[Path]:
    """Write every file; their paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in FILES:
        each.make(folder / each.name)
    return [folder / each.name for each in FILES]


def outcomes(folder: Path, store: Path) -> dict[str, tuple[str, float, str]]:
    """(status, seconds stored, sentence) of every file after a plain extraction of one feature."""
    import pandas as pd

    from featstore.datasets import TrackTable
    from featstore.datasets.table import TableInfo
    from featstore.extract import ExtractOptions, extract
    from featstore.specs import expand_features
    from featstore.store import open_store

    paths = make_all(folder)
    names = [each.name for each in FILES]
    table = TrackTable(pd.DataFrame({"track_id": names, "path": [str(p) for p in paths]}), TableInfo(name="nasty"))
    extract(table, expand_features([FEATURE]), store, ExtractOptions(scheduler="sync"))
    opened = open_store(store)
    reader = opened[FEATURE]
    tracks = opened.tracks
    stored = set(reader.track_ids)
    found = {}
    for name in names:
        frames = reader[name].shape[1] if name in stored else 0
        seconds = max(0.0, (frames - 1) * 256 / 16000) if frames else 0.0
        found[name] = (str(tracks.loc[name, "status"]), seconds, str(tracks.loc[name, "error"]))
    return found


def page(found: dict[str, tuple[str, float, str]], folder: Path) -> str:
    """The page: what each file becomes."""
    lines = [
        "# What nasty files become",
        "",
        "Each of these files is made by `tests/audio/nasty_files.py` and goes through an ordinary extraction "
        "(`decoder=soundfile`, `--short-decode fail`); `python -m tests.audio.nasty_files` writes this page, and a "
        "test fails when it is out of date. A file ends either stored (`ok`, or with a flag that says what was seen) "
        "or as one row of the ledger (`featstore status STORE --failures`); none ends the run.",
        "",
        f"Decoder: libsndfile {soundfile.__libsndfile_version__.removeprefix('libsndfile-')}.",
        "",
        "| file | what it is | becomes | stored | the ledger says |",
        "|---|---|---|---|---|",
    ]
    for each in FILES:
        status, seconds, sentence = found[each.name]
        place = str(folder / each.name)
        short = sentence.replace(f" [{place}]", "").replace(place, "…").replace("\n", "\\n").replace("|", "\\|")
        short = short.split(". ")[0]
        stored = f"{seconds:.2f} s" if seconds or status in ("ok", "silent", "clipped") else "nothing"
        name = each.name.replace("\n", "\\n")
        lines.append(f"| `{name}` | {each.what} | {status} | {stored} | {short or '–'} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        found = outcomes(root / "files", root / "s.zarr")
        PAGE.write_text(page(found, root / "files"), encoding="utf-8")
    sys.stdout.write(f"{PAGE}: {len(found)} files\n")


if __name__ == "__main__":
    main()
