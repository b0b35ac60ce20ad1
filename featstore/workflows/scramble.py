"""Music without its phases: short-time magnitudes are those of the original.

Open question 2 of Kamuni et al. 2024 (arXiv 2404.01058): a neural codec codes phase, a mel-spectrogram drops it. Tokens
of such copies beside those of the originals say how much of a token is phase, and a model scored on them what that is
worth. Phases are drawn at random and then fitted to each other (Griffin and Lim), so that the magnitudes survive.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from featstore.arrays import FloatArray
from featstore.dsp.inverse import griffin_lim, overlap_add
from featstore.dsp.windows import make_window
from featstore.workflows.alterations import SignalAlteration

__all__ = ["Scramble", "scramble_phases"]

_WINDOW, _HOP = 2048, 512
_PIECE_S = 60.0  # longer signals are treated piece by piece: all frames of a piece are held in memory


class Scramble(SignalAlteration):
    """Phases drawn at random, magnitudes kept: ``scramble``; ``scramble-4`` fits the phases in 4 rounds, not 32."""

    pattern, example = r"scramble(-(?P<value>\d+))?", "scramble"

    def altered(self, signal: FloatArray, *, sample_rate: int, rng: np.random.Generator) -> tuple[FloatArray, int]:
        """Scramble the phases piece by piece."""
        settings: dict[str, Any] = {"iterations": int(self.value)} if self.value else {}
        step = int(_PIECE_S * sample_rate)
        pieces = [signal[start : start + step] for start in range(0, len(signal), step)]
        copies = [scramble_phases(piece, rng=rng, **settings) for piece in pieces]
        return np.concatenate(copies) if copies else signal, sample_rate


def scramble_phases(signal: FloatArray, *, rng: np.random.Generator, iterations: int = 32) -> FloatArray:
    """Return a signal of the same length and short-time magnitudes whose phases are drawn anywhere.

    Parameters
    ----------
    signal : float32 (n_samples,)
    iterations : int
        Rounds in which the phases are fitted to each other.
    """
    window = make_window("hann", win_length=_WINDOW)
    count = 1 + -(-(len(signal) + _WINDOW) // _HOP)
    padded = np.pad(signal, (_WINDOW, (count - 1) * _HOP - len(signal)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    magnitude = np.abs(np.fft.rfft(frames * window, axis=-1)).astype(np.float32)
    fitted = griffin_lim(magnitude, window=window, hop_length=_HOP, rng=rng, iterations=iterations)
    joined = np.concatenate(list(overlap_add([fitted], window=window, hop_length=_HOP)))
    return np.ascontiguousarray(joined[_WINDOW : _WINDOW + len(signal)])
