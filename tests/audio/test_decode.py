"""Decoding: every block size gives the same samples, and every fault one clear sentence."""

import os
import struct
import sys

import numpy as np
import pytest
import soundfile

from featstore.audio import NonFiniteAudio, decode_audio, decoder_versions, open_audio
from featstore.errors import ConfigError, DecodeError, MissingDependency
from featstore.testing.audio import tone


def write(path, wave, rate=16000, **options):
    soundfile.write(path, wave, rate, **options)
    return path


def stereo(seconds=6.0, rate=16000):
    left = tone(seconds, rate, seed=1)
    return np.stack([left, 0.5 * left[::-1]], axis=1)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_do_not_change_the_samples(tmp_path, rate, form, channels):
    wave = stereo(6.0, rate)[:, :channels]
    path = write(tmp_path / f"a.{form.lower()}", wave, rate, format=form)
    with soundfile.SoundFile(path) as file:
        whole = file.read(10 * rate, dtype="float32", always_2d=True)
    for size in (997, 4096, 60000):
        source = open_audio(path)
        blocks = list(source.blocks(size))
        assert all(block.dtype == np.float32 and block.shape[0] == channels for block in blocks)
        # mp3 keeps bits for later frames: a decoder that seeks between blocks loses them, and this fails
        assert np.array_equal(np.concatenate(blocks, axis=1), whole.T)
    assert source.statistics.n_samples == len(whole) == source.info.n_samples
    # soundfile.read() seeks once before it reads, which moves mp3 samples at the lower rates by a rounding
    assert np.abs(whole - soundfile.read(path, dtype="float32", always_2d=True)[0]).max() <= 1e-6


def test_decode_audio_is_the_whole_file(tmp_path):
    path = write(tmp_path / "a.wav", stereo(), subtype="FLOAT")
    samples, rate = decode_audio(path)
    assert rate == 16000 and np.array_equal(samples, stereo().T)


def test_statistics(tmp_path):
    wave = stereo()
    wave[100:103, 1] = (1.0, -0.9995, 0.998)
    source = open_audio(write(tmp_path / "a.wav", wave, subtype="FLOAT"))
    assert sum(block.shape[1] for block in source.blocks(1000)) == len(wave)
    assert source.statistics.peak == 1.0
    assert source.statistics.n_clipped == 2
    assert not source.statistics.is_silent
    list(source.blocks(777))
    assert source.statistics.n_samples == len(wave), "a second walk starts again"
    silent = open_audio(write(tmp_path / "b.wav", np.zeros(500, np.float32)))
    list(silent.blocks())
    assert silent.statistics.is_silent


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_samples_are_found_with_their_position(tmp_path, value):
    wave = stereo()
    wave[12345, 1] = value
    path = write(tmp_path / "a.wav", wave, subtype="FLOAT")
    for size in (100, 1 << 20):
        with pytest.raises(NonFiniteAudio, match=rf"^sample 12345 is {value}, not a finite number .*a\.wav"):
            list(open_audio(path).blocks(size))
    assert NonFiniteAudio.reason == "non_finite"


def test_a_mean_of_infinities_of_both_signs_is_caught_too(tmp_path):
    wave = stereo()
    wave[7] = (np.inf, -np.inf)
    with pytest.raises(NonFiniteAudio, match="sample 7 is inf"):
        list(open_audio(write(tmp_path / "a.wav", wave, subtype="FLOAT")).blocks())


class TestBadFiles:
    def fails(self, path, message):
        with pytest.raises(DecodeError, match=message) as caught:
            list(open_audio(path).blocks())
        assert str(path) in str(caught.value) and str(caught.value).count("\n") == 0

    def test_missing(self, tmp_path):
        self.fails(tmp_path / "none.wav", "no such file")

    def test_dangling_link(self, tmp_path):
        (tmp_path / "a.wav").symlink_to(tmp_path / "gone.wav")
        self.fails(tmp_path / "a.wav", "the link points to")

    def test_folder(self, tmp_path):
        (tmp_path / "x.wav").mkdir()
        self.fails(tmp_path / "x.wav", "folder")

    def test_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "a.wav")
        self.fails(tmp_path / "a.wav", "pipe")

    def test_empty(self, tmp_path):
        (tmp_path / "a.mp3").write_bytes(b"")
        self.fails(tmp_path / "a.mp3", "empty")

    def test_page_named_mp3(self, tmp_path):
        (tmp_path / "a.mp3").write_text("<!doctype html><html><body>not found</body></html>" * 20)
        self.fails(tmp_path / "a.mp3", "audio|decoding stopped")

    def test_tag_without_music(self, tmp_path):
        (tmp_path / "a.mp3").write_bytes(b"ID3\x03\x00\x00\x00\x00\x00\x0a" + bytes(10))
        self.fails(tmp_path / "a.mp3", "audio|decoding stopped|no samples")

    def test_header_without_frames(self, tmp_path):
        write(tmp_path / "a.wav", np.zeros(0, np.float32))
        self.fails(tmp_path / "a.wav", "holds no samples")

    def test_cut_flac(self, tmp_path):
        path = write(tmp_path / "a.flac", tone(8.0, 16000), format="FLAC")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        source = open_audio(path)
        with pytest.raises(DecodeError, match="decoding stopped"):
            list(source.blocks(1000))
        assert 0 < source.statistics.n_samples < source.info.n_samples

    def damaged(self, tmp_path, n_bytes):
        path = write(tmp_path / "a.mp3", tone(8.0, 44100), 44100, format="MP3")
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + n_bytes] = bytes(n_bytes)
        path.write_bytes(content)
        return path

    def test_a_little_garbage_in_an_mp3_is_passed_over(self, tmp_path):
        source = open_audio(self.damaged(tmp_path, 500))
        list(source.blocks(2000))
        assert 7.5 * 44100 < source.statistics.n_samples <= 8 * 44100

    def test_much_garbage_in_an_mp3(self, tmp_path):
        with pytest.raises(DecodeError, match=r"^decoding stopped after [34]\.\d\d s: .*a\.mp3"):
            list(open_audio(self.damaged(tmp_path, 3000)).blocks(2000))

    def test_a_header_that_promises_hours(self, tmp_path):
        size = 6 * 3600 * 22050 * 2
        form = struct.pack("<IHHIIHH", 16, 1, 1, 22050, 44100, 2, 16)
        head = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)
        (tmp_path / "a.wav").write_bytes(head + bytes(range(256)) * 4)
        source = open_audio(tmp_path / "a.wav")
        assert sum(block.shape[1] for block in source.blocks()) == 512

    def test_decoder_errors_of_any_kind_become_ours(self, tmp_path, monkeypatch):
        path = write(tmp_path / "a.wav", tone(1.0))
        source = open_audio(path)

        def broken(*args, **kwargs):
            raise ValueError("array is too big")

        monkeypatch.setattr(soundfile.SoundFile, "read", broken)
        with pytest.raises(DecodeError, match=r"^decoding stopped after 0.00 s: array is too big .*a\.wav"):
            list(source.blocks())

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path):
        path = write(tmp_path / "a.wav", tone(1.0))
        path.chmod(0)
        self.fails(path, "may not be read|cannot")


@pytest.mark.parametrize("tag", [b"", b"TAG" + bytes(125)])
def test_an_mp3_without_a_table_is_read_to_its_end(tmp_path, tag):
    """libsndfile guesses its length from the first frame's bit rate, and stops there."""
    wave = tone(6.0, 44100)
    path = write(tmp_path / "a.mp3", wave, 44100, format="MP3", bitrate_mode="VARIABLE")
    content = path.read_bytes()
    at = max(content.find(b"Xing"), content.find(b"Info"))
    assert open_audio(path).info.n_samples == len(wave)
    path.write_bytes(content[:at] + b"\0\0\0\0" + content[at + 4 :] + tag)
    assert soundfile.info(path).frames < 0.8 * len(wave), "the guess that this is about"
    source = open_audio(path)
    assert len(wave) <= source.info.n_samples <= len(wave) + 5000, "its frames are counted"
    samples = np.concatenate(list(source.blocks(5000)), axis=1)[0]
    assert len(wave) <= samples.size <= len(wave) + 5000
    # the same music, later by what the encoder put in front
    lag = np.argmax(np.correlate(samples[:9000], wave[2000:6000], "valid")) - 2000
    assert np.abs(samples[lag : lag + len(wave)] - wave)[3000:-3000].mean() < 0.01


@pytest.mark.parametrize(("rate", "level"), [(16000, 0.85), (22050, 0.7), (44100, 0.6), (48000, 0.2), (8000, 0.9)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_constant_rate_needs_no_table(tmp_path, rate, level, channels):
    path = tmp_path / "a.mp3"
    wave = stereo(5.0, rate)[:, :channels]
    write(path, wave, rate, format="MP3", bitrate_mode="CONSTANT", compression_level=level)
    content = path.read_bytes()
    for table in (b"Xing", b"Info"):
        content = content.replace(table, b"\0\0\0\0", 1)
    for tail in (b"", b"TAG" + bytes(125)):
        path.write_bytes(content + tail)
        source = open_audio(path)
        assert abs(source.info.n_samples - len(wave)) <= 4 * 1152
        list(source.blocks())
        assert abs(source.statistics.n_samples - source.info.n_samples) <= 1152


def test_an_mp3_behind_a_large_tag_still_has_its_table(tmp_path):
    path = write(tmp_path / "a.mp3", tone(3.0, 44100), 44100, format="MP3")
    content = path.read_bytes()
    path.write_bytes(b"ID3\x03\x00\x00\x00\x02\x00\x00" + bytes(32768) + content)
    assert open_audio(path).info.n_samples == 3 * 44100


def test_names_of_all_kinds(tmp_path):
    for name in ("äöü ♪.wav", "a\nb.wav", "x" * 200 + ".wav"):
        path = write(tmp_path / name, tone(0.5))
        assert decode_audio(path)[0].shape == (1, 11025)


def test_unknown_decoder(tmp_path):
    with pytest.raises(ConfigError, match="unknown decoder 'ffmpeg'"):
        open_audio(tmp_path / "a.wav", decoder="ffmpeg")


def test_versions():
    assert set(decoder_versions()) == {"soundfile", "libsndfile", "soxr", "libsoxr"}


def test_essentia_is_named_when_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "essentia", None)
    with pytest.raises(
        MissingDependency, match=r"decoder=essentia needs the package 'essentia'.*featstore\[essentia\]"
    ):
        open_audio(tmp_path / "a.wav", decoder="essentia")


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("form", ["WAV", "MP3"])
def test_essentia_decodes_the_same(tmp_path, channels, form):
    pytest.importorskip("essentia")
    path = write(tmp_path / f"a.{form.lower()}", stereo(4.0, 44100)[:, :channels], 44100, format=form)
    ours, rate = decode_audio(path)
    theirs, their_rate = decode_audio(path, decoder="essentia")
    assert rate == their_rate and theirs.shape[0] == ours.shape[0] and theirs.dtype == np.float32
    assert abs(theirs.shape[1] - ours.shape[1]) <= 3000  # mp3: encoder delay is cut by one and kept by the other
    if form == "WAV":
        assert np.abs(theirs - ours).max() <= 2e-4
    assert "essentia" in decoder_versions(decoder="essentia")


def test_essentia_errors_become_ours(tmp_path):
    pytest.importorskip("essentia")
    path = write(tmp_path / "a.wav", tone(1.0))
    source = open_audio(path, decoder="essentia")
    path.write_bytes(b"RIFF" + bytes(40))
    with pytest.raises(DecodeError, match=r"^decoding stopped: .*a\.wav"):
        list(source.blocks())
