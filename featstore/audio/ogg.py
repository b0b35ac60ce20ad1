"""What the pages of an Ogg file show: streams that were joined, and an end that is missing.

libsndfile takes the last page that it finds for the end of the music, and plays the first of several streams that were
joined. The rule: all streams begin before the first page of content, each number of a stream is used once, and the last
page says that it is the last. Source: RFC 3533, section 6.
"""

from __future__ import annotations

from featstore.audio.content import LocalContent

__all__ = ["ogg_damage"]

_ENDS = 4  # bit of a page's header: the last page of its stream
_BEGINS = 2
_JOINED = "several streams were joined, and only the first is decoded"
_CUT = "the stream has no end: the file is cut"


def ogg_damage(content: LocalContent) -> str:
    """Say what is missing from an Ogg file or passed over; empty where nothing is."""
    began: set[bytes] = set()
    ended: set[bytes] = set()
    granules: dict[bytes, int] = {}
    at, is_head, last_ends = 0, True, False
    while (at := content.find(b"OggS", at)) >= 0:
        head = content[at : at + 27]
        if len(head) < 27 or head[4] != 0:
            at += 4
            continue
        size = 27 + head[26] + sum(content[at + 27 : at + 27 + head[26]])
        if at + size > len(content):
            return _CUT
        flags, serial, granule = head[5], head[14:18], int.from_bytes(head[6:14], "little", signed=True)
        if flags & _BEGINS:
            if not is_head or serial in began:
                return _JOINED
            began.add(serial)
        else:
            is_head = False
            if serial in ended or serial not in began or 0 <= granule < granules.get(serial, 0):
                return _JOINED
        if granule > 0:
            granules[serial] = granule
        last_ends = bool(flags & _ENDS)
        if last_ends:
            ended.add(serial)
        at += size
    return "" if last_ends else _CUT
