"""Random crops per second: every tier of ours beside zarr, h5py, numpy and streaming libraries, on the same clips.

``python -m tests.bench.bench_loaders --out docs/benchmarks/loaders.jsonl`` writes one JSON line a contender. All run in
this one process with one torch thread, in turns, several rounds; each turn delivers shuffled batches of float32 torch
tensors ``(batch, 96, crop)`` for whole epochs. Files are warm in the page cache. "featstore disk" is timed after eight
epochs, when most chunks have had their checksums checked; "first epoch" is while that happens; "recheck" checks every
read. Contenders whose package is not installed are listed as absent.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from featstore.loaders import BatchLoader
from featstore.process_memory import keep_freed_memory, peak_resident_bytes
from tests.bench.bench_audio_common import machine, versions
from tests.bench.bench_loaders_corpus import BANDS, SPEC, Corpus
from tests.bench.bench_loaders_peers import PEERS

BATCH = 64
PACKAGES = ("featstore", "numpy", "torch", "zarr", "h5py", "webdataset", "lhotse", "datasets", "litdata")

Batches = Callable[[int], Iterator[torch.Tensor]]


# ---- contenders ----------------------------------------------------------------------------------------------------


def ours(
    corpus: Corpus,
    batch_size: int,
    *,
    encoding: str = "float32",
    backend: str = "zarr",
    epochs_before: int = 0,
    **settings,
) -> Batches:
    """One of our tiers, after some epochs that are not timed."""
    readers = {"mel": corpus.store(encoding, backend)}
    loader = BatchLoader(readers, corpus.ids, batch_size=batch_size, crop_frames=corpus.crop, **settings)

    def batches(seed: int) -> Iterator[torch.Tensor]:
        loader.set_epoch(seed)
        for batch in loader:
            yield batch["mel"]

    for epoch in range(epochs_before):
        for _ in batches(1_000_000 + epoch):
            pass
    return batches


def ours_first_epoch(corpus: Corpus, batch_size: int) -> Batches:
    """The disk tier as a new process finds it, in every epoch: files are mapped, and each chunk touched is checked."""
    reader = corpus.store("float32")
    options = {"batch_size": batch_size, "crop_frames": corpus.crop, "tier": "disk"}

    def batches(seed: int) -> Iterator[torch.Tensor]:
        fresh = pickle.loads(pickle.dumps(reader))  # as it reaches a worker: no file is open
        for batch in BatchLoader({"mel": fresh}, corpus.ids, seed=seed, **options):
            yield batch["mel"]

    return batches


def one_by_one(corpus: Corpus, batch_size: int, array) -> Batches:
    """Plain indexing ``array[i, :, start:stop]``, crop by crop into a batch."""

    def batches(seed: int) -> Iterator[torch.Tensor]:
        rng = np.random.default_rng(seed)
        order = rng.permutation(corpus.n_tracks)
        starts = rng.integers(0, corpus.frames - corpus.crop + 1, corpus.n_tracks).tolist()
        for at in range(0, corpus.n_tracks - batch_size + 1, batch_size):
            batch = np.empty((batch_size, BANDS, corpus.crop), dtype=np.float32)
            for slot, i in enumerate(order[at : at + batch_size].tolist()):
                batch[slot] = array[i, :, starts[i] : starts[i] + corpus.crop]
            yield torch.from_numpy(batch)

    return batches


def fancy(corpus: Corpus, batch_size: int) -> Batches:
    """Fancy indexing into a numpy memory map: one expression a batch."""
    array = corpus.npy()
    bands, steps = np.arange(BANDS)[None, :, None], np.arange(corpus.crop)

    def batches(seed: int) -> Iterator[torch.Tensor]:
        rng = np.random.default_rng(seed)
        order = rng.permutation(corpus.n_tracks)
        starts = rng.integers(0, corpus.frames - corpus.crop + 1, corpus.n_tracks)
        for at in range(0, corpus.n_tracks - batch_size + 1, batch_size):
            rows = order[at : at + batch_size]
            frames = (starts[rows][:, None] + steps)[:, None, :]
            yield torch.from_numpy(array[rows[:, None, None], bands, frames])

    return batches


def zarr_indexing(corpus: Corpus, batch_size: int) -> Batches:
    """``zarr.Array.__getitem__`` on the same files as our disk tier."""
    import zarr

    reader = corpus.store("float32")
    array = zarr.open_group(corpus.folder / "float32.zarr", mode="r")[f"features/{reader.base.header.key}/data"]
    rows = [reader.row_of(track) for track in corpus.ids]

    class ByTrack:
        def __getitem__(self, key):
            return array[rows[key[0]], key[1], key[2]]

    return one_by_one(corpus, batch_size, ByTrack())


def contenders(corpus: Corpus, batch_size: int) -> dict[str, Callable[[], Batches]]:
    """Every contender by name, as a function that prepares it."""
    found: dict[str, Callable[[], Batches]] = {
        "featstore disk": lambda: ours(corpus, batch_size, tier="disk", epochs_before=8),
        "featstore disk, no threads": lambda: ours(corpus, batch_size, tier="disk", threads=0, epochs_before=8),
        "featstore disk, uint8": lambda: ours(corpus, batch_size, tier="disk", encoding="uint8", epochs_before=8),
        "featstore disk, hdf5": lambda: ours(corpus, batch_size, tier="disk", backend="hdf5", epochs_before=8),
        "featstore disk, first epoch": lambda: ours_first_epoch(corpus, batch_size),
        "featstore disk, recheck": lambda: ours(corpus, batch_size, tier="disk", recheck=True),
        "featstore ram": lambda: ours(corpus, batch_size, tier="ram"),
        "featstore ram, uint8": lambda: ours(corpus, batch_size, tier="ram", encoding="uint8"),
        "featstore gpu tier, on the cpu": lambda: ours(corpus, batch_size, tier="gpu"),
        "zarr indexing": lambda: zarr_indexing(corpus, batch_size),
        "h5py contiguous": lambda: one_by_one(corpus, batch_size, corpus.hdf5(checksums=False)),
        "h5py chunked, fletcher32": lambda: one_by_one(corpus, batch_size, corpus.hdf5(checksums=True)),
        "numpy memmap fancy": lambda: fancy(corpus, batch_size),
        "numpy memmap slices": lambda: one_by_one(corpus, batch_size, corpus.npy()),
    }
    for name, make in PEERS.items():
        found[name] = lambda make=make: make(corpus, batch_size)
    if torch.cuda.is_available():
        found["featstore gpu"] = lambda: ours(corpus, batch_size, tier="gpu", device="cuda")
        found["featstore gpu, uint8"] = lambda: ours(corpus, batch_size, tier="gpu", device="cuda", encoding="uint8")
    return found


# ---- measuring ----------------------------------------------------------------------------------------------------


def turn(batches: Batches, seed: int, seconds: float) -> tuple[float, int]:
    """Run whole epochs for at least ``seconds`` (shuffle buffers fill again in each); (crops per second, next seed)."""
    crops, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        for batch in batches(seed):
            crops += len(batch)
        if batch.device.type == "cuda":
            torch.cuda.synchronize()
        seed += 1
    return crops / spent, seed


def measure(corpus: Corpus, *, rounds: int, seconds: float, batch_size: int = BATCH, names: list[str] | None = None):
    """Run all contenders in turns; (crops per second of every round by name, absent contenders with the reason)."""
    ready: dict[str, Batches] = {}
    absent: dict[str, str] = {}
    for name, prepare in contenders(corpus, batch_size).items():
        if names and name not in names:
            continue
        try:
            ready[name] = prepare()
        except ImportError as error:
            absent[name] = str(error)
            print(f"left out: {name} ({error})", file=sys.stderr)
    keep_freed_memory()  # as training does; it helps whoever allocates
    seeds = dict.fromkeys(ready, 0)
    rates: dict[str, list[float]] = {name: [] for name in ready}
    for number in range(-1, rounds):  # round -1 warms up
        for name, batches in ready.items():
            rate, seeds[name] = turn(batches, seeds[name], seconds)
            if number >= 0:
                rates[name].append(rate)
            print(f"round {number} {name}: {rate:.0f} crops/s", file=sys.stderr)
    return rates, absent


def lines(corpus: Corpus, rates: dict[str, list[float]], absent: dict[str, str], **settings) -> list[dict]:
    """One record a contender: median, spread, and its ratio to the contenders that the bars name."""
    bytes_per_crop = BANDS * corpus.crop * 4
    common = {
        "benchmark": "loaders",
        "spec": SPEC,
        "n_tracks": corpus.n_tracks,
        "corpus_bytes": corpus.nbytes,
        "crop_frames": corpus.crop,
        "bytes_per_crop": bytes_per_crop,
        **settings,
        **surroundings(),
    }
    against = ("zarr indexing", "h5py contiguous", "h5py chunked, fletcher32", "numpy memmap fancy", *PEERS)
    found = []
    for name, values in rates.items():
        median = float(np.median(values))
        found.append(
            {
                "contender": name,
                "crops_per_second": round(median, 1),
                "megabytes_per_second": round(median * bytes_per_crop / 1e6, 1),
                "real_time_factor": round(median * corpus.crop * 256 / 12000, 1),
                "lowest": round(min(values), 1),
                "highest": round(max(values), 1),
                "rounds": len(values),
                "times_faster_than": {  # median of the ratios within each round
                    other: round(float(np.median(np.divide(values, rates[other]))), 3)
                    for other in against
                    if other in rates and other != name
                },
                **common,
            }
        )
    return found + [{"contender": name, "absent": reason, **common} for name, reason in absent.items()]


def waiting(corpus: Corpus, *, steps: int, batch_size: int = 16, width: float = 0.25) -> list[dict]:
    """Share of a VGG-CNN training step on whole clips that goes into waiting for the next batch; on CUDA if present."""
    import featstore.models

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = []
    for tier in ("disk", "ram", "gpu") if device == "cuda" else ("disk", "ram"):
        torch.manual_seed(0)
        model = featstore.models.create("vgg-cnn", n_mels=BANDS, n_frames=corpus.frames, n_classes=50, width=width)
        model = model.to(device).train()
        optimiser = torch.optim.Adam(model.parameters())
        targets = np.random.default_rng(0).integers(0, 2, (corpus.n_tracks, 50)).astype(np.float32)
        options = {"batch_size": batch_size, "crop_frames": corpus.frames, "tier": tier, "device": device}
        stream = iter(BatchLoader({"mel": corpus.store("float32")}, corpus.ids, targets=targets, **options))
        waited = began = 0.0
        for step in range(steps + 1):  # the first step also fills the shuffle buffer, and warms up
            asked = time.perf_counter()
            batch = next(stream)
            waited = waited + time.perf_counter() - asked if step else 0.0
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch["mel"][:, None]), batch["target"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if device == "cuda":
                torch.cuda.synchronize()
            began = began if step else time.perf_counter()
        seconds = time.perf_counter() - began
        stream.close()
        found.append(
            {
                "benchmark": "loaders, waiting share of a VGG-CNN step",
                "tier": tier,
                "device": device,
                "waiting_share": round(waited / seconds, 5),
                "seconds_a_step": round(seconds / steps, 4),
                "clips_per_second": round(batch_size * steps / seconds, 2),
                "steps": steps,
                "batch_size": batch_size,
                "model": f"vgg-cnn, width {width}",
                "spec": SPEC,
                "n_frames": corpus.frames,
                **surroundings(),
            }
        )
    return found


def surroundings() -> dict[str, object]:
    """Memory, machine and versions of this process."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    about = {"machine": machine() | {"gpu": gpu}, "versions": versions(PACKAGES)}
    return {"peak_rss_bytes": peak_resident_bytes()} | about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to write the JSON lines to (default: stdout)")
    parser.add_argument("--folder", type=Path, help="keep the collection here (default: a temporary folder)")
    parser.add_argument("--tracks", type=int, default=2048, help="clips of 524,544 bytes each")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="least length of a turn")
    parser.add_argument("--steps", type=int, default=10, help="training steps to time; 0 leaves them out")
    parser.add_argument("--only", action="append", help="a contender's name; repeats")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="bench_loaders_"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        corpus = Corpus(folder, options.tracks, frames=1366, crop=187)
        rates, absent = measure(corpus, rounds=options.rounds, seconds=options.seconds, names=options.only)
        records = lines(corpus, rates, absent, batch_size=BATCH, seconds_a_turn=options.seconds)
        records += waiting(corpus, steps=options.steps) if options.steps else []
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    text = "".join(json.dumps(record) + "\n" for record in records)
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
