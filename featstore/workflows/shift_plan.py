"""Which altered copies of test tracks the runs of a recipe are scored on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featstore.errors import ConfigError
from featstore.typed_values import build
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
        plan = build(cls, entry, where)
        if plan.tracks < 2:
            raise ConfigError(f"tracks={plan.tracks}", where, "Give a whole number of 2 or more")
        if min(plan.seed, *plan.seeds, 0) < 0:
            raise ConfigError(f"seed={plan.seed}, seeds={list(plan.seeds)}", where, "Give whole numbers of 0 or more")
        for name in plan.names:
            parse_alteration(name)
        return plan
