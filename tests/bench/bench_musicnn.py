"""How long vectors of musicnn take, ours and its own package's: a part of ``bench_speed``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# The package's own call for a file, in an interpreter that has TensorFlow: a line of paths in, a line of results out.
# The rows of its penultimate layer all repeat the first window's, so vectors are those of a layer that it does collect.
PEER = """
import contextlib, importlib.metadata, json, os, sys, time, warnings
warnings.simplefilter("ignore")
import musicnn
with contextlib.redirect_stdout(sys.stderr):
    from musicnn.extractor import extractor
versions = {name: importlib.metadata.version(name) for name in sys.argv[1:]}
print(json.dumps([os.path.dirname(musicnn.__file__), versions]), flush=True)
for line in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(sys.stderr):
        found = [extractor(path, model="MTT_musicnn")[2]["mean_pool"] for path in json.loads(line)]
    print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu, found[0].tolist()]), flush=True)
"""
PEER_PACKAGES = ("musicnn", "tensorflow-cpu", "librosa", "numpy")
LAYER = "mean_pool"


class Peer:
    """A process with the package, started at once; it is warm from the second turn on.

    Parameters
    ----------
    python : str or path
        Interpreter that has the package.
    clips : sequence of path

    Attributes
    ----------
    weights : str
        Folder of the package.
    versions : dict of str
    vectors : float array (windows, 753)
        Of the first clip, after a turn.
    """

    def __init__(self, python: str | Path, clips: Sequence[Path]) -> None:
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        self._process = subprocess.Popen(
            [str(python), "-c", PEER, *PEER_PACKAGES],
            env=os.environ | quiet,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._line = json.dumps([str(clip) for clip in clips])
        self.weights, self.versions = self._answer()

    def _answer(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"the package's interpreter ended with {self._process.wait()}")
        return json.loads(line)

    def __call__(self) -> tuple[float, float]:
        """Wall clock and CPU seconds of all clips."""
        print(self._line, file=self._process.stdin, flush=True)
        wall_s, cpu_s, vectors = self._answer()
        self.vectors = np.array(vectors)
        return wall_s, cpu_s

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class Ours:
    """Extraction of all clips into a new store, in this process.

    Parameters
    ----------
    folder : Path
    clips : sequence of path
    weights : str or path, optional
        Weights that were never trained by default: they take as long.
    """

    def __init__(self, folder: Path, clips: Sequence[Path], weights: str | Path | None = None) -> None:
        import pandas
        import torch

        from featstore.datasets import TableInfo, TrackTable
        from featstore.testing.musicnn_package import write_untrained

        torch.set_num_threads(1)
        weights = weights or write_untrained(folder / "weights", "mtt-musicnn")
        self._feature = f"embedding(model=mtt-musicnn,weights={weights},layers={LAYER})"
        self._store, self._tracks = folder / "vectors.zarr", [str(clip) for clip in clips]
        self._table = TrackTable(
            pandas.DataFrame({"track_id": self._tracks, "path": self._tracks, "labels": [[] for _ in clips]}),
            TableInfo(name="bench", task="none", classes=()),
        )

    def __call__(self) -> tuple[float, float]:
        """Wall clock and CPU seconds of all clips."""
        from featstore.extract import ExtractOptions, extract
        from featstore.specs import expand_features

        shutil.rmtree(self._store, ignore_errors=True)
        wall, cpu = time.perf_counter(), time.process_time()
        options = ExtractOptions(scheduler="sync", jobs=1, progress="none")
        extract(self._table, expand_features([self._feature]), self._store, options)
        return time.perf_counter() - wall, time.process_time() - cpu

    @property
    def vectors(self) -> np.ndarray:
        """Float32 (windows, 753) of the first clip, after a turn."""
        from featstore.store import open_store

        store = open_store(self._store)
        vectors: np.ndarray = store[store.features[0]][self._tracks[0]][0].T
        return vectors
