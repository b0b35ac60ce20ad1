"""The published taggers ``mtt-musicnn`` and ``msd-musicnn`` as encoders: their inner layers, as the package names them.

Windows are stretches of the mel spectrogram of the whole track, as in the package: 187 columns (2.992 s), and what is
left behind the last one is dropped unless asked otherwise. The package rounds the spectrogram to float16; we do not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

from featstore.arrays import FloatArray
from featstore.models import create
from featstore.models.encoders import EncoderInfo, forward_settings
from featstore.models.musicnn_packaged import TEMPORAL_FILTERS, TIMBRAL_FILTERS, PackagedMusicnn
from featstore.models.musicnn_weights import FEATURE, N_FRAMES, N_MELS, PUBLISHED, load_published
from featstore.models.tensor_files import digest_of_tensors
from featstore.models.token_windows import full_passes

__all__ = ["MusicnnEncoder", "open_musicnn"]

_FRAME_LAYERS = ("timbral", "temporal", "cnn1", "cnn2", "cnn3")
_GPU_BATCH = 16
_LEAST_FRAMES = 7  # the convolutions of the mid-end


class MusicnnEncoder:
    """A packaged MUSICNN with its weights.

    Parameters
    ----------
    model : PackagedMusicnn
    info : EncoderInfo
    device : torch.device
    """

    def __init__(self, model: PackagedMusicnn, info: EncoderInfo, device: torch.device) -> None:
        self.model, self.info, self._device = model.to(device).eval().requires_grad_(False), info, device
        self.batch = 1 if device.type == "cpu" else _GPU_BATCH  # more at once gain nothing on a CPU

    def layers_of(self, windows: FloatArray, names: Sequence[str]) -> list[FloatArray]:
        """Vectors (windows, dimensions, frames) of mel spectrograms (windows, bands, columns)."""
        found: list[list[FloatArray]] = [[] for _ in names]
        with forward_settings(self._device):
            for rows, real in full_passes(windows, self.batch):
                activations = self.model.activations(torch.from_numpy(rows).to(self._device)[:, None])
                for place, name in enumerate(names):
                    values = activations[name][:real].cpu().numpy()
                    found[place].append(values if values.ndim == 3 else values[..., None])
        return [np.concatenate(parts) for parts in found]


def open_musicnn(name: str, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> MusicnnEncoder:
    """Open the published weights: the package's folder, its wheel, or a checkpoint's own folder.

    Raises
    ------
    CheckpointError
        The weights are not there, damaged, or of another network.
    """
    state = load_published(name, path)
    model = create(name, n_mels=N_MELS, n_frames=N_FRAMES, n_classes=len(PUBLISHED[name].tags))
    assert isinstance(model, PackagedMusicnn)
    model.load_state_dict(state)
    deciding = {
        key: value
        for key, value in state.items()
        if not key.startswith("output.") and not key.endswith("num_batches_tracked")
    }
    channels, dense = model.config.channels, model.config.dense
    front = {"timbral": 2 * TIMBRAL_FILTERS, "temporal": len(model.temporal) * TEMPORAL_FILTERS}
    pooled = sum(front.values()) + 3 * channels
    widths = front | dict.fromkeys(("cnn1", "cnn2", "cnn3"), channels)
    widths |= {"max_pool": pooled, "mean_pool": pooled, "penultimate": dense}
    info = EncoderInfo(
        model=name,
        digest=digest_of_tensors(deciding, {"model": name, "takes": FEATURE}),
        takes=FEATURE,
        sample_rate=16000,
        layers=widths,
        steps={layer: int(layer in _FRAME_LAYERS) for layer in widths},
        usual_layers="penultimate",
        window=N_FRAMES,
        least=_LEAST_FRAMES,
        tail="drop",
        licence="ISC",
        source=f"package musicnn 0.1.0, {PUBLISHED[name].folder}",
    )
    return MusicnnEncoder(model, info, torch.device(device))
