"""Decoded samples are those on record, by decoder and version; if not, the message says whose doing it is."""

import json

import numpy as np
import pytest

from featstore.audio import decode_audio
from tests.audio.golden_audio import DECODERS, FOLDER, FORMS, LOSSLESS, LOSSY, RECORD, entry, own_versions, verdict

PINNED = json.loads(RECORD.read_text(encoding="utf-8"))


def reference(name: str, decoder: str) -> np.ndarray | None:
    if name in LOSSLESS:
        return None
    with np.load(LOSSY) as kept:
        return kept[entry(name, decoder)].astype(np.float32) / 32768


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", sorted(FORMS))
def test_decoded_samples_are_those_on_record(name: str, decoder: str) -> None:
    if decoder == "av":
        pytest.importorskip("av", reason="decoder=av needs the extra [av]")
    record = PINNED[entry(name, decoder)]
    samples, rate = decode_audio(FOLDER / name, decoder=decoder)
    assert (list(samples.shape), rate) == (record["shape"], record["sample_rate"])
    problem = verdict(name, decoder, samples, record, reference(name, decoder))
    assert not problem, problem


def test_all_is_pinned_and_small() -> None:
    assert set(PINNED) == {entry(name, decoder) for name in FORMS for decoder in DECODERS}
    assert all(record["versions"] for record in PINNED.values())
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 120_000
    for name in LOSSLESS:
        digests = {PINNED[entry(name, decoder)]["digest"] for decoder in DECODERS}
        assert len(digests) == 1, f"{name} comes back the same from every decoder"


@pytest.mark.parametrize("name", ["tone.flac", "tone.mp3"])
def test_other_samples_are_told_with_the_versions(name: str) -> None:
    record = PINNED[entry(name, "soundfile")]
    samples, _ = decode_audio(FOLDER / name)
    kept, other = reference(name, "soundfile"), np.roll(samples, 1, axis=-1)
    here = own_versions("soundfile")
    told = verdict(name, "soundfile", other, record | {"versions": here}, kept)
    assert "of the very versions on record" in told and "our own code" in told
    older = record | {"versions": here | {"libsndfile": "0.9"}}
    told = verdict(name, "soundfile", other, older, kept)
    assert f"libsndfile 0.9 (here {here['libsndfile']})" in told and "its version is another one" in told
    assert verdict(name, "soundfile", samples, older, kept) == "", "another version that gives the same is no fault"


def test_a_rounding_passes_where_files_are_lossy_and_only_there() -> None:
    for name, passes in (("tone.ogg", True), ("tone.wav", False)):
        samples, _ = decode_audio(FOLDER / name)
        told = verdict(
            name, "soundfile", samples + 1e-6, PINNED[entry(name, "soundfile")], reference(name, "soundfile")
        )
        assert (told == "") is passes
    short = verdict("tone.mp3", "soundfile", samples[:, :-1], PINNED[entry("tone.mp3", "soundfile")], samples)
    assert "samples instead of" in short
