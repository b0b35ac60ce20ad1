"""Which trained MUSICNN and VGG the package ``musicnn`` ships, by name; listing them imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from featstore.models.musicnn_tags import MSD_TAGS, MTT_TAGS

__all__ = ["PUBLISHED", "Published", "published_name"]


@dataclass(frozen=True, slots=True)
class Published:
    """One published tagger.

    Attributes
    ----------
    name : str
        As in ``MODELS``.
    folder : str
        Of its checkpoint in the package.
    tags : tuple of str
        Names of its outputs.
    in_wheel : bool
        False where only the package's source repository has the weights.
    """

    name: str
    folder: str
    tags: tuple[str, ...]
    in_wheel: bool = True


PUBLISHED: dict[str, Published] = {
    one.name: one
    for one in (
        Published("mtt-musicnn", "MTT_musicnn", MTT_TAGS),
        Published("msd-musicnn", "MSD_musicnn", MSD_TAGS),
        Published("msd-musicnn-big", "MSD_musicnn_big", MSD_TAGS, in_wheel=False),
        Published("mtt-vgg", "MTT_vgg", MTT_TAGS),
        Published("msd-vgg", "MSD_vgg", MSD_TAGS),
    )
}


def published_name(name: str) -> str | None:
    """Our name of a published tagger, None for any other: ``MTT_musicnn`` is ``mtt-musicnn``."""
    plain = name.lower().replace("_", "-")
    return plain if plain in PUBLISHED else None
