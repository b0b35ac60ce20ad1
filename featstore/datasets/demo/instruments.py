"""The instruments of the built-in music: program, range, gain and tag of each."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DRUMS", "INSTRUMENTS", "KITS", "Instrument", "folded", "octave_shift"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One sound of the font.

    Attributes
    ----------
    tag : str
        Label of the clips in which it plays.
    program : int
        General MIDI program, from 0.
    low, high : int
        Range in MIDI keys, both included. Every key in it sounds, and none is so high that a loop of the font becomes
        shorter than one step of the synthesizer at 16 kHz, which would then never return.
    gain_db : float
        Brings a 0.4 s note, on average over the range, to an rms of 0.08 (measured with TimGM6mb at 16 kHz).
    """

    tag: str
    program: int
    low: int
    high: int
    gain_db: float


# Programs 48 and 56 are left out: on a few keys the synthesizer reads past their samples, so that no two renderings
# are equal.
INSTRUMENTS = {
    "piano": Instrument("piano", 0, 33, 93, -3.0),
    "harpsichord": Instrument("harpsichord", 6, 36, 88, -11.1),
    "music box": Instrument("mallets", 10, 60, 98, -10.7),
    "marimba": Instrument("mallets", 12, 36, 88, -5.9),
    "organ": Instrument("organ", 19, 36, 86, -11.9),
    "accordion": Instrument("accordion", 21, 43, 84, -14.8),
    "nylon guitar": Instrument("guitar", 24, 40, 81, -12.1),
    "jazz guitar": Instrument("electric guitar", 27, 40, 81, -5.4),
    "distorted guitar": Instrument("electric guitar", 30, 40, 79, -13.1),
    "bass": Instrument("bass", 33, 28, 52, -10.3),
    "violin": Instrument("strings", 40, 55, 91, -15.3),
    "viola": Instrument("strings", 41, 48, 84, -15.3),
    "cello": Instrument("strings", 42, 36, 74, -15.6),
    "string section": Instrument("strings", 49, 36, 88, -13.2),
    "harp": Instrument("harp", 46, 36, 93, -14.8),
    "choir": Instrument("choir", 52, 40, 81, -11.6),
    "brass section": Instrument("brass", 61, 43, 84, -5.9),
    "trombone": Instrument("brass", 57, 40, 72, -9.0),
    "tuba": Instrument("brass", 58, 28, 60, -9.0),
    "horn": Instrument("brass", 60, 40, 76, -15.1),
    "saxophone": Instrument("reed", 66, 46, 78, -12.8),
    "oboe": Instrument("reed", 68, 58, 88, -11.1),
    "bassoon": Instrument("reed", 70, 34, 72, -11.8),
    "clarinet": Instrument("reed", 71, 50, 88, -13.6),
    "piccolo": Instrument("flute", 72, 62, 96, -15.6),
    "flute": Instrument("flute", 73, 60, 94, -12.7),
    "recorder": Instrument("flute", 74, 48, 93, -16.4),
    "pan flute": Instrument("flute", 75, 55, 91, -15.4),
    "synth lead": Instrument("synth", 81, 40, 86, -19.9),
    "synth pad": Instrument("synth", 89, 36, 86, -9.7),
    "sitar": Instrument("plucked east", 104, 48, 79, -7.5),
    "banjo": Instrument("banjo", 105, 48, 81, -7.6),
    "shamisen": Instrument("plucked east", 106, 50, 81, -3.0),
    "koto": Instrument("plucked east", 107, 45, 86, -7.8),
    "bagpipe": Instrument("bagpipe", 109, 45, 84, -13.0),
    "fiddle": Instrument("strings", 110, 55, 88, -13.9),
}

DRUMS = "drums"
# The synthesizer has no touch, so hats and drums are two sounds, mixed at levels of their own.
KITS = {"drum kit": -6.0, "hats": -14.0}


def octave_shift(keys: list[int], low: int, high: int) -> int:
    """Whole octaves, in semitones, that bring the middle of ``keys`` nearest to the middle of a range.

    Examples
    --------
    >>> octave_shift([48, 50, 52], 60, 94)
    24
    """
    ordered = sorted(keys)
    median = ordered[len(ordered) // 2]
    return 12 * round(((low + high) / 2 - median) / 12)


def folded(key: int, low: int, high: int) -> int:
    """``key`` moved by octaves into a range of at least one octave.

    Examples
    --------
    >>> folded(59, 60, 94), folded(100, 60, 94)
    (71, 88)
    """
    if key < low:
        key += 12 * -((key - low) // 12)
    if key > high:
        key -= 12 * -((high - key) // 12)
    return key
