"""Which altered copies of test tracks the runs of a recipe are scored on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from featstore.errors import ConfigError, check_keys
from featstore.workflows.alterations import parse_alteration

__all__ = ["ShiftPlan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftPlan:
    """The key ``shifts`` of a recipe.

    Attributes
    ----------
    names : tuple of str
        Alterations, such as ``mp3-64k``.
    tracks : int
        Test tracks that are altered, at most.
    seeds : tuple of int
        Runs of these seeds are scored.
    seed : int
        Of what an alteration draws.
    """

    names: tuple[str, ...] = ()
    tracks: int = 120
    seeds: tuple[int, ...] = (0,)
    seed: int = 0

    @classmethod
    def read(cls, entry: Any, where: str) -> ShiftPlan:
        """Read the key as YAML has it.

        Raises
        ------
        ConfigError
            For anything but a mapping, an unknown key or alteration, or a value of another type.
        """
        where = f"{where}: shifts"
        check_keys(entry, [each.name for each in fields(cls)], where)
        given: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in entry.items()}
        plan = cls(**given)
        if not isinstance(plan.tracks, int) or plan.tracks < 2:
            raise ConfigError(f"tracks: {plan.tracks!r}", where, "Give a whole number of 2 or more")
        if not isinstance(plan.seed, int) or plan.seed < 0:
            raise ConfigError(f"seed: {plan.seed!r}", where, "Give a whole number of 0 or more")
        for key, each, kind, example in (("names", plan.names, str, "[mp3-64k]"), ("seeds", plan.seeds, int, "[0]")):
            if not isinstance(each, tuple) or not all(isinstance(one, kind) for one in each):
                raise ConfigError(f"{key}: {each!r}", where, f"Give a list, such as {example}")
        for name in plan.names:
            parse_alteration(name)
        return plan
