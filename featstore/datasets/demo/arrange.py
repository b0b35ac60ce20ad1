"""From the notes of a work to a clip: who plays what, and the tags that are true of it.

Everything is drawn from a hash of seed and work, so all windows of a work share one arrangement and nothing is stored.
Half of the works get sounds usual for their style, half any: timbre helps to tell a style and does not give it away.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from featstore.datasets.demo import harmony
from featstore.datasets.demo.instruments import DRUMS, INSTRUMENTS, folded, octave_shift
from featstore.datasets.demo.works import STYLES

__all__ = ["CLIP_MS", "TAGS", "Arrangement", "Clip", "Event", "arrange", "tempo_of", "window"]

CLIP_MS = 29_100
"""Length of a clip in milliseconds, that of MagnaTagATune."""

TAGS = (
    *STYLES,
    *("flute", "drums", "strings", "bass", "accordion", "reed", "harp", "organ", "choir", "piano", "guitar", "brass"),
    *("synth", "electric guitar", "banjo", "plucked east", "mallets", "harpsichord", "bagpipe"),
    *("polyphonic", "band", "solo", "chords", "drone"),
    *("slow", "medium", "fast"),
    *("low", "middle", "high"),
    *("major", "minor"),
    *("duple time", "compound time", "triple time"),
)

# Quarter notes per minute, lowest and highest.
_TEMPI = {
    "reel": (180, 220), "jig": (150, 185), "hornpipe": (130, 180), "slip jig": (140, 180),
    "Scots air": (80, 150), "German song": (80, 150), "Chinese song": (70, 140), "chorale": (60, 100),
    "mass": (110, 170), "madrigal": (80, 130), "trecento": (110, 170), "string quartet": (85, 140),
}  # fmt: skip

_LEADS = (
    "fiddle", "flute", "piccolo", "recorder", "accordion", "bagpipe", "banjo", "nylon guitar", "piano", "harp",
    "clarinet", "oboe", "saxophone", "brass section", "synth lead", "jazz guitar", "distorted guitar", "koto", "sitar",
    "shamisen", "pan flute", "music box", "marimba", "choir", "organ", "harpsichord", "violin",
)  # fmt: skip
_USUAL_LEADS = {
    "reel": ("fiddle", "flute", "piccolo", "accordion", "banjo"),
    "jig": ("fiddle", "flute", "piccolo", "bagpipe", "accordion"),
    "hornpipe": ("fiddle", "accordion", "piccolo", "banjo", "flute"),
    "slip jig": ("fiddle", "flute", "piccolo", "bagpipe", "harp"),
    "Scots air": ("bagpipe", "fiddle", "flute", "harp", "piccolo"),
    "German song": ("clarinet", "choir", "accordion", "recorder", "brass section"),
    "Chinese song": ("koto", "shamisen", "pan flute", "violin", "sitar"),
}
_FORMS = (("solo", 30), ("drone", 12), ("chords", 28), ("band", 30))
_ACCOMPANISTS = (
    *("nylon guitar", "piano", "harp", "accordion", "organ", "jazz guitar", "synth pad", "string section", "banjo"),
)
_SUSTAINED = ("organ", "synth pad", "string section")

# Sounds from the highest voice to the lowest; the last one takes all voices below.
_ENSEMBLES = {
    "choir": ("choir",),
    "organ": ("organ",),
    "harpsichord": ("harpsichord",),
    "piano": ("piano",),
    "guitars": ("nylon guitar",),
    "strings": ("violin", "violin", "viola", "cello"),
    "brass": ("brass section", "brass section", "horn", "trombone", "tuba"),
    "winds": ("flute", "oboe", "clarinet", "bassoon"),
    "recorders": ("recorder",),
    "synth": ("synth lead", "synth pad"),
    "mallets": ("marimba",),
    "harp": ("harp",),
}
_USUAL_ENSEMBLES = {
    "chorale": ("choir", "organ", "brass"),
    "mass": ("choir", "organ", "recorders"),
    "madrigal": ("choir", "strings", "recorders"),
    "trecento": ("recorders", "harp", "winds"),
    "string quartet": ("strings", "winds", "piano"),
}
_SHIFTS = (-5, -3, -2, 0, 0, 0, 2, 3, 4)

_KICK, _SNARE, _HAT = 36, 38, 42
_QUARTER, _EIGHTH = 480, 240


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """One note: onset and duration in milliseconds, MIDI key, and the sound that plays it."""

    onset_ms: int
    duration_ms: int
    key: int
    sound: str


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A work arranged: events in ticks over its whole length, and what is true of all its windows."""

    events: tuple[tuple[int, int, int, str], ...]
    tempo: int
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Clip:
    """29.1 seconds of an arrangement, and its tags in the order of ``TAGS``."""

    events: tuple[Event, ...]
    tags: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Digest of the list of events: what the clip is, whatever machine renders it."""
        text = "\n".join(f"{each.onset_ms} {each.duration_ms} {each.key} {each.sound}" for each in self.events)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _milliseconds(ticks: int, tempo: int) -> int:
    return ticks * 60_000 // (tempo * _QUARTER)


def _generator(seed: int, work: str) -> random.Random:
    return random.Random(hashlib.sha256(f"{seed}|{work}".encode()).hexdigest())


def tempo_of(work: str, style: str, *, seed: int) -> int:
    """Quarter notes per minute at which a work is played."""
    return _generator(seed, work).randint(*_TEMPI[style])


def arrange(notes: np.ndarray, *, work: str, style: str, metre: str = "", seed: int = 0) -> Arrangement:
    """Arrange a work.

    Parameters
    ----------
    notes : int32 (n_notes, 4)
        Part, onset and duration in ticks, key.
    work, style : str
        Names; the work's decides every choice.
    metre : str
        The metre of a tune, such as ``6/8``; empty for a score in parts.
    seed : int
        Another seed gives other arrangements.
    """
    rng = _generator(seed, work)
    tempo = rng.randint(*_TEMPI[style])
    shift = rng.choice(_SHIFTS)
    notes = notes.copy()
    notes[:, 3] += shift
    if metre:
        return _arranged_tune(notes, style=style, metre=metre, tempo=tempo, rng=rng)
    return _arranged_score(notes, style=style, tempo=tempo, rng=rng)


def _repeated(notes: np.ndarray, *, unit: int, tempo: int) -> np.ndarray:
    """Notes played again until they fill a clip, each time from the start of a ``unit``."""
    end = int((notes[:, 1] + notes[:, 2]).max())
    length = -(-end // unit) * unit
    if _milliseconds(end, tempo) >= CLIP_MS:
        return notes
    times = -(-(CLIP_MS + 1000) // max(1, _milliseconds(length, tempo)))
    step = np.array([0, length, 0, 0], np.int32)
    return np.concatenate([notes + step * time for time in range(times)])


def _arranged_tune(notes: np.ndarray, *, style: str, metre: str, tempo: int, rng: random.Random) -> Arrangement:
    bar = harmony.bar_ticks(metre)
    notes = _repeated(notes[notes[:, 0] == notes[0, 0]], unit=bar, tempo=tempo)
    end = int((notes[:, 1] + notes[:, 2]).max())
    tonic, mode = harmony.find_key(notes)
    lead = rng.choice(_USUAL_LEADS[style] if rng.random() < 0.5 else _LEADS)
    form = rng.choices([name for name, _ in _FORMS], [weight for _, weight in _FORMS])[0]
    accompanist = rng.choice(_ACCOMPANISTS)
    events = _voice(notes, lead, shift_octaves=True, legato=95)
    tags = {style, form, mode, harmony.metre_tag(metre), INSTRUMENTS[lead].tag}
    if form == "drone":
        sound = "bagpipe" if lead == "bagpipe" else rng.choice(("accordion", "bagpipe"))
        low, high = INSTRUMENTS[sound].low, INSTRUMENTS[sound].high
        starts = range(0, end, 4 * bar)
        events += [(start, 4 * bar, folded(36 + tonic + step, low, high), sound) for start in starts for step in (0, 7)]
        tags.add(INSTRUMENTS[sound].tag)
    if form in ("chords", "band"):
        chords = harmony.harmonise(notes, bar=bar, tonic=tonic, mode=mode, end=end)
        events += _accompaniment(chords, accompanist, metre=metre, bar=bar)
        tags.add(INSTRUMENTS[accompanist].tag)
        if form == "band":
            events += [*_bass(chords, bar), *_beat(end, _kit(metre, bar), bar)]
            tags |= {DRUMS, "bass"}
    return Arrangement(tuple(sorted(events)), tempo, frozenset(tags))


def _arranged_score(notes: np.ndarray, *, style: str, tempo: int, rng: random.Random) -> Arrangement:
    notes = _repeated(notes, unit=4 * _QUARTER, tempo=tempo)
    end = int((notes[:, 1] + notes[:, 2]).max())
    _, mode = harmony.find_key(notes)
    palette = _ENSEMBLES[rng.choice(_USUAL_ENSEMBLES[style] if rng.random() < 0.5 else sorted(_ENSEMBLES))]
    with_beat = rng.random() < 0.2  # keeps "drums" from meaning "folk"
    parts = [notes[notes[:, 0] == number] for number in np.unique(notes[:, 0])]
    parts.sort(key=lambda part: (-float(np.median(part[:, 3])), int(part[0, 0])))
    events: list[tuple[int, int, int, str]] = []
    tags = {style, "polyphonic", mode}
    for rank, part in enumerate(parts):
        sound = palette[min(rank, len(palette) - 1)]
        events += _voice(part, sound, shift_octaves=False, legato=97)
        tags.add(INSTRUMENTS[sound].tag)
    if with_beat:
        events += _beat(end, _kit("4/4", 4 * _QUARTER), 4 * _QUARTER)
        tags.add(DRUMS)
    return Arrangement(tuple(sorted(events)), tempo, frozenset(tags))


def _voice(part: np.ndarray, sound: str, *, shift_octaves: bool, legato: int) -> list[tuple[int, int, int, str]]:
    """A part within the range of a sound, each note ``legato`` hundredths of its length."""
    low, high = INSTRUMENTS[sound].low, INSTRUMENTS[sound].high
    octave = octave_shift(part[:, 3].tolist(), low, high) if shift_octaves else 0
    return [
        (onset, max(1, length * legato // 100), folded(key + octave, low, high), sound)
        for _, onset, length, key in part.tolist()
    ]


def _accompaniment(
    chords: Iterable[tuple[int, int, int]], sound: str, *, metre: str, bar: int
) -> Iterator[tuple[int, int, int, str]]:
    """Triads in a middle register, held or on the off-beats."""
    sustained = sound in _SUSTAINED
    if sustained:
        beats: tuple[int, ...] = (0,)
    elif metre == "3/4":
        beats = (_QUARTER, 2 * _QUARTER)
    elif harmony.metre_tag(metre) == "compound time":
        beats = tuple(range(0, bar, 3 * _EIGHTH))
    else:
        beats = (_QUARTER, 3 * _QUARTER) if bar >= 4 * _QUARTER else (_EIGHTH, 3 * _EIGHTH)
    length = bar if sustained else _QUARTER * 6 // 10
    for start, root, third in chords:
        for key in (root, root + third, root + 7):
            placed = 53 + (key - 53) % 12
            yield from ((start + beat, length, placed, sound) for beat in beats if beat < bar)


def _bass(chords: Iterable[tuple[int, int, int]], bar: int) -> list[tuple[int, int, int, str]]:
    halves = (0,) if bar == 3 * _QUARTER else (0, bar // 2)
    return [
        (start + half, _QUARTER * 9 // 10, folded(36 + root, 29, 43), "bass")
        for start, root, _ in chords
        for half in halves
    ]


def _kit(metre: str, bar: int) -> list[tuple[int, int]]:
    """(Offset in the bar, drum) of one bar of a plain beat."""
    if metre == "3/4":
        return [(0, _KICK), *[(beat * _QUARTER, drum) for beat in (1, 2) for drum in (_HAT, _SNARE)]]
    hats = [(offset, _HAT) for offset in range(0, bar, _EIGHTH)]
    if harmony.metre_tag(metre) == "compound time":
        strokes = [(offset, _SNARE if offset else _KICK) for offset in range(0, bar, 3 * _EIGHTH)]
    else:
        strokes = [(offset, _SNARE if offset // _QUARTER % 2 else _KICK) for offset in range(0, bar, _QUARTER)]
    return strokes + hats


def _beat(end: int, kit: Iterable[tuple[int, int]], bar: int) -> list[tuple[int, int, int, str]]:
    return [
        (start + offset, _EIGHTH // 2, drum, "hats" if drum == _HAT else "drum kit")
        for start in range(0, end, bar)
        for offset, drum in kit
        if start + offset < end
    ]


def window(arrangement: Arrangement, number: int) -> Clip:
    """One window of an arrangement, from ``number`` times 29.1 s on.

    A note that began before the window sounds from its start. Windows after the first are made only where the music
    lasts to their end, see ``sizes.n_windows``.
    """
    start, tempo = number * CLIP_MS, arrangement.tempo
    events = []
    for onset, length, key, sound in arrangement.events:
        begin, end = _milliseconds(onset, tempo) - start, _milliseconds(onset + length, tempo) - start
        if begin < CLIP_MS and end > 0:
            events.append(Event(max(begin, 0), min(end, CLIP_MS) - max(begin, 0), key, sound))
    events.sort()
    tags = arrangement.tags | {_pace(events), _register(events)}
    return Clip(tuple(events), tuple(tag for tag in TAGS if tag in tags))


def _pace(events: list[Event]) -> str:
    """By onsets a second, those within 10 ms of each other counted once."""
    onsets = len({each.onset_ms // 10 for each in events if each.onset_ms > 0})
    rate = onsets * 1000 / CLIP_MS
    return "fast" if rate > 6 else "slow" if rate < 2.6 else "medium"


def _register(events: list[Event]) -> str:
    keys = sorted(each.key for each in events if each.sound in INSTRUMENTS)
    median = keys[len(keys) // 2] if keys else 66
    return "high" if median > 74 else "low" if median < 62 else "middle"
