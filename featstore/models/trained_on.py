"""Data that weights of encoders and tokenizers were trained on, where it is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

__all__ = ["TrainedOn", "members_of"]


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """What weights were trained on.

    Attributes
    ----------
    data : str
        Data sets, as people name them; empty for random weights.
    members : tuple of str
        ``DATA SET: track ID`` and ``DATA SET: group NAME`` of tracks that weights of ours were trained on, sorted;
        empty for weights of others.
    """

    data: str
    members: tuple[str, ...] = ()

    @classmethod
    def read(cls, found: Any) -> Self | None:
        """Of a checkpoint's metadata, as :meth:`as_json` writes it; None for anything else."""
        if not isinstance(found, Mapping) or not isinstance(found.get("data"), str):
            return None
        return cls(found["data"], tuple(map(str, found.get("members") or ())))

    def as_json(self) -> dict[str, Any]:
        """Plain values, for metadata of checkpoints and notes of stores."""
        return asdict(self)


def members_of(dataset: str, track_ids: Iterable[str], groups: Iterable[str]) -> set[str]:
    """Names of some tracks, and of their groups, each with its data set.

    Parameters
    ----------
    dataset : str
    track_ids : iterable of str
    groups : iterable of str
        As :func:`featstore.training.labels.groups_of` has them.
    """
    return {f"{dataset}: {member}" for member in (*(f"track {track}" for track in track_ids), *groups)}
