"""One synthetic collection, written the way each contender of the loader benchmark likes it best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featstore.store import open_store
from tests.loaders.stores import write_store

BANDS = 96
SPEC = "mel(sample_rate=12000,clip=centre(29.1 s),framing=essentia,scale=db)"


@dataclass(frozen=True)
class Corpus:
    """``n_tracks`` clips (96 bands, ``frames``) of values in decibels, float32, under ``folder``.

    Values come from a seed; clip ``i`` is the same in every format.
    """

    folder: Path
    n_tracks: int
    frames: int
    crop: int

    @property
    def ids(self) -> list[str]:
        return [f"t{i:06d}" for i in range(self.n_tracks)]

    def clip(self, i: int) -> np.ndarray:
        """Clip number ``i`` (96, frames): noise, which no format can exploit."""
        values = np.random.default_rng(i).standard_normal((BANDS, self.frames), dtype=np.float32)
        return np.clip(values * 15 - 40, -99.0, 39.0)

    @property
    def nbytes(self) -> int:
        return self.n_tracks * BANDS * self.frames * 4

    def store(self, encoding: str, backend: str = "zarr"):
        """Open (or write) a store of ours and return the reader of the whole feature."""
        path = self.folder / f"{encoding}.{backend}"
        if not (path / "manifest.json").exists():
            options = {"shard_tracks": 128, "fixed_frames": self.frames, "backend": backend}
            write_store(path, LazyClips(self), [(SPEC, encoding)], **options)
        return open_store(path)[f"{SPEC}@{encoding}"]

    def npy(self) -> np.ndarray:
        """All clips in one .npy file, memory-mapped."""
        path = self.folder / "clips.npy"
        if not path.exists():
            shape = (self.n_tracks, BANDS, self.frames)
            out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            for i in range(self.n_tracks):
                out[i] = self.clip(i)
            out.flush()
        return np.load(path, mmap_mode="r")

    def hdf5(self, *, checksums: bool):
        """All clips in one HDF5 data set: contiguous, or in chunks like the store's with Fletcher-32 checksums."""
        import h5py

        path = self.folder / ("fletcher.h5" if checksums else "contiguous.h5")
        if not path.exists():
            shape = (self.n_tracks, BANDS, self.frames)
            chunks = (1, BANDS, -(-self.frames // 2)) if checksums else None
            with h5py.File(path, "w") as file:
                data = file.create_dataset("data", shape, "f4", chunks=chunks, fletcher32=checksums)
                for i in range(self.n_tracks):
                    data[i] = self.clip(i)
        return h5py.File(path, "r")["data"]


class LazyClips(dict):
    """Looks like a dict of all clips, makes each when asked."""

    def __init__(self, corpus: Corpus) -> None:
        super().__init__((track, i) for i, track in enumerate(corpus.ids))
        self._corpus = corpus

    def __getitem__(self, track: str) -> np.ndarray:
        return self._corpus.clip(super().__getitem__(track))
