"""Decoding through FFmpeg: what libsndfile cannot read, and the same faults named. Needs the extra [av]."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featstore.audio import decode_audio, decoder_versions, open_audio
from featstore.errors import DecodeError, MissingDependency
from featstore.specs import parse_spec
from featstore.testing.audio import tone

RATE = 44100


def test_its_absence_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependency, match=r"decoder=av needs the package 'av'.*featstore\[av\]"):
        open_audio(tmp_path / "a.m4a", decoder="av")
    assert "decoder=av" in str(parse_spec("mel(decoder=av)"))


def encode(path: Path, codec: str, wave: np.ndarray, rate: int = RATE) -> Path:
    """Write a file with FFmpeg; skips where this build has no such encoder."""
    av = pytest.importorskip("av", reason="m4a, aac and wma need the extra [av] (PyAV)")
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    channels = wave.shape[0]
    layout = "stereo" if channels == 2 else "mono"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave, np.float32), format="fltp", layout=layout)
        frame.sample_rate = rate
        target = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)
        fifo = av.AudioFifo()
        for part in target.resample(frame):
            part.pts = None
            fifo.write(part)
        while (part := fifo.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
            for packet in stream.encode(part):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return path


@pytest.mark.parametrize(("suffix", "codec"), [("m4a", "aac"), ("aac", "aac"), ("opus", "libopus"), ("wma", "wmav1")])
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_come_back_as_what_went_in(tmp_path: Path, suffix: str, codec: str, channels: int) -> None:
    rate = 48000 if codec == "libopus" else RATE
    wave = np.stack([tone(3.0, rate, seed=n) for n in range(channels)])
    try:
        path = encode(tmp_path / f"a.{suffix}", codec, wave, rate)
    except (OSError, ValueError) as error:
        pytest.skip(f"this FFmpeg does not encode {codec}: {error}")
    source = open_audio(path, decoder="av")
    samples = np.concatenate(list(source.blocks(7001)), axis=1)
    assert samples.dtype == np.float32 and samples.shape[0] == channels and source.info.sample_rate == rate
    assert abs(samples.shape[1] - wave.shape[1]) < 4096
    assert np.array_equal(samples, decode_audio(path, decoder="av")[0]), "blocks do not change the samples"
    n = min(samples.shape[1], wave.shape[1])  # encoders put some samples in front: compare what does not move
    mine, theirs = (np.abs(np.fft.rfft(each[0, :n]))[: n // 8].reshape(-1) for each in (samples, wave))
    assert np.corrcoef(mine, theirs)[0, 1] > 0.9


def test_pcm_is_exact(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra [av] (PyAV)")
    wave = np.stack([tone(2.0), -tone(2.0)], axis=1)
    for subtype in ("PCM_U8", "PCM_16", "PCM_32", "FLOAT", "DOUBLE"):
        path = tmp_path / f"{subtype}.wav"
        soundfile.write(path, wave, 22050, subtype=subtype)
        assert np.array_equal(decode_audio(path, decoder="av")[0], decode_audio(path)[0]), subtype


def formats() -> list[tuple[str, str, str]]:
    """What libsndfile writes without loss beyond its quantisation: container, coding, byte order."""
    kinds = [
        (form, code) for form in ("WAV", "AIFF", "AU", "W64", "RF64", "CAF") for code in ("PCM_16", "ALAW", "FLOAT")
    ]
    adpcm = [("WAV", "G721_32"), ("AU", "G721_32"), ("AU", "G723_24"), ("AU", "G723_40")]
    endings = [(form, code, order) for form, code in kinds for order in ("FILE", "LITTLE", "BIG")]
    return [case for case in [*endings, *((*kind, "FILE") for kind in adpcm)] if soundfile.check_format(*case)]


@pytest.mark.parametrize(("form", "code", "order"), formats())
def test_ffmpeg_gives_the_samples_of_libsndfile_or_an_error(tmp_path: Path, form: str, code: str, order: str) -> None:
    """FFmpeg takes big-endian WAV for noise and decodes G.721 otherwise, without an error of its own."""
    pytest.importorskip("av", reason="needs the extra [av] (PyAV)")
    path = tmp_path / "a.bin"
    soundfile.write(path, tone(0.5), 22050, format=form, subtype=code, endian=order)
    expected = decode_audio(path)[0]
    try:
        found = decode_audio(path, decoder="av")[0]
    except DecodeError as error:
        assert "decoder=soundfile" in str(error) or "not readable as audio" in str(error)
    else:
        assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-4


def test_faults_become_ours(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra [av] (PyAV)")
    (tmp_path / "page.m4a").write_text("<html></html>" * 50)
    with pytest.raises(DecodeError, match=r"not readable as audio: .*page\.m4a"):
        open_audio(tmp_path / "page.m4a", decoder="av")
    with pytest.raises(DecodeError, match="no such file"):
        open_audio(tmp_path / "none.m4a", decoder="av")
    path = tmp_path / "bad.flac"
    soundfile.write(path, tone(4.0), 22050)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"decoding stopped after \d\.\d+ s"):
        list(open_audio(path, decoder="av").blocks())


def test_an_estimate_is_no_declaration(tmp_path: Path) -> None:
    """FFmpeg guesses the length of raw aac from its first frames: nothing is missing from a file with a quiet start."""
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(4 * RATE)
    wave = np.concatenate([quiet, tone(2.0, RATE)])[None].astype(np.float32)
    source = open_audio(encode(tmp_path / "a.aac", "aac", wave), decoder="av")
    assert source.info.n_samples == -1
    assert abs(sum(block.shape[1] for block in source.blocks()) - wave.shape[1]) < 4096


@pytest.mark.parametrize("start", ["quiet", "loud"])
def test_mp3_without_a_table_is_counted(tmp_path: Path, start: str) -> None:
    pytest.importorskip("av", reason="needs the extra [av] (PyAV)")
    parts = [0.0001 * tone(3.0, RATE), tone(3.0, RATE)]
    soundfile.write(
        tmp_path / "a.mp3", np.concatenate(parts[:: 1 if start == "quiet" else -1]), RATE, bitrate_mode="VARIABLE"
    )
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content.replace(b"Xing", bytes(4), 1).replace(b"Info", bytes(4), 1))
    source = open_audio(tmp_path / "a.mp3", decoder="av")
    count = sum(block.shape[1] for block in source.blocks())
    assert 6 * RATE <= count <= 6 * RATE + 5000 and abs(source.info.n_samples - count) <= 1152


def test_damage_is_found_whatever_decodes(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra [av] (PyAV)")
    soundfile.write(tmp_path / "a.wav", tone(4.0), 22050, subtype="PCM_16")
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "half.wav").write_bytes(content[: len(content) // 2])
    source = open_audio(tmp_path / "half.wav", decoder="av")
    assert source.info.n_samples == 4 * 22050
    assert sum(block.shape[1] for block in source.blocks()) == pytest.approx(2 * 22050, abs=50)
    (tmp_path / "more.wav").write_bytes(content[:40] + (88200).to_bytes(4, "little") + content[44:])
    source = open_audio(tmp_path / "more.wav", decoder="av")
    assert "88200 more follow" in source.info.damage
    assert sum(block.shape[1] for block in source.blocks()) == 4 * 22050


@pytest.mark.parametrize("has_argument", [True, False], ids=["old PyAV", "new PyAV"])
def test_both_forms_of_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_argument: bool) -> None:
    av = pytest.importorskip("av", reason="needs the extra [av] (PyAV)")
    from featstore.audio import av_decoder

    soundfile.write(tmp_path / "a.flac", tone(1.0), 22050)
    real, given = av.open, []

    def old(file, mode="r", *, metadata_errors="strict"):
        given.append(metadata_errors)
        return real(file, mode)

    def new(file, mode="r"):
        return real(file, mode)

    monkeypatch.setattr(av, "open", old if has_argument else new)
    av_decoder._takes_metadata_errors.cache_clear()
    try:
        assert decode_audio(tmp_path / "a.flac", decoder="av")[0].shape == (1, 22050)
        assert given == ["replace"] * len(given) and bool(given) == has_argument
        monkeypatch.setattr(av, "open", lambda *given, **options: None.nothing)
        with pytest.raises(AttributeError):  # our own mistakes are not the file's
            open_audio(tmp_path / "a.flac", decoder="av")
    finally:
        av_decoder._takes_metadata_errors.cache_clear()


@pytest.mark.parametrize("suffix", ["m4a", "aac"])
def test_the_way_is_named(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    from featstore.workflows.indexing import index_tracks

    path = encode(tmp_path / f"a.{suffix}", "aac", tone(1.0, RATE)[None])
    disguised = tmp_path / "other" / "music.mp3"
    disguised.parent.mkdir()
    disguised.write_bytes(path.read_bytes())
    for each in (path, disguised):
        with pytest.raises(DecodeError, match="libsndfile does not read this format: ask for decoder=av"):
            open_audio(each)
    disguised.unlink()
    with caplog.at_level("WARNING"):
        assert index_tracks("folder", tmp_path).frame["probe_error"].tolist() == [None]
    assert "1 files are read by FFmpeg only: ask for decoder=av" in caplog.text


def test_versions_name_the_libraries() -> None:
    pytest.importorskip("av", reason="needs the extra [av] (PyAV)")
    assert {"av", "libavcodec", "libavformat"} <= set(decoder_versions(decoder="av"))
