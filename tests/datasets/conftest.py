"""Small trees of audio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def tone() -> Callable[..., Path]:
    """A function that writes a sine to a path, making its folder."""

    def write(
        path: Path, *, seconds: float = 0.1, sample_rate: int = 8000, channels: int = 1, hz: float = 440.0
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)
        soundfile.write(path, np.repeat(wave[:, None], channels, axis=1).astype(np.float32), sample_rate)
        return path

    return write
