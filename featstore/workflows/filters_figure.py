"""Learned filterbanks of a run: how far their cut-offs moved, frequency responses, and what they make of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.arrays import FloatArray
from featstore.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Bank", "Clip", "draw_filters", "read_banks", "read_clip", "response_db"]

_FLOOR_DB = -60.0
_COLUMNS = 1024  # of the picture of a model that draws none itself
_N_FFT, _HOP, _N_MELS = 512, 128, 160  # of the spectra beside the learned maps, as in the paper's figure


@dataclass(frozen=True, slots=True)
class Bank:
    """One bank of filters before and after training.

    Attributes
    ----------
    place : str
        Of the bank in the model.
    sample_rate : int
        In Hz.
    before, after : float32 (filters, length)
        Impulse responses.
    mean_hz, max_hz : float
        How far cut-offs moved, mean and largest over lower and upper ones.
    """

    place: str
    sample_rate: int
    before: FloatArray
    after: FloatArray
    mean_hz: float
    max_hz: float

    def as_json(self) -> dict[str, Any]:
        """Sizes and movement as plain values."""
        filters, taps = self.after.shape
        moved = {"mean_moved_hz": self.mean_hz, "max_moved_hz": self.max_hz}
        return {"bank": self.place, "filters": filters, "taps": taps} | moved


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of one track, and the maps that the banks make of it.

    Attributes
    ----------
    track : str
    start_s : float
    sample_rate : int
    signal : float32 (n_samples,)
    maps : list of float32 (filters, columns)
        One for each bank; lowest filter first.
    centres_hz : list of float64 (filters,)
        Middle of the pass band of each row of each map.
    """

    track: str
    start_s: float
    sample_rate: int
    signal: FloatArray
    maps: list[FloatArray]
    centres_hz: list[NDArray[np.float64]]


def read_banks(run_dir: str | Path) -> list[Bank]:
    """Banks of a run's model, from the checkpoint that its scores are of.

    Raises
    ------
    CheckpointError
        There is no run or no checkpoint.
    ConfigError
        The model learns no filters.
    """
    import torch

    from featstore.models.sinc import SincBank, cutoff_movement

    _, model = _load(run_dir)
    moved, found = cutoff_movement(model), []
    for place, bank in _sinc_banks(model).items():
        fresh = SincBank(bank.filters, bank.length, bank.sample_rate, normalise=bank.normalise)
        with torch.inference_mode():
            before, after = (each.eval().taps().cpu().numpy() for each in (fresh, bank))
        gaps = moved[f"{place}.mean_hz"], moved[f"{place}.max_hz"]
        found.append(Bank(place, bank.sample_rate, before, after, *gaps))
    if not found:
        fix = "Models with learned filters are sincnet, sinc-resnet and ms-sinc-resnet"
        raise ConfigError("the model of this run learns no filters", str(run_dir), fix)
    return found


def read_clip(run_dir: str | Path, *, track: str = "", start_s: float = 0.0, seconds: float = 3.0) -> Clip:
    """Cut a clip from the run's store, and let the run's banks draw it.

    Parameters
    ----------
    run_dir : path
    track : str
        Its id; the first one that is stored by default.
    start_s, seconds : float
        The clip. A model that takes inputs of one length draws that length.

    Raises
    ------
    ConfigError
        The clip begins behind the end of the track.
    MissingFeature
        No such track, or the store has lost the run's feature.
    """
    import torch

    from featstore.store import open_store

    run, model = _load(run_dir)
    reader = open_store(run["store"]["path"])[run["feature"]]
    track, rate = track or str(reader.track_ids[0]), int(reader.spec.sample_rate)
    config: Any = getattr(model, "config", None)
    wanted = config.n_samples if hasattr(model, "front") else round(seconds * rate)
    whole = np.asarray(reader[track], np.float32)
    start = round(start_s * rate)
    if not 0 <= start < len(whole):
        length = f"the track has {len(whole) / rate:.2f} s"
        raise ConfigError(f"start={start_s} s lies outside the track", track, f"Choose an earlier one: {length}")
    part = whole[start : start + wanted]
    signal = np.pad(part, (0, wanted - len(part)))
    with torch.inference_mode():
        maps = _maps(model, torch.from_numpy(signal)[None, None])
        limits = [bank.cutoffs() for bank in _sinc_banks(model).values()]
        centres = [((low + high) / 2).cpu().numpy() for low, high in limits]
    orders = [np.argsort(each, kind="stable") for each in centres]
    maps, centres = ([each[order] for each, order in zip(found, orders, strict=True)] for found in (maps, centres))
    return Clip(track, start_s, rate, signal, maps, centres)


def _load(run_dir: str | Path) -> tuple[dict[str, Any], nn.Module]:
    from featstore.training.folders import RunFolder
    from featstore.training.work import model_of_checkpoint

    folder = RunFolder(run_dir)
    run = folder.read_run(needed=("model", "model_settings", "input", "classes", "task", "feature", "store"))
    if run is None:
        raise CheckpointError("there is no run in this folder", str(run_dir), "Name the folder of a trained run")
    return run, model_of_checkpoint(run, folder.kept).model.eval()


def _maps(model: nn.Module, signal: Any) -> list[FloatArray]:
    """Picture of each bank: the model's own, or the mean absolute output of each filter over its largest value."""
    from torch.nn import functional

    if hasattr(model, "front"):
        picture: Any = model
        return [each.numpy() for each in picture.front(signal)[0]]
    level = (signal - signal.mean()) / (signal.std() + 1e-6)
    found = []
    for bank in _sinc_banks(model).values():
        drawn = functional.adaptive_avg_pool1d(bank(level).abs(), _COLUMNS)[0]
        found.append((drawn / drawn.amax(dim=1, keepdim=True).clamp(min=1e-12)).numpy())
    return found


def _sinc_banks(model: nn.Module) -> dict[str, Any]:
    """Learned banks of a model by their places in it."""
    from featstore.models.sinc import SincBank

    return {place: module for place, module in model.named_modules() if isinstance(module, SincBank)}


def response_db(taps: FloatArray, frequencies: NDArray[np.floating[Any]], sample_rate: int) -> FloatArray:
    """Magnitude responses of filters, each relative to its largest value.

    Parameters
    ----------
    taps : (filters, length)
    frequencies : (n,)
        In Hz.

    Returns
    -------
    float64 (filters, n)
        In dB, at least -60: the gain in the pass band is what a batch norm takes out.
    """
    phase = -2j * np.pi * np.arange(taps.shape[1])[:, None] * frequencies / sample_rate
    gain = np.abs(taps.astype(np.float64) @ np.exp(phase))
    peak = np.maximum(gain.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.asarray(np.maximum(20 * np.log10(np.maximum(gain / peak, 1e-12)), _FLOOR_DB))


def draw_filters(
    banks: Sequence[Bank], path: str | Path | Sequence[str | Path], *, clip: Clip | None = None, title: str = ""
) -> list[Path]:
    """Draw responses before and after training and their sum, a row for each bank; below them a clip as they see it.

    Parameters
    ----------
    banks : sequence of Bank
    path : path
        Ends in .png, .svg or .pdf.
    clip : Clip, optional
        Also drawn as spectrogram, harmonic and percussive part, mel-spectrogram: figure 4 of Chang et al. 2021.
    title : str

    Raises
    ------
    MissingDependency
        When matplotlib is not installed.
    """
    from featstore.results.figure_style import QUIET, figure_style, save_figure

    with figure_style():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure, SubFigure

        heights = [2.1 * len(banks)] + ([4.6] if clip else [])
        figure = Figure(figsize=(11.0, 0.4 + sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        parts: list[SubFigure] = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0].tolist()
        axes = parts[0].subplots(len(banks), 3, squeeze=False)
        for row, bank in zip(axes, banks, strict=True):
            _draw_bank(row, bank)
        for axis, name in zip(axes[0], ("before training", "after training", "sum over the bank"), strict=True):
            axis.set_title("\n".join(filter(None, (name, axis.get_title(loc="left")))), loc="left", fontsize=8)
        for axis in axes[-1]:
            axis.set_xlabel("frequency (Hz)")
        if clip is not None:
            _draw_clip(parts[1], clip)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=QUIET)
        return save_figure(figure, path)


def _draw_bank(axes: Any, bank: Bank) -> None:
    """Responses as pictures, a line for each filter, and the power of all filters together."""
    from featstore.results.figure_style import GREY, PALETTE

    top = bank.sample_rate / 2
    frequencies = np.geomspace(30.0, top, 700)
    both = [response_db(taps, frequencies, bank.sample_rate) for taps in (bank.before, bank.after)]
    numbers = np.arange(len(bank.after))
    for axis, found in zip(axes, both, strict=False):
        mesh = axis.pcolormesh(frequencies, numbers, found, cmap="magma", vmin=_FLOOR_DB, vmax=0, rasterized=True)
        axis.grid(visible=False)
    axes[0].set_ylabel(f"filter, {bank.after.shape[1]} taps")
    axes[1].figure.colorbar(mesh, ax=axes[1], label="dB of its peak")
    sums = [10 * np.log10((10 ** (found / 10)).sum(axis=0)) for found in both]
    axes[2].plot(frequencies, sums[0], color=GREY, linestyle="--", label="before")
    axes[2].plot(frequencies, sums[1], color=PALETTE[0], label="after")
    axes[2].set_ylabel("dB")
    axes[2].legend(loc="lower right")
    axes[1].set_title(f"moved {bank.mean_hz:.3g} Hz on average, {bank.max_hz:.3g} at most", loc="left", fontsize=8)
    for axis in axes:
        axis.set_xscale("log")
        axis.set_xlim(frequencies[0], top)


def _draw_clip(part: Any, clip: Clip) -> None:
    """Four pictures made by hand, and below them those that were learned."""
    from featstore.dsp import mel_centres
    from featstore.results.figure_spectrum import draw_spectrum

    seconds, columns = len(clip.signal) / clip.sample_rate, max(4, len(clip.maps))
    axes = part.subplots(2, columns, squeeze=False, sharex=True)
    mel = mel_centres(n_mels=_N_MELS, fmin=0.0, fmax=clip.sample_rate / 2)
    for axis, (name, values) in zip(axes[0], _hand_made(clip).items(), strict=False):
        centres = mel if name == "mel-spectrogram" else np.arange(len(values)) * clip.sample_rate / _N_FFT
        draw_spectrum(axis, values, centres_hz=centres, step_s=_HOP / clip.sample_rate, limits=(-80, 0), unit="dB")
        axis.set_title(name, loc="left", fontsize=9)
        axis.set_xlabel("")
    for number, (axis, values, centres) in enumerate(zip(axes[1], clip.maps, clip.centres_hz, strict=False), start=1):
        step = seconds / values.shape[1]
        high = max(float(np.percentile(values, 99.5)), 1e-9)
        draw_spectrum(axis, values, centres_hz=centres, step_s=step, start_s=step / 2, limits=(0, high), unit="level")
        axis.set_title(f"learned, bank {number}", loc="left", fontsize=9)
    axes[0, 0].set_xlim(0, seconds)
    for axis in axes.flat:
        if not axis.images:
            axis.set_visible(False)
    part.suptitle(f"{clip.track}, from {clip.start_s:g} s", x=0.01, ha="left", fontsize=9)


def _hand_made(clip: Clip) -> dict[str, FloatArray]:
    """Spectra of a clip in dB of the loudest value of the spectrogram (the mel-spectrogram: of its own)."""
    from featstore.dsp import apply_bank, compute_hpss, compute_magnitude, compute_power, make_mel_bank

    magnitude = compute_magnitude(compute_power(clip.signal, n_fft=_N_FFT, hop_length=_HOP))
    bank = make_mel_bank(sample_rate=clip.sample_rate, n_fft=_N_FFT, n_mels=_N_MELS)
    parts = {f"{name} part": compute_hpss(magnitude, component=name) for name in ("harmonic", "percussive")}
    mel = apply_bank(bank, magnitude)
    top = max(float(magnitude.max()), 1e-9)
    found = {name: _decibels(values, top) for name, values in ({"spectrogram": magnitude} | parts).items()}
    return found | {"mel-spectrogram": _decibels(mel, max(float(mel.max()), 1e-9))}


def _decibels(values: FloatArray, top: float) -> FloatArray:
    return np.asarray(20 * np.log10(np.maximum(values / top, 1e-5)), np.float32)
