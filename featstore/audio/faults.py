"""What can be wrong with a track besides its file: each fault carries the word that the ledger uses."""

from __future__ import annotations

from typing import ClassVar

from featstore.errors import DecodeError

__all__ = ["NonFiniteAudio", "TrackTimeout", "TrackTooLarge", "TrackTooShort"]


class TrackTooShort(DecodeError):
    """The track holds fewer samples than its clip policy asks for."""

    reason: ClassVar[str] = "short"


class NonFiniteAudio(DecodeError):
    """The file decodes to samples that are no numbers (NaN) or infinite."""

    reason: ClassVar[str] = "non_finite"


class TrackTimeout(DecodeError):
    """Decoding and computing took longer than a track may take."""

    reason: ClassVar[str] = "timeout"


class TrackTooLarge(DecodeError):
    """Decoding and computing needed more memory than a track may take."""

    reason: ClassVar[str] = "quarantined"
