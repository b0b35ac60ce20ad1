"""The same features by essentia, set up as the authors of the resolution study did."""

from __future__ import annotations

from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.dsp.framing import first_sample, n_frames
from featstore.dsp.padding import pad_signal
from featstore.registry import load_optional

__all__ = ["compute_mel", "compute_stft", "import_essentia"]

_WINDOWS = {"hann": "hann", "boxcar": "square"}


def import_essentia() -> Any:
    """Return the library, quietened; ``MissingDependency`` without it."""
    essentia = load_optional("essentia", "essentia", "engine=essentia")
    essentia.log.infoActive = essentia.log.warningActive = False  # before the import below prints its own
    return load_optional("essentia.standard", "essentia", "engine=essentia")


def _spectra(
    signal: FloatArray, *, n_fft: int, win_length: int, hop_length: int, window: str, framing: str, **fixed: object
) -> list[FloatArray]:
    """Magnitude spectra (n_frames times (bins,)) of zero-padded frames with a symmetric window.

    The zeros around the signal are put on here, so that frames lie and end as :func:`featstore.dsp.n_frames` says: for
    hops below half a frame, essentia by itself ends a few frames earlier, where only the front of the window still
    meets the signal. A window shorter than the transform is followed by zeros, which moves no power between bins.
    """
    library = import_essentia()
    settings: dict[str, Any] = {"n_fft": n_fft, "hop_length": hop_length, "framing": framing}
    count = n_frames(len(signal), **settings) if len(signal) else 0
    if count == 0:
        return []
    begin = first_sample(**settings) + (n_fft - win_length) // 2  # of the window, which lies inside the transform
    right = begin + count * hop_length + 2 * n_fft - len(signal)
    frames = library.FrameGenerator(
        pad_signal(signal, left=-begin, right=max(0, right)),
        frameSize=win_length,
        hopSize=hop_length,
        startFromZero=True,
    )
    weigh = library.Windowing(
        type=_WINDOWS[window], normalized=False, zeroPadding=n_fft - win_length, size=win_length, zeroPhase=False
    )
    transform = library.Spectrum(size=n_fft)
    return [transform(weigh(frame)) for frame, _ in zip(frames, range(count), strict=False)]


def _columns(frames: list[FloatArray], rows: int) -> FloatArray:
    return np.ascontiguousarray(np.array(frames, np.float32).reshape(-1, rows).T)


def compute_stft(signal: FloatArray, **framing: Any) -> FloatArray:
    """Power spectrum: float32 (1 + n_fft // 2, frames)."""
    return np.square(_columns(_spectra(signal, **framing), 1 + framing["n_fft"] // 2))


def compute_mel(
    signal: FloatArray,
    *,
    sample_rate: int,
    n_mels: int,
    fmin: float,
    fmax: float,
    mel_scale: str,
    norm: str,
    power: float,
    **framing: Any,
) -> FloatArray:
    """Mel bands by essentia's MelBands: float32 (n_mels, frames)."""
    bands = import_essentia().MelBands(
        numberBands=n_mels,
        sampleRate=sample_rate,
        inputSize=1 + framing["n_fft"] // 2,
        lowFrequencyBound=fmin,
        highFrequencyBound=fmax,
        weighting="linear",
        normalize="unit_tri" if norm == "slaney" else "unit_max",
        warpingFormula="slaneyMel" if mel_scale == "slaney" else "htkMel",
        type="power" if power == 2.0 else "magnitude",
        log=False,
    )
    return _columns([bands(spectrum) for spectrum in _spectra(signal, **framing)], n_mels)
