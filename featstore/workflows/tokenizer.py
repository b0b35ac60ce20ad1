"""Tokenizers from files to files: train one on a collection, encode audio, decode tokens."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.arrays import AnyArray, FloatArray
from featstore.atomic import atomic_path, write_json
from featstore.audio import decode_audio, resample_signal
from featstore.audio.streams import mix_down
from featstore.datasets import TrackTable
from featstore.errors import CheckpointError, ConfigError, DatasetError, DecodeError
from featstore.extract.execute import run_track
from featstore.extract.plan import graph_for, header_of
from featstore.features import resolve
from featstore.features.vq_tokens import VqTokensSpec, tokenizer_of
from featstore.features.weights import remember_weights
from featstore.log import progress_bar
from featstore.models.trained_on import TrainedOn, members_of
from featstore.recorded_writes import recorded_writes
from featstore.specs import Encoding, parse_spec
from featstore.training.labels import groups_of
from featstore.typed_values import converted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Encoded", "TrainedTokenizer", "decode_file", "encode_file", "read_tokens", "train_tokenizer"]

logger = logging.getLogger(__name__)

_TRAIN_S, _HELD_S, _HELD_OUT = 40.0, 12.0, 6  # seconds of a track; seconds and number of held-out excerpts


@dataclass(slots=True)
class TrainedTokenizer:
    """What a training made, and how good it is.

    Attributes
    ----------
    path : str
    digest : str
        Of the weights, as feature names have it.
    report : dict
        Codebook use, perplexity and reconstruction on held-out tracks, and how the training went.
    """

    path: str
    digest: str
    report: dict[str, Any]
    held_out: list[FloatArray] = field(default_factory=list, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"path": self.path, "weights": self.digest, **self.report}


def train_tokenizer(
    tracks: TrackTable, target: str | os.PathLike[str], *, preset: str = "small", minutes: float = 30.0, **settings: Any
) -> TrainedTokenizer:
    """Train a tokenizer on a collection; stopped and run again, it goes on where it was.

    Tracks of the splits valid and test are held out; without splits, every tenth track by a hash of its id. The
    checkpoint says which tracks it was trained on: runs that validate or test with them refuse its tokens.

    Parameters
    ----------
    tracks : TrackTable
    target : path
        ``.safetensors``, or anything else for the original's own container. ``<target>.report.json`` goes beside it,
        ``<target>.state`` is there while the training is not finished.
    preset : str
        ``tiny``, ``small`` or ``jukebox``.
    minutes : float
        Music to hold in memory and train on.
    **settings
        Fields of :class:`featstore.training.vq_training.TokenizerConfig`; None leaves the preset's.

    Raises
    ------
    DatasetError
        When no track can be decoded, or all are shorter than an excerpt.
    ConfigError
        For a preset or setting that does not exist.
    """
    from featstore.models.jukebox_checkpoint import export_levels, load_level
    from featstore.models.tokenizers import best_device
    from featstore.training.vq_training import TokenizerConfig, TokenizerTraining, measure_tokenizer

    config = TokenizerConfig.preset(preset, **settings)
    minutes = converted(float, minutes, "minutes", "tokenizer training")
    if minutes <= 0:
        raise ConfigError(f"minutes={minutes} is too small", "tokenizer training", "Give more than 0")
    target = Path(target)
    own, held = _split(tracks)
    heard, music = _load(own, config.sample_rate, total_s=60 * minutes, each_s=_TRAIN_S, least=config.samples)
    measured_on, rate = "held-out tracks", config.sample_rate
    try:
        _, held_out = _load(held, rate, total_s=_HELD_S * _HELD_OUT, each_s=_HELD_S, least=config.samples)
    except DatasetError as error:
        logger.warning("the tokenizer is measured on the music it is trained on: %s", error)
        measured_on, held_out = "training", [signal[: round(_HELD_S * rate)] for signal in music[:_HELD_OUT]]
    state = target.with_name(target.name + ".state")
    training = TokenizerTraining(config, _excerpts(music, config), state=state, device=best_device())
    model = training.run()
    members = members_of(tracks.info.name, heard["track_id"], heard["group"])
    trained_on = TrainedOn(tracks.info.name, tuple(sorted(members)))
    extra = {"step": training.step, "preset": preset, "trained_on": trained_on.as_json()}
    export_levels([model], target, extra=extra)
    measured = measure_tokenizer(model, held_out)
    measured["training"] = {
        "preset": preset,
        "tracks": len(music),
        "music_s": round(sum(map(len, music)) / rate, 1),
        "measured_on": measured_on,
        "held_out_s": round(sum(map(len, held_out)) / rate, 1),
        "steps": training.step,
        "seconds": round(training.seconds, 1),
        "codes_set_anew_per_step": round(float(np.mean(training.restarted)), 2) if training.restarted else 0.0,
        **{name: getattr(config, name) for name in ("width", "depth", "codes", "sample_rate")},
        "hop": config.level_config.hop,
    }
    write_json(target.with_name(target.name + ".report.json"), _rounded(measured))
    state.unlink(missing_ok=True)
    return TrainedTokenizer(str(target), load_level(target, config.level).digest, _rounded(measured), held_out)


def _excerpts(music: Sequence[FloatArray], config: Any) -> Callable[[int], FloatArray]:
    """Random excerpts by step number: the same number draws the same ones, whatever came before."""
    lengths = np.array([len(signal) - config.samples + 1 for signal in music], dtype=np.float64)

    def batch(step: int) -> FloatArray:
        rng = np.random.default_rng([config.seed, step + 1_000_000])
        drawn = []
        for number in rng.choice(len(music), size=config.batch, p=lengths / lengths.sum()):
            start = int(rng.integers(len(music[number]) - config.samples + 1))
            drawn.append(music[number][start : start + config.samples])
        return np.stack(drawn)

    return batch


def _split(tracks: TrackTable) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tracks to train on and tracks to measure on, each in an order that only the ids decide."""
    frame = tracks.frame.assign(group=groups_of(tracks.frame))
    frame = frame.sort_values("track_id", key=lambda ids: ids.map(lambda track: sha256(track.encode()).digest()))
    held = frame["split"].isin(("valid", "test")).to_numpy()
    if not held.any():
        held = np.arange(len(frame)) % max(2, min(10, len(frame))) == 0
        held &= len(frame) > 1  # a single track is for both
    if held.all():
        raise DatasetError("no track is left to train on", f"data set {tracks.info.name}", "Check the splits")
    return frame[~held], frame[held] if held.any() else frame[~held]


def _load(
    tracks: pd.DataFrame, sample_rate: int, *, total_s: float, each_s: float, least: int
) -> tuple[pd.DataFrame, list[FloatArray]]:
    """Middle parts of tracks, mono at one rate, until there is enough; what cannot be had is left out, with warning."""
    used: list[int] = []
    music: list[FloatArray] = []
    left_out: list[str] = []
    missing = total_s
    with progress_bar(total=round(total_s), desc="decode", unit="s") as bar:
        for row, path in enumerate(tracks["path"]):
            if missing <= 0:
                break
            try:
                samples, rate = decode_audio(path)
                signal = resample_signal(mix_down(samples), source_rate=rate, sample_rate=sample_rate)
            except DecodeError as error:
                left_out.append(str(error))
                continue
            length = min(len(signal), round(min(each_s, max(missing, 1.0)) * sample_rate))
            length = max(length, min(least, len(signal)))
            if length < least or not np.abs(signal).max(initial=0.0) > 0:
                left_out.append(f"{path} is silent or shorter than {least} samples")
                continue
            start = (len(signal) - length) // 2
            used.append(row)
            music.append(signal[start : start + length].copy())
            missing -= length / sample_rate
            bar.update(round(length / sample_rate))
    if left_out:
        logger.warning("%d tracks are left out; the first: %s", len(left_out), left_out[0])
    if not music:
        fix = f"Give audio of at least {least} samples a track"
        raise DatasetError("no track can be used", left_out[0] if left_out else "", fix)
    return tracks.iloc[used], music


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, 4) if np.isfinite(value) else None
    return value


# -- files of tokens -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Encoded:
    """What encoding a file gave.

    Attributes
    ----------
    spec : str
        Canonical name of the feature.
    tokens : array (n_codebooks, T)
    audio_s, seconds : float
        Of music, and of work.
    """

    spec: str
    tokens: AnyArray
    audio_s: float
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "feature": self.spec,
            "tokens": list(self.tokens.shape),
            "bytes": int(self.tokens.nbytes),
            "audio_s": round(self.audio_s, 3),
            "seconds": round(self.seconds, 3),
            "seconds_per_minute": round(60 * self.seconds / max(self.audio_s, 1e-9), 3),
            "codes_used": len(np.unique(self.tokens)),
        }


def encode_file(audio: str | os.PathLike[str], spec: VqTokensSpec | str, target: str | os.PathLike[str]) -> Encoded:
    """Write the tokens of an audio file: the same that an extraction stores.

    Parameters
    ----------
    audio : path
    spec : VqTokensSpec or its text
    target : path
        ``.npz`` (arrays ``tokens`` and ``spec``, no pickles) or ``.safetensors``.

    Raises
    ------
    DecodeError
        When the file cannot be decoded, or is shorter than a token.
    """
    feature = resolve(parse_spec(spec))
    if not isinstance(feature, VqTokensSpec) or feature.vocabulary is None:
        raise ConfigError(f"{feature.short()} is no token feature", "tokenizer", "Give vq_tokens(codec=…, weights=…)")
    suffix = Path(target).suffix
    if suffix not in (".npz", ".safetensors"):
        raise ConfigError(
            f"{suffix or 'no suffix'} is no format of tokens", str(target), "Name it .npz or .safetensors"
        )
    tokenizer_of(feature)  # opened off the clock
    encoding = Encoding.default(feature)
    blocks: list[AnyArray] = []
    began = time.perf_counter()
    report = run_track(os.fspath(audio), graph_for([header_of(feature, encoding)]), lambda key, x: blocks.append(x))
    seconds = time.perf_counter() - began
    tokens = np.concatenate(blocks, axis=-1).astype(encoding.dtype)
    if suffix == ".npz":
        with atomic_path(target) as part, open(part, "wb") as file:
            np.savez(file, tokens=tokens, spec=np.array(str(feature)))
    else:
        import torch

        from featstore.models.tensor_files import save_tensors

        save_tensors(target, {"tokens": torch.from_numpy(np.ascontiguousarray(tokens))}, {"spec": str(feature)})
    return Encoded(str(feature), tokens, report.duration_s, seconds)


def read_tokens(path: str | os.PathLike[str]) -> tuple[AnyArray, VqTokensSpec]:
    """Tokens (n_codebooks, T) and their feature, out of a file of :func:`encode_file`.

    Raises
    ------
    CheckpointError
        When the file is missing, damaged or something else.
    """
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as file:
                tokens, name = file.get_tensor("tokens"), str((file.metadata() or {})["spec"])
        else:
            with np.load(path, allow_pickle=False) as arrays:
                tokens, name = arrays["tokens"], str(arrays["spec"])
    except FileNotFoundError as error:
        raise CheckpointError("there are no tokens", str(path), "Check the path") from error
    except Exception as error:  # each container has errors of its own for damage
        raise CheckpointError(
            f"this is no file of tokens: {error}", str(path), "Write it with tokenizer encode"
        ) from error
    feature = parse_spec(name)
    if not isinstance(feature, VqTokensSpec) or not np.issubdtype(tokens.dtype, np.integer):
        raise CheckpointError(f"{name} is no token feature", str(path), "Write it with tokenizer encode")
    return tokens, feature


def decode_file(
    tokens: str | os.PathLike[str], target: str | os.PathLike[str], *, weights: str | os.PathLike[str]
) -> dict[str, Any]:
    """Turn a file of tokens back into a WAV file.

    Raises
    ------
    CheckpointError
        When the weights are not those that made the tokens.
    """
    import soundfile

    from featstore.models.tokenizers import describe_weights

    codes, feature = read_tokens(tokens)
    settings = {"level": feature.level} if feature.codec == "jukebox" else {"n_quantizers": feature.n_codebooks}
    found = describe_weights(feature.codec, weights, **settings).digest
    if found != feature.weights:
        raise CheckpointError(
            f"the tokens were made with weights {feature.weights}, this file holds {found}",
            str(weights),
            "Give the file that the tokens were made with",
        )
    remember_weights(found, weights)
    signal = tokenizer_of(feature, with_decoder=True).decode(codes)
    beyond = int((np.abs(signal) > 1).sum())
    if beyond:
        logger.warning("%d of %d samples lie beyond full scale and are cut", beyond, signal.size)
    with atomic_path(target) as part, recorded_writes(part) as file:
        soundfile.write(file, np.clip(signal, -1, 1).T, feature.sample_rate, format="WAV", subtype="PCM_16")
    seconds = signal.shape[1] / feature.sample_rate
    return {"path": str(target), "sample_rate": feature.sample_rate, "seconds": round(seconds, 3), "cut": beyond}
