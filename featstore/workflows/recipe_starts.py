"""Models of a recipe that start from its runs on another data set, such as AudioSet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from featstore.datasets import DATASETS
from featstore.training.settings import merge
from featstore.workflows.selection import ModelPlan

__all__ = ["linked", "starts_on"]

logger = logging.getLogger(__name__)


def _links(plan: ModelPlan) -> dict[str, tuple[str, str]]:
    """Kind of data set and model behind each part that is written ``KIND:NAME``."""
    given = (plan.settings.get("start") or {}).get("weights") or {}
    pairs = {part: str(place).partition(":") for part, place in given.items()}
    return {part: (kind, name) for part, (kind, colon, name) in pairs.items() if colon and kind in DATASETS}


def starts_on(plans: Iterable[ModelPlan]) -> dict[str, list[str]]:
    """Models that plans start from, by the kind of the data set they are trained on."""
    found: dict[str, list[str]] = {}
    for kind, name in (link for plan in plans for link in _links(plan).values()):
        if name not in found.setdefault(kind, []):
            found[kind].append(name)
    return found


def linked(plans: Sequence[ModelPlan], folder: Path) -> list[ModelPlan]:
    """Plans with the folders of the runs that they start from; where there is no such run, they are left out.

    Runs on another data set lie in ``KIND/runs/NAME`` of the recipe's folder.
    """
    ready = []
    for plan in plans:
        links = _links(plan)
        runs = {part: _run(folder / kind / "runs" / name) for part, (kind, name) in links.items()}
        lacking = [links[part] for part, run in runs.items() if run is None]
        if lacking:
            kind, name = lacking[0]
            fix = f"give --data {kind}=ROOT as well"
            logger.warning("%s is left out: it starts from %s on %s, which was not run; %s", plan.name, name, kind, fix)
            continue
        places = {part: str(run) for part, run in runs.items()}
        ready.append(replace(plan, settings=merge(plan.settings, {"start": {"weights": places}})) if places else plan)
    return ready


def _run(folder: Path) -> Path | None:
    """The first finished run below a folder."""
    return next((path.parent for path in sorted(folder.rglob("result.json"))), None)
