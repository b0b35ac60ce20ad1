"""Where the samples of a file of chunks lie: what its header declares against what its bytes can hold.

libsndfile corrects the length of a file that was cut to what is there, and stops at a declared end even where the
samples go on (a size of 32 bits wraps at 4 GiB; a recorder that crashed leaves half a header). The rule: the bytes
behind the first sample are samples, but for what can be shown to be something else (a chain of chunks, tags, zeros).

Sources: the RIFF, RF64 (EBU Tech 3306), Wave64, AIFF-C, CAF, Sun/NeXT audio and NIST SPHERE format descriptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from featstore.audio.content import Content, zeros_end
from featstore.audio.mp3 import tags_end
from featstore.audio.structure import Extent

__all__ = ["find_extent"]

_Order = Literal["little", "big"]  # of the bytes of a number

# Writers to pipes put 2**31 - 1, 2**32 - 1 or something near for a size that they cannot know.
_NEAR = 1 << 16
_WRAP = 1 << 32
_SPARE_S = 0.25  # what may follow the declared end without being anything known
_SPARE_BYTES = 2048  # the same, where the header does not say how many bytes a second takes
# A container in the rest of a file is another file and no chunk of this one; a second chunk of samples is more music.
_NO_METADATA = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b"fLaC", b"OggS", b"data", b"SSND", b"BODY", b"riff")
# Chunks of metadata that may be cut short without any loss of music.
_METADATA = (b"LIST", b"INFO", b"id3 ", b"ID3 ", b"bext", b"iXML", b"cue ", b"smpl", b"fact", b"PEAK", b"junk", b"JUNK",
             b"PAD ", b"FLLR", b"axml", b"_PMX", b"acid", b"inst", b"plst", b"afsp", b"DISP", b"cart", b"levl", b"minf",
             b"elm1", b"regn", b"umid", b"MARK", b"INST", b"COMT", b"ANNO", b"NAME", b"AUTH", b"(c) ", b"APPL", b"AESD",
             b"MIDI", b"SAXL", b"info", b"free", b"strg", b"uuid")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Form:
    """How a family of containers writes its chunks.

    Attributes
    ----------
    first : int
        Position of the first chunk.
    name, size : int
        Bytes of a chunk's name and of its size.
    order : str
        Of the bytes of a size.
    align : int
        Chunks begin at multiples of this.
    with_head : bool
        Whether a size counts the chunk's own head.
    samples : bytes
        Name of the chunk of samples.
    inside : int
        Bytes of that chunk before its first sample.
    """

    first: int
    name: int
    size: int
    order: _Order
    align: int
    with_head: bool
    samples: bytes
    inside: int


_RIFF = _Form(12, 4, 4, "little", 2, False, b"data", 0)
_RIFX = _Form(12, 4, 4, "big", 2, False, b"data", 0)
_AIFF = _Form(12, 4, 4, "big", 2, False, b"SSND", 8)
_SVX = _Form(12, 4, 4, "big", 2, False, b"BODY", 0)
_CAF = _Form(8, 4, 8, "big", 1, False, b"data", 4)
_W64 = _Form(40, 16, 8, "little", 8, True, b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a"), 0)


def _form_of(head: bytes) -> _Form | None:
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return _RIFF
    if head[:4] == b"RIFX" and head[8:12] == b"WAVE":
        return _RIFX
    if head[:4] == b"FORM":
        return {b"AIFF": _AIFF, b"AIFC": _AIFF, b"8SVX": _SVX, b"16SV": _SVX}.get(head[8:12])
    if head[:4] == b"caff":
        return _CAF
    return _W64 if head[:4] == b"riff" and head[24:28] == b"wave" else None


def find_extent(content: Content) -> Extent | None:
    """Where the samples of a file lie; None where its container is of none of the known kinds.

    Notes
    -----
    A few reads of the header, and of the heads of the chunks behind the samples.
    """
    start = tags_end(content)
    head = content[start : start + 40]
    if head[:4] in (b".snd", b"dns."):
        return _sun(content, start, head)
    if head[:8] == b"NIST_1A\n":
        return _nist(content, start)
    form = _form_of(head)
    return None if form is None else _chunked(content, start, form)


def _sun(content: Content, start: int, head: bytes) -> Extent | None:
    order: _Order = "big" if head[:4] == b".snd" else "little"
    at, declared = (int.from_bytes(head[k : k + 4], order) for k in (4, 8))
    return _compared(content, start + at, declared, None, {start + 8: (4, order)})


def _nist(content: Content, start: int) -> Extent | None:
    words = content[start : start + 1024].decode("latin-1").split()
    try:
        at = int(words[1])
        numbers = {name: int(words[words.index(name) + 2]) for name in ("sample_count", "sample_n_bytes")}
        channels = int(words[words.index("channel_count") + 2]) if "channel_count" in words else 1
    except (ValueError, IndexError):
        return None
    return _compared(content, start + at, numbers["sample_count"] * numbers["sample_n_bytes"] * channels, None, {})


def _chunked(content: Content, start: int, form: _Form) -> Extent | None:
    wide: tuple[int, int] | None = None  # of RF64: position of its size of 64 bits, and the size
    spare = _SPARE_BYTES
    for name, at, size in _chunks(content, start + form.first, form, start):
        if name == b"ds64" and size >= 24:
            wide = at + 8, int.from_bytes(content[at + 8 : at + 16], "little")
        elif name[:4] == b"fmt " and size >= 12:
            spare = int(_SPARE_S * int.from_bytes(content[at + 8 : at + 12], form.order))
        elif name == form.samples:
            field = at - form.size, form.size
            if wide is not None and size >= _WRAP - 1:
                field, size = (wide[0], 8), wide[1]
            if form is _CAF and size >= 1 << 63:
                size = -1
            elif size >= 0:
                size = max(0, size - form.inside)
            return _compared(content, at + form.inside, size, form, {field[0]: (field[1], form.order)}, start, spare)
    return None


def _chunks(content: Content, at: int, form: _Form, start: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, position of the body, bytes of the body) of one chunk after the other."""
    head = form.name + form.size
    while len(lead := content[at : at + head]) == head:
        size = int.from_bytes(lead[form.name :], form.order) - (head if form.with_head else 0)
        yield lead[: form.name], at + head, size
        if size < 0:
            return
        after = at + head + size
        padded = after + (start - after) % form.align
        # writers that forget to fill up an odd chunk are read, too
        at = padded if padded == after or _looks_like_name(content[padded : padded + 4]) else after


def _looks_like_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _compared(
    content: Content,
    at: int,
    declared: int,
    form: _Form | None,
    fields: dict[int, tuple[int, _Order]],
    start: int = 0,
    spare: int = _SPARE_BYTES,
) -> Extent:
    """Extent of the samples from ``at`` on; ``fields`` are the places of the declared size, with bytes and order."""
    held = max(0, len(content) - at)
    width = max((bytes_ for bytes_, _ in fields.values()), default=0)
    near_open = width == 4 and any(edge - _NEAR <= declared < edge for edge in (_WRAP >> 1, _WRAP))
    if declared < 0 or (near_open and declared > held) or declared >= 1 << 62:
        return Extent(at, -1, held)
    if declared >= held:
        return Extent(at, declared, held)
    for true in range(declared, held, _WRAP) if width == 4 and held > _WRAP else (declared,):
        kind = _what_follows(content, at + true, form, start)
        if kind == "metadata" and true:
            return Extent(at, declared, true, true != declared, _patches(form, fields, true))
    if declared == 0 and _what_follows(content, at, form, start) == "metadata":
        return Extent(at, 0, 0)
    if declared > 0 and held - declared <= spare:
        return Extent(at, declared, declared)
    wraps = (held - declared) // _WRAP if width == 4 else 0
    whole = declared + wraps * _WRAP if wraps else held
    is_joined = _what_follows(content, at + declared, form, start) == "file"
    is_certain = bool(wraps) or (declared == 0 and bool(fields))
    return Extent(at, declared, whole, is_certain and not is_joined, _patches(form, fields, whole), is_joined)


def _patches(form: _Form | None, fields: dict[int, tuple[int, _Order]], size: int) -> dict[int, bytes]:
    if form in (_AIFF, _SVX):
        return {}  # frames are declared in another chunk as well
    most = {4: _WRAP - 1, 8: 1 << 62}
    size += 4 if form is _CAF else 24 if form is _W64 else 0
    return {at: min(size, most[width]).to_bytes(width, order) for at, (width, order) in fields.items()}


def _what_follows(content: Content, at: int, form: _Form | None, start: int) -> str:
    """What the bytes behind a position are: ``metadata`` (or nothing), another ``file``, or else ``samples``."""
    for place in sorted({at, at + (start - at) % (form.align if form else 1)}, reverse=True):
        seen = _follow(content, place, form, start)
        if seen != "samples":
            return seen
    return "samples"


def _follow(content: Content, at: int, form: _Form | None, start: int) -> str:
    size = len(content)
    while True:
        at = tags_end(content, at)
        if at >= size - 8 or zeros_end(content, at) >= size:
            return "metadata"
        lead = content[at : at + 28]
        if lead[:4] in _NO_METADATA:
            is_file = lead[8:12] in (b"WAVE", b"AIFF", b"AIFC") or lead[:4] in (b"caff", b"fLaC", b"riff")
            return "file" if is_file else "samples"
        if lead[:4] in (b".snd", b"dns."):
            return "file"
        if form is None:
            return "samples"
        chunk = next(_chunks(content, at, form, start), None)
        if chunk is None or chunk[2] < 0 or not _looks_like_name(chunk[0][:4]):
            return "samples"
        after = chunk[1] + chunk[2]
        if after > size + 1:
            return "metadata" if chunk[0][:4] in _METADATA else "samples"
        padded = after + (start - after) % form.align
        at = padded if padded >= size or not _looks_like_name(content[after : after + 4]) else after
