"""The audio side of CLAP through transformers, on exact windows of 10 s.

Origin: Y. Wu et al., "Large-scale contrastive language-audio pretraining with feature fusion and keyword-to-caption
augmentation", ICASSP 2023. The library cuts longer clips at random, and marks one of a batch as long at random where
inputs are fused: windows of exactly the trained length leave nothing to chance, and fused models are refused.

Layers are ``frames`` (the last map, mean over frequency), ``pooled`` (their mean as the library has it), and
``projected``, the vector that is compared with text, which is not of length one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from featstore.arrays import FloatArray
from featstore.errors import CheckpointError
from featstore.models.frozen_encoder import FrozenEncoder, describe_folder
from featstore.models.interface import InnerLayer
from featstore.models.transformers_folder import open_folder

__all__ = ["open_clap"]

_LEFT_OUT = ("text_model.", "text_projection.", "logit_scale")
_SILENT = ("num_attention_heads", "layer_norm_eps", "hidden_act", "projection_hidden_act", "window_size", "spec_size")
_PREPARED = (
    "feature_size",
    "fft_window_size",
    "hop_length",
    "max_length_s",
    "frequency_min",
    "frequency_max",
    "top_db",
)


def open_clap(name: str, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> FrozenEncoder:
    """Open a folder of ``ClapModel``, or of its audio side.

    Raises
    ------
    CheckpointError
        The folder is of another model or a fused one, asks for code, lacks its preprocessor, or its weights do not fit.
    """
    folder = open_folder(name, path, ("clap", "clap_audio_model"))
    audio = dict(folder.config.get("audio_config") or {}) if folder.kind == "clap" else dict(folder.config)
    if audio.get("enable_fusion"):
        raise CheckpointError(
            "enable_fusion=true draws parts of a clip at random", folder.where, "Give a checkpoint without fusion"
        )
    lacking = [key for key in ("frequency_min", "frequency_max", "sampling_rate") if key not in folder.preprocessor]
    if lacking:
        raise CheckpointError(
            f"preprocessor_config.json does not say {', '.join(lacking)}", folder.where, "Fetch it with the weights"
        )
    if "projection_dim" in folder.config:
        audio["projection_dim"] = folder.config["projection_dim"]
    model: Any = folder.build("ClapAudio", "ClapAudioModelWithProjection", config=audio)  # finds published tensors
    deciding = folder.fill(model, left_out=_LEFT_OUT)
    from transformers import ClapFeatureExtractor

    rate = folder.rate(48000)
    prepared = {key: folder.preprocessor[key] for key in _PREPARED if key in folder.preprocessor}
    extractor: Any = ClapFeatureExtractor(sampling_rate=rate, truncation="rand_trunc", padding="repeatpad", **prepared)
    own = model.config
    window = int(extractor.nb_max_samples)
    frames = own.spec_size // own.patch_stride[0] // 2 ** (len(own.depths) - 1) * (own.spec_size // own.num_mel_bins)
    framed = InnerLayer(own.hidden_size, window // frames, window // frames)
    info = describe_folder(
        folder,
        deciding,
        {key: getattr(own, key) for key in _SILENT} | prepared | {"rate": rate},
        rate,
        layers={"frames": framed, "pooled": InnerLayer(own.hidden_size), "projected": InnerLayer(own.projection_dim)},
        usual_layers="projected",
        window=window,
        least=window,
        most=window,
    )

    def states(windows: FloatArray, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Vectors of the three layers; nothing is cut, as a window has the trained length."""
        spectra = extractor(list(windows), sampling_rate=rate, return_tensors="np")["input_features"]
        is_longer = torch.zeros(len(windows), 1, dtype=torch.bool, device=device)
        features = torch.from_numpy(np.asarray(spectra, np.float32)).to(device)
        out = model.audio_model(input_features=features, is_longer=is_longer)
        projected = model.audio_projection(out.pooler_output)
        return {"frames": out.last_hidden_state.mean(dim=2), "pooled": out.pooler_output, "projected": projected}

    return FrozenEncoder(model, info, device, states)
