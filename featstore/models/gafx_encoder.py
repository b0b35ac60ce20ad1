"""The extractor of GAFX-U as an encoder: spectrograms of the sources that a published Hybrid Demucs separates.

As in the paper, audio has 16 kHz, though the published weights were trained at 44.1 kHz. The classifier takes no part.
GAFX-R and GAFX-A have no published weights: a run of them is an encoder like any other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from featstore.models.demucs_weights import read_hdemucs
from featstore.models.gafx_u import SOURCES, GafxU, GafxUConfig
from featstore.models.model_encoder import ModelEncoder, describe_model
from featstore.models.tensor_files import digest_of_tensors

__all__ = ["open_hdemucs", "untrained_hdemucs"]

RATE, WINDOW_S = 16_000, 30
TAKES = f"waveform(sample_rate={RATE})"


def open_hdemucs(name: str, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> ModelEncoder:
    """Open a file of one Hybrid Demucs; layers are its four sources.

    Raises
    ------
    CheckpointError
        As :func:`~featstore.models.demucs_weights.read_hdemucs`.
    """
    settings, state = read_hdemucs(Path(path))
    model = _model(settings)
    model.extractor.load_state_dict(state)
    notes = {"settings": model.config.hdemucs, "compression": model.config.compression, "takes": TAKES}
    return _encoder(model, name, digest_of_tensors(state, notes), f"Hybrid Demucs, {os.path.basename(path)}", device)


def untrained_hdemucs(name: str, *, device: str | torch.device = "cpu") -> ModelEncoder:
    """Build the encoder with random weights: to count and to time it."""
    return _encoder(_model({}), name, "", "", device)


def _model(hdemucs: Mapping[str, Any]) -> GafxU:
    return GafxU(GafxUConfig(n_samples=WINDOW_S * RATE, n_classes=1, hdemucs=hdemucs, frozen=True, depth=1))


def _encoder(model: GafxU, name: str, digest: str, source: str, device: str | torch.device) -> ModelEncoder:
    info = describe_model(
        model,
        window=model.config.n_samples,
        layers=SOURCES,
        model=name,
        digest=digest,
        takes=TAKES,
        sample_rate=RATE,
        source=source,
    )
    return ModelEncoder(model, info, torch.device(device))
