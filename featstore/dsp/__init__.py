"""Pure array functions: framing, windows, power spectra, mel banks, harmonic-percussive separation.

Signals come first, settings are keyword-only, time is the last axis. Whatever reference library is asked for by name
(``librosa``, ``essentia``) is called here and nowhere else.
"""

from __future__ import annotations

from featstore.dsp.framing import first_sample, n_frames, needed_samples
from featstore.dsp.hpss import (
    compute_hpss,
    extract_component,
    frequency_median,
    harmonic_and_percussive,
    time_median,
)
from featstore.dsp.mel import (
    MelBank,
    apply_bank,
    compute_mel,
    hz_to_mel,
    make_mel_bank,
    mel_centres,
    mel_to_hz,
    raise_spectrum,
)
from featstore.dsp.padding import pad_signal, reflect_positions, symmetric_positions
from featstore.dsp.stft import compute_magnitude, compute_power, frames_complex, frames_power
from featstore.dsp.windows import make_window

__all__ = [
    "MelBank",
    "apply_bank",
    "compute_hpss",
    "compute_magnitude",
    "compute_mel",
    "compute_power",
    "extract_component",
    "first_sample",
    "frames_complex",
    "frames_power",
    "frequency_median",
    "harmonic_and_percussive",
    "hz_to_mel",
    "make_mel_bank",
    "make_window",
    "mel_centres",
    "mel_to_hz",
    "n_frames",
    "needed_samples",
    "pad_signal",
    "raise_spectrum",
    "reflect_positions",
    "symmetric_positions",
    "time_median",
]
