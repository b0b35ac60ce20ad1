"""What a GPU does with this code, in one command of less than six minutes that prints one JSON document.

``python -m tests.gpu_check > docs/benchmarks/gpu.json`` runs the tests marked ``gpu``, then measures the tiers of the
loader with a training step of the smallest and the largest configuration of the resolution study, models in float32 and
bfloat16, tokens and vectors per minute of music, and the most memory each took. ``--smoke`` does the same with tiny
sizes on whatever device there is, to see that everything runs.

Parts that would begin after their time are left out, and named under ``left_out``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featstore.loaders import BatchLoader
from featstore.models import MODELS, create
from featstore.models.input_kinds import INPUT_KINDS, InputSize
from tests.bench.bench_audio_common import machine, make_clips, music, versions

ROOT = Path(__file__).parent.parent
BUDGET_S = 300.0  # after which no part begins
STUDY = {  # name, feature, bands, frames of 29.1 s
    "smallest": ("mel(sample_rate=12000,n_mels=48,hop_length=2560,scale=db)", 48, 136),
    "largest": ("mel(sample_rate=16000,n_mels=128,hop_length=256,scale=db)", 128, 1819),
}
MODEL_NAMES = (
    "vgg-cnn",
    "musicnn",
    "spectroformer",
    "tokenformer",
    "ms-sinc-resnet",
    "resnet18",
    "ast",
    "gafx-r",
    "gafx-a",
    "gafx-u",
)
N_CLASSES = 50


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    tracks: int = 512
    batch: int = 32
    steps: int = 20
    shorter: int = 1  # times that spectra of the loaders have fewer frames
    width: float = 1.0  # of the VGG-CNN behind the loaders
    models: tuple[str, ...] = MODEL_NAMES
    model_batch: int = 8
    model_steps: int = 8
    music_s: float = 120.0
    small_tokens: bool = False


SMOKE = Sizes(
    tracks=8,
    batch=4,
    steps=1,
    shorter=16,
    width=0.02,
    models=("musicnn-f16", "token-histogram"),
    model_batch=2,
    model_steps=1,
    music_s=1.5,
    small_tokens=True,
)


class Check:
    """The device, the sizes, and a folder to work in."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def wait(self) -> None:
        """Return when the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def forget_peak(self) -> None:
        """Count the most memory from here on."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    @property
    def peak_bytes(self) -> int | None:
        """Most memory of the device since then; None on a CPU."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None

    def seconds(self, work: Callable[[], object], times: int) -> float:
        """Seconds of a piece of work, after one that warms up."""
        work()
        self.wait()
        began = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - began) / times


# ---- parts ---------------------------------------------------------------------------------------------------------


def gpu_tests(check: Check) -> dict[str, Any]:
    """Outcome of the tests that want a CUDA device; without one they are skipped, which counts as nothing shown."""
    files = [str(p) for p in sorted((ROOT / "tests").rglob("test_*.py")) if "pytest.mark.gpu" in p.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)}
    return {"exit_code": done.returncode, **counts, "failures": re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE)}


def loader_tiers(check: Check) -> list[dict[str, Any]]:
    """Samples per second of each tier by itself, and the share of a VGG-CNN's training steps spent waiting for it."""
    from tests.loaders.stores import write_store

    found = []
    for name, (spec, bands, frames) in STUDY.items():
        rng, frames = np.random.default_rng(0), -(-frames // check.sizes.shorter)
        ids = [f"t{i:05d}" for i in range(check.sizes.tracks)]
        clip = rng.uniform(-90, 0, (bands, frames)).astype(np.float32)
        arrays = {track: np.roll(clip, i, axis=1) for i, track in enumerate(ids)}
        store = write_store(check.folder / f"{name}.zarr", arrays, [(spec, "uint8")], shard_tracks=64)
        for tier in ("disk", "ram", "gpu"):
            check.forget_peak()
            reader = store[f"{spec}@uint8"]
            found.append(
                {"configuration": name, "spec": spec, "tier": tier} | _one_tier(check, reader, ids, bands, frames, tier)
            )
    return found


def _one_tier(check: Check, reader: Any, ids: list[str], bands: int, frames: int, tier: Any) -> dict[str, Any]:
    batch = check.sizes.batch
    targets = np.random.default_rng(1).integers(0, 2, (len(ids), N_CLASSES)).astype(np.float32)
    options = {"batch_size": batch, "crop_frames": frames, "tier": tier, "device": check.device, "drop_last": True}
    loader = BatchLoader({"x": reader}, ids, targets=targets, **options)

    def epoch() -> None:
        for _ in loader:
            pass

    alone = check.seconds(epoch, 2)
    torch.manual_seed(0)
    settings: dict[str, Any] = {"pools": "fit", "width": check.sizes.width}
    model = create("vgg-cnn", n_mels=bands, n_frames=frames, n_classes=N_CLASSES, **settings).to(check.device).train()
    optimizer = torch.optim.Adam(model.parameters())
    waited, trained, done = 0.0, 0.0, -1
    while done < check.sizes.steps:
        batches = iter(loader)
        while done < check.sizes.steps:
            asked = time.perf_counter()
            taken = next(batches, None)
            got = time.perf_counter()
            if taken is None:
                break
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(taken["x"][:, None]), taken["target"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            check.wait()
            if done >= 0:  # the first step warms up
                waited += got - asked
                trained += time.perf_counter() - asked
            done += 1
        batches.close()  # type: ignore[attr-defined]
    return {
        "samples_per_s": round(len(ids) // batch * batch / alone, 1),
        "training_samples_per_s": round(batch * done / trained, 1),
        "waiting_share": round(waited / trained, 4),
        "peak_device_bytes": check.peak_bytes,
    }


def models(check: Check) -> list[dict[str, Any]]:
    """Seconds of a training step and of a forward pass of each model at its paper's sizes, in both precisions."""
    found = []
    for name in check.sizes.models:
        model_class = MODELS.load(name)
        kind = INPUT_KINDS[model_class.takes]
        sizes = dict(model_class.paper_input or kind.example)
        codes = {"n_codes": kind.vocabulary} if kind.vocabulary else {}
        try:
            model = create(name, n_classes=N_CLASSES, **codes, **sizes).to(check.device)
            example = InputSize.of(model_class.takes, codes | sizes).batch(check.sizes.model_batch)
            for precision in ("float32", "bfloat16"):
                found.append({"model": name, "input": sizes} | _one_model(check, model, example, precision))
        except (RuntimeError, ImportError) as error:  # too large for this device, or its library is not installed
            found.append({"model": name, "error": str(error).splitlines()[0]})
    return found


def _one_model(check: Check, model: torch.nn.Module, example: torch.Tensor, precision: str) -> dict[str, Any]:
    torch.manual_seed(0)
    if example.is_floating_point():
        x = torch.randn(example.shape, device=check.device) * 0.1
    else:
        x = torch.randint(0, 100, example.shape, device=check.device)
    mixed = torch.autocast(check.device.type, torch.bfloat16, enabled=precision == "bfloat16")

    def forward() -> torch.Tensor:
        with torch.no_grad(), mixed:
            return model(x)

    def train() -> None:
        model.zero_grad(set_to_none=True)
        with mixed:
            loss = model(x).float().square().mean()
        loss.backward()

    count, steps = len(x), check.sizes.model_steps
    check.forget_peak()
    trained = check.seconds(model.train() and train, steps)
    peak = check.peak_bytes
    answered = check.seconds(model.eval() and forward, steps)
    return {
        "precision": precision,
        "batch": count,
        "training_samples_per_s": round(count / trained, 2),
        "forward_samples_per_s": round(count / answered, 2),
        "peak_device_bytes": peak,
    }


def tokens(check: Check) -> dict[str, Any]:
    """Seconds for a minute of music of Jukebox's level 2 at its published size, with random weights."""
    from featstore.models.jukebox_checkpoint import LoadedLevel
    from featstore.models.jukebox_tokenizer import JukeboxTokenizer
    from featstore.models.jukebox_vqvae import published_config
    from tests.models.jukebox_files import random_level, small_config

    config = small_config(2) if check.sizes.small_tokens else published_config(2)
    tokenizer = JukeboxTokenizer(LoadedLevel(random_level(config, 2), "0" * 32, {}), check.device)
    signal = music(check.sizes.music_s, config.sample_rate, 1, seed=0)[:, 0]
    blocks = np.array_split(signal, max(1, int(check.sizes.music_s / 10)))

    def encode() -> None:
        step = tokenizer.stream()
        for block in blocks:
            step.push(block)
        step.finish()

    check.forget_peak()
    spent = check.seconds(encode, 2)
    return _per_minute(spent, check.sizes.music_s) | {
        "windows_at_once": tokenizer.batch,
        "peak_device_bytes": check.peak_bytes,
    }


def vectors(check: Check) -> dict[str, Any]:
    """Seconds for a minute of music of MUSICNN's vectors through a whole extraction, decoding included."""
    from tests.bench.bench_musicnn import Ours

    count = max(2, int(check.sizes.music_s / 30))
    clip_s = min(29.2, check.sizes.music_s * 2)
    work = Ours(check.folder / "musicnn", make_clips(check.folder / "clips", "16 kHz mono mp3", count, clip_s))
    check.forget_peak()
    return _per_minute(check.seconds(work, 1), count * clip_s) | {"peak_device_bytes": check.peak_bytes}


def _per_minute(spent: float, music_s: float) -> dict[str, Any]:
    minute = 60 * spent / music_s
    return {"seconds_a_minute": round(minute, 4), "minutes_of_music_per_minute": round(60 / minute, 1)}


PARTS: dict[str, Callable[[Check], Any]] = {
    "gpu_tests": gpu_tests,
    "loader_tiers": loader_tiers,
    "models": models,
    "tokens_level_2": tokens,
    "musicnn_vectors": vectors,
}


def run(sizes: Sizes, budget_s: float = BUDGET_S) -> dict[str, Any]:
    """Every part, as long as there is time to begin it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as folder:
        check = Check(Path(folder), sizes)
        on_gpu = check.device.type == "cuda"
        found: dict[str, Any] = {
            "device": torch.cuda.get_device_name()
            if on_gpu
            else "no CUDA device was found: these are figures of the CPU",
            "machine": machine(),
            "versions": versions(("featstore", "torch", "numpy", "transformers")),
            "left_out": [],
        }
        for name, part in PARTS.items():
            if time.monotonic() - began > budget_s:
                found["left_out"].append(name)
                continue
            started = time.monotonic()
            try:
                found[name] = part(check)
            except Exception as error:  # the other parts' figures are wanted all the same
                found[name] = {"error": f"{type(error).__name__}: {error}"}
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return found | {"seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    """Measure and print; the exit code is 1 where there is no GPU and none of it was asked for as a smoke test."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--smoke", action="store_true", help="tiny sizes, on any device")
    chosen = options.parse_args()
    if not chosen.smoke and not torch.cuda.is_available():
        sys.exit("no CUDA device was found; --smoke runs everything at tiny sizes on the CPU")
    print(json.dumps(run(SMOKE if chosen.smoke else Sizes()), indent=1))


if __name__ == "__main__":
    main()
