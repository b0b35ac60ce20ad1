"""Sizes of features, bytes per track and per hour of music, and the measured errors of encodings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from featstore.arrays import IntArray
from featstore.store.mixed_versions import mixed_versions
from featstore.store.reader import FeatureReader
from featstore.store.records import CommitRecord
from featstore.store.store import Store

__all__ = ["describe_features", "measured"]


def measured(records: Iterable[CommitRecord]) -> dict[str, float | int]:
    """What an encoding cost over all committed shards, empty where it cost nothing (float32) or nothing is there.

    Returns
    -------
    dict
        ``measured_values`` encoded, ``saturated_values`` outside the range, and the ``measured_max_error`` and
        ``measured_mean_error`` (absolute, on the feature's own scale) of what is decoded against what was encoded,
        saturated values included. For tokens ``near_ties``, where every shard counts them: tokens whose code won by
        so little that the rounding of floats may have decided.
    """
    parts = [record.quality for record in records if record.quality]
    values = sum(int(part["values"]) for part in parts)
    if not values:
        return {}
    found: dict[str, float | int] = {
        "measured_values": values,
        "saturated_values": sum(int(part["saturated"]) for part in parts),
        "measured_max_error": max(float(part["max_error"]) for part in parts),
        "measured_mean_error": math.fsum(float(part["sum_error"]) for part in parts) / values,
    }
    if all("near_ties" in part for part in parts if part["values"]):
        found["near_ties"] = sum(int(part.get("near_ties", 0)) for part in parts)
    return found


def describe_features(store: Store) -> list[dict[str, Any]]:
    """One row per feature, stored ones first: name, format, size, measured error of the encoding, mixed versions."""
    mixed = {key: mixed_versions(store.records(key).values()) for key in store.arrays}
    rows = [_row(store, store[name]) for name in store.features]
    return [row | {"mixed_versions": mixed[row["key"]]} for row in rows]


def _row(store: Store, reader: FeatureReader) -> dict[str, Any]:
    header, layout = reader.base.header, reader.base.layout
    count, size = len(reader), reader.bytes_alone
    lengths = reader.lengths[reader.lengths >= 0]
    as_float32 = 4 * math.prod(reader.shape_of(int(lengths.sum()), 1))
    hours = _seconds(reader, lengths) / 3600
    audio = _audio_bytes(store, header.key)
    cost = measured(store.records(header.key).values())
    return {
        "name": reader.name,
        "key": header.key,
        "encoding": str(reader.encoding),
        "compression": layout.compression,
        "dtype": reader.encoding.dtype.name,
        "shape": reader.shape_of(int(reader.lengths.max(initial=0)), store.n_rows),
        "n_tracks": count,
        "bytes": size,
        "bytes_added": reader.bytes_added,
        "bytes_per_track": size / count if count else 0.0,
        "hours": hours,
        "bytes_per_hour": size / hours if hours else 0.0,
        "ratio_to_float32": size / as_float32 if as_float32 else None,
        "ratio_to_audio": size / audio if audio else None,
        "stored": True if reader.view.is_identity else "view",
        "exact": reader.view.exact,
        "bound": reader.view.bound,
        "max_error": cost.get("measured_max_error") if reader.view.is_identity else None,
        "mean_error": cost.get("measured_mean_error") if reader.view.is_identity else None,
        "saturated": cost.get("saturated_values", 0),
        "near_ties": cost.get("near_ties"),
    }


def _seconds(reader: FeatureReader, lengths: IntArray) -> float:
    """Seconds of music in ``lengths`` frames of each track; overlaps of excerpts count once."""
    clip = reader.spec.clip
    if reader.clip_frames is None:
        return float(lengths.sum()) * reader.spec.frame_step / reader.spec.sample_rate
    new = min(clip.step_s, clip.length_s)
    return float(np.where(lengths > 0, (lengths - 1) * new + clip.length_s, 0.0).sum())


def _audio_bytes(store: Store, key: str) -> int:
    """Bytes of the audio files behind an array, from the fingerprints in its records."""
    total = 0
    for record in store.records(key).values():
        for frames, source in zip(record.n_frames, record.sources, strict=True):
            size = source.partition(":")[0]
            total += int(size) if frames >= 0 and size.isdecimal() else 0
    return total
