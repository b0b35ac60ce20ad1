"""The 50 tags of the published taggers, in the order of their outputs.

They are the most frequent tags of two data sets: MagnaTagATune (E. Law et al., ISMIR 2009), and the Last.fm tags of the
Million Song Dataset (T. Bertin-Mahieux et al., ISMIR 2011), spelt as there.
"""

from __future__ import annotations

__all__ = ["MSD_TAGS", "MTT_TAGS"]


def _tags(text: str) -> tuple[str, ...]:
    return tuple(" ".join(tag.split()) for tag in text.split(","))


MTT_TAGS: tuple[str, ...] = _tags(
    """
    guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, beat, violin,
    vocal, synth, female, indian, opera, male, singing, vocals, no vocals, harpsichord, loud, quiet, flute,
    woman, male vocal, no vocal, pop, soft, sitar, solo, man, classic, choir, voice, new age, dance, male voice,
    female vocal, beats, harp, cello, no voice, weird, country, metal, female voice, choral
    """
)
"""MagnaTagATune, by falling frequency."""

MSD_TAGS: tuple[str, ...] = _tags(
    """
    rock, pop, alternative, indie, electronic, female vocalists, dance, 00s, alternative rock, jazz, beautiful,
    metal, chillout, male vocalists, classic rock, soul, indie rock, Mellow, electronica, 80s, folk, 90s, chill,
    instrumental, punk, oldies, blues, hard rock, ambient, acoustic, experimental, female vocalist, guitar,
    Hip-Hop, 70s, party, country, easy listening, sexy, catchy, funk, electro, heavy metal, Progressive rock,
    60s, rnb, indie pop, sad, House, happy
    """
)
"""Million Song Dataset, by falling frequency."""
