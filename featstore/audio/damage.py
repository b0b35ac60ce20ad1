"""What decoders pass over in silence: a stream without its end, and music behind the end that a header declares.

libsndfile takes the last page it finds in an Ogg file for the end of the music, plays the first of several streams that
were joined, and stops in an mp3 file where the table in its first frame says. All three give arrays that look whole.
"""

from __future__ import annotations

import mmap
import struct

from featstore.audio.mp3 import first_frame, frame_bytes

__all__ = ["find_damage"]

_TAIL = 1 << 17  # an Ogg page takes at most 65307 bytes
_ENDS = 4  # bit of a page's header: the last page of its stream
_BEGINS = 2


def find_damage(path: str, form: str) -> str:
    """Say what the file's own structure shows to be missing or ignored; empty where nothing is.

    Parameters
    ----------
    path : str
        A local file.
    form : str
        libsndfile's name of the container.
    """
    if form not in ("OGG", "MP3"):
        return ""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _ogg_damage(content) if form == "OGG" else _mp3_damage(content)


def _ogg_damage(content: mmap.mmap) -> str:
    began = set()
    at = 0
    while content[at : at + 4] == b"OggS" and content[at + 5] & _BEGINS:  # one a stream that plays at the same time
        began.add(content[at + 14 : at + 18])
        at += _page_bytes(content, at)
    end = len(content)
    while (at := content.rfind(b"OggS", max(0, len(content) - _TAIL), end)) >= 0:
        if at + 27 <= len(content) and at + _page_bytes(content, at) <= len(content):
            if content[at + 14 : at + 18] not in began:
                return "several streams were joined, and only the first is decoded"
            return "" if content[at + 5] & _ENDS else "the stream has no end: the file is cut"
        end = at
    return "the stream has no end: the file is cut"


def _page_bytes(content: mmap.mmap, at: int) -> int:
    segments = content[at + 26] if at + 26 < len(content) else 0
    return 27 + segments + sum(content[at + 27 : at + 27 + segments])


def _mp3_damage(content: mmap.mmap) -> str:
    at = first_frame(content)
    if at < 0:
        return ""
    head = content[at : at + 256]
    table = max(head.find(b"Xing"), head.find(b"Info"))
    if table < 0 or len(head) < table + 16:
        return ""
    flags = struct.unpack(">I", head[table + 4 : table + 8])[0]
    if flags & 3 != 3:  # it tells both frames and bytes, or there is nothing to compare
        return ""
    follows = at + struct.unpack(">I", head[table + 12 : table + 16])[0]
    for place in range(follows, min(follows + 4, len(content) - 8)):
        step = int(frame_bytes(content[place : place + 4]))
        if step and any(frame_bytes(content[place + step + more :][:4]) for more in (0, 1)):
            return "more music follows behind the length that the header declares, and is not decoded"
    return ""
