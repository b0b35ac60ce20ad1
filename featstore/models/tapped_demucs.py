"""Hybrid Demucs of the package ``demucs``, with its two branches apart: the extractor of GAFX-U."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from featstore.errors import ConfigError, MissingDependency, check_known
from featstore.models.demucs_spectra import SOURCES, hybrid_stft
from featstore.models.layers import recomputed
from featstore.typed_values import converted

try:
    from demucs.hdemucs import HDecLayer, HDemucs, HEncLayer
except ImportError as error:
    raise MissingDependency.of("demucs", "codecs", "gafx-u") from error

__all__ = ["FIXED", "SETTINGS", "HDemucs", "TappedDemucs", "checked_demucs"]


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


_NOT_AS_DEFAULT = {
    "channels_time": int | None,
    "multi_freqs": list[float] | None,
    **dict.fromkeys(("growth", "emb_scale", "segment"), float),
}
"""Types of settings of Hybrid Demucs that are not those of their defaults."""


SETTINGS = {
    name: each.default
    for name, each in inspect.signature(HDemucs.__init__).parameters.items()
    if name not in {"self", *FIXED}
}
"""Settings of Hybrid Demucs that ``hdemucs`` may hold, and their defaults."""


def checked_demucs(given: Any) -> dict[str, Any]:
    """Settings of Hybrid Demucs, each of its type.

    Raises
    ------
    ConfigError
        For a setting that Hybrid Demucs does not have, or a value that it cannot take.
    """
    for name in converted(dict[str, Any], given, "hdemucs", "gafx-u"):
        check_known(name, SETTINGS, f"hdemucs has {name!r}, which is no setting of it", "gafx-u")
    kinds = {name: _NOT_AS_DEFAULT.get(name, type(SETTINGS[name])) for name in given}
    return {name: converted(kinds[name], value, f"hdemucs.{name}", "gafx-u") for name, value in given.items()}
