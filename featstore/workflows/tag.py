"""Tag audio with a trained model: decode, compute its feature, score window by window, pool to a file.

Files are taken one at a time, in bounded memory but for the current spectrogram; with a store, they go through the
extractor first (in parallel, resumable), and the scores come from what it stored.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.arrays import FloatArray
from featstore.errors import ConfigError, check_known
from featstore.log import progress
from featstore.workflows.tag_features import Item, computed_features, place_of, stored_features
from featstore.workflows.taggers import Tagger, open_tagger

if TYPE_CHECKING:
    from featstore.extract import ExtractOptions
    from featstore.loaders.crops import CropPlan

__all__ = ["FileTags", "TagReport", "find_audio", "tag", "tag_stream"]

_FRAMES_AT_ONCE = 1500  # of all windows of a batch: about 24 s, some 300 MB inside the packaged networks
SHORT = ("fail", "repeat")


@dataclass(frozen=True, slots=True)
class FileTags:
    """What a model says of one file.

    Attributes
    ----------
    path : str
    duration_s : float
        Seconds covered by the feature; 0 where there is none.
    starts_s : float64 (n_windows,)
    taggram : float32 (n_windows, n_classes)
        Probabilities of each window.
    scores : float32 (n_classes,)
        Of the file: pooled over the windows.
    note : str
        What is odd about a file that was tagged all the same: silent, clipped, shorter than declared.
    error : str
        Why it could not be tagged; empty where it was.
    """

    path: str
    duration_s: float
    starts_s: NDArray[np.float64]
    taggram: FloatArray
    scores: FloatArray
    note: str = ""
    error: str = ""

    @classmethod
    def failed(cls, path: str, error: str) -> FileTags:
        """A file that could not be tagged."""
        return cls(path, 0.0, np.zeros(0), np.zeros((0, 0), np.float32), np.zeros(0, np.float32), "", error)

    def top(self, classes: Sequence[str], n: int | None = None, threshold: float = 0.0) -> list[tuple[str, float]]:
        """Tags and scores, highest first: at most ``n``, none below the threshold; nothing where tagging failed."""
        if self.error:
            return []
        order = np.argsort(-self.scores, kind="stable")[:n]
        return [(classes[i], float(self.scores[i])) for i in order if self.scores[i] >= threshold]


@dataclass(frozen=True, slots=True)
class TagReport:
    """What a model says of many files.

    Attributes
    ----------
    model, feature : str
    classes : tuple of str
    window_s, step_s : float
        Seconds of one window, and between windows.
    files : list of FileTags
        In the order given.
    """

    model: str
    feature: str
    classes: tuple[str, ...]
    window_s: float
    step_s: float
    files: list[FileTags]

    @property
    def failures(self) -> list[FileTags]:
        """Files that could not be tagged."""
        return [file for file in self.files if file.error]


def tag(model: str, audio: Iterable[str | os.PathLike[str]] = (), **settings: Any) -> TagReport:
    """Tag audio files.

    Parameters
    ----------
    model, audio, **settings
        As for :func:`tag_stream`.

    Returns
    -------
    TagReport
        A file that cannot be tagged is in it with its error; the others are not held up.

    See Also
    --------
    tag_stream : The same in bounded memory, for any number of files.
    """
    report, files = tag_stream(model, audio, **settings)
    report.files.extend(files)
    return report


def tag_stream(
    model: str,
    audio: Iterable[str | os.PathLike[str]] = (),
    *,
    weights: str | os.PathLike[str] | None = None,
    window_s: float | None = None,
    step_s: float | None = None,
    short: str = "fail",
    short_decode: str = "fail",
    store: str | os.PathLike[str] | None = None,
    options: ExtractOptions | None = None,
) -> tuple[TagReport, Iterator[FileTags]]:
    """Tag any number of files: each is yielded when it is done, and not kept.

    Parameters
    ----------
    model : str
        A run's folder, a checkpoint file, or a published name (``mtt-musicnn``, ``msd-musicnn``, …).
    audio : iterable of path
        Files, and folders whose audio files are taken in natural order. May be empty with a store: all its tracks then.
    weights : path, optional
        Folder or wheel of the package ``musicnn``, for a published name.
    window_s, step_s : float, optional
        Seconds of one window (models of any length only) and between windows; the model's own by default.
    short : "fail" or "repeat"
        A file shorter than one window: an error of that file, or its frames are repeated.
    short_decode : "fail", "flag" or "keep"
        A file that yields less audio than it declares.
    store : path, optional
        Compute the feature into this store first, or take from it what is there.
    options : ExtractOptions, optional
        Of that extraction.

    Returns
    -------
    report : TagReport
        Without files.
    files : iterator of FileTags
        The work is done while it is consumed. A file that cannot be tagged comes with its error.

    Raises
    ------
    ConfigError
        Unknown model or setting, or nothing to tag.
    CheckpointError
        The model's weights are missing or damaged.
    """
    check_known(short, SHORT, f"short={short!r} is unknown", "tag")
    tagger = _with_windows(open_tagger(model, weights), window_s, step_s)
    paths = find_audio(audio)
    if not paths and store is None:
        raise ConfigError("nothing to tag", "tag", "Name audio files or folders")
    window = tagger.n_frames * tagger.frame_s
    step = tagger.excerpt_step_s or tagger.stride * tagger.frame_s
    report = TagReport(tagger.name, tagger.feature, tagger.classes, window, step, [])
    if store is None:
        source = computed_features(paths, tagger.requests, short_decode)
    else:
        source = stored_features(paths, tagger.requests, store, options)
    return report, _scored(tagger, progress(source, total=len(paths) or None, desc="tag", unit="file"), short)


def find_audio(places: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Files of a list of files and folders, each once, folders in natural order.

    Raises
    ------
    DatasetError
        For a folder without audio.
    """
    from featstore.datasets import index

    found: dict[str, str] = {}
    for place in places:
        text = os.fspath(place)
        paths = [text]
        if Path(text).is_dir():
            paths = list(index("folder", text, label_from="none").frame["path"])
            shown = os.path.abspath(text)
            paths = [os.path.join(text, os.path.relpath(path, shown)) for path in paths]
        for path in paths:
            found.setdefault(place_of(path), path)
    return list(found.values())


def _with_windows(tagger: Tagger, window_s: float | None, step_s: float | None) -> Tagger:
    for name, value in (("window_s", window_s), ("step_s", step_s)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name}={value} is not positive", "tag")
        if value is not None and tagger.excerpt_step_s is not None:
            found = f"{name}={value}: the model was trained on excerpts, {tagger.request.spec.clip}"
            raise ConfigError(found, tagger.name, "Leave it out")
    if window_s is not None:
        n_frames = max(1, int(window_s / tagger.frame_s + 1e-9))
        if n_frames != tagger.n_frames and not tagger.any_length:
            own = f"{tagger.n_frames * tagger.frame_s:.2f} s"
            raise ConfigError(
                f"window_s={window_s}: this model takes windows of {own} only", tagger.name, "Leave it out"
            )
        tagger = replace(tagger, n_frames=n_frames, stride=n_frames)
    if step_s is not None:
        tagger = replace(tagger, stride=max(1, round(step_s / tagger.frame_s)))
    return tagger


def _scored(tagger: Tagger, source: Iterable[Item], short: str) -> Iterator[FileTags]:
    """Score each file, on a GPU where there is one."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tagger.module.to(device)
    for path, features, note in source:
        yield FileTags.failed(path, note) if features is None else _score(tagger, path, features, note, short, device)


def _score(tagger: Tagger, path: str, features: list[FloatArray], note: str, short: str, device: Any) -> FileTags:
    """Score one file from its features (bands, frames)."""
    n_frames = features[0].shape[-1]
    plan = _windows(tagger, features)
    if plan is None and short == "repeat" and n_frames:
        times = -(-tagger.n_frames // n_frames) + 1
        features = [np.tile(feature, times)[..., : _needed(tagger, place)] for place, feature in enumerate(features)]
        plan = _windows(tagger, features)
    if plan is None:
        found, wanted = n_frames * tagger.frame_s, tagger.n_frames * tagger.frame_s
        what = f"too short: {found:.2f} s, and the model takes {wanted:.2f} s [{path}]"
        return FileTags.failed(path, f"{what}. Join it with others, or repeat it: --short repeat")
    bad = sum(int((~np.isfinite(feature)).sum()) for feature in features)
    if bad:
        return FileTags.failed(path, f"{bad} values of its features are not finite [{path}]")
    taggram, scores = _pool(_logits(tagger, features, plan, device), plan, tagger)
    starts_s, duration_s = plan.first * tagger.frame_s, n_frames * tagger.frame_s
    if tagger.excerpt_step_s is not None:
        starts_s = plan.first // tagger.n_frames * tagger.excerpt_step_s
        duration_s = float(starts_s[-1]) + tagger.n_frames * tagger.frame_s
    return FileTags(path, duration_s, starts_s.astype(np.float64), taggram, scores, note)


def _windows(tagger: Tagger, features: Sequence[FloatArray]) -> CropPlan | None:
    """Windows of a file as the evaluation of a run lays them out; None where it is too short for one."""
    from featstore.loaders.crops import frame_seconds, plan_crops

    lengths = [np.array([feature.shape[-1]]) for feature in features]
    if any(length[0] < _needed(tagger, place) for place, length in enumerate(lengths)):
        return None
    return plan_crops(
        lengths,
        [frame_seconds(request.spec) for request in tagger.requests],
        ["track"],
        [str(place) for place in range(len(features))],
        mode="windows",
        crop_frames=tagger.n_frames,
        window_stride=tagger.stride,
        tail="align" if tagger.tail == "align" else "drop",
    )


def _needed(tagger: Tagger, place: int) -> int:
    """Frames of one input of a feature."""
    from featstore.loaders.crops import frame_seconds

    first, own = (frame_seconds(tagger.requests[i].spec) for i in (0, place))
    return max(1, round(tagger.n_frames * (first / own)))


def _logits(tagger: Tagger, features: Sequence[FloatArray], plan: CropPlan, device: Any) -> NDArray[np.float64]:
    import torch

    from featstore.training.input_shape import input_names

    names = input_names([request.spec.kind for request in tagger.requests])
    starts = [plan.starts_of(place, plan.first) for place in range(len(features))]
    at_once = max(1, _FRAMES_AT_ONCE // tagger.n_frames)
    found = []
    with torch.inference_mode():
        for first in range(0, len(plan), at_once):
            batch = {}
            for place, (name, feature) in enumerate(zip(names, features, strict=True)):
                here = starts[place][first : first + at_once]
                windows = np.stack([feature[..., start : start + plan.frames[place]] for start in here])
                batch[name] = torch.from_numpy(windows).to(device)
            inputs = batch if len(batch) > 1 else next(iter(batch.values()))
            found.append(tagger.module(inputs).double().cpu().numpy())
    return np.concatenate(found)


def _pool(logits: NDArray[np.float64], plan: CropPlan, tagger: Tagger) -> tuple[FloatArray, FloatArray]:
    """Probabilities of the windows, and of the file as the evaluation of a run pools them."""
    import torch

    from featstore.training.losses import probabilities
    from featstore.training.scoring import track_scores, window_shares, window_weights

    windows = torch.from_numpy(logits)
    weights = torch.from_numpy(window_weights(torch.from_numpy(plan.fresh()), len(windows), tagger.weigh))
    means = (weights[:, None] * window_shares(windows, tagger.task, tagger.pool)).sum(dim=0) / weights.sum()
    scores = track_scores(means, tagger.task, tagger.pool)
    taggram = probabilities(windows, tagger.task)
    return taggram.numpy().astype(np.float32), scores.numpy().astype(np.float32)
