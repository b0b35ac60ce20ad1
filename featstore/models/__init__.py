"""Models: one architecture a file, as its paper has it, each a torch module that returns logits.

A model never meets a feature or a store: it is built from sizes (``n_mels``, ``n_frames``, ``n_classes``) and its own
settings. What it offers to training, tagging and reports is declared in :mod:`featstore.models.interface`; what it may
take, in :mod:`featstore.models.input_kinds`. Weights come in as a state dict.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featstore.errors import ConfigError, MissingDependency, check_known
from featstore.models.input_kinds import INPUT_KINDS, SEVERAL
from featstore.registry import Registry

if TYPE_CHECKING:
    from featstore.models.interface import Model

__all__ = ["MODELS", "check_installed", "create", "setting_names"]

MODELS = Registry(
    "model",
    {
        "vgg-cnn": "featstore.models.vgg_cnn:VggCnn",
        "conv-encoder": "featstore.models.conv_encoder:ConvEncoder",
        "spectroformer": "featstore.models.spectroformer:SpectroFormer",
        "tokenformer": "featstore.models.tokenformer:TokenFormer",
        "codebookformer": "featstore.models.spectroformer:CodebookFormer",
        "token-histogram": "featstore.models.linear_baselines:TokenHistogram",
        "code-statistics": "featstore.models.linear_baselines:CodeStatistics",
        "frame-statistics": "featstore.models.linear_baselines:FrameStatistics",
        "musicnn": "featstore.models.musicnn:Musicnn",
        "musicnn-f16": "featstore.models.musicnn:SixteenMusicnn",
        "musicnn-at-scale": "featstore.models.musicnn:AtScaleMusicnn",
        "musicnn-released": "featstore.models.musicnn_released:ReleasedMusicnn",
        "mtt-musicnn": "featstore.models.musicnn_packaged:PackagedMusicnn",
        "msd-musicnn": "featstore.models.musicnn_packaged:PackagedMusicnn",
        "msd-musicnn-big": "featstore.models.musicnn_packaged:BigPackagedMusicnn",
        "mtt-vgg": "featstore.models.musicnn_vgg:PackagedVgg",
        "msd-vgg": "featstore.models.musicnn_vgg:PackagedVgg",
        "sincnet": "featstore.models.sincnet:SincNet",
        "sinc-resnet": "featstore.models.sinc_resnet:SincResnet",
        "ms-sinc-resnet": "featstore.models.sinc_resnet:MsSincResnet",
        "resnet18": "featstore.models.resnet:Resnet18",
        "ast": "featstore.models.ast_transformer:Ast",
        "ast-audioset": "featstore.models.ast_transformer:AudiosetAst",
        "ast-gafx": "featstore.models.ast_transformer:GafxAst",
        "gafx-r": "featstore.models.gafx_r:GafxR",
        "gafx-a": "featstore.models.gafx_a:GafxA",
        "gafx-u": "featstore.models.gafx_u:GafxU",
        "probe": "featstore.models.probe:Probe",
    },
)


def setting_names(name: str) -> list[str]:
    """Names of the settings of one model besides its sizes, in order.

    Examples
    --------
    >>> setting_names("vgg-cnn")
    ['width', 'pools', 'norm_momentum']
    """
    model = MODELS.load(name)
    return [field.name for field in dataclasses.fields(model.Config) if field.name not in _sizes_of(model)]


def check_installed(name: str) -> None:
    """Refuse a model whose network comes from a package that is not installed: before any work for it.

    Raises
    ------
    MissingDependency
    """
    package = MODELS.load(name).package
    if package and importlib.util.find_spec(package) is None:
        raise MissingDependency.of(package, "codecs", f"the model {name}")


def _sizes_of(model: type[Model]) -> tuple[str, ...]:
    """Names of the sizes in a model's ``Config``."""
    return ("n_classes", *(("inputs",) if model.takes == SEVERAL else INPUT_KINDS[model.takes].sizes))


def create(name: str, *, n_classes: int, in_channels: int = 1, **settings: Any) -> Model:
    """Build a model with fresh weights (drawn from torch's global generator).

    Parameters
    ----------
    name : str
        An entry of ``MODELS``.
    n_classes : int > 0
        Length of the output.
    in_channels : int > 0
        Spectra (or signals) of one input, stacked; more than one for models whose ``Config`` has that size.
    **settings
        Sizes of one input, by the names that :data:`~featstore.models.input_kinds.INPUT_KINDS` has for the kind that
        the model takes: ``n_mels`` and ``n_frames`` for spectra, ``n_samples`` for waveforms, ``n_codebooks``,
        ``n_frames`` and ``n_codes`` for tokens, and so on. And the model's own settings, fields of its ``Config``.

    Returns
    -------
    Model
        Takes float32 ``(batch, in_channels, n_mels, n_frames)`` or what its kind of input says; returns logits
        ``(batch, n_classes)``; ``.config`` rebuilds it.

    Raises
    ------
    ConfigError
        Unknown model or setting, or sizes that the architecture cannot take.

    Examples
    --------
    >>> create("vgg-cnn", n_mels=96, n_frames=683, n_classes=50, width=0.125).config.channels
    (16, 48, 96, 256)

    See Also
    --------
    featstore.models.interface.Model : What every model offers.
    """
    model = MODELS.load(name)
    sizes, own = _sizes_of(model), setting_names(name)
    _check_sizes(name, model, settings)
    for setting in settings:
        if setting not in sizes:
            check_known(setting, own, f"unknown setting {setting!r}", f"model {name}")
    if "in_channels" in (field.name for field in dataclasses.fields(model.Config)):
        settings["in_channels"] = in_channels
    elif in_channels != 1:
        fix = "Give it one feature, or choose a model that stacks several, such as vgg-cnn"
        raise ConfigError(f"{in_channels} inputs for a model that takes one", f"model {name}", fix)
    config = model.Config(n_classes=n_classes, **settings)
    try:
        built: Model = model(config)
    except (RuntimeError, MemoryError, OverflowError) as error:  # torch has no memory for its weights
        what = f"a model of these sizes cannot be made: {str(error).partition(chr(10))[0]}"
        raise ConfigError(what, f"model {name}", "Lower its sizes, such as width") from error
    return built


def _check_sizes(name: str, model: type[Model], given: Mapping[str, Any]) -> None:
    """Refuse sizes of another kind of input than the model takes."""
    needed = {size for size in _sizes_of(model) if size not in ("n_classes", "in_channels")}
    known = {size for kind in INPUT_KINDS.values() for size in kind.sizes} - set(setting_names(name))
    lacking, foreign = sorted(needed - set(given)), set(given) & (known - needed)
    if not lacking and not foreign:
        return
    wanted = "several inputs by name" if model.takes == SEVERAL else INPUT_KINDS[model.takes].title
    found = next((kind.article for kind in INPUT_KINDS.values() if set(kind.example) <= set(given)), "an input")
    lacks = f": {', '.join(lacking)} not given" if lacking else ""
    raise ConfigError(f"{found} for a model that takes {wanted}{lacks}", f"model {name}", "Choose another feature")
