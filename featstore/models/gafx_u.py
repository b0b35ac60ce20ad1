"""GAFX-U: spectrograms of four separated sources, from inside Hybrid Demucs, for an Audio Spectrogram Transformer.

Origin: Z. Bu, H. Zhang, X. Zhu, "GAFX: A general audio feature extractor", 2022; A. Défossez, "Hybrid spectrogram and
waveform source separation", 2021. Written from facts about both and about the library ``demucs``, which brings the
network. Where the paper contradicts itself, shapes decide: the transform is Hybrid Demucs' own of 4096 samples, sources
are joined along time, bins are averaged in groups of 16. It does not say how complex values become real ones
(magnitude), two channels one (mean), or how the picture is scaled for the classifier (decibels, then each clip
standardised).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from featstore.errors import ConfigError
from featstore.models.ast_transformer import PATCH, Size, patch_grid
from featstore.models.demucs_spectra import GROUP, SOURCES, Compression, compress, features_from_branches
from featstore.models.gafx import Gafx
from featstore.models.interface import InnerLayer
from featstore.models.layers import full_precision
from featstore.models.model_config import WaveformConfig, check_most

if TYPE_CHECKING:
    from featstore.models.tapped_demucs import TappedDemucs

__all__ = ["GafxU", "GafxUConfig"]


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
        if given != {}:
            from featstore.models.tapped_demucs import checked_demucs

            given = checked_demucs(given)
            for name, value in given.items():
                check_most(f"hdemucs.{name}", value, self.place)
        object.__setattr__(self, "hdemucs", tuple(sorted(given.items())))
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

    package = "demucs"

    config: GafxUConfig
    extractor: TappedDemucs

    def __init__(self, config: GafxUConfig) -> None:
        from featstore.models.tapped_demucs import TappedDemucs

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
