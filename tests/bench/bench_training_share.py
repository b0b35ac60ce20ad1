"""How much of a training epoch is not the model's: a part of ``bench_speed``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.bench_audio_common import machine, versions

SMALLEST = "mel(sample_rate=12000,n_mels=48,hop_length=2560,scale=db)"  # the study's least bytes per second
FRAMES = 136  # of a clip of 29.1 s


class _Stopwatch:
    """Adds up the seconds of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return call


def measure(folder: Path, *, tracks: int, epochs: int) -> dict[str, Any]:
    """Share of the epochs after the first that is neither forward, backward nor the optimizer's step."""
    from featstore.training import TrainConfig, train
    from featstore.training.loop import Loop
    from tests.training.small_store import make_collection

    folder.mkdir(parents=True, exist_ok=True)
    made = make_collection(folder / "s.zarr", n=tracks, n_frames=FRAMES, spec=SMALLEST)
    settings = ["data.crops_per_track=8", "data.batch_size=16", "model.pools=fit", "evaluate.bootstrap=20"]
    config = TrainConfig.resolve(assignments=[*settings, f"loop.epochs={epochs}", "device.accelerator=cpu"])
    shares: list[float] = []
    plain = Loop._train_epoch

    def watched(loop: Loop, stop: Any) -> None:
        watch, parts = _Stopwatch(), loop.parts
        objective = _Timed(parts.objective, watch, ("loss",))
        loop.parts = replace(
            parts, objective=objective, optimizer=_Timed(parts.optimizer, watch, ("step", "zero_grad"))
        )
        engine, loop.engine = loop.engine, _Timed(loop.engine, watch, ("backward", "clip"))
        began = time.perf_counter()
        plain(loop, stop)
        shares.append(1 - watch.seconds / (time.perf_counter() - began))
        loop.parts, loop.engine = parts, engine

    Loop._train_epoch = watched  # type: ignore[method-assign]
    try:
        train(made.store, SMALLEST, "vgg-cnn", folder / "run", config=config)
    finally:
        Loop._train_epoch = plain  # type: ignore[method-assign]
    settled = shares[1:] or shares
    return {
        "share_outside": round(statistics.median(settled), 4),
        "lowest": round(min(settled), 4),
        "highest": round(max(settled), 4),
        "epochs": len(settled),
        "spec": SMALLEST,
        "n_frames": FRAMES,
        "model": "vgg-cnn",
        "machine": machine(),
        "versions": versions(("featstore", "torch", "numpy")),
    }


class _Timed:
    """Stands for an object some of whose methods are timed."""

    def __init__(self, inner: Any, watch: _Stopwatch, methods: Sequence[str]) -> None:
        self._inner = inner
        for name in methods:
            setattr(self, name, watch.timed(getattr(inner, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
