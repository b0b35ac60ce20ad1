"""Models: one architecture a file, as its paper has it, each a torch module that returns logits.

A model never meets a feature or a store: it is built from sizes (``n_mels``, ``n_frames``, ``n_classes``) and its own
settings, takes float32 ``(batch, 1, n_mels, n_frames)`` and returns ``(batch, n_classes)``. Weights come in as a
state dict.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from featstore.errors import ConfigError, did_you_mean
from featstore.registry import Registry

if TYPE_CHECKING:
    import torch

__all__ = ["MODELS", "create", "setting_names"]

MODELS = Registry(
    "model",
    {
        "vgg-cnn": "featstore.models.vgg_cnn:VggCnn",
        "musicnn": "featstore.models.musicnn:Musicnn",
        "musicnn-f16": "featstore.models.musicnn:SixteenMusicnn",
        "musicnn-at-scale": "featstore.models.musicnn:AtScaleMusicnn",
        "mtt-musicnn": "featstore.models.musicnn_packaged:PackagedMusicnn",
        "msd-musicnn": "featstore.models.musicnn_packaged:PackagedMusicnn",
        "msd-musicnn-big": "featstore.models.musicnn_packaged:BigPackagedMusicnn",
        "mtt-vgg": "featstore.models.musicnn_vgg:PackagedVgg",
        "msd-vgg": "featstore.models.musicnn_vgg:PackagedVgg",
    },
)

_SIZES = ("n_mels", "n_frames", "n_classes")


def setting_names(name: str) -> list[str]:
    """Names of the settings of one model besides the three sizes, in order.

    Examples
    --------
    >>> setting_names("vgg-cnn")
    ['width', 'pools', 'norm_momentum']
    """
    return [field.name for field in dataclasses.fields(MODELS.load(name).Config) if field.name not in _SIZES]


def create(name: str, *, n_mels: int, n_frames: int, n_classes: int, **settings: Any) -> torch.nn.Module:
    """Build a model with fresh weights (drawn from torch's global generator).

    Parameters
    ----------
    name : str
        An entry of ``MODELS``.
    n_mels, n_frames : int > 0
        Bands and frames of one input.
    n_classes : int > 0
        Length of the output.
    **settings
        The model's own settings: the fields of its ``Config``.

    Returns
    -------
    torch.nn.Module
        Takes float32 ``(batch, 1, n_mels, n_frames)``, returns logits ``(batch, n_classes)``; ``.config`` rebuilds it.

    Raises
    ------
    ConfigError
        Unknown model or setting, or sizes that the architecture cannot take.
    """
    model = MODELS.load(name)
    known = setting_names(name)
    for setting in settings:
        if setting not in known:
            raise ConfigError(f"unknown setting {setting!r}", f"model {name}", did_you_mean(setting, known))
    config = model.Config(n_mels=n_mels, n_frames=n_frames, n_classes=n_classes, **settings)
    built: torch.nn.Module = model(config)
    return built
