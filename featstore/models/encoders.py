"""Frozen encoders: networks whose inner layers describe music, behind one interface.

``load_encoder(model, path)`` opens local weights, of others or of a run of ours; nothing is fetched and no code from a
checkpoint is run. What an encoder's numbers depend on is in its digest. Layers are numbered by us: of a transformer 0
is the input of the first block, and the last one comes after the final norm.

See Also
--------
featstore.features.embedding : The feature kind that stores their vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from featstore.errors import CheckpointError
from featstore.models.tokenizers import best_device, info_of
from featstore.registry import Registry, load_attribute

if TYPE_CHECKING:
    import torch

    from featstore.models.encoder_info import EncoderInfo
    from featstore.models.frozen_encoder import FrozenEncoder

__all__ = ["ENCODERS", "UNTRAINED", "describe_encoder", "encoder_names", "load_encoder"]

# encoder -> function(model, path, device=...) that opens its weights; those that are no folders of transformers keep
# random ones for a path of None
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


def encoder_names() -> list[str]:
    """Names of all encoders: those whose weights others publish, and architectures that a run of ours may have."""
    from featstore.models import MODELS

    return list(dict.fromkeys([*ENCODERS, *MODELS]))


def load_encoder(model: str, path: str, *, device: str | torch.device | None = None) -> FrozenEncoder:
    """Open an encoder's local weights: a run of ours of that architecture (any, for ``""``), or what others publish.

    Raises
    ------
    ConfigError
        For an unknown encoder.
    CheckpointError
        When the weights are missing, damaged, or of another network.
    """
    from featstore.models.checkpoint_file import is_run

    opened: FrozenEncoder
    if is_run(path):
        opened = load_attribute("featstore.training.run_encoder:open_run")(path, device=device or best_device())
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
    return cast("EncoderInfo", info_of(load_encoder, model, path))
