"""Streaming libraries as contenders: each in the form that its documentation recommends for arrays on a local disk.

Each function writes its format once and returns a function that yields batches of random crops, float32 torch tensors
``(batch, 96, crop)``, in shuffled order, in this process alone.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator

import numpy as np
import torch

from tests.bench.bench_loaders_corpus import BANDS, Corpus

Batches = Callable[[int], Iterator[torch.Tensor]]


def _cut(clip: np.ndarray, crop: int, rng: np.random.Generator) -> np.ndarray:
    start = int(rng.integers(0, clip.shape[-1] - crop + 1))
    return clip[:, start : start + crop]


def _batched(crops: Iterator[np.ndarray], corpus: Corpus, batch_size: int) -> Iterator[torch.Tensor]:
    while True:
        batch = np.empty((batch_size, BANDS, corpus.crop), dtype=np.float32)
        for slot in range(batch_size):
            crop = next(crops, None)
            if crop is None:
                return
            batch[slot] = crop
        yield torch.from_numpy(batch)


def webdataset(corpus: Corpus, batch_size: int) -> Batches:
    """Tar shards of raw clips; shards in shuffled order, crops through a shuffle buffer."""
    import webdataset as wds

    folder = corpus.folder / "webdataset"
    shards = -(-corpus.n_tracks // 128)
    if not folder.exists():
        folder.mkdir()
        for shard in range(shards):
            with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
                for i in range(shard * 128, min((shard + 1) * 128, corpus.n_tracks)):
                    data = corpus.clip(i).tobytes()
                    entry = tarfile.TarInfo(f"{corpus.ids[i]}.bin")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    urls = [str(folder / f"{shard:05d}.tar") for shard in range(shards)]

    def batches(seed: int) -> Iterator[torch.Tensor]:
        rng = np.random.default_rng(seed)

        def cut(sample: dict) -> np.ndarray:
            clip = np.frombuffer(sample["bin"], dtype=np.float32).reshape(BANDS, corpus.frames)
            return _cut(clip, corpus.crop, rng).copy()

        stream = wds.WebDataset(urls, shardshuffle=len(urls), seed=seed, empty_check=False).map(cut).shuffle(1000)
        yield from _batched(iter(stream), corpus, batch_size)

    return batches


def lhotse(corpus: Corpus, batch_size: int) -> Batches:
    """One HDF5 data set a clip, time first, of which lhotse reads only the frames asked for."""
    from lhotse.features.io import NumpyHdf5Reader, NumpyHdf5Writer

    path = corpus.folder / "lhotse.h5"
    if not path.exists():
        with NumpyHdf5Writer(path) as writer:
            for i, track in enumerate(corpus.ids):
                writer.write(track, np.ascontiguousarray(corpus.clip(i).T))
    reader = NumpyHdf5Reader(path)

    def batches(seed: int) -> Iterator[torch.Tensor]:
        rng = np.random.default_rng(seed)

        def crops() -> Iterator[np.ndarray]:
            for i in rng.permutation(corpus.n_tracks):
                start = int(rng.integers(0, corpus.frames - corpus.crop + 1))
                yield reader.read(corpus.ids[i], start, start + corpus.crop).T

        yield from _batched(crops(), corpus, batch_size)

    return batches


def hf_datasets(corpus: Corpus, batch_size: int) -> Batches:
    """Memory-mapped Arrow table with a list column, read in numpy format; all rows shuffled."""
    import datasets

    if not hasattr(datasets, "disable_progress_bars"):  # a folder of that name on the path is not the library
        raise ImportError("HF datasets is not installed")
    datasets.disable_progress_bars()
    path = corpus.folder / "arrow"
    if not path.exists():
        features = datasets.Features({"clip": datasets.List(datasets.Value("float32"))})
        rows = ({"clip": corpus.clip(i).reshape(-1)} for i in range(corpus.n_tracks))
        with datasets.arrow_writer.ArrowWriter(path=str(path), features=features, writer_batch_size=64) as writer:
            for row in rows:
                writer.write(row)
            writer.finalize()
    table = datasets.Dataset.from_file(str(path)).with_format("numpy")

    def batches(seed: int) -> Iterator[torch.Tensor]:
        rng = np.random.default_rng(seed)

        def crops() -> Iterator[np.ndarray]:
            for i in rng.permutation(corpus.n_tracks):
                yield _cut(table[int(i)]["clip"].reshape(BANDS, corpus.frames), corpus.crop, rng)

        yield from _batched(crops(), corpus, batch_size)

    return batches


def litdata(corpus: Corpus, batch_size: int) -> Batches:
    """Chunks of 64 MB made by LitData's own writer, streamed with its shuffle."""
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    folder = corpus.folder / "litdata"
    if not folder.exists():
        folder.mkdir()
        writer = BinaryWriter(str(folder), chunk_bytes="64MB")
        for i in range(corpus.n_tracks):
            writer[i] = torch.from_numpy(corpus.clip(i))
        writer.done()
        writer.merge()

    def batches(seed: int) -> Iterator[torch.Tensor]:
        rng = np.random.default_rng(seed)
        stream = StreamingDataset(str(folder), shuffle=True, seed=seed, drop_last=False)
        yield from _batched((_cut(clip.numpy(), corpus.crop, rng) for clip in stream), corpus, batch_size)

    return batches


PEERS = {"webdataset": webdataset, "lhotse": lhotse, "HF datasets": hf_datasets, "LitData": litdata}
