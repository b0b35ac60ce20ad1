"""What a tokenizer keeps, as a picture: an excerpt and its reconstruction, and how evenly the codes are used."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from featstore.atomic import atomic_path
from featstore.errors import MissingDependency
from featstore.workflows.tokenizer import TrainedTokenizer

__all__ = ["draw_reconstruction"]

_SECONDS = 5.0


def draw_reconstruction(made: TrainedTokenizer, target: str | os.PathLike[str]) -> None:
    """Draw the first held-out excerpt, what is decoded of its tokens, the tokens, and the use of all codes, as PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency.of("matplotlib", "report", "--figure") from error
    from featstore.models.tokenizers import load_tokenizer

    hop = made.report["training"]["hop"]
    tokenizer = load_tokenizer("jukebox", made.path, level={8: 0, 32: 1, 128: 2}.get(hop, 2), device="cpu")
    rate = tokenizer.info.sample_rate
    excerpt = made.held_out[0][: int(_SECONDS * rate)]
    tokens = tokenizer.encode(excerpt)
    decoded = tokenizer.decode(tokens)[0]
    counts = np.zeros(tokenizer.info.vocabulary, dtype=np.int64)
    for signal in made.held_out:
        counts += np.bincount(tokenizer.encode(signal)[0], minlength=len(counts))
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    top = _spectrum_db(excerpt).max()
    for axis, signal, title in (
        (axes[0, 0], excerpt, "held-out excerpt"),
        (axes[0, 1], decoded, "decoded from tokens"),
    ):
        _draw_spectrum(axis, signal, rate, top)
        axis.set_title(title)
    seconds = np.arange(tokens.shape[1]) * hop / rate
    axes[1, 0].plot(seconds, tokens[0], ",", color="#1f4e79")
    axes[1, 0].set(xlabel="seconds", ylabel="token", title=f"tokens, {rate / hop:.1f} a second", xlim=(0, seconds[-1]))
    axes[1, 1].plot(np.arange(1, len(counts) + 1), np.sort(counts)[::-1] / counts.sum(), color="#1f4e79")
    axes[1, 1].axhline(1 / len(counts), color="#999999", linestyle="--", linewidth=1)
    axes[1, 1].annotate("even use", (len(counts), 1 / len(counts)), ha="right", va="bottom", color="#666666")
    found = made.report
    title = f"{found['used']:.0%} of {len(counts)} codes used, perplexity {found['perplexity']:.0f}"
    axes[1, 1].set(xlabel="codes, most used first", ylabel="share of tokens", title=title)
    with atomic_path(target) as part:
        figure.savefig(part, format="png", dpi=100)


def _spectrum_db(signal: Any) -> Any:
    n_fft, hop = 1024, 256
    if len(signal) < n_fft:
        signal = np.pad(signal, (0, n_fft - len(signal)))
    frames = np.lib.stride_tricks.sliding_window_view(signal, n_fft)[::hop] * np.hanning(n_fft)
    return 10 * np.log10(np.abs(np.fft.rfft(frames)).T ** 2 + 1e-10)


def _draw_spectrum(axis: Any, signal: Any, rate: int, top: float) -> None:
    seconds = len(signal) / rate
    extent = (0, seconds, 0, rate / 2000)
    axis.imshow(
        _spectrum_db(signal), origin="lower", aspect="auto", extent=extent, vmin=top - 80, vmax=top, cmap="magma"
    )
    axis.set(xlabel="seconds", ylabel="kHz", ylim=(0, min(11.025, rate / 2000)))
