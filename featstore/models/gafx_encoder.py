"""The extractor of GAFX-U as an encoder: spectrograms of the sources that a published Hybrid Demucs separates.

Audio has the rate that the weights were trained at, 44.1 kHz for those that are published, or the paper's 16 kHz where
that is asked for. The classifier takes no part. GAFX-R and GAFX-A have no published weights: a run of them is an
encoder like any other.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from featstore.models.demucs_spectra import SOURCES
from featstore.models.demucs_weights import read_hdemucs
from featstore.models.gafx_u import GafxU, GafxUConfig
from featstore.models.model_encoder import ModelEncoder, describe_model
from featstore.models.tapped_demucs import TappedDemucs, checked_demucs
from featstore.models.tensor_files import digest_of_tensors, open_tensors, save_tensors
from featstore.models.trained_on import TrainedOn
from featstore.typed_values import converted

__all__ = ["open_hdemucs", "write_untrained"]

PUBLISHED_RATE, PAPER_RATE = 44_100, 16_000
WINDOW_S = 30


def open_hdemucs(name: str, path: str | os.PathLike[str] | None, *, device: str | torch.device = "cpu") -> ModelEncoder:
    """Open a file of one Hybrid Demucs; layers are its four sources.

    Parameters
    ----------
    path : path or None
        None keeps random weights: to count and to time the network.

    Raises
    ------
    CheckpointError
        As :func:`~featstore.models.demucs_weights.read_hdemucs`.
    """
    settings, state = ({}, {}) if path is None else read_hdemucs(Path(path))
    n_samples = WINDOW_S * int(settings.get("samplerate", PUBLISHED_RATE))
    model = GafxU(GafxUConfig(n_samples=n_samples, n_classes=1, hdemucs=settings, frozen=True, depth=1))
    model.extractor.load_state_dict(state, strict=path is not None)
    notes = {"settings": model.config.hdemucs, "compression": model.config.compression}
    rate = model.extractor.samplerate
    info = describe_model(
        model,
        window=n_samples,
        layers=SOURCES,
        model=name,
        digest="" if path is None else digest_of_tensors(state, notes),
        takes=f"waveform(sample_rate={rate})",
        sample_rate=rate,
        other_rates=tuple({PAPER_RATE} - {rate}),
        source="" if path is None else f"Hybrid Demucs, {os.path.basename(path)}",
        trained_on=None if path is None else _trained_on(Path(path)),
    )
    return ModelEncoder(model, info, device)


def write_untrained(path: str | os.PathLike[str], *, seed: int = 0, **hdemucs: Any) -> None:
    """Write a Hybrid Demucs of random weights as the library's safetensors: for demonstrations, or as a control.

    Parameters
    ----------
    path : path
    seed : int
    **hdemucs
        Settings of ``demucs.hdemucs.HDemucs`` that differ from its defaults, such as ``channels=8``.

    Raises
    ------
    ConfigError
        For a setting that Hybrid Demucs does not have.
    """
    hdemucs, seed = checked_demucs(hdemucs), converted(int, seed, "seed", "gafx-u")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TappedDemucs(sources=list(SOURCES), **hdemucs)
    settings = json.dumps({"sources": list(SOURCES), **hdemucs})
    metadata = {"klass": "demucs.hdemucs.HDemucs", "args": "[]", "kwargs": settings}
    metadata["featstore_encoder"] = json.dumps({"hps": {"trained_on": TrainedOn("").as_json()}})
    save_tensors(path, {key: tensor.contiguous() for key, tensor in network.state_dict().items()}, metadata)


def _trained_on(path: Path) -> TrainedOn | None:
    """What a file says of itself: only those that :func:`write_untrained` made do."""
    if path.suffix != ".safetensors":
        return None
    with open_tensors(path) as opened:
        return TrainedOn.read(opened.config.get("trained_on"))
