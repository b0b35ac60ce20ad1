"""What a tokenizer keeps, as a picture: an excerpt and its reconstruction, and how evenly the codes are used."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from featstore.dsp import compute_power
from featstore.results.figure_spectrum import draw_spectrum
from featstore.results.figure_style import GREY, PALETTE, QUIET, figure_style, new_figure, save_figure
from featstore.workflows.tokenizer import TrainedTokenizer

__all__ = ["draw_reconstruction"]

_SECONDS = 5.0
_N_FFT, _HOP = 1024, 256
_HIGHEST_HZ = 11025.0


def draw_reconstruction(made: TrainedTokenizer, target: str | os.PathLike[str]) -> None:
    """Draw the first held-out excerpt, what is decoded of its tokens, the tokens, and the use of all codes, as PNG."""
    from featstore.models.tokenizers import load_tokenizer

    hop = made.report["training"]["hop"]
    tokenizer = load_tokenizer("jukebox", made.path, level={8: 0, 32: 1, 128: 2}.get(hop, 2), device="cpu")
    rate = tokenizer.info.sample_rate
    excerpt = made.held_out[0][: int(_SECONDS * rate)]
    tokens = tokenizer.encode(excerpt)
    decoded = tokenizer.decode(tokens)[0]
    codes = np.concatenate([tokenizer.encode(signal)[0] for signal in made.held_out])
    counts = np.bincount(codes, minlength=tokenizer.info.vocabulary)
    with figure_style():
        figure, axes = new_figure(10, 7, nrows=2, ncols=2)
        top = _spectrum_db(excerpt).max()
        _draw_spectrum(axes[0, 0], excerpt, rate, top, "held-out excerpt")
        _draw_spectrum(axes[0, 1], decoded, rate, top, "decoded from tokens")
        seconds = np.arange(tokens.shape[1]) * hop / rate
        axes[1, 0].plot(seconds, tokens[0], ".", markersize=1.2, color=PALETTE[0])
        axes[1, 0].set(xlabel="seconds", ylabel="token", xlim=(0, seconds[-1]))
        axes[1, 0].set_title(f"tokens, {rate / hop:.1f} a second", loc="left")
        axes[1, 1].plot(np.arange(1, len(counts) + 1), np.sort(counts)[::-1] / counts.sum(), color=PALETTE[0])
        axes[1, 1].axhline(1 / len(counts), color=GREY, linestyle="--", linewidth=1)
        axes[1, 1].annotate("even use", (len(counts), 1 / len(counts)), ha="right", va="bottom", color=QUIET)
        found = made.report
        title = f"{found['used']:.0%} of {len(counts)} codes used, perplexity {found['perplexity']:.0f}"
        axes[1, 1].set(xlabel="codes, most used first", ylabel="share of tokens")
        axes[1, 1].set_title(title, loc="left")
        save_figure(figure, os.fspath(target))


def _spectrum_db(signal: Any) -> Any:
    """Power in dB, (bins, frames)."""
    return 10 * np.log10(compute_power(np.asarray(signal, np.float32), n_fft=_N_FFT, hop_length=_HOP) + 1e-10)


def _draw_spectrum(axis: Any, signal: Any, rate: int, top: float, title: str) -> None:
    values = _spectrum_db(signal)
    centres = np.arange(len(values)) * rate / _N_FFT
    kept = centres <= _HIGHEST_HZ
    limits = (top - 80, top)
    draw_spectrum(axis, values[kept], centres_hz=centres[kept], step_s=_HOP / rate, limits=limits, unit="dB", ticks=7)
    axis.set_title(title, loc="left")
