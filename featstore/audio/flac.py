"""How many samples a FLAC file holds: its last frame's number against the count in its first block.

libsndfile stops at the count of STREAMINFO, whatever follows. The rule: the number in the header of the last frame says
where the music ends. Source: RFC 9639, sections 8.2 (streaminfo) and 9.1 (frame header).
"""

from __future__ import annotations

from featstore.audio.content import Content, LocalContent
from featstore.audio.mp3 import TOLERANCE_S, tags_end
from featstore.audio.structure import Structure
from featstore.audio.views import ViewOf

__all__ = ["examine_flac"]

_WINDOW = 1 << 18  # bytes at the end in which frames are looked for, where STREAMINFO does not say how long they are
_MOST_WINDOW = 1 << 24
_SIZES = {1: 192, 2: 576, 3: 1152, 4: 2304, 5: 4608} | {code: 256 << (code - 8) for code in range(8, 16)}


def examine_flac(content: Content, *, thoroughly: bool) -> Structure | None:
    """Compare what the first block and the last frame say; None where the file is no FLAC.

    Parameters
    ----------
    content : Content
    thoroughly : bool
        Whether to look for a second stream behind the first: the whole of a local file is read.
    """
    start = tags_end(content)
    head = content[start : start + 42]
    if head[:4] != b"fLaC" or len(head) < 42 or head[4] & 0x7F:
        return None
    info = head[8:]
    block = int.from_bytes(info[2:4], "big")
    longest = int.from_bytes(info[7:10], "big")
    packed = int.from_bytes(info[10:18], "big")
    sample_rate, declared = packed >> 44, packed & (1 << 36) - 1
    heads = (b"fLaC" + kind + b"\0\0\x22" for kind in (b"\0", b"\x80"))  # STREAMINFO may be the last metadata, or not
    if thoroughly and isinstance(content, LocalContent) and any(content.find(one, start + 42) > 0 for one in heads):
        return Structure(damage="several files were joined, and only the first is decoded")
    found = _last_sample(content, start, block, longest)
    view = ViewOf(patches={start + 18: (packed & ~((1 << 36) - 1) | max(0, found)).to_bytes(8, "big")})
    if found > 0 and declared == 0:
        return Structure(found, view)
    if found > declared + TOLERANCE_S * sample_rate:
        what = f"the header declares {declared} samples where the frames hold {found}"
        return Structure(found, view, what)
    return Structure()


def _last_sample(content: Content, start: int, block: int, longest: int) -> int:
    window = min(_MOST_WINDOW, 3 * longest + 4096 if longest else _WINDOW)
    begin = max(start + 42, len(content) - window)
    tail = content[begin : len(content)]
    later: dict[int, int] = {}  # first sample of a frame -> one behind its last, of frames closer to the end
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        frame = _frame(tail[place : place + 16], block)
        if frame is None:
            continue
        first, stop = frame
        if stop in later:  # two frames that follow each other: neither is there by accident
            return later[stop]
        if first == 0 and not later:
            return stop
        later[first] = stop
    return -1


def _frame(head: bytes, fixed: int) -> tuple[int, int] | None:
    """First sample of a frame and the one behind its last; None where the header's check sum does not fit."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[3] >> 4 > 10:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    if size_code == 0 or rate_code == 15 or head[3] >> 1 & 7 == 3:
        return None
    lead = head[4]
    extra = next((k for k in range(7) if not lead & 0x80 >> k), 7)  # bytes of a number in extended UTF-8
    length = max(1, extra)
    if extra == 1 or len(head) < 4 + length + 5:
        return None
    number = lead & (0x7F >> extra if extra else 0x7F)
    for byte in head[5 : 4 + length]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    at = 4 + length
    size = _SIZES.get(size_code, 0)
    if size_code in (6, 7):
        width = size_code - 5
        size, at = int.from_bytes(head[at : at + width], "big") + 1, at + width
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    first = number if head[1] & 1 else number * fixed
    return first, first + size


def _crc8(data: bytes) -> int:
    """Check sum of a frame header: polynomial x^8 + x^2 + x + 1."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07 if value & 0x80 else value << 1) & 0xFF
    return value
