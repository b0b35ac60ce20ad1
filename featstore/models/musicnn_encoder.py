"""The published taggers ``mtt-musicnn`` and ``msd-musicnn`` as encoders: their inner layers, as the package names them.

Windows are stretches of the mel spectrogram of the whole track, as in the package: 187 columns (2.992 s), and what is
left behind the last one is dropped unless asked otherwise. The package rounds the spectrogram to float16; we do not.
"""

from __future__ import annotations

import os

import torch

from featstore.models import create
from featstore.models.model_encoder import ModelEncoder, deciding, describe_model
from featstore.models.musicnn_published import PUBLISHED
from featstore.models.musicnn_weights import FEATURE, N_FRAMES, N_MELS, load_published
from featstore.models.tensor_files import digest_of_tensors
from featstore.models.trained_on import TrainedOn

__all__ = ["open_musicnn"]

_DATA = {"mtt-musicnn": "MagnaTagATune", "msd-musicnn": "Million Song Dataset"}


def open_musicnn(name: str, path: str | os.PathLike[str] | None, *, device: str | torch.device = "cpu") -> ModelEncoder:
    """Open the published weights: the package's folder, its wheel, or a checkpoint's own folder.

    Parameters
    ----------
    path : path or None
        None keeps random weights: to count and to time the network.

    Raises
    ------
    CheckpointError
        The weights are not there, damaged, or of another network.
    """
    model = create(name, n_mels=N_MELS, n_frames=N_FRAMES, n_classes=len(PUBLISHED[name].tags))
    if path is not None:
        model.load_state_dict(load_published(name, path))
    info = describe_model(
        model,
        window=N_FRAMES,
        model=name,
        digest="" if path is None else digest_of_tensors(deciding(model), {"model": name, "takes": FEATURE}),
        takes=FEATURE,
        sample_rate=16000,
        tail="drop",
        licence="ISC",
        source=f"package musicnn 0.1.0, {PUBLISHED[name].folder}",
        trained_on=TrainedOn(_DATA[name]),
    )
    return ModelEncoder(model, info, device)
