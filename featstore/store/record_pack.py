"""Commit records of one array in one file: JSON lines that any program reads, the last of which is an index.

Every other line is a record as ``commits/<key>/<shard>.json`` would hold it, its own digest included. The index says
where each begins, so that one of thousands is found without reading the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from featstore.atomic import damage, digest_of_json, json_object
from featstore.errors import CorruptFeature, NewerFormat
from featstore.store.location import FileBytes

__all__ = [
    "PACK",
    "PACK_FROM",
    "Entry",
    "Index",
    "checked_json",
    "pack_bytes",
    "pack_name",
    "read_index",
    "read_line",
    "whole_lines",
]

PACK = "records.jsonl"
PACK_FORMAT = 2  # of the store that holds such files: what does not know them would see no records
PACK_FROM = 128  # records of an array; fewer are easier to look at one by one, and cost little
_TAIL_BYTES = 1 << 16
_FIX = "Run featstore store verify, then repair"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a record is.

    Attributes
    ----------
    generation : int
        Of the record.
    start, size : int
        Bytes of its line, without the line's end.
    """

    generation: int
    start: int
    size: int

    def line(self, view: FileBytes) -> bytes:
        """Bytes of the record."""
        return bytes(view[self.start : self.start + self.size])


Index = dict[int, Entry]


def pack_name(key: str) -> str:
    """Name of the file with an array's records."""
    return f"commits/{key}/{PACK}"


def checked_json(data: bytes, where: str, what: str, newest: int) -> dict[str, Any]:
    """Content of a JSON object that holds its own digest and format, without the digest.

    Raises
    ------
    CorruptFeature
        When the text is cut short or changed.
    NewerFormat
        When its format is above ``newest``.
    """
    with damage(f"{what} cannot be read", where, _FIX):
        content = json_object(data)
        digest = content.pop("digest")
        newer = int(content["format"]) > newest
        same = digest_of_json(content) == digest
    if newer:
        named = what.removeprefix("a ").removeprefix("an ")
        raise NewerFormat(f"{named} of format {content['format']}", where, "Upgrade featstore to read it")
    if not same:
        raise CorruptFeature(f"{what} was changed", where, _FIX)
    return content


def pack_bytes(key: str, records: Mapping[int, Mapping[str, Any]]) -> bytes:
    """Content of the file, from the content of each shard's record, digests included; at least one."""
    lines: list[bytes] = []
    index, start = [], 0
    for shard in sorted(records):
        lines.append(_line(records[shard]))
        index.append([shard, int(records[shard]["generation"]), start, len(lines[-1]) - 1])
        start += len(lines[-1])
    last: dict[str, Any] = {"format": PACK_FORMAT, "key": key, "index": index}
    return b"".join([*lines, _line(last | {"digest": digest_of_json(last)})])


def _line(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return (text + "\n").encode()


def read_index(view: FileBytes, where: str) -> Index:
    """Where the record of each shard is.

    Raises
    ------
    CorruptFeature
        When the file is cut, or its index was changed.
    NewerFormat
        When a newer version wrote it.
    """
    content = checked_json(_last_line(view), where, "an index of packed commit records", PACK_FORMAT)
    with damage("an index of packed commit records cannot be read", where, _FIX):
        rows = ([int(number) for number in row] for row in content["index"])
        return {shard: Entry(generation, start, size) for shard, generation, start, size in rows}


def read_line(view: FileBytes, where: str, shard: int) -> bytes | None:
    """Record of a shard, None where the file has none; errors are those of :func:`read_index`."""
    entry = read_index(view, where).get(shard)
    return None if entry is None else entry.line(view)


def _last_line(view: FileBytes) -> bytes:
    size, span = len(view), _TAIL_BYTES
    while True:
        start = max(0, size - span)
        tail = bytes(view[start:size])
        before = tail.rfind(b"\n", 0, max(0, len(tail) - 1))
        if before >= 0 or start == 0:
            return tail[before + 1 :]
        span *= 4


def whole_lines(view: FileBytes, key: str) -> dict[int, dict[str, Any]]:
    """Content of every record of the array that is intact, digests included, whatever became of the index."""
    found: dict[int, dict[str, Any]] = {}
    for line in bytes(view[0 : len(view)]).split(b"\n"):
        with suppress(CorruptFeature, NewerFormat):
            content = checked_json(line, "", "a commit record", PACK_FORMAT)
            if content.get("key") == key and isinstance(content.get("shard"), int):
                found[content["shard"]] = json.loads(line)
    return found
