"""Divide groups of tracks (works, artists, albums) into parts of given shares, none of them on two sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

__all__ = ["assign_parts", "assign_rows"]


def assign_parts(
    members: Mapping[Hashable, Counter[str]],
    *,
    shares: Sequence[float],
    seed: int = 0,
    kept: Mapping[Hashable, int] | None = None,
) -> dict[Hashable, int]:
    """Choose one of the parts with the given shares for every group, given how many tracks of each class it holds.

    Classes are taken from the one with the fewest groups to the one with the most; within a class the big groups come
    first and equals in an order drawn from the seed. Each group goes to the part that is furthest below its share of
    the group's classes. The last groups of a class go to parts that have none of it yet, so that a class with at
    least as many groups as there are parts is found in all of them. Groups in ``kept`` are in their parts from the
    start.
    """
    used = [position for position, share in enumerate(shares) if share > 0]
    totals: Counter[str] = Counter()
    n_groups: Counter[str] = Counter()
    by_class: dict[str, list[Hashable]] = {}
    for key, counts in members.items():
        totals.update(counts)
        n_groups.update(counts.keys())
        for name in counts:
            by_class.setdefault(name, []).append(key)
    filled: dict[str, list[int]] = {name: [0] * len(shares) for name in totals}
    chosen: dict[Hashable, int] = {}

    def put(key: Hashable, part: int) -> None:
        chosen[key] = part
        for name, number in members[key].items():
            filled[name][part] += number

    def place(key: Hashable, choices: Iterable[int]) -> None:
        counts = members[key]

        def lack(position: int) -> float:
            return sum(
                number * (shares[position] * totals[name] - filled[name][position]) / totals[name]
                for name, number in sorted(counts.items())
            )

        put(key, max(choices, key=lambda position: (lack(position), shares[position], -position)))

    for key, part in (kept or {}).items():
        put(key, part)
    for name in sorted(by_class, key=lambda each: (n_groups[each], each)):
        ordered = sorted(by_class[name], key=lambda key: (-sum(members[key].values()), _digest(seed, key)))
        left = [key for key in ordered if key not in chosen]
        for position, key in enumerate(left):
            empty = [split for split in used if filled[name][split] == 0]
            place(key, empty if empty and len(left) - position <= len(empty) else used)
    return chosen


def assign_rows(
    groups: Sequence[Hashable],
    classes: Sequence[Iterable[str]],
    *,
    shares: Sequence[float],
    seed: int = 0,
    kept: Mapping[Hashable, int] | None = None,
) -> list[int]:
    """Choose a part for every row of a table, from the group and the classes of each row: see ``assign_parts``."""
    members: dict[Hashable, Counter[str]] = {}
    for group, names in zip(groups, classes, strict=True):
        members.setdefault(group, Counter()).update(names)
    chosen = assign_parts(members, shares=shares, seed=seed, kept=kept)
    return [chosen[group] for group in groups]


def _digest(seed: int, key: Hashable) -> bytes:
    return hashlib.sha256(f"{seed}|{key}".encode(errors="surrogateescape")).digest()
