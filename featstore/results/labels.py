"""Short names for configurations: the fields that distinguish them, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featstore.plain import is_missing, whole
from featstore.results.drop_columns import is_drop

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["field_text", "hop_text", "hops_by_multiple", "labels_of", "models_by_representation", "row_text"]

# the order in which the parts of a label are read
_PARTS = ("representation", "sample_rate", "n_mels", "hop_multiple", "hop_length", "scale", "encoding")
_PLAIN = ("hop", "encoding", "model", "dataset", "outside_data")  # fields whose values say what they are
_REPRESENTATIONS = {"vq_tokens": "tokens", "vq_codes": "code vectors", "embedding": "vectors"}


def field_text(name: str, value: Any) -> str:
    """One field of a feature as a person would say it.

    Examples
    --------
    >>> field_text("sample_rate", 16000), field_text("n_mels", 96.0), field_text("hop_multiple", 2)
    ('16 kHz', '96 mels', 'hop ×2')
    """
    if is_missing(value):
        return ""
    value = whole(value)
    if name == "sample_rate":
        return f"{float(value) / 1000:g} kHz"
    if name in _PLAIN:
        return str(value)
    texts = {
        "n_mels": f"{value} mels",
        "hop_multiple": f"hop ×{value}",
        "hop_length": f"hop {value}",
        "representation": _REPRESENTATIONS.get(str(value), str(value)),
        "scale": {"log10_1p": "log", "db": "dB"}.get(str(value), str(value)),
    }
    return texts.get(name, f"{name.removeprefix('config.')}={value}")


def hop_text(hop_length: Any, sample_rate: Any) -> str:
    """A hop in samples and in time; empty where either is missing.

    Examples
    --------
    >>> hop_text(1024, 16000), hop_text(256, 12000), hop_text(None, 16000)
    ('hop 1024 (64 ms)', 'hop 256 (21.3 ms)', '')
    """
    if is_missing(hop_length) or is_missing(sample_rate):
        return ""
    return f"hop {int(hop_length)} ({1000 * float(hop_length) / float(sample_rate):.3g} ms)"


def row_text(name: str, row: Mapping[str, Any]) -> str:
    """One field of a row; a hop in samples and in time as far as the row says, whichever column asks for it.

    Parameters
    ----------
    name : str
    row : mapping
        A row of ``runs_frame``, of a summary, or of published numbers.

    Examples
    --------
    >>> row_text("hop_multiple", {"hop_multiple": 4, "hop_length": 1024, "sample_rate": 16000})
    'hop 1024 (64 ms)'
    >>> row_text("hop_multiple", {"hop_multiple": 4, "hop_length": 1024}), row_text("hop_multiple", {"hop_multiple": 4})
    ('hop 1024', 'hop ×4')
    """
    length: Any = row.get("hop_length")
    if name not in ("hop_multiple", "hop_length") or is_missing(length):
        return field_text(name, row.get(name))
    return hop_text(length, row.get("sample_rate")) or field_text("hop_length", int(length))


def hops_by_multiple(rows: Iterable[Mapping[Any, Any]]) -> dict[int, int]:
    """The hop in samples of each multiple that is one hop in all rows.

    Examples
    --------
    >>> rows = [(1, 256), (2, 512), (2, 441)]
    >>> hops_by_multiple({"hop_multiple": multiple, "hop_length": length} for multiple, length in rows)
    {1: 256}
    """
    found: dict[int, set[int]] = {}
    for row in rows:
        multiple: Any = row.get("hop_multiple")
        length: Any = row.get("hop_length")
        if not is_missing(multiple) and not is_missing(length):
            found.setdefault(int(multiple), set()).add(int(length))
    return {multiple: lengths.pop() for multiple, lengths in found.items() if len(lengths) == 1}


def labels_of(frame: pd.DataFrame) -> list[str]:
    """A label for each row: the fields that vary among the rows, and further ones only where those do not suffice.

    Parameters
    ----------
    frame : DataFrame
        Columns as in ``runs_frame``; rows with the same ``configuration`` get the same label.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"representation": "mel", "configuration": ["a", "b"], "parameters": [300.0, 49164.0]}
    >>> labels_of(pd.DataFrame(rows))
    ['mel, parameters=300', 'mel, parameters=49164']
    """
    names = ["dataset", "model", *_PARTS]
    varying = [name for name in names if name in frame and _distinct(frame[name]) > 1]
    if "model" in varying and models_by_representation(frame):
        varying.remove("model")
    if {"hop_multiple", "hop_length"} <= set(varying):  # one suffices, unless there are multiples of several hops
        pairs = frame[["hop_multiple", "hop_length"]].astype(str).drop_duplicates()
        varying.remove("hop_length" if pairs["hop_multiple"].is_unique else "hop_multiple")
    shown = varying or ["representation"]
    beside = {"hop_length", "sample_rate", "n_mels", "n_codes", "encoder"}  # that parts are written with
    rows: list[Any] = frame[[*{*shown, *(beside & set(frame))}]].to_dict("records")
    labels = [", ".join(filter(None, (_part(name, row, shown) for name in shown))) for row in rows]
    return _told_apart(frame, labels, set(shown))


def models_by_representation(frame: pd.DataFrame) -> dict[str, str]:
    """The model of each representation, where there are several of both and each representation has one of its own.

    Examples
    --------
    >>> import pandas as pd
    >>> models_by_representation(pd.DataFrame({"model": ["vgg-cnn", "probe"], "representation": ["mel", "embedding"]}))
    {'mel': 'vgg-cnn', 'vectors': 'probe'}
    """
    if not {"model", "representation"} <= set(frame) or frame["representation"].isna().any():
        return {}
    pairs = frame[["representation", "model"]].astype(str).drop_duplicates()
    if len(pairs) < 2 or not pairs["representation"].is_unique or not pairs["model"].is_unique:
        return {}
    return {field_text("representation", kind): model for kind, model in pairs.itertuples(index=False)}


def _part(name: str, row: Mapping[Any, Any], shown: Sequence[str]) -> str:
    """A part of a label: a representation with its vocabulary or encoder, nothing where a number of bands says it."""
    kind = row.get("representation")
    if name != "representation":
        return row_text(name, row)
    if kind == "mel" and "n_mels" in shown and not is_missing(row.get("n_mels")):
        return ""
    if kind == "vq_tokens" and not is_missing(row.get("n_codes")):
        return f"tokens of {int(row['n_codes'])} codes"
    if kind == "embedding" and not is_missing(row.get("encoder")):
        return f"vectors of {row['encoder']}"
    return field_text(name, kind)


def _told_apart(frame: pd.DataFrame, labels: list[str], shown: set[str]) -> list[str]:
    """Append to equal labels of different configurations what differs between them."""
    groups: dict[str, dict[str, list[int]]] = {}
    for position, (label, key) in enumerate(zip(labels, frame["configuration"], strict=True)):
        groups.setdefault(label, {}).setdefault(key, []).append(position)
    for members in groups.values():
        if len(members) < 2:
            continue
        facts = [_facts(frame.iloc[positions[0]], shown) for positions in members.values()]
        telling = _telling(facts)
        usual = {name: Counter(own.get(name, "none") for own in facts).most_common(1)[0] for name in telling}
        for (key, positions), own in zip(members.items(), facts, strict=True):
            values = {name: own.get(name, "none") for name in telling}
            # the usual value is left out, where there is one
            named = [
                f"{name.removesuffix('.name').rpartition('.')[2]}={value}"
                for name, value in values.items()
                if usual[name][1] < 2 or usual[name][0] != value
            ]
            suffix = f"#{key[:6]}" if not telling or len(named) > 4 else ", ".join(named)
            for position in positions:
                labels[position] += f", {suffix}" if labels[position] and suffix else suffix
    return labels


def _facts(row: pd.Series, shown: set[str]) -> dict[str, str]:
    """Fields of the feature that no label shows yet, and the settings."""
    hidden = {
        "run_id",
        "path",
        "seed",
        "fold",
        "configuration",
        "config_hash",
        "finished",
        "feature",
        "store",
        "settings",
    }
    fields = {
        name: str(whole(value))
        for name, value in ((str(key), value) for key, value in row.items())
        if "." not in name and name not in shown | hidden and not (name.startswith(_COSTLY) or is_drop(name))
    }
    settings = row["settings"] if "settings" in row and isinstance(row["settings"], Mapping) else {}
    return fields | {str(key): str(whole(value)) for key, value in settings.items()}


def _telling(facts: list[dict[str, str]]) -> list[str]:
    """The fewest names that distinguish all of ``facts``; none when eight do not suffice."""
    names = list(dict.fromkeys(name for own in facts for name in own))
    values = {name: [own.get(name) for own in facts] for name in names}
    candidates = sorted((name for name in names if len(set(values[name])) > 1), key=lambda n: -len(set(values[n])))
    chosen: list[str] = []
    for name in candidates[:50]:
        before = len(set(zip(*(values[n] for n in chosen), strict=True))) if chosen else 1
        after = len(set(zip(*(values[n] for n in [*chosen, name]), strict=True)))
        if after > before:
            chosen.append(name)
        if after == len(facts):
            return chosen if len(chosen) <= 8 else []
    return []


_COSTLY = ("bytes", "rate_", "seconds", "ratio", "gmacs", "n_", "duration", "fingerprint", "task", "label")


def _distinct(values: pd.Series) -> int:
    """Number of different values; a feature without the field has none."""
    return int(values.dropna().astype(str).nunique())
