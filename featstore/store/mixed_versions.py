"""Shards of one array that were made by different library versions: allowed, and reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from featstore.store.records import CommitRecord

__all__ = ["describe_mix", "mixed_versions"]


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
