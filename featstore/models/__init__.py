"""Models: one architecture a file, as its paper has it, each a torch module that returns logits.

A model never meets a feature or a store: it is built from sizes (``n_mels``, ``n_frames``, ``n_classes``) and its own
settings, takes float32 ``(batch, 1, n_mels, n_frames)`` and returns ``(batch, n_classes)``. Its last layer is called
``output``: fine-tuning replaces it where the classes differ. A model that can be pretrained has ``encode``, which
returns one vector of length ``width`` for every ``frames_per_position`` frames. Weights come in as a
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
        "conv-encoder": "featstore.models.conv_encoder:ConvEncoder",
        "musicnn": "featstore.models.musicnn:Musicnn",
        "musicnn-f16": "featstore.models.musicnn:SixteenMusicnn",
        "musicnn-at-scale": "featstore.models.musicnn:AtScaleMusicnn",
        "musicnn-released": "featstore.models.musicnn_released:ReleasedMusicnn",
        "mtt-musicnn": "featstore.models.musicnn_packaged:PackagedMusicnn",
        "msd-musicnn": "featstore.models.musicnn_packaged:PackagedMusicnn",
        "msd-musicnn-big": "featstore.models.musicnn_packaged:BigPackagedMusicnn",
        "mtt-vgg": "featstore.models.musicnn_vgg:PackagedVgg",
        "msd-vgg": "featstore.models.musicnn_vgg:PackagedVgg",
    },
)

_SIZES = ("n_mels", "n_frames", "n_samples", "n_classes", "in_channels")


def setting_names(name: str) -> list[str]:
    """Names of the settings of one model besides its sizes, in order.

    Examples
    --------
    >>> setting_names("vgg-cnn")
    ['width', 'pools', 'norm_momentum']
    """
    return [field.name for field in dataclasses.fields(MODELS.load(name).Config) if field.name not in _SIZES]


def create(
    name: str,
    *,
    n_classes: int,
    n_mels: int | None = None,
    n_frames: int | None = None,
    n_samples: int | None = None,
    in_channels: int = 1,
    **settings: Any,
) -> torch.nn.Module:
    """Build a model with fresh weights (drawn from torch's global generator).

    Parameters
    ----------
    name : str
        An entry of ``MODELS``.
    n_classes : int > 0
        Length of the output.
    n_mels, n_frames : int > 0
        Bands and frames of one input, for models of spectra.
    n_samples : int > 0
        Length of one input, for models of waveforms.
    in_channels : int > 0
        Spectra (or signals) of one input, stacked; more than one for models whose ``Config`` has that size.
    **settings
        The model's own settings: the fields of its ``Config``.

    Returns
    -------
    torch.nn.Module
        Takes float32 ``(batch, in_channels, n_mels, n_frames)``, or ``(batch, in_channels, n_samples)``; returns logits
        ``(batch, n_classes)``; ``.config`` rebuilds it.

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
    given = {"n_classes": n_classes, "n_mels": n_mels, "n_frames": n_frames, "n_samples": n_samples}
    config = model.Config(**_sizes(name, given, in_channels), **settings)
    built: torch.nn.Module = model(config)
    return built


def _sizes(name: str, given: dict[str, int | None], in_channels: int) -> dict[str, int]:
    """Sizes that a model's ``Config`` has; ``ConfigError`` where those given are of another kind of input."""
    taken = {field.name for field in dataclasses.fields(MODELS.load(name).Config)} & set(_SIZES)
    sizes = {size: value for size, value in given.items() if value is not None}
    wanted = "waveforms" if "n_samples" in taken else "spectra"
    lacking = sorted(taken - set(sizes) - {"in_channels"})
    if lacking or set(sizes) - taken:
        found = "a waveform" if "n_samples" in sizes else "a spectrum"
        lacks = f": {', '.join(lacking)} not given" if lacking else ""
        raise ConfigError(f"{found} for a model that takes {wanted}{lacks}", f"model {name}", "Choose another feature")
    if "in_channels" in taken:
        sizes["in_channels"] = in_channels
    elif in_channels != 1:
        fix = "Give it one feature, or choose a model that stacks several, such as vgg-cnn"
        raise ConfigError(f"{in_channels} inputs for a model that takes one", f"model {name}", fix)
    return sizes
