"""Small fixed audio files, and what a decoder made of each: samples are pinned by decoder and version.

``python -m tests.audio.golden_audio`` decodes the files that are there and writes ``golden.json`` and ``lossy.npz``
again; do so only when a decoder is meant to give other samples, and say in CHANGELOG.md which version does. Files are
made once, by ``python -m tests.audio.golden_audio --files``, where they are missing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from featstore.audio import decode_audio, decoder_versions
from featstore.testing.audio import tone

FOLDER = Path(__file__).parent / "golden"
RECORD, LOSSY = FOLDER / "golden.json", FOLDER / "lossy.npz"
RATE, SECONDS = 16000, 0.15
FORMS = {"tone.wav": "PCM_16", "tone.flac": "PCM_16", "tone.ogg": "VORBIS", "tone.mp3": "MPEG_LAYER_III"}
LOSSLESS = frozenset({"tone.wav", "tone.flac"})
DECODERS = ("soundfile", "av")
# of full scale: lossy decoders may round differently from machine to machine (the record itself by half a 16-bit step);
# another algorithm, another gain or a shift by one sample is hundreds of times as much
TOLERANCE = 1e-4


def entry(name: str, decoder: str) -> str:
    """Name of a pinned result."""
    return f"{name} by {decoder}"


def own_versions(decoder: str) -> dict[str, str]:
    """Versions of a decoder's libraries, without those of the resampler."""
    return {name: told for name, told in decoder_versions(decoder=decoder).items() if "sox" not in name}


def digest_of(samples: np.ndarray) -> str:
    """SHA-256 of the samples as little-endian float32, channel after channel."""
    return hashlib.sha256(np.ascontiguousarray(samples, dtype="<f4").tobytes()).hexdigest()


def verdict(
    name: str, decoder: str, samples: np.ndarray, record: Mapping[str, Any], reference: np.ndarray | None
) -> str:
    """Say what differs from the record, and whether the library's version does; empty where all is as recorded.

    ``reference`` holds the recorded samples of a lossy file; without it the digest must be the same.
    """
    if digest_of(samples) == record["digest"]:
        return ""
    if reference is None:
        what = "other samples"
    elif samples.shape != reference.shape:
        what = f"{samples.shape} samples instead of {reference.shape}"
    elif (gap := float(np.abs(samples - reference).max())) > TOLERANCE:
        what = f"samples that differ by up to {gap:.2g}"
    else:
        return ""
    here, there = own_versions(decoder), record["versions"]
    if here != there:
        told = ", ".join(f"{key} {there.get(key)} (here {here.get(key)})" for key in sorted({*here, *there}))
        return (
            f"{name}: decoder {decoder} gives {what}, and its version is another one than on record: {told}. "
            "Features of the two versions are not the same: say so in CHANGELOG.md, then record the new samples"
        )
    return (
        f"{name}: decoder {decoder} gives {what}, of the very versions on record ({there}): our own code changed them"
    )


def make_files() -> None:
    """Write the files that are missing."""
    FOLDER.mkdir(exist_ok=True)
    left = tone(SECONDS, RATE, seed=4)
    wave = np.stack([left, 0.5 * left[::-1]], axis=1)
    for name, subtype in FORMS.items():
        if not (FOLDER / name).exists():
            soundfile.write(FOLDER / name, wave, RATE, subtype=subtype)


def record_all() -> None:
    """Decode every file with every decoder and write down what came."""
    found: dict[str, Any] = {}
    lossy: dict[str, np.ndarray] = {}
    for name in FORMS:
        for decoder in DECODERS:
            samples, rate = decode_audio(FOLDER / name, decoder=decoder)
            told = {"digest": digest_of(samples), "shape": list(samples.shape), "sample_rate": rate}
            found[entry(name, decoder)] = told | {"versions": own_versions(decoder)}
            if name not in LOSSLESS:
                lossy[entry(name, decoder)] = np.round(samples * 32768).astype(np.int16)
    RECORD.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    np.savez_compressed(LOSSY, **lossy)


if __name__ == "__main__":
    if "--files" in sys.argv:
        make_files()
    record_all()
