"""What a ``result.json`` must hold: checked before it is written, and again when it is read."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from featstore.atomic import write_json
from featstore.errors import ConfigError
from featstore.plain import plain

__all__ = ["RESULT_FORMAT", "RESULT_NAME", "problems_of", "write_result"]

RESULT_FORMAT = 1
RESULT_NAME = "result.json"

# key -> what it must be; every key of this table must be there, a number that is not known is null
_REQUIRED: dict[str, str] = {
    "model": "text",
    "feature": "text",
    "dataset": "text",
    "seed": "count or null",
    "fold": "count, text or null",
    "scores": "scores",
    "parameters": "number or null",
    "gmacs": "number or null",
    "bytes": "numbers",
    "seconds": "numbers",
    "store": "store",
    "config_hash": "text",
}
# the same of keys that may be absent
_OPTIONAL: dict[str, str] = {
    "duration_s": "number or null",
    "n_stored": "number or null",
    "audio_seen_s": "numbers or null",
    "n_tracks": "numbers or null",
    "hop_multiple": "size or null",
    "feature_fields": "fields or null",
    "task": "any text or null",
    "finished": "any text or null",
}
# fields of a feature that are written as sizes
_SIZES = ("sample_rate", "n_mels", "hop_length", "hop_multiple")
_INSIDE: dict[str, tuple[str, ...]] = {"bytes": ("alone", "added"), "seconds": ("extract", "train", "inference")}


def write_result(run_dir: str | Path, result: Mapping[str, Any]) -> Path:
    """Write ``result.json`` of a finished run in one atomic step, after checking it.

    Parameters
    ----------
    run_dir : path
        The run's folder; it is made when absent.
    result : mapping
        The keys of the contract: ``model, feature, dataset, seed, fold, scores{split{metric}}, parameters, gmacs,
        bytes{alone, added}, seconds{extract, train, inference}, store, config_hash``, and any others.
        ``format``, ``run_id`` (the folder's name) and ``finished`` (now, UTC) are filled in when absent.
        NumPy scalars and arrays become plain numbers and lists; a number that is not finite becomes null,
        because an undefined score is not a score.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ConfigError
        When a key is absent or has the wrong type; the message lists all that is wrong.
    StoreError
        When the disk refuses.
    """
    run_dir = Path(run_dir)
    defaults = {
        "format": RESULT_FORMAT,
        "run_id": run_dir.resolve().name,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    checked = plain({**defaults, **result}, strict=True)
    problems = problems_of(checked)
    if problems:
        raise ConfigError(
            f"the result of a run is not complete: {'; '.join(problems)}", str(run_dir), "Nothing was written"
        )
    write_json(run_dir / RESULT_NAME, checked)
    return run_dir / RESULT_NAME


def problems_of(result: Any) -> list[str]:
    """List what keeps ``result`` from being a run's result; empty when nothing does.

    Examples
    --------
    >>> problems_of({"hello": "world"})[0]
    "lacks 'model'"
    >>> problems_of([])
    ['is a list, not a JSON object']
    """
    if not isinstance(result, Mapping):
        return [f"is a {type(result).__name__}, not a JSON object"]
    version = result.get("format", RESULT_FORMAT)
    if not isinstance(version, int) or version > RESULT_FORMAT:
        return [f"has format {version!r}, and this version of featstore reads up to {RESULT_FORMAT}"]
    found = [f"lacks {key!r}" for key in _REQUIRED if key not in result]
    found += [
        f"{key!r} is {_shorten(result[key])}, not {kind}"
        for key, kind in (_REQUIRED | _OPTIONAL).items()
        if key in result and not _KINDS[kind](result[key])
    ]
    for key, inner in _INSIDE.items():
        if isinstance(result.get(key), Mapping):
            found += [f"lacks '{key}.{name}'" for name in inner if name not in result[key]]
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(inner is None or _is_number(inner) for inner in value.values())


def _are_scores(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and all(map(_are_numbers, value.values()))


def _is_size(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 < value < 2**63)


def _are_fields(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_size(value.get(name)) for name in _SIZES)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str) and value != "",
    "count or null": lambda value: value is None or _is_count(value),
    "count, text or null": lambda value: value is None or _is_count(value) or isinstance(value, str),
    "number or null": lambda value: value is None or _is_number(value),
    "numbers": _are_numbers,
    "numbers or null": lambda value: value is None or _are_numbers(value),
    "size or null": _is_size,
    "fields or null": lambda value: value is None or _are_fields(value),
    "any text or null": lambda value: value is None or isinstance(value, str),
    "scores": _are_scores,
    "store": lambda value: value is None or isinstance(value, str | Mapping),
}
"""What a value of each kind of these tables is."""


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
