"""What can be wrong with a track besides its file: each fault carries the word that the ledger uses."""

from __future__ import annotations

from typing import ClassVar

from featstore.errors import DecodeError

__all__ = ["NonFiniteAudio", "TrackTimeout", "TrackTooLarge", "TrackTooShort", "decoding_stopped", "reason_of"]


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


def reason_of(error: Exception) -> str:
    """What an error of a decoding library, or of the system, says."""
    words = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(words or type(error).__name__).strip().rstrip(".")


def decoding_stopped(path: str, seconds: float, reason: str) -> DecodeError:
    """The error for a file whose samples end, or cannot be decoded, from a time on."""
    fix = "The file is damaged there: fetch it again, or convert what can be played"
    return DecodeError(f"decoding stopped after {seconds:.2f} s: {reason}", path, fix)
