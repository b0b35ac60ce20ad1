"""The package ``musicnn`` for tests: where its weights are, which cannot be shipped, and a stand-in never trained."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from featstore.errors import CheckpointError
from featstore.models.encoder_fetch import fetch_weights
from featstore.models.musicnn_published import PUBLISHED
from featstore.testing.tf_bundle import write_bundle

__all__ = ["KINDS", "find_musicnn", "random_variables", "write_untrained"]

KINDS = {
    "mtt-musicnn": "musicnn",
    "msd-musicnn": "musicnn",
    "msd-musicnn-big": "big",
    "mtt-vgg": "vgg",
    "msd-vgg": "vgg",
}
"""Published name to the kind of its network."""


def find_musicnn() -> tuple[Path | None, str]:
    """Folder or wheel of the package, or None and the reason why there is none.

    It is looked for where the environment variable ``FEATSTORE_MUSICNN`` points, then in a cache in the folder for
    temporary files, and else fetched through pip.
    """
    named = os.environ.get("FEATSTORE_MUSICNN")
    if named:
        path = Path(named)
        if path.is_dir() and (wheels := sorted(path.glob("musicnn-*.whl"))):
            path = wheels[-1]
        return (path, "") if path.exists() else (None, f"FEATSTORE_MUSICNN={named} does not exist")
    cache = os.path.join(tempfile.gettempdir(), f"featstore-musicnn-{os.getuid()}")
    with mock.patch.dict(os.environ, XDG_CACHE_HOME=cache, PIP_RETRIES="1", PIP_TIMEOUT="15"):
        try:
            return fetch_weights("mtt-musicnn"), ""
        except CheckpointError as error:
            return None, f"{error.what}; or set FEATSTORE_MUSICNN to the folder or wheel of the package"


def write_untrained(folder: str | Path, *names: str) -> Path:
    """Write a stand-in for the package's folder, which holds checkpoints of networks that were never trained."""
    for name in names:
        write_bundle(Path(folder) / PUBLISHED[name].folder, random_variables(KINDS[name]))
    return Path(folder)


def random_variables(kind: str, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Variables of a network that was never trained, as its checkpoint holds them, the optimizer's included.

    ``kind`` is ``musicnn``, ``big`` or ``vgg``.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, NDArray[np.float32]] = {}

    def kernel(layer: str, *shape: int) -> None:
        found[f"{layer}/kernel"] = (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)
        found[f"{layer}/bias"] = (0.1 * rng.standard_normal(shape[-1])).astype(np.float32)

    def norms(sizes: list[int]) -> None:
        for number, size in enumerate(sizes):
            layer = f"batch_normalization_{number}" if number else "batch_normalization"
            found[f"{layer}/gamma"] = rng.normal(0.5, 0.5, size).astype(np.float32)  # some are negative
            found[f"{layer}/beta"] = rng.normal(0, 0.3, size).astype(np.float32)
            found[f"{layer}/moving_mean"] = rng.normal(0.3, 0.3, size).astype(np.float32)
            found[f"{layer}/moving_variance"] = rng.uniform(0.3, 2, size).astype(np.float32)

    if kind == "vgg":
        for block in range(5):
            kernel(f"{block + 1}CNN", 3, 3, 128 if block else 1, 128)
        kernel("dense", 256, 50)
        norms([1, *[128] * 5])
    else:
        channels, dense = (512, 500) if kind == "big" else (64, 200)
        kernel("conv2d", 7, 38, 1, 204)
        kernel("conv2d_1", 7, 67, 1, 204)
        for number, length in enumerate((128, 64, 32)):
            kernel(f"conv2d_{number + 2}", length, 1, 1, 51)
        for number, inputs in enumerate((561, channels, channels)):
            kernel(f"conv2d_{number + 5}", 7, inputs, 1, channels)
        pooled = 2 * (561 + 3 * channels)
        kernel("dense", pooled, dense)
        kernel("dense_1", dense, 50)
        norms([1, 204, 204, 51, 51, 51, channels, channels, channels, pooled, dense])
    trained = [name for name in found if not name.endswith(("moving_mean", "moving_variance"))]
    for name in trained[:4]:
        found[f"{name}/Adam"] = found[f"{name}/Adam_1"] = found[name]
    found["beta1_power"] = found["beta2_power"] = np.full((), 0.9, np.float32)
    return found
