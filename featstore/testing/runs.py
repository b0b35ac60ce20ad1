"""Folders of runs that look like real ones: for tests, benchmarks and for trying the reports."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Arrangement", "mel_grid", "write_runs"]

_CLASSES = ("reel", "jig", "hornpipe", "air", "chorale", "mass", "madrigal", "quartet")


@dataclass(frozen=True, slots=True)
class Arrangement:
    """One configuration of a synthetic experiment."""

    n_mels: int = 96
    hop_multiple: int = 1
    sample_rate: int = 16000
    scale: str = "db"
    encoding: str = "float32"
    model: str = "vgg-cnn"
    dataset: str = "demo"

    @property
    def feature(self) -> str:
        """Canonical name of the feature."""
        from featstore.specs import parse_feature

        hop = 256 * self.hop_multiple
        text = f"mel(sample_rate={self.sample_rate},n_mels={self.n_mels},hop_length={hop},scale={self.scale})"
        return str(parse_feature(f"{text}@{self.encoding}"))

    @property
    def frames(self) -> int:
        """Frames of a clip of 29.1 s."""
        return -(-round(29.1 * self.sample_rate) // (256 * self.hop_multiple))

    @property
    def bytes_per_clip(self) -> int:
        """Bytes of a clip of 29.1 s."""
        width = {"float32": 4, "float16": 2, "uint16": 2, "uint8": 1}[self.encoding]
        return self.n_mels * self.frames * width

    @property
    def quality(self) -> float:
        """ROC AUC that the arrangement would reach without noise."""
        bands = 0.035 * np.exp(-self.n_mels / 16)
        time = 0.012 * np.log2(self.hop_multiple) ** 1.3 / 3
        rate = 0.002 if self.sample_rate < 16000 else 0.0
        bits = 0.0015 if self.encoding == "uint8" else 0.0
        model = {"vgg-cnn": 0.0, "musicnn": -0.014}.get(self.model, 0.008)
        return float(0.893 - bands - time - rate - bits - model)


def mel_grid(**axes: Iterable[Any]) -> list[Arrangement]:
    """Every combination of the values given for the fields of ``Arrangement``.

    Examples
    --------
    >>> len(mel_grid(n_mels=[96, 48], hop_multiple=[1, 2, 4]))
    6
    """
    return [replace(Arrangement(), **dict(zip(axes, v, strict=True))) for v in itertools.product(*axes.values())]


def write_runs(
    root: str | Path,
    arrangements: Iterable[Arrangement],
    *,
    seeds: int = 3,
    folds: int = 0,
    epochs: int = 8,
    n_stored: int = 1000,
    predictions: int = 0,
    task: str = "multi_label",
    spread: float = 0.0015,
    seed: int = 0,
) -> list[Path]:
    """Write one run folder for each arrangement, seed and fold.

    Parameters
    ----------
    root : path
        Folder of the runs; each is ``<model>-<number>/seed<seed>[-fold<fold>]``.
    arrangements : iterable of Arrangement
    seeds, folds : int
        Repetitions; 0 folds means none.
    epochs : int
        Lines of ``metrics.jsonl``.
    predictions : int
        Tracks of ``predictions.parquet``, 0 for no such file. With it the test scores are those of the predictions.
    spread : float
        Deviation of the score over seeds.
    seed : int
        Everything is drawn from it.

    Returns
    -------
    list of Path
        The folders, in order.
    """
    main, other = ("roc_auc", "pr_auc") if task == "multi_label" else ("accuracy", "macro_f1")
    folders = []
    repetitions = itertools.product(enumerate(arrangements), range(folds) if folds else [None], range(seeds))
    for (number, arrangement), fold, repetition in repetitions:
        rng = np.random.default_rng([seed, number, repetition, -1 % 97 if fold is None else fold])
        name = f"seed{repetition}" + ("" if fold is None else f"-fold{fold}")
        folder = Path(root) / f"{arrangement.model}-{number:04d}" / name
        folder.mkdir(parents=True, exist_ok=True)  # nothing is atomic: thousands are made for a benchmark
        best = arrangement.quality + spread * rng.standard_normal()
        scores: dict[str, dict[str, float]] = {
            "valid": {main: best + 0.004, "loss": 0.31 - best / 10},
            "test": {main: best, "loss": 0.32 - best / 10},
        }
        for part in scores.values():
            part[other] = part[main] - 0.3 + 0.002 * float(rng.standard_normal())
        if predictions:
            scores["test"] |= _write_predictions(folder, best, predictions, task, rng)
        result = _result(arrangement, repetition, fold, scores, n_stored, task)
        (folder / "result.json").write_text(json.dumps(result, indent=1))
        (folder / "config.yaml").write_text(json.dumps(result["config"], indent=1))  # JSON is YAML
        lines = []
        for epoch in range(epochs):
            reached = 1 - 0.7 ** (epoch + 1)
            valid = 0.5 + (scores["valid"][main] - 0.5) * reached + 0.002 * float(rng.standard_normal())
            loss = 0.25 + 0.3 * (1 - reached)
            entry = {"epoch": epoch, "train": {"loss": loss - 0.02}, "valid": {"loss": loss, main: valid}}
            lines.append(json.dumps(entry | {"seconds": 2.0}))
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        folders.append(folder)
    return folders


def _result(
    arrangement: Arrangement,
    seed: int,
    fold: int | None,
    scores: Mapping[str, Mapping[str, float]],
    n_stored: int,
    task: str,
) -> dict[str, Any]:
    """The ``result.json`` of one run."""
    config = {
        "model": {"name": arrangement.model, "width": 1.0},
        "feature": arrangement.feature,
        "training": {"batch_size": 32, "learning_rate": 0.001, "epochs": 20},
        "seed": seed,
        "fold": fold,
    }
    alone = arrangement.bytes_per_clip * n_stored
    gmacs = arrangement.n_mels * arrangement.frames / 13113.6 / 10
    return {
        "format": 1,
        "run_id": f"{arrangement.model}-{_digest(arrangement.feature)}-s{seed}" + ("" if fold is None else f"-f{fold}"),
        "finished": f"2026-01-{1 + seed % 28:02d}T12:00:00+00:00",
        "model": arrangement.model,
        "feature": arrangement.feature,
        "dataset": arrangement.dataset,
        "task": task,
        "seed": seed,
        "fold": fold,
        "scores": scores,
        "parameters": 17365940,
        "gmacs": gmacs,
        "bytes": {"alone": alone, "added": 0 if arrangement.hop_multiple > 1 else alone, "audio": n_stored * 465000},
        "seconds": {"extract": 0.04 * n_stored, "train": 20 + 30 * gmacs, "inference": 0.5 + gmacs},
        "store": {"path": "store.zarr", "fingerprint": "c0ffee"},
        "config_hash": _digest(json.dumps(config, sort_keys=True)),
        "feature_fields": {
            "kind": "mel",
            "sample_rate": arrangement.sample_rate,
            "n_mels": arrangement.n_mels,
            "hop_length": 256 * arrangement.hop_multiple,
            "scale": arrangement.scale,
            "encoding": arrangement.encoding,
        },
        "hop_multiple": arrangement.hop_multiple,
        "n_tracks": {"train": n_stored * 7 // 10, "valid": n_stored // 10, "test": n_stored // 5},
        "n_classes": len(_CLASSES),
        "classes": list(_CLASSES),
        "classes_without_both": {},
        "config": config,
        "versions": {"featstore": "0.1.0"},
        "duration_s": 29.1 * n_stored,
        "n_stored": n_stored,
    }


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def _write_predictions(
    folder: Path, quality: float, tracks: int, task: str, rng: np.random.Generator
) -> dict[str, float]:
    """Write ``predictions.parquet`` of the test split; its scores are returned."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from scipy.special import ndtri

    from featstore.metrics import METRICS

    labels = np.random.default_rng(12345)  # the tracks are the same in every run
    n = len(_CLASSES)
    ease = np.linspace(-0.08, 0.08, n)
    multi = task == "multi_label"
    target: Any = np.arange(tracks) % n
    if multi:
        target = (labels.random((tracks, n)) < np.linspace(0.1, 0.4, n)).astype(float)
    difficulty = labels.standard_normal((tracks, n))
    distance = np.sqrt(2) * ndtri(np.clip(quality + ease, 0.5, 0.999))
    noise = 0.8 * difficulty + 0.6 * rng.standard_normal((tracks, n))
    true = target if multi else np.eye(n)[target]
    score = (1 / (1 + np.exp(-(noise + distance * true - 1.5)))).astype(np.float32)
    columns = {
        "track_id": [f"track{i:05d}" for i in range(tracks)],
        "split": ["test"] * tracks,
        "target": [row.tolist() for row in target.astype(np.float32)] if multi else target,
        "score": [row.tolist() for row in score],
    }
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    return {name: METRICS.load(name)(target, score).value for name in METRICS}
