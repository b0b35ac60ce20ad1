"""Frozen encoders: networks whose inner layers describe music, behind one interface.

``load_encoder(model, path)`` opens local weights, of others or of a run of ours; nothing is fetched and no code from a
checkpoint is run. What an encoder's numbers depend on is in its digest. Layers are numbered by us: of a transformer 0
is the input of the first block, and the last one comes after the final norm.

See Also
--------
featstore.features.embedding : The feature kind that stores their vectors.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from featstore.arrays import FloatArray
from featstore.errors import CheckpointError
from featstore.models.tokenizers import best_device, stamp_of
from featstore.models.trained_on import TrainedOn
from featstore.registry import Registry, load_attribute
from featstore.specs import parse_spec

if TYPE_CHECKING:
    import torch

__all__ = [
    "ENCODERS",
    "UNTRAINED",
    "Encoder",
    "EncoderInfo",
    "describe_encoder",
    "encoder_names",
    "forward_settings",
    "load_encoder",
]

# encoder -> function(model, path, device=...) that opens its weights
ENCODERS = Registry(
    "encoder",
    {
        "mtt-musicnn": "featstore.models.musicnn_encoder:open_musicnn",
        "msd-musicnn": "featstore.models.musicnn_encoder:open_musicnn",
        "mert": "featstore.models.wave_encoders:open_wave_encoder",
        "hubert": "featstore.models.wave_encoders:open_wave_encoder",
        "wav2vec2": "featstore.models.wave_encoders:open_wave_encoder",
        "wavlm": "featstore.models.wave_encoders:open_wave_encoder",
        "ast": "featstore.models.ast_encoder:open_ast_encoder",
        "clap": "featstore.models.clap_encoder:open_clap",
        "encodec": "featstore.models.codec_encoders:open_codec_encoder",
        "dac": "featstore.models.codec_encoders:open_codec_encoder",
        "gafx-u": "featstore.models.gafx_encoder:open_hdemucs",
    },
)

# encoder -> function(path, seed=..., **settings) that writes a file of random weights, in the publisher's form
UNTRAINED = Registry("encoder with random weights", {"gafx-u": "featstore.models.gafx_encoder:write_untrained"})

_OPEN_RUN = "featstore.models.run_encoder:open_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInfo:
    """What is fixed by an encoder's weights.

    Attributes
    ----------
    model : str
        An entry of :data:`ENCODERS`.
    digest : str
        32 hexadecimal digits over the tensors that decide the vectors, and over the settings that no shape shows.
    takes : str
        Feature that it takes, as a spec; a window is a stretch of it.
    sample_rate : int
        Hz that it was trained at.
    other_rates : tuple of int
        Hz at which it is used as well, as a paper does; it reads the same samples then, in other seconds.
    layers : mapping of str to int
        Dimensions of each layer, in the order of our numbering.
    steps : mapping of str to int
        Columns of the input between two vectors of a layer; 0 for layers that give one vector a window.
    usual_layers : str
        Layers that are kept unless others are named.
    window : int
        Columns of the input that it was trained on.
    least, most : int
        Columns of the shortest and of the longest window that it takes; ``most`` is None where there is no longest.
    field : int
        Columns that one frame sees: a window of n has ``1 + (n - field) // step`` frames.
    tail : {"drop", "align"}
        What becomes, unless asked otherwise, of columns behind the last window: dropped, as the authors do, or seen by
        a last window that ends with the track.
    licence, source : str
        Of the weights, as their publisher states it; provenance, not identity.
    trained_on : TrainedOn or None
        What it has seen; None where that is not recorded.
    """

    model: str
    digest: str
    takes: str
    sample_rate: int
    layers: Mapping[str, int]
    steps: Mapping[str, int]
    usual_layers: str
    window: int
    least: int
    most: int | None = None
    field: int = 1
    tail: Literal["drop", "align"] = "align"
    licence: str = "unknown"
    source: str = ""
    trained_on: TrainedOn | None = None
    other_rates: tuple[int, ...] = ()

    def at(self, sample_rate: int) -> EncoderInfo:
        """Facts of the encoder at one of its rates; its window lasts as long as at its own."""
        if sample_rate == self.sample_rate:
            return self
        takes = str(parse_spec(self.takes).replace(sample_rate=sample_rate))
        window = round(self.window * sample_rate / self.sample_rate)
        return replace(self, takes=takes, sample_rate=sample_rate, window=window)


class Encoder(Protocol):
    """A network with its weights, in evaluation mode.

    Attributes
    ----------
    info : EncoderInfo
    batch : int
        Windows of every pass: the number reaches the last bits of a vector, so it is the same for all.
    """

    info: EncoderInfo
    batch: int

    def __hash__(self) -> int:
        """By identity: open encoders are kept by it."""
        ...

    def layers_of(self, windows: FloatArray, names: Sequence[str]) -> list[FloatArray]:
        """Vectors float32 (windows, dimensions, frames) of each layer named, of windows (windows, ..., columns)."""
        ...


def encoder_names() -> list[str]:
    """Names of all encoders: those whose weights others publish, and architectures that a run of ours may have."""
    from featstore.models import MODELS

    return list(dict.fromkeys([*ENCODERS, *MODELS]))


def load_encoder(model: str, path: str, *, device: str | torch.device | None = None) -> Encoder:
    """Open an encoder's local weights: a run of ours of that architecture (any, for ``""``), or what others publish.

    Raises
    ------
    ConfigError
        For an unknown encoder.
    CheckpointError
        When the weights are missing, damaged, or of another network.
    """
    from featstore.models.checkpoint_file import is_run

    opened: Encoder
    if is_run(path):
        opened = load_attribute(_OPEN_RUN)(path, device=device or best_device())
        if model not in ("", opened.info.model):
            raise CheckpointError(f"the run is of {opened.info.model}, not {model}", path, "Name its own architecture")
    elif model in ENCODERS:
        opened = ENCODERS.load(model)(model, path, device=device or best_device())
    else:
        raise CheckpointError(
            f"there is no run of {model or 'ours'}",
            path,
            "Name a folder that featstore train or pretrain has made",
        )
    return opened


def describe_encoder(model: str, path: str) -> EncoderInfo:
    """What an encoder's weights fix; an unchanged file is read once in a process.

    Raises
    ------
    ConfigError, CheckpointError
        As :func:`load_encoder`.
    """
    place = os.path.realpath(path)
    return _described(model, place, stamp_of(place))


@functools.lru_cache(maxsize=16)
def _described(model: str, path: str, stamp: Any) -> EncoderInfo:
    return load_encoder(model, path, device="cpu").info


@contextlib.contextmanager
def forward_settings(device: torch.device) -> Iterator[None]:
    """Float32 without TF32, no gradients, and one thread on a CPU: how work is shared out reaches the last bits."""
    import torch

    from featstore.models.jukebox_tokenizer import exact_arithmetic

    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        with torch.inference_mode(), exact_arithmetic():
            yield
    finally:
        torch.set_num_threads(threads)
