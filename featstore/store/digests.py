"""Digests of shard files: BLAKE3, which costs a tenth of what hashing by SHA-256 adds to an extraction.

A digest is written ``blake3:<64 hex digits>``. Without a prefix it is a SHA-256, as stores of the first days have it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from blake3 import blake3

__all__ = ["digest_fits", "digest_of", "digest_text", "new_digest"]

_PREFIX = "blake3:"
_BLOCK = 1 << 22  # bytes hashed between two looks at the memory map


def new_digest() -> Any:
    """Return a running digest: ``update``, ``copy``, and :func:`digest_text` at the end."""
    return blake3()


def digest_text(digest: Any) -> str:
    """Text of a running digest, as commit records keep it."""
    return _PREFIX + str(digest.hexdigest())


def digest_of(data: bytes) -> str:
    """Text of the digest of some bytes."""
    return digest_text(blake3(data))


def digest_fits(data: memoryview, text: str) -> bool:
    """Whether bytes have the digest that a record promises."""
    digest = blake3() if text.startswith(_PREFIX) else hashlib.sha256()
    for start in range(0, len(data), _BLOCK):
        digest.update(data[start : start + _BLOCK])
    return bool(digest.hexdigest() == text.removeprefix(_PREFIX))
