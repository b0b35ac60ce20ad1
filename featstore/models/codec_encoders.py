"""Encoders of neural codecs, before anything is quantised: EnCodec at 24 kHz and DAC, from transformers folders.

Origin: A. Défossez et al., "High fidelity neural audio compression", TMLR 2023; R. Kumar et al., "High-fidelity audio
compression with improved RVQGAN", NeurIPS 2023. The tokens of the same codecs are the feature ``vq_tokens``; these are
the real-valued vectors that they stand for. Each window begins without memory: EnCodec's recurrent layer sees its own
window, and frames at the edges of a window of DAC see silence beyond them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import torch

from featstore.arrays import FloatArray
from featstore.errors import CheckpointError
from featstore.models.frozen_encoder import FrozenEncoder, describe_folder
from featstore.models.interface import InnerLayer
from featstore.models.transformers_folder import open_folder

__all__ = ["open_codec_encoder"]

_STEMS = {"encodec": "Encodec", "dac": "Dac"}
_SILENT = {
    "encodec": ("upsampling_ratios", "dilation_growth_rate", "pad_mode", "use_causal_conv", "norm_type"),
    "dac": ("downsampling_ratios",),
}
_LEFT_OUT = ("decoder.", "quantizer.")
_WINDOW_S = 30


def open_codec_encoder(name: str, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> FrozenEncoder:
    """Open a folder of EnCodec or DAC; the decoder and the codebooks are not read.

    Raises
    ------
    CheckpointError
        The folder is of another model or of a codec of two channels, asks for code, or its weights do not fill it.
    """
    folder = open_folder(name, path, (name,))
    channels = folder.config.get("audio_channels", 1)
    if channels != 1 or folder.config.get("normalize"):
        what = f"audio_channels={channels}: the codec scales each second of two channels"
        raise CheckpointError(what, folder.where, "Give a codec of one channel")
    codec: Any = folder.build(_STEMS[name])
    deciding = folder.fill(codec.encoder, rename=lambda key: key.removeprefix("encoder."), left_out=_LEFT_OUT)
    own = codec.config
    rate = folder.rate(int(own.sampling_rate), key="sampling_rate")
    hop = math.prod(own.upsampling_ratios if name == "encodec" else own.downsampling_ratios)
    info = describe_folder(
        folder,
        deciding,
        {key: getattr(own, key, None) for key in _SILENT[name]} | {"rate": rate},
        rate,
        layers={"latent": InnerLayer(int(own.hidden_size), hop, 1 if name == "encodec" else hop)},
        usual_layers="latent",
        window=-(-_WINDOW_S * rate // hop) * hop,
        least=hop,
    )

    def states(windows: FloatArray, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Vectors of the only layer; EnCodec has one for a last frame that is not whole, too."""
        n = windows.shape[-1] if name == "encodec" else windows.shape[-1] // hop * hop
        return {"latent": codec.encoder(torch.from_numpy(windows[:, None, :n]).to(device))}

    return FrozenEncoder(codec.encoder, info, device, states)
