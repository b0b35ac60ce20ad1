"""Band-pass filters with learned cut-offs: the first layer of SincNet and of MS-SincResNet.

Origin: M. Ravanelli, Y. Bengio, "Speaker recognition from raw waveform with SincNet", SLT 2018; P.-C. Chang, Y.-S.
Chen, C.-H. Lee, "MS-SincResNet: Joint learning of 1D and 2D kernels using multi-scale SincNet and ResNet for music
genre classification", ICMR 2021. Written from facts about both. One half of a filter is computed and mirrored, and its
centre is set, so that sin(x)/x is never evaluated at 0. The lower cut-off is limited from above, which theirs is not:
a cut-off that training pushes past the Nyquist frequency would make the band negative and the taps infinite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from featstore.dsp import hz_to_mel, mel_to_hz
from featstore.errors import ConfigError
from featstore.models.interface import InputNormalisation, Model
from featstore.models.layers import full_precision

__all__ = [
    "MIN_BAND_HZ",
    "MIN_LOW_HZ",
    "Normalise",
    "SincBank",
    "SincMap",
    "SincModel",
    "cutoff_movement",
    "initial_bands",
    "mono_signal",
    "sinc_taps",
]

MIN_LOW_HZ = 50.0
"""Least lower cut-off."""

MIN_BAND_HZ = 50.0
"""Least width of a band."""

Normalise = Literal["peak", "none"]

_START_HZ = 30.0  # lower end of the raw parameters at the start
_FFT_FROM = 200  # taps: shorter filters are as fast as a plain convolution on a CPU
_CLIPS_A_PASS = 8  # without gradients: the filters' output is 46 times longer than the map that is kept


def sinc_taps(f1_hz: Any, f2_hz: Any, length: int, sample_rate: int, *, normalise: Normalise = "peak") -> torch.Tensor:
    """Impulse responses of windowed band-pass filters.

    The left half is ``(sin(2 pi f2 n / fs) - sin(2 pi f1 n / fs)) / (pi n / fs)`` times half of a window that begins at
    0.08, the right half is its mirror image. Differentiable in both cut-offs, at 0 and at the Nyquist frequency too.

    Parameters
    ----------
    f1_hz, f2_hz : float (K,)
        Lower and upper cut-offs, in Hz: ``0 <= f1 < f2 <= sample_rate / 2``.
    length : int >= 3
        Taps of a filter; an even length is raised by one.
    sample_rate : int
        In Hz.
    normalise : {"peak", "none"}
        ``peak`` divides by twice the band, so that the centre tap is exactly 1 (and the gain in the pass band is
        ``sample_rate / (2 (f2 - f1))``); ``none`` does not: the centre tap is twice the band in Hz, the gain is
        ``sample_rate`` for every filter.

    Returns
    -------
    float32 (K, length)
        Computed in float64, where phases of hundreds of periods lose no digits.

    Raises
    ------
    ConfigError
        Cut-offs out of order or range, or no length of a filter.

    Examples
    --------
    >>> taps = sinc_taps([80.0], [152.0], 251, 16000)
    >>> taps.shape, float(taps[0, 125])
    (torch.Size([1, 251]), 1.0)
    """
    low, high = (torch.as_tensor(value, dtype=torch.float64) for value in (f1_hz, f2_hz))
    low, high = (value[None] if value.ndim == 0 else value for value in (low, high))
    if low.ndim != 1 or low.shape != high.shape:
        raise ConfigError(f"cut-offs of shapes {tuple(low.shape)} and {tuple(high.shape)}", "sinc_taps", "Give pairs")
    wrong = ~((low >= 0) & (low < high) & (high <= sample_rate / 2))
    if bool(wrong.any()):
        k = int(wrong.nonzero()[0])
        where, fix = f"sinc_taps, filter {k}, sample_rate={sample_rate}", "Keep 0 <= f1 < f2 <= sample_rate / 2"
        raise ConfigError(f"cut-offs {float(low[k])} and {float(high[k])} Hz are no band", where, fix)
    if normalise not in ("peak", "none"):
        raise ConfigError(f"normalise={normalise!r} is neither 'peak' nor 'none'", "sinc_taps")
    return _taps(low, high, odd_length(length), sample_rate, normalise)


def odd_length(length: int) -> int:
    """Taps of a filter that has a centre.

    Raises
    ------
    ConfigError
        Fewer than three, or not a whole number.
    """
    if type(length) is not int or length < 3:
        raise ConfigError(f"length={length!r} is no number of taps: it takes at least 3", "sinc filters")
    return length + 1 - length % 2


def _taps(low: torch.Tensor, high: torch.Tensor, length: int, sample_rate: int, normalise: Normalise) -> torch.Tensor:
    """Float32 ``(K, length)`` of float64 cut-offs, which are known to be in order."""
    half = (length - 1) // 2
    # this grid is neither the periodic nor the symmetric Hamming window of the usual libraries
    place = torch.linspace(0, length / 2 - 1, half, dtype=torch.float64, device=low.device)
    window = 0.54 - 0.46 * torch.cos(2 * math.pi * place / length)
    seconds = torch.arange(-half, 0, dtype=torch.float64, device=low.device) / sample_rate
    phase = 2 * math.pi * seconds
    left = (torch.sin(high[:, None] * phase) - torch.sin(low[:, None] * phase)) / (math.pi * seconds) * window
    width = 2 * (high - low)[:, None]
    if normalise == "peak":
        left, centre = left / width, torch.ones_like(width)
    else:
        centre = width
    return torch.cat([left, centre, left.flip(-1)], dim=1).float()


def initial_bands(n_filters: int, sample_rate: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw parameters of a bank at the start of training: equally spaced in mel from 30 Hz to 100 Hz below the Nyquist.

    Returns
    -------
    low_hz, band_hz : float64 (n_filters,)
        In Hz. The cut-offs are 50 Hz more: ``f1 = 50 + |low_hz|`` and ``f2 = f1 + 50 + |band_hz|``, so that a filter
        overlaps its upper neighbour by 50 Hz.

    Raises
    ------
    ConfigError
        No filters, or a rate too low for them.
    """
    top = sample_rate / 2 - 100
    if type(n_filters) is not int or n_filters < 1:
        raise ConfigError(f"filters={n_filters!r} is not a positive whole number", "sinc filters")
    if top <= _START_HZ:
        raise ConfigError(f"sample_rate={sample_rate} Hz is too low for a bank from {_START_HZ} Hz", "sinc filters")
    lowest, highest = hz_to_mel(np.array([_START_HZ, top]), "htk")
    points = mel_to_hz(np.linspace(lowest, highest, n_filters + 1), "htk")
    return torch.from_numpy(points[:-1].copy()), torch.from_numpy(np.diff(points))


class SincBank(nn.Module):
    """Convolution of one channel with band-pass filters whose cut-offs are learned; no bias, no padding, stride 1.

    Input ``(batch, 1, n_samples)``, output float32 ``(batch, filters, n_samples - length + 1)``. It works in float32
    under mixed precision too: the gain in the pass band is above 100. In eval mode the taps are computed once.

    Parameters
    ----------
    filters, length : int > 0
        Number of filters, and taps of each (an even length is raised by one).
    sample_rate : int
        In Hz.
    normalise : {"peak", "none"}
        See ``sinc_taps``.
    """

    def __init__(self, filters: int, length: int, sample_rate: int, *, normalise: Normalise = "peak") -> None:
        super().__init__()
        self.filters, self.length, self.sample_rate = filters, odd_length(length), sample_rate
        self.normalise: Normalise = normalise
        low, band = initial_bands(filters, sample_rate)
        self.low_hz = nn.Parameter(torch.empty(filters))
        self.band_hz = nn.Parameter(torch.empty(filters))
        with torch.no_grad():
            self.low_hz.copy_(low)
            self.band_hz.copy_(band)
        self._kept: tuple[tuple[Any, ...], torch.Tensor] | None = None

    def cutoffs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Lower and upper cut-offs of the filters, float64 ``(filters,)`` in Hz, with their gradients."""
        nyquist = self.sample_rate / 2
        low = (MIN_LOW_HZ + self.low_hz.double().abs()).clamp(max=nyquist - MIN_BAND_HZ)
        high = (low + MIN_BAND_HZ + self.band_hz.double().abs()).clamp(MIN_LOW_HZ, nyquist)
        return low, high

    def taps(self) -> torch.Tensor:
        """Impulse responses, float32 ``(filters, length)``; kept between calls in eval mode without gradients."""
        if self.training or torch.is_grad_enabled():
            return _taps(*self.cutoffs(), self.length, self.sample_rate, self.normalise)
        both = (self.low_hz, self.band_hz)
        state = tuple((each.data_ptr(), each._version, each.device) for each in both)
        if self._kept is None or self._kept[0] != state:
            self._kept = state, _taps(*self.cutoffs(), self.length, self.sample_rate, self.normalise)
        return self._kept[1]

    def train(self, mode: bool = True) -> SincBank:
        """Set the mode; taps that were kept are dropped."""
        self._kept = None
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output of every filter for ``(batch, 1, n_samples)``."""
        with full_precision(x):
            return filter_valid(x.float(), self.taps())

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"filters={self.filters}, length={self.length}, sample_rate={self.sample_rate}"


def filter_valid(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Convolve with symmetric filters, where they lie wholly inside the signal.

    Long filters go through one Fourier transform of the signal, which the layer's measured times favour; short ones,
    and shapes without values (for counting operations), through the plain convolution. Both agree to 1e-5 of the
    largest output.

    Parameters
    ----------
    x : float32 (batch, 1, n_samples)
    taps : float32 (K, length)
        Mirror-symmetric, of odd length.

    Returns
    -------
    float32 (batch, K, n_samples - length + 1)
    """
    length, n_samples = taps.shape[-1], x.shape[-1]
    if length < _FFT_FROM or x.device.type == "meta":
        return functional.conv1d(x, taps[:, None])
    return filter_by_fft(x, taps) if n_samples >= length else x.new_zeros(len(x), len(taps), 0)


def filter_by_fft(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """``filter_valid`` through the Fourier transform: circular, of which only what no wrap touches is kept."""
    from scipy.fft import next_fast_len

    n_samples, length = x.shape[-1], taps.shape[-1]
    size = next_fast_len(n_samples, real=True)
    product = torch.fft.rfft(x, size) * torch.fft.rfft(taps, size)
    filtered: torch.Tensor = torch.fft.irfft(product, size)
    return filtered[..., length - 1 : n_samples]


class SincMap(nn.Module):
    """A bank of filters, batch norm, ReLU, and the mean over stretches of time: a picture like a spectrogram.

    Input ``(batch, 1, n_samples)``, output float32 ``(batch, filters, columns)``. Column i is the mean over samples
    ``floor(i N / columns)`` to ``ceil((i + 1) N / columns) - 1`` of the N that the filters give.
    """

    def __init__(
        self, filters: int, length: int, sample_rate: int, *, columns: int, normalise: Normalise = "peak"
    ) -> None:
        super().__init__()
        self.columns = columns
        self.bank = SincBank(filters, length, sample_rate, normalise=normalise)
        self.norm = nn.BatchNorm1d(filters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, filters, columns)`` of ``(batch, 1, n_samples)``."""
        if self.training or torch.is_grad_enabled() or len(x) <= _CLIPS_A_PASS:
            return self._map(x)
        return torch.cat([self._map(clips) for clips in torch.split(x, _CLIPS_A_PASS)])

    def _map(self, x: torch.Tensor) -> torch.Tensor:
        with full_precision(x):
            found = functional.relu(self.norm(self.bank(x)), inplace=True)
            return functional.adaptive_avg_pool1d(found, self.columns)


def mono_signal(x: torch.Tensor, n_samples: int | None, where: str) -> torch.Tensor:
    """Check that a batch is one channel of audio of the right length.

    Raises
    ------
    ConfigError
        Stereo, another length, or another number of axes.
    """
    if x.ndim != 3 or x.shape[1] != 1:
        fix = "Mix down first: waveform(channels=mono)"
        raise ConfigError(f"input of shape {tuple(x.shape)}, not (batch, 1, n_samples)", where, fix)
    if n_samples is not None and x.shape[2] != n_samples:
        fix = f"Cut or pad to {n_samples} samples, or build the model with n_samples={x.shape[2]}"
        raise ConfigError(f"clips of {x.shape[2]} samples for a model of {n_samples}", where, fix)
    return x


class SincModel(Model):
    """A model of waveforms that begins with a norm and has learned cut-offs."""

    takes: ClassVar[str] = "waveform"
    input_norm: ClassVar[InputNormalisation] = "none"  # it begins with a norm

    def cutoff_names(self) -> list[str]:
        """Names of the cut-offs of the filters."""
        return [f"{place}.{name}" for place, _ in _banks(self) for name in ("low_hz", "band_hz")]

    def epoch_figures(self) -> dict[str, float]:
        """How far the cut-offs moved from the start, in Hz."""
        return cutoff_movement(self)


def cutoff_movement(model: nn.Module) -> dict[str, float]:
    """How far the cut-offs of a model moved from the start of training, in Hz.

    Returns
    -------
    dict of str to float
        Of every bank, by its place in the model: ``PLACE.mean_hz`` and ``PLACE.max_hz``, over lower and upper cut-offs.
    """
    moved = {}
    for place, bank in _banks(model):
        fresh = SincBank(bank.filters, bank.length, bank.sample_rate)
        with torch.no_grad():
            gaps = [(now.cpu() - then).abs() for now, then in zip(bank.cutoffs(), fresh.cutoffs(), strict=True)]
        gap = torch.cat(gaps)
        moved[f"{place}.mean_hz"], moved[f"{place}.max_hz"] = float(gap.mean()), float(gap.max())
    return moved


def _banks(model: nn.Module) -> Iterable[tuple[str, SincBank]]:
    return [(place, module) for place, module in model.named_modules() if isinstance(module, SincBank)]
