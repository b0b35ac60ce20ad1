"""Run records as a table: one row per run, one column per property."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from featstore.errors import FeatstoreError, check_known
from featstore.metrics import METRICS
from featstore.results.costs import COSTS
from featstore.results.drop_columns import drop_columns, drops_in
from featstore.results.records import RunRecord

if TYPE_CHECKING:
    import pandas as pd

    from featstore.specs import Encoding, FeatureSpec

__all__ = [
    "FIELDS",
    "OUTSIDE",
    "feature_fields",
    "flatten",
    "metrics_in",
    "metrics_of",
    "runs_frame",
    "score_column",
    "spec_fields",
]

OUTSIDE = "outside_data"
"""Column of what the weights of a run have seen besides its own data set: ``none``, or data sets joined by ``+``."""

# fields of a feature, and what it has seen: one column each, empty where a feature has no such field
FIELDS = ("representation", "sample_rate", "n_mels", "hop_length", "hop_multiple", "scale", "encoding", OUTSIDE)
# settings that may differ between two runs of one configuration: repetition, place, and how the work is done
_VOLATILE = frozenset(
    {
        *("seed", "fold", "out", "run", "run_dir", "log"),
        *("device", "devices", "accelerator", "workers", "num_workers", "threads", "jobs", "tier", "keep_memory"),
        *("checkpoint_batches", "checkpoint_minutes", "bootstrap", "probe_every", "probe_tracks"),
    }
)


def runs_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Lay out ``records`` as a table.

    Returns
    -------
    DataFrame
        ``run_id, path, dataset, model, feature``, the fields of the feature (``representation, sample_rate, n_mels,
        hop_length, hop_multiple, scale, encoding`` and what else its spec has), ``outside_data, task, seed, fold,
        configuration`` (equal for runs that differ only in seed and fold), scores as ``<split>.<metric>``, the columns
        of ``COSTS`` (bytes, bit per second of audio, 10⁹ multiply-adds of a forward pass, seconds), ``bytes_audio``,
        ``duration_s``, ``n_stored``,
        ``n_<split>``, what is lost on altered test tracks (``drop_<shift>_<metric>``, ``shifted_<shift>_tracks`` and
        ``shifted_<shift>_tokens``, the share of tokens that change), ``store``, ``fingerprint``, ``finished``,
        ``config_hash``, ``settings`` (a dict: the flat settings that make a configuration).
    """
    import pandas as pd

    frame = pd.DataFrame([dict.fromkeys(FIELDS) | _row(record) for record in records])
    scores = sorted(name for name in map(str, frame.columns) if "." in name)
    first = [*_HEAD, *FIELDS, *_MIDDLE]
    last = [*COSTS, *_TAIL]
    rest = [name for name in map(str, frame.columns) if name not in {*first, *scores, *last}]
    frame = frame.reindex(columns=[*first, *rest, *scores, *last])
    for name in (*COSTS, *scores, *drops_in(rest), "bytes_audio", "duration_s", "n_stored"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
    for name in ("sample_rate", "n_mels", "hop_length", "hop_multiple"):
        with contextlib.suppress(TypeError, ValueError):  # what is not all whole numbers stays as it is
            frame[name] = pd.to_numeric(frame[name]).astype("Int64")
    return frame


_HEAD = ("run_id", "path", "dataset", "model", "feature")
_MIDDLE = ("task", "seed", "fold", "configuration")
_TAIL = ("bytes_audio", "duration_s", "n_stored", "store", "fingerprint", "finished", "config_hash", "settings")


def _row(record: RunRecord) -> dict[str, Any]:
    """The columns of one run."""
    result = record.result
    fields = feature_fields(record)
    row: dict[str, Any] = {
        "run_id": record.run_id,
        "path": str(record.path),
        "dataset": record.dataset,
        "model": record.model,
        "feature": record.feature,
        "task": result.get("task"),
        "seed": result.get("seed"),
        "fold": result.get("fold"),
        "configuration": configuration_key(record),
        "settings": {key: str(value) for key, value in flatten(_settings_of(record)).items()},
        "store": record.store_path,
        "fingerprint": record.store_fingerprint,
        "finished": result.get("finished"),
        "config_hash": result.get("config_hash"),
    }
    row.update((name, value) for name, value in fields.items() if name not in row and "." not in name)
    row.update(_costs(result))
    for split, scores in result["scores"].items():
        row.update((f"{split}.{metric}", value) for metric, value in scores.items())
    row.update(drop_columns(record.shifts))
    counts = result.get("n_tracks")
    row.update((f"n_{split}", count) for split, count in (counts.items() if isinstance(counts, Mapping) else ()))
    return row


def _costs(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Bytes, seconds and arithmetic of one run; None where it was not recorded."""
    sizes, seconds = result["bytes"], result["seconds"]
    alone, audio = sizes.get("alone"), sizes.get("audio")
    hours = (result.get("duration_s") or 0) / 3600
    stored = result.get("n_stored")
    return {
        "bytes_alone": alone,
        "bytes_added": sizes.get("added"),
        "bytes_audio": audio,
        "rate_bps": 8 * alone / (3600 * hours) if alone is not None and hours else None,
        "bytes_per_hour": alone / hours if alone is not None and hours else None,
        "bytes_per_track": alone / stored if alone is not None and stored else None,
        "ratio_to_audio": alone / audio if alone is not None and audio else None,
        "gmacs": result["gmacs"],
        "parameters": result["parameters"],
        "seconds_train": seconds.get("train"),
        "seconds_inference": seconds.get("inference"),
        "seconds_extract": seconds.get("extract"),
        "seconds_audio": sum(filter(None, seen.values())) if (seen := result.get("audio_seen_s")) is not None else None,
        "duration_s": result.get("duration_s"),
        "n_stored": stored,
    }


def named_fields(feature: str) -> dict[str, Any]:
    """The fields that a canonical name holds, under the names and in the short forms of ``runs_frame``."""
    return _in_short(dict(_fields_of_name(feature)), feature)


def _in_short(fields: dict[str, Any], feature: str) -> dict[str, Any]:
    """Kind, scale and encoding of a feature as people read them."""
    parts = feature.split(" + ")  # several features that are one input
    kinds = dict.fromkeys(part.partition("(")[0].partition(".")[0] for part in parts)
    kind = fields.pop("kind", None)
    fields["representation"] = "+".join(kinds) if len(parts) > 1 or not kind else kind
    fields["scale"] = short_scale(fields.get("scale"))
    if fields["representation"] == "embedding" and fields.get("model") is not None:
        fields["encoder"] = fields.pop("model")  # the run's model has that name
    if fields.get("encoding") is not None:
        fields["encoding"] = _short_encoding(parts[0], str(fields["encoding"]))
    return fields


def feature_fields(record: RunRecord) -> dict[str, Any]:
    """The fields of the run's feature: as recorded, or read from its name."""
    recorded = record.result.get("feature_fields")
    known = {k: v for k, v in recorded.items() if v is not None} if isinstance(recorded, Mapping) else {}
    fields = _in_short({**_fields_of_name(record.feature), **known}, record.feature)
    fields["hop_multiple"] = record.result.get("hop_multiple", fields.get("hop_multiple"))
    seen = record.result.get(OUTSIDE)
    fields[OUTSIDE] = None if seen is None else str(seen) or "none"
    return {key: value for key, value in fields.items() if not isinstance(value, list | dict)}


@functools.lru_cache(maxsize=4096)
def _fields_of_name(feature: str) -> dict[str, Any]:
    """Fields that a canonical name holds; none when this version does not know the kind."""
    from featstore.specs import parse_feature

    try:
        request = parse_feature(feature)
    except FeatstoreError:
        return {}
    kind = {"kind": request.spec.kind, "revision": request.spec.revision}
    return kind | spec_fields(request.spec, request.encoding)


def spec_fields(spec: FeatureSpec, encoding: Encoding | None) -> dict[str, Any]:
    """Fields of a feature as plain values, with kind and encoding; what follows from weights is left out."""
    own = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    fields = {"kind": spec.kind, **own, "encoding": encoding}
    return {k: v if isinstance(v, int | float | str) else str(v) for k, v in fields.items() if v is not None}


@functools.lru_cache(maxsize=4096)
def _short_encoding(feature: str, encoding: str) -> str:
    """``uint8`` where the range is the feature's default one, or was measured on the stored vectors."""
    from featstore.specs import Encoding, parse_feature

    short = encoding.partition("(")[0]
    try:
        spec = parse_feature(feature).spec
        return short if Encoding.parse(short, spec).admits(Encoding.parse(encoding, spec)) else encoding
    except FeatstoreError:
        return encoding


def short_scale(scale: Any) -> str | None:
    """Short form of a scale whose arguments are the defaults.

    Examples
    --------
    >>> short_scale("db(amin=1e-10,factor=10)"), short_scale("log10_1p(gain=10000)"), short_scale("ln(eps=1e-05)")
    ('db', 'log10_1p', 'ln(eps=1e-05)')
    """
    defaults = {"db(amin=1e-10,factor=10)": "db", "log10_1p(gain=10000)": "log10_1p"}
    return None if scale is None else defaults.get(str(scale).replace(" ", ""), str(scale))


def configuration_key(record: RunRecord) -> str:
    """Digest that is equal for runs that differ in nothing but seed, fold and place."""
    settings = _settings_of(record)
    identity = [record.dataset, record.model, record.feature, settings or record.result.get("parameters")]
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _settings_of(record: RunRecord) -> dict[str, Any]:
    """Settings that make a configuration; where a run starts from another, what that was trained to do, not where."""
    settings: dict[str, Any] = _without_volatile(record.config)
    start = record.result.get("start")
    if isinstance(start, Mapping) and isinstance(settings.get("start"), Mapping):
        source = f"{start.get('objective')} {str(start.get('config_hash'))[:6]}"
        settings = {**settings, "start": {**settings["start"], "from": source}}
    return settings


def _without_volatile(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _without_volatile(inner)
            for key, inner in value.items()
            if isinstance(inner, Mapping) or key not in _VOLATILE
        }
    return value


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level with dotted names.

    Examples
    --------
    >>> flatten({"training": {"lr": 0.001, "betas": [0.9, 0.99]}, "seed": 3})
    {'training.lr': 0.001, 'training.betas': [0.9, 0.99], 'seed': 3}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def metrics_in(frame: pd.DataFrame, split: str = "test") -> list[str]:
    """Metrics of which at least one run has a value on ``split``, the usual ones first."""
    usual = list(METRICS)
    names = [str(n).split(".", 1)[1] for n in frame if str(n).startswith(f"{split}.") and frame[n].notna().any()]
    return sorted(names, key=lambda name: (name == "loss", usual.index(name) if name in usual else len(usual), name))


def metrics_of(summary: pd.DataFrame) -> list[str]:
    """Metrics of a summary, in its order."""
    return [str(name).removesuffix("_values") for name in summary if str(name).endswith("_values")]


def score_column(frame: pd.DataFrame, metric: str, split: str = "test") -> str:
    """Name of the column that holds ``metric`` on ``split``.

    Raises
    ------
    ConfigError
        When no run has it.
    """
    name = f"{split}.{metric}"
    if name not in frame or not frame[name].notna().any():
        splits = sorted({str(n).split(".", 1)[0] for n in frame if "." in str(n) and not str(n).startswith("config.")})
        check_known(split, splits, f"no run has scores on the split {split!r}", "report")
        check_known(metric, metrics_in(frame, split), f"no run has the metric {metric!r} on {split}", "report")
    return name
