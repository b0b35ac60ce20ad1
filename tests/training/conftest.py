from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from small_store import Collection, make_collection

from featstore.training import TrainConfig


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return make_collection(tmp_path_factory.mktemp("multi") / "music.zarr")


@pytest.fixture(scope="session")
def styles(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return make_collection(tmp_path_factory.mktemp("single") / "styles.zarr", single=True)


@pytest.fixture
def config() -> Callable[..., TrainConfig]:
    """Settings of a run that takes a fraction of a second."""

    def make(*assignments: str, seed: int | None = None) -> TrainConfig:
        small = ["model.width=0.02", "model.pools=fit", "data.batch_size=8", "data.crop_frames=24", "loop.epochs=2"]
        small += ["evaluate.bootstrap=20", "device.accelerator=cpu", "device.deterministic=true"]
        return TrainConfig.resolve(assignments=[*small, *assignments], seed=seed)

    return make
