"""Settings of what a run is fed with and how it is scored: tracks, crops, augmentations, evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from featstore.training.settings import Range, Section, require

__all__ = ["AugmentConfig", "DataConfig", "EvaluateConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig(Section):
    """What is trained on.

    Parameters
    ----------
    split : {"given", "random", "folds"}
        The table's own splits; a random one drawn from ``split_seed``, whole groups at a time; or cross-validation.
    fractions : three numbers
        Shares of train, valid and test of a random split.
    folds, fold : int
        Number of folds, and which one is tested on. The next one validates, unless ``valid_share`` is given.
    valid_share : float in (0, 1), or None
        Cross-validation: share of the tracks of all other folds that validates, in place of a whole fold.
    split_seed : int
        Of random splits and folds; apart from ``seed``, so that runs with other seeds see the same tracks.
    train_share : float in (0, 1]
        Share of the training tracks that is used, whole groups of each class, drawn from ``split_seed``.
    label_column : str
        Column of the track table; empty for the table's own labels.
    task : {"auto", "multi_label", "single_label"}
        ``auto`` goes by the table.
    classes : list of str
        Labels to learn, in order; empty for the table's list, or all that occur, sorted.
    crop_s : float or None
        Seconds of one input: as many whole frames as fit. None and no ``crop_frames``: whole tracks.
    crop_frames : int or None
        The same in frames; it goes before ``crop_s``.
    crops_per_track : int
        Random crops of each track in an epoch.
    distinct_crops : bool
        These crops start at different frames of the track.
    crop_grid_s : float or None
        Random crops start at multiples of this number of seconds; None lets them start at any frame.
    window_stride_s : float or None
        Seconds between evaluation windows; None puts them side by side.
    clip_policy : {"cover", "whole", "published_code"}
        Which windows a track is scored by. ``cover`` adds one that ends with the track where the strides do not reach
        its end; ``whole`` takes the strides' whole windows only. ``published_code`` repeats the code of MS-SincResNet:
        windows and crops start at every stride in the track and are filled with zeros past its end (``ragged`` must be
        ``pad``); training leaves out the first that is not whole.
    batch_size : int
        Crops in one step of the optimizer's global batch.
    ragged : {"error", "skip", "pad"}
        Tracks shorter than the crop.
    missing : {"skip", "error"}
        Tracks that the store lacks (they failed in extraction): left out with a warning, or an error.
    tier : {"auto", "disk", "ram", "gpu"}
        Where the loader holds the features.
    threads : int or None
        Reading threads; None lets the loader choose.
    normalize : {"auto", "none", "band", "global"}
        Subtract mean and divide by deviation of the training split, per band or over all; ``auto`` is the model's.
    """

    section: ClassVar[str] = "data"

    split: Literal["given", "random", "folds"] = "given"
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2)
    folds: int = 5
    fold: int = 0
    valid_share: Annotated[float, Range.PROPER_SHARE] | None = None
    split_seed: int = 0
    train_share: Annotated[float, Range.SHARE] = 1.0
    label_column: str = ""
    task: Literal["auto", "multi_label", "single_label"] = "auto"
    classes: tuple[str, ...] = ()
    crop_s: Annotated[float, Range.POSITIVE] | None = None
    crop_frames: Annotated[int, Range.POSITIVE] | None = None
    crops_per_track: Annotated[int, Range.POSITIVE] = 1
    distinct_crops: bool = False
    crop_grid_s: Annotated[float, Range.POSITIVE] | None = None
    window_stride_s: Annotated[float, Range.POSITIVE] | None = None
    clip_policy: Literal["cover", "whole", "published_code"] = "cover"
    batch_size: Annotated[int, Range.POSITIVE] = 32
    ragged: Literal["error", "skip", "pad"] = "error"
    missing: Literal["skip", "error"] = "skip"
    tier: Literal["auto", "disk", "ram", "gpu"] = "auto"
    threads: Annotated[int, Range.NOT_NEGATIVE] | None = None
    normalize: Literal["auto", "none", "band", "global"] = "auto"

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        right = len(self.fractions) == 3 and min(self.fractions) >= 0 and abs(sum(self.fractions) - 1) < 1e-6
        require(right, f"fractions={self.fractions} are not three shares of a whole", "data")
        require(self.fractions[0] > 0, "fractions leave nothing to train on", "data")
        require(self.folds >= 3, f"folds={self.folds}", "data", "Use at least 3: one tests, one validates")
        require(0 <= self.fold < self.folds, f"fold={self.fold} of {self.folds}", "data", "Folds count from 0")
        padded = self.clip_policy != "published_code" or self.ragged == "pad"
        require(padded, f"clip_policy={self.clip_policy} with ragged={self.ragged}", "data", "Set data.ragged=pad")


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig(Section):
    """How training inputs are varied; nothing by default, nothing ever in evaluation.

    Parameters
    ----------
    gain_db : float
        Louder or softer by up to this number of decibels, uniformly.
    gain : float in [0, 1)
        Amplitude times a uniform factor between 1 - gain and 1 + gain.
    noise : float
        Deviation of Gaussian noise, or half the width of uniform noise, in the feature's unit.
    noise_kind : {"gaussian", "uniform"}
    band_masks, band_width : int
        Number of masks over bands of each example, and the widest one.
    time_masks, time_width : int
        The same over frames.
    mixup : float
        Parameter of the Beta distribution of mixing weights; 0 mixes nothing.
    """

    section: ClassVar[str] = "augment"

    gain_db: Annotated[float, Range.NOT_NEGATIVE] = 0.0
    gain: Annotated[float, Range.BELOW_ONE] = 0.0
    noise: Annotated[float, Range.NOT_NEGATIVE] = 0.0
    noise_kind: Literal["gaussian", "uniform"] = "gaussian"
    band_masks: Annotated[int, Range.NOT_NEGATIVE] = 0
    band_width: Annotated[int, Range.POSITIVE] = 8
    time_masks: Annotated[int, Range.NOT_NEGATIVE] = 0
    time_width: Annotated[int, Range.POSITIVE] = 16
    mixup: Annotated[float, Range.NOT_NEGATIVE] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig(Section):
    """How tracks are scored.

    Parameters
    ----------
    pool : {"mean_probability", "mean_logit", "majority"}
        From windows to a track: mean of probabilities (a soft vote); mean of logits (the normalised product of
        probabilities); share of the windows that decide for a class (a hard vote).
    weigh : {"windows", "frames"}
        What a window counts: all alike, or by its frames that no earlier window of the track has. The last window ends
        with the track and may overlap the one before it.
    splits : list of str
        Splits that are scored at the end.
    bootstrap : int
        Resamples of the tracks for 95 % intervals; 0 gives none.
    """

    section: ClassVar[str] = "evaluate"

    pool: Literal["mean_probability", "mean_logit", "majority"] = "mean_probability"
    weigh: Literal["windows", "frames"] = "windows"
    splits: tuple[str, ...] = ("valid", "test")
    bootstrap: Annotated[int, Range.NOT_NEGATIVE] = 200

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        require(len(self.splits) > 0, "no split to evaluate", "evaluate", "Name at least one")
