"""What the weights behind a run's features, and those it starts from, have seen: its own splits, and other data."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from featstore.errors import DatasetError
from featstore.loaders.stored_feature import FeatureStore, StoredFeature
from featstore.models.trained_on import TrainedOn
from featstore.training.folders import RunFolder
from featstore.training.input_shape import Readers
from featstore.training.labels import LabelledTracks, read_labels

__all__ = ["check_encoders", "check_start", "outside_data", "trained_on"]

logger = logging.getLogger(__name__)

_UNKNOWN = "unknown data"
_MOST_STARTS = 20  # runs that a run started from, one after the other


def check_encoders(store: FeatureStore, readers: Readers, labelled: LabelledTracks) -> None:
    """Refuse features of an encoder or a tokenizer that was trained on what this run validates or tests with.

    That is tracks, or groups. Weights of others do not say which tracks they have seen; reports name their data in a
    column of its own.

    Raises
    ------
    DatasetError
    """
    for reader in readers.values():
        note, made_by = _note(store, reader), "tokenizer"
        if reader.spec.kind == "embedding":
            made_by = "encoder"
            if not note:
                logger.warning("%s: the store does not say what its encoder was trained on", reader.spec.short())
        fix = f"Use a run on the same splits as the {made_by}, or train it again on these"
        _refuse(note.get("members", ()), labelled, f"its {made_by}", reader.spec.short(), fix)


def check_start(place: str, labelled: LabelledTracks) -> None:
    """Refuse weights that were trained on what this run validates or tests with: tracks, or groups such as artists.

    What a run saw stands in its folder; a checkpoint without one cannot be checked.

    Raises
    ------
    DatasetError
    """
    path = RunFolder.around(place).labels
    if not path.is_file():
        logger.warning("%s does not say which tracks it was trained on; splits cannot be checked", place)
        return
    fix = "Start from a run on the same splits, or train it again on them"
    _refuse(read_labels(path).members("train"), labelled, "it", place, fix)


def _refuse(members: Iterable[str], labelled: LabelledTracks, seer: str, where: str, fix: str) -> None:
    """Refuse tracks and groups of the evaluated splits among ``members``; what both train on is no news."""
    seen = set(members) - labelled.members("train")
    for split in ("valid", "test"):
        both = sorted(seen & labelled.members(split))
        if both:
            others = f" and {len(both) - 1} more tracks or groups" if len(both) > 1 else ""
            first = both[0].partition(": ")[2]
            raise DatasetError(f"{seer} was trained on {first}{others} of this run's split {split}", where, fix)


def outside_data(store: FeatureStore, readers: Readers, labelled: LabelledTracks, starts: Iterable[str] = ()) -> str:
    """Data besides the run's own data set that its weights have seen, joined by ``+``; empty for none.

    Parameters
    ----------
    store : FeatureStore
    readers : mapping of str to StoredFeature
    labelled : LabelledTracks
    starts : iterable of str
        Runs and files that the weights start from.
    """
    names: dict[str, None] = {}
    for reader in readers.values():
        if reader.spec.weights_digest is not None:
            names |= dict.fromkeys(str(_note(store, reader).get("data", _UNKNOWN)).split(" + "))
    for place in starts:
        names |= dict.fromkeys(_data_of_run(RunFolder.around(place)))
    return " + ".join(name for name in names if name not in ("", labelled.dataset))


def _note(store: FeatureStore, reader: StoredFeature) -> Mapping[str, Any]:
    digest = reader.spec.weights_digest
    return {} if digest is None else store.weights_note(digest)


def trained_on(place: str | Path) -> TrainedOn | None:
    """Data, tracks and groups that a run and those that it started from were trained on; None without a record.

    Raises
    ------
    CheckpointError
        The record of one of them is damaged.
    """
    names: dict[str, None] = {}
    members: set[str] = set()
    for _ in range(_MOST_STARTS):
        folder = RunFolder.around(place)
        if not folder.labels.is_file():
            names |= dict.fromkeys([_UNKNOWN] if names else [])
            break
        names |= dict.fromkeys(_data_of_run(folder))
        members |= read_labels(folder.labels).members("train")
        place = folder.settings("start").get("run") or ""
        if not place:
            break
    return TrainedOn(" + ".join(filter(None, names)), tuple(sorted(members))) if names else None


def _data_of_run(folder: RunFolder) -> list[str]:
    """Data sets that a run has seen: its own, and others that its weights and features have; some may be empty."""
    run = folder.read_run() or {}
    return [str(run.get("dataset", _UNKNOWN)), *str(run.get("outside_data") or "").split(" + ")]
