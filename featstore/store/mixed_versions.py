"""Values that were not made alike: by different library versions (allowed), or from two versions of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from featstore.store.records import CommitRecord
from featstore.store.store import Store

__all__ = ["describe_mix", "mixed_sources", "mixed_versions", "stored_sources"]


def mixed_versions(records: Iterable[CommitRecord]) -> dict[str, dict[str, int]]:
    """Libraries of which an array's shards name more than one version: shards of each version.

    A decoder or a resampler of another version may give other samples, within what tests of parity allow.
    """
    counts: dict[str, Counter[str]] = {}
    for record in records:
        for library, version in record.versions.items():
            counts.setdefault(library, Counter())[version] += 1
    return {library: dict(sorted(found.items())) for library, found in sorted(counts.items()) if len(found) > 1}


def describe_mix(mixed: Mapping[str, Mapping[str, int]]) -> str:
    """Return the versions as a sentence's end.

    Examples
    --------
    >>> describe_mix({"libsndfile": {"1.2.0": 3, "1.2.2": 1}})
    'libsndfile 1.2.0 (3 shards) and 1.2.2 (1 shard)'
    """
    found = []
    for library, versions in mixed.items():
        parts = [f"{version} ({count} shard{'s' if count != 1 else ''})" for version, count in versions.items()]
        found.append(f"{library} {' and '.join(parts)}")
    return ", ".join(found)


def stored_sources(store: Store, keys: Iterable[str]) -> dict[int, dict[str, str]]:
    """Row to the fingerprint of the audio file that each array was made from; tracks without values have none."""
    known: dict[int, dict[str, str]] = {}
    for key in keys:
        for record in store.records(key).values():
            for row, frames, source in zip(record.rows, record.n_frames, record.sources, strict=True):
                if frames >= 0 and source:
                    known.setdefault(row, {})[key] = source
    return known


def mixed_sources(store: Store) -> dict[str, str]:
    """Tracks whose arrays were made from different versions of one file: track id to path."""
    mixed = {row for row, made in stored_sources(store, store.arrays).items() if len(set(made.values())) > 1}
    frame = store.table.frame
    here = frame[frame["row"].isin(mixed)].sort_values("row")
    return {str(track): str(path) for track, path in here["path"].items()}
