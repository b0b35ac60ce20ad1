"""The Audio Spectrogram Transformer of transformers as an encoder, with its Kaldi filterbank.

Origin: Y. Gong, Y.-A. Chung, J. Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021. The picture of a window
is the one that the published weights were trained on: 128 bands of 25 ms every 10 ms of the signal in [-1, 1], filled
with zeros to 1024 frames, then scaled. Filling is part of the model: no frame of another window depends on it.

Layer 0 is the input of the first block, layer n the output of the last one behind the final norm, each the mean over
frequency; ``pooled`` is the mean of the two class tokens behind that norm.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from featstore.arrays import FloatArray
from featstore.errors import CheckpointError
from featstore.models.ast_weights import OLD_LAYER
from featstore.models.frozen_encoder import FrozenEncoder, describe_folder
from featstore.models.interface import InnerLayer
from featstore.models.transformers_folder import open_folder

__all__ = ["kaldi_filterbank", "open_ast_encoder"]

_PREFIX = "audio_spectrogram_transformer."
_SPELLINGS = {"encoder.layer.": "layers."} | OLD_LAYER
_SILENT = ("num_attention_heads", "layer_norm_eps", "hidden_act", "frequency_stride", "time_stride")
_FRAME, _HOP, _FFT = 400, 160, 512  # samples at 16 kHz: 25 ms, 10 ms
_WINDOW_S = 10
_SCALE = {"do_normalize": True, "mean": -4.2677393, "std": 4.5689974}  # of AudioSet


def kaldi_filterbank(signal: FloatArray, *, n_mels: int, sample_rate: int = 16000) -> FloatArray:
    """Natural-log mel energies as Kaldi has them, float32 (frames, bands).

    Frames of 25 ms every 10 ms, without padding; the mean of a frame is taken off, pre-emphasis is 0.97, the window a
    symmetric Hann; mel bands from 20 Hz, triangles on the mel scale, power, floor 1.19e-7.

    Parameters
    ----------
    signal : float32 (n,) in [-1, 1]
    n_mels : int
    sample_rate : int
        Hz.
    """
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    bank = mel_filter_bank(
        num_frequency_bins=_FFT // 2 + 1,
        num_mel_filters=n_mels,
        min_frequency=20,
        max_frequency=sample_rate // 2,
        sampling_rate=sample_rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    found = spectrogram(
        signal,
        window_function(_FRAME, "hann", periodic=False),
        frame_length=_FRAME,
        hop_length=_HOP,
        fft_length=_FFT,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=bank,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    )
    return np.asarray(found.T, np.float32)


def open_ast_encoder(name: str, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> FrozenEncoder:
    """Open a folder of ``ASTModel``, or of the classifier around it.

    Raises
    ------
    CheckpointError
        The folder is of another model, asks for code, its weights do not fill it, or its rate is not 16 kHz.
    """
    folder = open_folder(name, path, ("audio-spectrogram-transformer",))
    rate = folder.rate(16000)
    if rate != 16000:
        raise CheckpointError(f"its preprocessor names {rate} Hz, not 16000 Hz", folder.where, "Correct it")
    model = folder.build("AST")
    deciding = folder.fill(model, rename=_renamed, left_out=("classifier.",))
    own: Any = model.config
    scale = {key: folder.preprocessor.get(key, usual) for key, usual in _SCALE.items()}
    n, width = int(own.num_hidden_layers), int(own.hidden_size)
    step, field = _HOP * own.time_stride, _FRAME + _HOP * (own.patch_size - 1)
    layers = [str(layer) for layer in range(n + 1)]
    info = describe_folder(
        folder,
        deciding,
        {key: getattr(own, key) for key in _SILENT} | scale,
        rate,
        layers=dict.fromkeys(layers, InnerLayer(width, step, field)) | {"pooled": InnerLayer(width)},
        usual_layers="pooled",
        window=min(_WINDOW_S * rate, _FRAME + _HOP * (own.max_length - 1)),
        least=field,
        most=_FRAME + _HOP * own.max_length - 1,
    )

    def picture(signal: FloatArray) -> FloatArray:
        """Input of the network, float32 (``max_length``, bands), of a window (n,)."""
        bands = kaldi_filterbank(signal, n_mels=own.num_mel_bins)
        filled = np.zeros((own.max_length, own.num_mel_bins), np.float32)
        filled[: len(bands)] = bands
        if not scale["do_normalize"]:
            return filled
        return np.asarray((filled - scale["mean"]) / (2 * scale["std"]), np.float32)

    def states(windows: FloatArray, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Vectors of the frames that the window's own samples reach, by layer, and the pooled ones."""
        pictures = torch.from_numpy(np.stack([picture(window) for window in windows])).to(device)
        out = model(pictures, output_hidden_states=True)
        n_f = 1 + (own.num_mel_bins - own.patch_size) // own.frequency_stride
        real = 1 + (windows.shape[-1] - field) // step
        found = {"pooled": out.pooler_output}
        for layer, state in zip(layers, [*out.hidden_states[:-1], out.last_hidden_state], strict=True):
            # patches are frequency-major, behind two class tokens
            found[layer] = state[:, 2:].unflatten(1, (n_f, -1)).mean(dim=1).transpose(1, 2)[..., :real]
        return found

    return FrozenEncoder(model, info, device, states)


def _renamed(name: str) -> str:
    name = name.removeprefix(_PREFIX)
    for old, new in _SPELLINGS.items():
        name = name.replace(old, new)
    return name
