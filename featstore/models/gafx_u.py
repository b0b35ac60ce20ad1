"""GAFX-U: spectrograms of four separated sources, from inside Hybrid Demucs, for an Audio Spectrogram Transformer.

Origin: Z. Bu, H. Zhang, X. Zhu, "GAFX: A general audio feature extractor", 2022; A. Défossez, "Hybrid spectrogram and
waveform source separation", 2021. Written from facts about both and about the library ``demucs``, which brings the
network. Where the paper contradicts itself, shapes decide: the transform is Hybrid Demucs' own of 4096 samples, sources
are joined along time, bins are averaged in groups of 16. It does not say how complex values become real ones
(magnitude), two channels one (mean), or how the picture is scaled for the classifier (decibels, then each clip
standardised).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch.nn import functional

from featstore.errors import ConfigError, MissingDependency, check_known
from featstore.models.ast_transformer import PATCH, Size, patch_grid
from featstore.models.gafx import Gafx
from featstore.models.interface import InnerLayer
from featstore.models.layers import full_precision, recomputed
from featstore.models.model_config import WaveformConfig
from featstore.typed_values import converted

try:
    from demucs.hdemucs import HDecLayer, HDemucs, HEncLayer
except ImportError as error:
    raise MissingDependency.of("demucs", "codecs", "gafx-u") from error

__all__ = [
    "FIXED",
    "SOURCES",
    "GafxU",
    "GafxUConfig",
    "TappedDemucs",
    "checked_demucs",
    "compress",
    "demucs_settings",
    "features_from_branches",
    "hybrid_stft",
]

SOURCES = ("drums", "bass", "other", "vocals")
"""What Hybrid Demucs separates, in the order of its outputs."""

GROUP = 16
"""Neighbouring bins of a band."""

Compression = Literal["db", "log1p", "none"]


def hybrid_stft(x: torch.Tensor, n_fft: int, hop_length: int, *, zeros: bool = False) -> torch.Tensor:
    """Short-time Fourier transform as Hybrid Demucs frames it.

    Periodic Hann window, scaled by ``n_fft ** -0.5``; ``ceil(n_samples / hop_length)`` frames; the Nyquist bin is left
    out.

    Parameters
    ----------
    x : float32 (..., n_samples)
    n_fft, hop_length : int
        In samples; ``hop_length`` is a quarter of ``n_fft``.
    zeros : bool
        Edges are filled with zeros instead of their mirror image, as the models do that have ``hybrid_old``.

    Returns
    -------
    complex64 (..., n_fft / 2, frames)

    Raises
    ------
    ConfigError
        The hop is not a quarter of the window, or the signal is too short for its mirror image.
    """
    if 4 * hop_length != n_fft:
        raise ConfigError(f"hop_length={hop_length} is not a quarter of n_fft={n_fft}", "gafx-u")
    n_samples = x.shape[-1]
    frames, pad = -(-n_samples // hop_length), hop_length // 2 * 3
    right = pad + frames * hop_length - n_samples
    if not zeros and n_samples <= right:
        fix = f"Give clips of more than {pad + hop_length} samples"
        raise ConfigError(f"{n_samples} samples are too short for a window of {n_fft}", "gafx-u", fix)
    flat = x.reshape(-1, n_samples)
    filled = functional.pad(flat, (pad, right), mode="constant" if zeros else "reflect")
    window = torch.hann_window(n_fft, device=x.device, dtype=filled.dtype)
    found = torch.stft(filled, n_fft, hop_length, window=window, normalized=True, center=True, return_complex=True)
    return found[:, :-1, 2 : 2 + frames].reshape(*x.shape[:-1], n_fft // 2, frames)


def features_from_branches(z: Any, w: Any, n_fft: int, hop_length: int, *, zeros: bool = False) -> torch.Tensor:
    """Spectrograms of the separated sources, joined in time, before compression.

    The transform of what the temporal branch separated is added to what the spectral branch did: the transform is
    linear, so the sum is the spectrogram of each source. Magnitudes are averaged over the channels, and over groups of
    16 bins.

    Parameters
    ----------
    z : complex64 (..., sources, channels, n_fft / 2, frames)
        Output of the spectral branch.
    w : float32 (..., sources, channels, n_samples)
        Output of the temporal branch.
    n_fft, hop_length : int
        Of the model's transform, in samples.
    zeros : bool
        As for ``hybrid_stft``.

    Returns
    -------
    float32 (..., n_fft / 32, sources * frames)
        In the order of the sources.
    """
    z, w = torch.as_tensor(z), torch.as_tensor(w)
    bands = (hybrid_stft(w, n_fft, hop_length, zeros=zeros) + z).abs().mean(dim=-3)
    grouped = bands.unflatten(-2, (-1, GROUP)).mean(dim=-2)
    return cast("torch.Tensor", grouped.movedim(-3, -2).flatten(-2))


def compress(x: torch.Tensor, how: Compression) -> torch.Tensor:
    """Magnitudes in decibels of their square (not below -100), as ``log(1 + x)``, or as they are."""
    if how == "db":
        return 10 * torch.log10(x.square().clamp(min=1e-10))
    return torch.log1p(x) if how == "log1p" else x


class _Encoder(HEncLayer):
    def forward(self, x: torch.Tensor, inject: torch.Tensor | None = None) -> torch.Tensor:
        """As the library's, with its activations computed again in the backward pass."""
        return recomputed(self, super().forward, x, inject)  # type: ignore[no-any-return]


class _Decoder(HDecLayer):
    def forward(self, x: torch.Tensor, skip: torch.Tensor | None, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """As the library's, with its activations computed again in the backward pass."""
        return recomputed(self, super().forward, x, skip, length)  # type: ignore[no-any-return]


class TappedDemucs(HDemucs):
    """Hybrid Demucs that gives its two branches apart instead of their sum."""

    _tapped: torch.Tensor | None = None

    def _spec(self, x: torch.Tensor) -> torch.Tensor:
        """As the library's, which compares values in passing: that fails on shapes without values."""
        return hybrid_stft(x, self.nfft, self.hop_length, zeros=self.hybrid_old)

    def _ispec(self, z: torch.Tensor, length: int | None = None, scale: int = 0) -> torch.Tensor:
        """Keep the spectral branch, and let nothing be added to the temporal one: the forward pass then returns it."""
        self._tapped = z
        return z.real.new_zeros(())

    def branches(self, mix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs of both branches for ``(batch, 2, n_samples)``, un-normalised.

        Returns
        -------
        z : complex64 (batch, sources, channels, n_fft / 2, frames)
        w : float32 (batch, sources, channels, n_samples)
        """
        w: torch.Tensor = self(mix)
        z, self._tapped = self._tapped, None
        if z is None:
            raise ConfigError("the spectral branch was not seen", "gafx-u", "Install demucs>=4.1,<5")
        return z, w

    def keep_inputs_only(self) -> None:
        """Compute activations of every layer again in the backward pass instead of keeping them."""
        for layer in self.modules():
            if type(layer) is HEncLayer:
                layer.__class__ = _Encoder
            elif type(layer) is HDecLayer:
                layer.__class__ = _Decoder


FIXED = {
    "sources": list(SOURCES),
    "audio_channels": 2,
    "cac": True,
    "hybrid": True,
    "wiener_iters": 0,
    "end_iters": 0,
    "wiener_residual": False,
}
"""Settings of Hybrid Demucs that the features hang on, and their only values."""


def demucs_settings() -> list[str]:
    """Names of the settings of Hybrid Demucs that ``hdemucs`` may hold."""
    return [name for name in inspect.signature(HDemucs.__init__).parameters if name not in {"self", *FIXED}]


_NOT_AS_DEFAULT = {
    "channels_time": int | None,
    "multi_freqs": list[float] | None,
    **dict.fromkeys(("growth", "emb_scale", "segment"), float),
}
"""Types of settings of Hybrid Demucs that are not those of their defaults."""


def checked_demucs(given: Any) -> dict[str, Any]:
    """Settings of Hybrid Demucs, each of its type.

    Raises
    ------
    ConfigError
        For a setting that Hybrid Demucs does not have, or a value that it cannot take.
    """
    for name in converted(dict[str, Any], given, "hdemucs", "gafx-u"):
        check_known(name, demucs_settings(), f"hdemucs has {name!r}, which is no setting of it", "gafx-u")
    defaults = {name: each.default for name, each in inspect.signature(HDemucs.__init__).parameters.items()}
    kinds = {name: _NOT_AS_DEFAULT.get(name, type(defaults[name])) for name in given}
    return {name: converted(kinds[name], value, f"hdemucs.{name}", "gafx-u") for name, value in given.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class GafxUConfig(WaveformConfig):
    """Settings of GAFX-U.

    Parameters
    ----------
    n_samples, n_classes : int > 0
        Length of one input and of the output; the paper's has 480,000 samples at 16 kHz (30 s). At 44.1 kHz, the rate
        of the published weights, 30 s are 1,323,000. Other lengths are read by the same weights.
    size : {"tiny", "small"}
        Of the classifier.
    hdemucs : mapping
        Settings of ``demucs.hdemucs.HDemucs`` that differ from its defaults, such as ``{"channels": 8}``.
    compression : {"db", "log1p", "none"}
        Of the magnitudes, before each clip is standardised.
    frozen : bool
        The extractor is not trained: it stays in eval mode, and no gradient passes through it.
    depth : int > 0
        Transformer layers of the classifier.
    checkpointing : bool
        Compute activations again in the backward pass instead of keeping them.
    """

    size: Size = "tiny"
    hdemucs: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    compression: Compression = "db"
    frozen: bool = False
    depth: int = 12
    checkpointing: bool = False

    place: ClassVar[str] = "gafx-u"

    def _resolve(self) -> None:
        given = dict(self.hdemucs) if isinstance(self.hdemucs, tuple) else self.hdemucs
        object.__setattr__(self, "hdemucs", tuple(sorted(checked_demucs(given).items())))
        if self.n_samples <= 5 * self.n_fft // 8:  # what the transform mirrors at the end
            fix = f"Give more than {5 * self.n_fft // 8} samples"
            raise ConfigError(f"n_samples={self.n_samples} is too short for a window of {self.n_fft}", "gafx-u", fix)

    @property
    def n_fft(self) -> int:
        """Window of the transform, in samples."""
        return int(dict(self.hdemucs).get("nfft", 4096))

    @property
    def n_frames(self) -> int:
        """Frames of the joined picture."""
        return len(SOURCES) * -(-self.n_samples // (self.n_fft // 4))


class GafxU(Gafx):
    """Hybrid Demucs separates four sources; an Audio Spectrogram Transformer reads their spectrograms joined in time.

    Input float32 ``(batch, 1, n_samples)``, which is doubled to two equal channels, or ``(batch, 2, n_samples)``;
    output logits ``(batch, n_classes)``. With 480,000 samples and 10 classes it has 89,208,722 parameters, 83,637,832
    of them in the extractor.
    """

    Config: ClassVar[type[Any]] = GafxUConfig
    paper_input: ClassVar[dict[str, int] | None] = {"n_samples": 480_000}
    usual_layers: ClassVar[str] = "+".join(SOURCES)
    published: ClassVar[Mapping[str, str]] = {
        "extractor": "featstore.models.demucs_weights:demucs_extractor",
        **Gafx.published,
    }

    config: GafxUConfig
    extractor: TappedDemucs

    def __init__(self, config: GafxUConfig) -> None:
        super().__init__(config)
        bands = config.n_fft // (2 * GROUP)
        patch_grid(bands, config.n_frames, where="gafx-u")
        self.extractor = extractor = TappedDemucs(sources=list(SOURCES), **dict(config.hdemucs))
        if config.checkpointing:
            extractor.keep_inputs_only()
        if config.frozen:
            extractor.requires_grad_(False)
        self.build_classifier(bands, config.n_frames)
        self.train()

    def train(self, mode: bool = True) -> GafxU:
        """Set the mode; a frozen extractor stays in eval mode."""
        super().train(mode)
        if self.config.frozen:
            self.extractor.eval()
        return self

    def draw(self, x: torch.Tensor) -> torch.Tensor:
        """Compressed spectrograms ``(batch, 4, 128, frames)`` of the sources, each by itself: what a store holds."""
        if x.ndim != 3 or x.shape[1] not in (1, 2):
            fix = "Give mono, or two channels"
            raise ConfigError(f"input of shape {tuple(x.shape)}, not (batch, 1, n_samples)", "gafx-u", fix)
        trains = torch.is_grad_enabled() and not self.config.frozen
        with full_precision(x), torch.set_grad_enabled(trains):  # complex numbers have no half precision
            stereo = x.float().expand(-1, 2, -1)
            z, w = self.extractor.branches(stereo)
            n_fft = self.config.n_fft
            found = features_from_branches(z, w, n_fft, n_fft // 4, zeros=self.extractor.hybrid_old)
            compressed = compress(found, self.config.compression)
            return compressed.reshape(*compressed.shape[:-1], len(SOURCES), -1).movedim(-2, 1)

    def join(self, drawn: torch.Tensor) -> torch.Tensor:
        """Picture ``(batch, 128, 4 * frames)`` of the sources side by side, with mean 0 and deviation 0.5.

        ``frames`` are ``ceil(n_samples / 1024)`` of each: drums, bass, other, vocals.
        """
        return super().join(drawn.movedim(1, 2).flatten(2))

    def inner_layers(self) -> dict[str, InnerLayer]:
        """Spectrograms of the sources, each a layer, and the features."""
        bands, hop = self.config.n_fft // (2 * GROUP), self.config.n_fft // 4
        return dict.fromkeys(SOURCES, InnerLayer(bands, hop)) | super().inner_layers()

    def inner_pictures(self, drawn: torch.Tensor) -> dict[str, torch.Tensor]:
        """Spectrograms ``(batch, 128, frames)`` by source."""
        return dict(zip(SOURCES, drawn.unbind(dim=1), strict=True))

    @property
    def least_length(self) -> int:
        """Samples whose sources, joined, have the frames of a patch of the classifier."""
        return max(5 * self.config.n_fft // 8, (-(-PATCH // len(SOURCES)) - 1) * self.config.n_fft // 4) + 1
