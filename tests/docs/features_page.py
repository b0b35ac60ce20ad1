"""Write the generated parts of docs/features.md: ``python -m tests.docs.features_page``."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from featstore.features import dims_of, steps_of
from featstore.features.hpss import HpssSpec
from featstore.features.mel import MelSpec
from featstore.features.spectrum import SpectralSpec
from featstore.features.stft import StftSpec
from featstore.features.waveform import WaveformSpec
from featstore.specs import PRESETS, FeatureSpec, expand_features
from featstore.specs.base import FeatureSpec as Base
from featstore.specs.scale import SCALES, Scale

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end of the generated part -->)", re.DOTALL)
AUDIO_KINDS = ("waveform", "stft", "mel", "hpss")

MEANING = {
    "sample_rate": "Hz, after resampling",
    "decoder": "what turns the file into samples",
    "resampler": "soxr's quality; `fit_to_30s` brings whole tracks to 30 s whatever their length (a study of 2021)",
    "clip": "part of the track, cut after resampling: [clips](#clips)",
    "engine": "whose code computes: [engines](#engines)",
    "channels": "mean of the channels",
    "n_fft": "samples of a transform",
    "win_length": "samples of the window, centred in the transform; `n_fft` unless given",
    "hop_length": "samples between frames",
    "window": "as in `scipy.signal.get_window`",
    "window_symmetric": "symmetric form (essentia) instead of the periodic one (librosa)",
    "pad_mode": "what lies outside the signal",
    "framing": "where frames lie and how many there are: [framing](#framing)",
    "scale": "the elementwise end: [scales](#scales)",
    "n_mels": "bands; 0 (hpss) keeps the linear bins",
    "fmin": "Hz at the lower edge of the bank",
    "fmax": "Hz at the upper edge; half the sample rate unless given",
    "mel_scale": "frequencies of the bank",
    "norm": "`slaney` gives each band the same area, `none` the same peak",
    "power": "exponent of the magnitude that enters the bank",
    "component": "which part of the separation",
    "kernel": "odd length of both medians, in frames and in bins; `31+17`: harmonic, percussive",
    "mask_power": "exponent of the soft masks; `inf` makes them binary",
    "margin": "how much stronger than the other a component must be; `1+5`: harmonic, percussive",
}


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines) + "\n"


def fields() -> str:
    """All fields of the kinds that are computed from audio, each where it first appears."""
    groups: list[tuple[str, type[Any], type[Any] | None]] = [
        ("all kinds", Base, None),
        ("waveform", WaveformSpec, Base),
        ("stft, mel, hpss", SpectralSpec, Base),
        ("stft, mel, hpss", StftSpec, SpectralSpec),
        ("mel, hpss", MelSpec, StftSpec),
        ("hpss", HpssSpec, MelSpec),
    ]
    rows = []
    for kinds, cls, above in groups:
        known = {field.name for field in dataclasses.fields(above)} if above else set()
        for field in dataclasses.fields(cls):
            if field.name not in known:
                default = _default(field) + (", hpss `0`" if field.name == "n_mels" else "")
                rows.append([f"`{field.name}`", kinds, default, field.metadata["allowed"], MEANING[field.name]])
    return _table(["field", "of", "default", "takes", "meaning"], rows)


def _default(field: Any) -> str:
    value = field.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return "`yes`" if value else "`no`"
    return f"`{value.short() if isinstance(value, Scale) else value}`"


def scales() -> str:
    """Scales with their parameters."""
    formulas = {
        "power": "x",
        "magnitude": "sqrt(x)",
        "db": "factor · log10(max(x, amin)); no reference, no top_db",
        "log10_1p": "log10(1 + gain · x)",
        "ln": "ln(eps + x)",
    }
    rows = [[f"`{Scale.parse(name)}`", formulas[name]] for name in SCALES]
    return _table(["scale, with its defaults", "of a linear value x"], rows)


def presets() -> str:
    """Presets with what a track of 30 s becomes."""
    rows = []
    for name in PRESETS:
        specs = [request.spec for request in expand_features([name])]
        rows.append([f"`{name}`", str(len(specs)), _shape(specs[0]), f"`{specs[0].short()}`"])
    return _table(["preset", "features", "30 s become", "the first one"], rows)


def _shape(spec: FeatureSpec) -> str:
    n_samples = 30 * spec.sample_rate
    shape = [*spec.item_shape, spec.frames(n_samples)]
    if dims_of(spec)[0] == "clip":
        shape = [steps_of(spec, n_samples), *shape]
    return " × ".join(map(str, shape))


PARTS = {"fields": fields, "scales": scales, "presets": presets}


def renewed(text: str) -> str:
    """Return the page with its generated parts made again."""
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n{found[3]}", text)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
