"""Harmonic and percussive parts of a 30 s clip (512 / 128): ours beside librosa, one thread, the same spectrogram in.

``python -m tests.bench.bench_hpss --out docs/benchmarks/hpss.jsonl`` writes one JSON line a contender, after checking
that both give the same numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featstore.dsp import (
    compute_magnitude,
    compute_power,
    extract_component,
    frequency_median,
    symmetric_positions,
    time_median,
)
from tests.bench.bench_audio_common import lines, music, one_thread, parser, take_turns, write

KERNEL = 31


def spectrogram(seconds: float) -> np.ndarray:
    """Magnitudes (257, frames) of a clip at 16 kHz."""
    return compute_magnitude(compute_power(music(seconds, 16000, 1, 0)[:, 0], n_fft=512, hop_length=128))


def ours(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both parts."""
    reach, frames = KERNEL // 2, magnitude.shape[1]
    harmonic = time_median(magnitude[:, symmetric_positions(np.arange(-reach, frames + reach), frames)], KERNEL)
    percussive = frequency_median(magnitude, KERNEL)
    return tuple(  # type: ignore[return-value]
        extract_component(magnitude, harmonic, percussive, component=name) for name in ("harmonic", "percussive")
    )


def theirs(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both parts by librosa."""
    import librosa

    return librosa.decompose.hpss(magnitude, kernel_size=KERNEL)


def measure(seconds: float, rounds: int) -> dict[str, list[float]]:
    """Seconds a clip of both."""
    magnitude = spectrogram(seconds)
    for mine, other in zip(ours(magnitude), theirs(magnitude), strict=True):
        assert np.array_equal(mine, other)

    def on(function: Callable) -> Callable:
        return lambda clips: function(magnitude)

    return take_turns({"librosa": (on(theirs), [magnitude]), "featstore": (on(ours), [magnitude])}, rounds)  # type: ignore[list-item]


def main() -> None:
    chosen = parser(__doc__).parse_args()
    one_thread()
    seconds = measure(30.0, chosen.rounds)
    write(lines("hpss, 512/128", seconds, 30.0, ("librosa", "featstore"), kernel=KERNEL), chosen.out)


if __name__ == "__main__":
    main()
