"""How much music an MPEG audio file (layers 1 to 3) holds: its frames, counted, against the table in its first one.

Encoders put a table (``Xing``, ``Info`` or ``VBRI``) into the first frame. libsndfile stops where it says; without one
it guesses the length from the file's size and the first frame's bit rate, and stops there. Both lose music silently.
The rule: a table is trusted when its frames, its bytes and the file's size agree. Otherwise frames are counted.

Sources: ISO/IEC 11172-3 and 13818-3 (frame header), the ID3v2.4 and APEv2 specifications (tags), the LAME tag's
revision 1 (table).
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

from featstore.audio.content import Content, LocalContent, syncsafe, zeros_end
from featstore.audio.frame_chain import follow_frames
from featstore.audio.structure import Structure
from featstore.audio.views import ViewOf

__all__ = ["audio_end", "examine_mpeg", "find_frames", "tags_end"]

TOLERANCE_S = 0.25  # what tables, encoder delays and last frames may differ by
_JUNK = 1 << 17  # bytes before the first frame that are no tag
_CHAIN = 4  # frames in a row that show that a header is none by accident
_PROBES = 64  # places of a file where a constant rate must show
_SHORT = 1 << 20  # bytes that are copied rather than looked at in places
_ID3V1 = 128

# kbit/s by the header's four bits
_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_RATES[2, 3] = _RATES[2, 2]
_SAMPLE_RATES = (44100, 48000, 32000)  # of MPEG 1; halved in MPEG 2, quartered in 2.5


@dataclass(frozen=True, slots=True)
class _Kind:
    """What all frames of a stream have in common.

    Attributes
    ----------
    sample_rate : int
    samples : int
        Of one channel, in a frame.
    steps : tuple of int
        Bytes of a frame by the third byte of its header; 0 where that belongs to another stream or to no frame.
    """

    sample_rate: int
    samples: int
    steps: tuple[int, ...]


@functools.lru_cache(maxsize=64)
def _kind_of(second: int, rate_bits: int) -> _Kind | None:
    """Kind of the frames whose header has this second byte and these two bits of sample rate."""
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)  # version 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    if second & 0xE0 != 0xE0 or version == 1 or layer == 4 or rate_bits == 3:
        return None
    sample_rate = _SAMPLE_RATES[rate_bits] // {3: 1, 2: 2, 0: 4}[version]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    rates = _RATES[1 if version == 3 else 2, layer]
    steps = []
    for third in range(256):
        rate, padding = rates[third >> 4], third >> 1 & 1
        if third >> 2 & 3 != rate_bits or rate == 0:
            steps.append(0)
        elif layer == 1:
            steps.append((12000 * rate // sample_rate + padding) * 4)
        else:
            steps.append(samples // 8 * 1000 * rate // sample_rate + padding)
    return _Kind(sample_rate, samples, tuple(steps))


def _kind_at(content: Content, at: int) -> tuple[_Kind | None, int]:
    """Kind of the frame at a position, and its bytes; (None, 0) where there is no header."""
    head = content[at : at + 3]
    if len(head) < 3 or head[0] != 0xFF:
        return None, 0
    kind = _kind_of(head[1], head[2] >> 2 & 3)
    return (kind, kind.steps[head[2]]) if kind is not None and kind.steps[head[2]] else (None, 0)


def _is_chain(content: Content, at: int, end: int, kind: _Kind | None = None) -> bool:
    """Whether several frames of one kind follow each other from here, or fill what is left."""
    for count in range(_CHAIN):
        found, step = _kind_at(content, at)
        if found is None or (kind is not None and found is not kind):
            return False
        kind, at = found, at + step
        if at + 4 > end:
            return count > 0 or at <= end
    return True


def tags_end(content: Content, at: int = 0) -> int:
    """Position behind all tags and zeros that begin at ``at``; ``at`` itself where there are none."""
    while True:
        head = content[at : at + 32]
        if head[:3] == b"ID3" and len(head) >= 10 and head[3] < 0xFF and max(head[6:10]) < 0x80:
            size = 10 + syncsafe(head[6:10])
            after = at + size + (10 if head[5] & 0x10 else 0)  # version 2.4 may repeat the header as a footer
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            after = at + 32 + int.from_bytes(head[12:16], "little")
        elif head[:4] == b"TAG+":
            after = at + 227
        elif head[:3] == b"TAG":
            after = at + _ID3V1
        elif head[:8] == b"\0" * 8:
            after = zeros_end(content, at)
        else:
            return at
        if after > len(content) or after == at:
            return at
        at = after


def audio_end(content: Content) -> int:
    """Position of the tags at the end of a file. Zeros there may belong to the last frame: silence takes many."""
    end = len(content)
    while end > 10:
        tail = content[max(0, end - 32) : end]
        if content[end - _ID3V1 : end - _ID3V1 + 3] == b"TAG" and end >= _ID3V1:
            before = end - _ID3V1
            if before >= 227 and content[before - 227 : before - 223] == b"TAG+":
                before -= 227
        elif tail[:8] == b"APETAGEX":
            size = int.from_bytes(tail[12:16], "little")
            before = end - size - (32 if int.from_bytes(tail[20:24], "little") >> 31 else 0)
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            before = end - 15 - int(tail[-15:-9])
        elif tail[-10:-7] == b"3DI":
            before = end - 20 - syncsafe(tail[-4:])
        else:
            return end
        if not 0 < before < end:
            return end
        end = before
    return end


def find_frames(content: Content, end: int) -> int:
    """Position of the first frame behind tags, zeros and a little junk; -1 where several in a row are found nowhere."""
    at = tags_end(content)
    if _is_chain(content, at, end):
        return at
    junk = content[at : at + _JUNK]
    place = junk.find(b"\xff", 1)
    while place >= 0:
        if _is_chain(content, at + place, end):
            return at + place
        place = junk.find(b"\xff", place + 1)
    return -1


@dataclass(frozen=True, slots=True)
class _Table:
    """The table in a first frame; -1 stands for what it leaves open.

    Attributes
    ----------
    at : int
        Position in the file.
    frames, size : int
        Frames behind the one with the table, and bytes with it.
    """

    at: int
    frames: int
    size: int
    is_vbri: bool = False


def _table_in(content: Content, at: int, step: int) -> _Table | None:
    frame = content[at : at + step]
    if (place := frame.find(b"VBRI", 4, 64)) >= 0 and len(frame) >= place + 18:
        numbers = [int.from_bytes(frame[place + k : place + k + 4], "big") for k in (14, 10)]
        return _Table(at + place, numbers[0], numbers[1], is_vbri=True)
    place = max(frame.find(b"Xing", 4, 64), frame.find(b"Info", 4, 64))
    if place < 0 or len(frame) < place + 8:
        return None
    flags, found, field = int.from_bytes(frame[place + 4 : place + 8], "big"), [-1, -1], place + 8
    for bit in (0, 1):
        if flags >> bit & 1 and len(frame) >= field + 4:
            found[bit] = int.from_bytes(frame[field : field + 4], "big")
            field += 4
    return _Table(at + place, found[0], found[1])


def _with_count(content: Content, first: int, step: int, table: _Table, frames: int, size: int) -> dict[int, bytes]:
    """Patch of the first frame: its table with the counted frames and bytes. The encoder's delay in it stays."""
    counted = frames.to_bytes(4, "big"), size.to_bytes(4, "big")
    old = content[table.at : first + step]
    flags = int.from_bytes(old[4:8], "big")
    rest = old[8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) :]
    new = old[:4] + (flags | 3).to_bytes(4, "big") + counted[0] + counted[1] + rest
    return {table.at: new[: len(old)]}


@dataclass(frozen=True, slots=True)
class _Walk:
    """What a walk over all frames found.

    Attributes
    ----------
    frames : int
        Whole frames of the first one's kind, the one with a table included.
    end : int
        Position behind the last of them.
    skipped : int
        Bytes between frames that are neither frame nor tag.
    damage : str
    has_one_rate : bool
        Whether all frames have the first one's bit rate.
    """

    frames: int
    end: int
    skipped: int = 0
    damage: str = ""
    has_one_rate: bool = False


def _walk(content: LocalContent, at: int, end: int, kind: _Kind) -> _Walk:
    """Count frames from a first one on, over tags and junk between them, as far as their format does not change."""
    head = content[at : at + 3]
    frames, skipped, damage, behind, has_one_rate = 0, 0, "", at, True
    while at + 4 <= end:
        count, at, is_one_rate = follow_frames(content, at, end, head, kind.steps)
        frames, has_one_rate = frames + count, has_one_rate and is_one_rate
        if count:
            behind = at
        if at + 4 > end:
            break
        if content[at] == 0xFF and content[at + 1] | 1 == head[1] | 1 and kind.steps[content[at + 2]]:
            damage = "the file ends inside a frame: it is cut"
            break
        found = _next_frames(content, at, end, kind)
        if found < 0:
            break
        other, step = _kind_at(content, found)
        if other is not kind:
            damage = "more music of another format follows, and is not decoded"
            break
        if _table_in(content, found, step) is not None:
            damage = "several files were joined, and only the first is decoded"
            break
        skipped += found - tags_end(content, at)
        at = found
    return _Walk(frames, behind, skipped, damage, has_one_rate)


def _next_frames(content: LocalContent, at: int, end: int, kind: _Kind) -> int:
    """Position of the next frames behind tags, zeros and junk, of this kind or another; -1 where there are none."""
    at = tags_end(content, at)
    first_other = -1
    while 0 <= at < end - 4:
        if _is_chain(content, at, end, kind):
            return at
        if first_other < 0 and _is_chain(content, at, end):
            first_other = at
        at = content.find(b"\xff", at + 1)
    return first_other


def examine_mpeg(content: Content, *, thoroughly: bool) -> Structure | None:
    """Find out how long an MPEG audio file is; None where no frames are found (free bit rate among others).

    Parameters
    ----------
    content : Content
        The file.
    thoroughly : bool
        Whether to count frames even where table and file size agree.
    """
    end = audio_end(content)
    first = find_frames(content, end)
    if first < 0:
        return None
    kind, step = _kind_at(content, first)
    assert kind is not None
    view = None if first <= _plain_start(content) else ViewOf(first, end)
    table = _table_in(content, first, step)
    spare = TOLERANCE_S * kind.sample_rate / kind.samples  # frames
    held = end - first
    if table is not None and table.frames > 0 and table.size > 0 and not thoroughly:
        mean = table.size / table.frames
        used = [length for length in kind.steps if length]
        if abs(table.size - held) <= spare * mean and min(used) <= mean <= max(used) + 2:
            return Structure(table.frames * kind.samples if table.is_vbri else -1, view)
    if table is None and not thoroughly and _is_constant(content, first, end, kind):
        return Structure(int(held / _mean_step(content, first, kind)) * kind.samples, view)
    if not isinstance(content, LocalContent):
        return Structure(view=view)  # far away: what libsndfile reads there is all that is known before it is decoded
    walk = _walk(content, first, end, kind)
    if table is None:
        is_plain = walk.has_one_rate and not walk.skipped and not walk.damage and walk.end == end
        is_constant = is_plain or _is_constant(content, first, end, kind)
        return _without_table(walk, first, kind, spare, is_constant=is_constant, view=view)
    found = _against_table(content, walk, first, step, table, kind, spare, view)
    if not table.is_vbri:
        return found
    # libsndfile's decoder does not read this kind of table: it would guess the length from the first frames
    declared = found.n_samples if found.n_samples >= 0 else walk.frames * kind.samples
    return Structure(declared, ViewOf(first, walk.end, is_open_ended=True), found.damage)


def _plain_start(content: Content) -> int:
    """Where libsndfile finds a first frame by itself: at the start, or behind one tag without a footer."""
    head = content[:10]
    if head[:3] != b"ID3" or len(head) < 10 or head[5] & 0x10 or head[3] == 0xFF:
        return 0
    return 10 + syncsafe(head[6:10])


def _without_table(
    walk: _Walk, first: int, kind: _Kind, spare: float, *, is_constant: bool, view: ViewOf | None
) -> Structure:
    damage = walk.damage
    if walk.frames and walk.skipped > spare * (walk.end - first) / walk.frames:
        damage = damage or f"{walk.skipped} bytes between its frames cannot be decoded"
    shown = view if is_constant else ViewOf(first, walk.end, is_open_ended=True)
    return Structure(walk.frames * kind.samples, shown, damage)


def _against_table(
    content: Content,
    walk: _Walk,
    first: int,
    step: int,
    table: _Table,
    kind: _Kind,
    spare: float,
    view: ViewOf | None,
) -> Structure:
    """Frames and bytes that a table declares, and those that are there."""
    counted = walk.frames - 1  # the frame with the table holds no music
    held = walk.end - first
    mean = (walk.end - first) / walk.frames if walk.frames else step
    lacks_bytes = table.size > 0 and table.size > held + spare * mean
    has_all_bytes = table.size > 0 and abs(table.size - held) <= spare * mean
    joined = walk.damage if "ends inside" not in walk.damage else ""
    if lacks_bytes:
        expected = math.ceil(counted * table.size / max(1, held))  # what the frames that are there lead to expect
        is_plausible = expected / 2 < table.frames < expected * 2
        what = joined or "the file is shorter than its table declares: it is cut"
        return Structure(-1 if is_plausible else expected * kind.samples, view, what)
    if table.frames > 0 and abs(counted - table.frames) <= spare:
        return Structure(-1, view, joined)
    if table.frames > counted and not (has_all_bytes and walk.skipped <= spare * mean):
        return Structure(table.frames * kind.samples, view, joined)
    if 0 < table.frames < counted and not has_all_bytes:
        return Structure(
            -1, view, joined or "more music follows behind the length that the header declares, and is not decoded"
        )
    patch = _with_count(content, first, step, table, counted, walk.end - first)
    return Structure(-1, ViewOf(first, walk.end, patch), joined)


def _mean_step(content: Content, first: int, kind: _Kind) -> float:
    """Mean bytes of a frame at the first one's bit rate, over those with and without padding."""
    second, third = content[first + 1 : first + 3]
    layer = 4 - (second >> 1 & 3)
    rate = _RATES[1 if second >> 3 & 3 == 3 else 2, layer][third >> 4]
    return kind.samples / 8 * 1000 * rate / kind.sample_rate


def _is_constant(content: Content, first: int, end: int, kind: _Kind) -> bool:
    """Whether frames of the first one's bit rate lie where they must, all through the file."""
    like_first = _like(*content[first + 1 : first + 3])
    mean = _mean_step(content, first, kind)
    last = max(0, int((end - first) / mean) - 1)
    if isinstance(content, LocalContent) and end - first <= _SHORT:  # a copy: each place may fault a page in otherwise
        content, first = content[first : end + 12], 0
    places = (first + int(int(probe * last / _PROBES) * mean) for probe in range(1, _PROBES + 1))
    return all(like_first.search(content[max(first, place - 5) : place + 12]) for place in places)


@functools.lru_cache(maxsize=64)
def _like(second: int, third: int) -> re.Pattern[bytes]:
    """Headers that agree with one of these bytes in version, layer, bit rate and sample rate."""
    seconds, thirds = bytes([second & 0xFE, second | 1]), bytes(third & 0xFC | low for low in range(4))
    return re.compile(b"\xff[" + re.escape(seconds) + b"][" + re.escape(thirds) + b"]")
