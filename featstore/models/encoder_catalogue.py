"""Published encoders with what they cost: one row a set of weights.

Nothing is fetched: sizes follow from the settings that the publishers state, and time is measured on random weights,
whose values do not change it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featstore.arrays import FloatArray
from featstore.models.catalogue import installed_cards
from featstore.models.encoders import ENCODERS
from featstore.models.frozen_encoder import FrozenEncoder
from featstore.models.input_kinds import INPUT_KINDS
from featstore.models.model_encoder import ModelEncoder
from featstore.models.transformers_folder import TransformersFolder
from featstore.specs import parse_spec

__all__ = ["PUBLISHED_ENCODERS", "EncoderCard", "encoder_cards", "markdown_table"]

_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "do_stable_layer_norm": True,
}
_LAYER_FRONT: dict[str, Any] = {"feat_extract_norm": "layer", "conv_bias": True}


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that someone publishes: their encoder, licence, and settings that differ from the library's defaults.

    ``model_type`` is what a folder of transformers calls the model; empty for other forms. ``part`` is the part of the
    module that the weights are of; empty for all of it but the head.
    """

    encoder: str
    licence: str
    model_type: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""


_MERT = {"sample_rate": 24000}
_CLAP = {"sampling_rate": 48000, "frequency_min": 50, "frequency_max": 14000}
_DAC = {"sampling_rate": 44100, "downsampling_ratios": [2, 4, 8, 8]}

PUBLISHED_ENCODERS: dict[str, Published] = {
    "MTT_musicnn": Published("mtt-musicnn", "ISC"),
    "MSD_musicnn": Published("msd-musicnn", "ISC"),
    "MERT-v1-95M": Published("mert", "cc-by-nc-4.0", "mert_model", _MERT),
    "MERT-v1-330M": Published("mert", "cc-by-nc-4.0", "mert_model", _MERT | _LARGE),
    "hubert-base-ls960": Published("hubert", "apache-2.0", "hubert"),
    "hubert-large-ll60k": Published("hubert", "apache-2.0", "hubert", _LARGE | _LAYER_FRONT),
    "wav2vec2-base": Published("wav2vec2", "apache-2.0", "wav2vec2"),
    "wavlm-base-plus": Published("wavlm", "none stated", "wavlm"),
    "ast-finetuned-audioset-10-10-0.4593": Published("ast", "bsd-3-clause", "audio-spectrogram-transformer"),
    "clap-htsat-unfused": Published("clap", "apache-2.0", "clap_audio_model", preprocessor=_CLAP),
    "encodec_24khz": Published("encodec", "none stated", "encodec"),
    "dac_44khz": Published("dac", "none stated", "dac", _DAC),
    "Hybrid Demucs": Published("gafx-u", "none stated", part="extractor"),
}
"""By the publisher's own name."""


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """What an encoder is and costs.

    Attributes
    ----------
    weights, encoder, licence : str
    parameters : int
    sample_rate : int
        Hz.
    layers : dict of str to int
        Dimensions of each layer.
    window_s : float
        Seconds that it sees at once.
    seconds : float or None
        CPU seconds for a minute of music, on one thread; None where it was not measured.
    """

    weights: str
    encoder: str
    licence: str
    parameters: int
    sample_rate: int
    layers: dict[str, int]
    window_s: float
    seconds: float | None = None


class _UntrainedFolder(TransformersFolder):
    """Settings without weights: modules keep their fresh ones."""

    def fill(self, module: torch.nn.Module, **how: Any) -> dict[str, torch.Tensor]:
        """Leave the module as it is."""
        return {}


def encoder_cards(*, timed: bool = False) -> list[EncoderCard]:
    """Cards of all published encoders; with ``timed`` each one computes a window, which takes minutes and 3 GB.

    A warning names those that need a package which is absent.
    """
    return installed_cards(PUBLISHED_ENCODERS, lambda name: _card(name, timed))


def _card(name: str, timed: bool) -> EncoderCard:
    published, device = PUBLISHED_ENCODERS[name], torch.device("cpu" if timed else "meta")
    with device:
        encoder = _untrained(name, published, device)
    info, head = encoder.info, f"{encoder.model.head}." if isinstance(encoder, ModelEncoder) else None
    module = encoder.module.get_submodule(published.part)
    own = [tensor.numel() for key, tensor in module.named_parameters() if head is None or not key.startswith(head)]
    second = info.sample_rate / parse_spec(info.takes).frame_step
    return EncoderCard(
        weights=name,
        encoder=published.encoder,
        licence=published.licence,
        parameters=sum(own),
        sample_rate=info.sample_rate,
        layers={layer: shape.width for layer, shape in info.layers.items()},
        window_s=info.window / second,
        seconds=_seconds(encoder, info.window / second) if timed else None,
    )


def _untrained(name: str, published: Published, device: torch.device) -> FrozenEncoder:
    folder = None
    if published.model_type:
        config = {"model_type": published.model_type, **published.config}
        folder = _UntrainedFolder(published.encoder, Path(name), name, config, dict(published.preprocessor))
    opened: FrozenEncoder = ENCODERS.load(published.encoder)(published.encoder, folder, device=device)
    return opened


def _seconds(encoder: FrozenEncoder, window_s: float) -> float:
    """CPU seconds for a minute of music: of one window on one thread."""
    window = _window(encoder)
    names = list(encoder.info.layers)
    encoder.layers_of(window[..., : encoder.info.least], names)  # the first pass loads libraries
    began = time.process_time()
    encoder.layers_of(window, names)
    return (time.process_time() - began) * 60 / window_s


def _window(encoder: FrozenEncoder) -> FloatArray:
    rng = np.random.default_rng(0)
    shape: tuple[int, ...] = (1, encoder.info.window)
    if isinstance(encoder, ModelEncoder):
        sizes = INPUT_KINDS[encoder.model.takes].example
        shape = (1, *(getattr(encoder.model.config, name) for name in sizes))
    return rng.uniform(-0.5, 0.5, shape).astype(np.float32)


def markdown_table(cards: list[EncoderCard]) -> str:
    """The cards as a table for docs/models.md; the last column is a dash where nothing was measured."""
    heads = ["weights", "encoder", "parameters", "Hz", "window", "layers", "licence", "CPU seconds a minute"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for card in cards:
        seconds = "–" if card.seconds is None else f"{card.seconds:.3g}"
        cells = [card.weights, f"`{card.encoder}`", f"{card.parameters:,}", str(card.sample_rate)]
        cells += [f"{card.window_s:.4g} s", _layers(card.layers), card.licence, seconds]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _layers(layers: Mapping[str, int]) -> str:
    """Layers and their dimensions, numbered ones as a range.

    Examples
    --------
    >>> _layers({"0": 768, "1": 768, "2": 768, "pooled": 768}), _layers({"cnn1": 64, "cnn2": 64, "max_pool": 753})
    ('0 to 2, pooled: 768', 'cnn1, cnn2: 64; max_pool: 753')
    """
    widths: dict[int, list[str]] = {}
    for name, width in layers.items():
        widths.setdefault(width, []).append(name)
    return "; ".join(f"{', '.join(_ranged(names))}: {width}" for width, names in widths.items())


def _ranged(names: list[str]) -> list[str]:
    numbers = [name for name in names if name.isdecimal()]
    if len(numbers) < 3:
        return names
    return [f"{numbers[0]} to {numbers[-1]}", *(name for name in names if not name.isdecimal())]
