"""The extractor of GAFX-U as an encoder: spectrograms of the sources that a published Hybrid Demucs separates.

As in the paper, audio has 16 kHz, though the published weights were trained at 44.1 kHz. The classifier takes no part.
GAFX-R and GAFX-A have no published weights: a run of them is an encoder like any other.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from featstore.models.demucs_weights import read_hdemucs
from featstore.models.gafx_u import SOURCES, GafxU, GafxUConfig
from featstore.models.model_encoder import ModelEncoder, describe_model
from featstore.models.tensor_files import digest_of_tensors

__all__ = ["open_hdemucs"]

RATE, WINDOW_S = 16_000, 30


def open_hdemucs(name: str, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> ModelEncoder:
    """Open a file of one Hybrid Demucs; layers are its four sources.

    Raises
    ------
    CheckpointError
        As :func:`~featstore.models.demucs_weights.read_hdemucs`.
    """
    settings, state = read_hdemucs(Path(path))
    config = GafxUConfig(n_samples=WINDOW_S * RATE, n_classes=1, hdemucs=settings, frozen=True, depth=1)
    model = GafxU(config)
    model.extractor.load_state_dict(state)
    takes = f"waveform(sample_rate={RATE})"
    notes = {"settings": config.hdemucs, "compression": config.compression, "takes": takes}
    info = describe_model(
        model,
        window=config.n_samples,
        layers=SOURCES,
        model=name,
        digest=digest_of_tensors(state, notes),
        takes=takes,
        sample_rate=RATE,
        source=f"Hybrid Demucs, {os.path.basename(path)}",
    )
    return ModelEncoder(model, info, torch.device(device))
