"""What the weights behind a run's features, and those it starts from, have seen: its own splits, and other data."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from featstore.errors import DatasetError
from featstore.loaders.stored_feature import FeatureStore, StoredFeature
from featstore.models.trained_on import members_of
from featstore.training.folders import RunFolder
from featstore.training.input_shape import Readers
from featstore.training.labels import LabelledTracks

__all__ = ["check_encoders", "outside_data"]

logger = logging.getLogger(__name__)

_UNKNOWN = "unknown data"


def check_encoders(store: FeatureStore, readers: Readers, labelled: LabelledTracks) -> None:
    """Refuse features of an encoder or a tokenizer that was trained on what this run validates or tests with.

    That is tracks, or groups. Weights of others do not say which tracks they have seen; reports name their data in a
    column of its own.

    Raises
    ------
    DatasetError
    """
    for reader in readers.values():
        note = _note(store, reader)
        members = note.get("members", ())
        if reader.spec.kind == "embedding" and not note:
            logger.warning("%s: the store does not say what its encoder was trained on", reader.spec.short())
        if not members:
            continue
        seen = set(members) - _members(labelled, "train")
        for split in ("valid", "test"):
            both = sorted(seen & _members(labelled, split))
            if both:
                others = f" and {len(both) - 1} more tracks or groups" if len(both) > 1 else ""
                made_by = "encoder" if reader.spec.kind == "embedding" else "tokenizer"
                raise DatasetError(
                    f"its {made_by} was trained on {both[0].partition(': ')[2]}{others} of this run's split {split}",
                    reader.spec.short(),
                    f"Use a run on the same splits as the {made_by}, or train it again on these",
                )


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
    for place in map(Path, starts):
        run = RunFolder(place if place.is_dir() else place.parent.parent).read_run() or {}
        names |= dict.fromkeys([str(run.get("dataset", _UNKNOWN)), *str(run.get("outside_data") or "").split(" + ")])
    return " + ".join(name for name in names if name not in ("", labelled.dataset))


def _note(store: FeatureStore, reader: StoredFeature) -> Mapping[str, Any]:
    digest = reader.spec.weights_digest
    return {} if digest is None else store.weights_note(digest)


def _members(labelled: LabelledTracks, split: str) -> set[str]:
    """Tracks and groups of a split, each with its data set."""
    part = labelled.splits.get(split)
    if part is None:
        return set()
    return members_of(labelled.dataset, part.track_ids, part.groups)
