"""What was found out about a file's length, by whatever reads its structure."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

from featstore.audio.views import ViewOf

__all__ = ["Extent", "Structure"]

# bytes of a sample, where a coding has whole ones
_WIDTHS = MappingProxyType(
    {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
)


@dataclass(frozen=True, slots=True)
class Extent:
    """The samples of a file, in bytes.

    Attributes
    ----------
    at : int
        Position of the first one.
    declared : int
        Bytes of samples that the header declares; -1 where it leaves that open.
    held : int
        Bytes of samples that are there, and nothing else: behind them lie only chunks, tags and zeros.
    is_wrapped : bool
        Whether the declared size is the true one less a multiple of 4 GiB, or 0 in place of it.
    patches : dict of int to bytes
        Header fields that make a decoder read all that is held.
    is_joined : bool
        Whether another file begins behind the declared end.
    """

    at: int
    declared: int
    held: int
    is_wrapped: bool = False
    patches: dict[int, bytes] = field(default_factory=dict)
    is_joined: bool = False


@dataclass(frozen=True, slots=True)
class Structure:
    """What the bytes of a file say about its length.

    Attributes
    ----------
    n_samples : int
        Samples of one channel that decoding has to give; -1 leaves that to the decoder's own reading of the header.
    view : ViewOf or None
        How libsndfile is to be shown the file, where it would not read all of it as it is.
    damage : str
        What is missing or passed over; empty where nothing is.
    extent : Extent or None
        Bytes of samples, of containers that keep them in one place.
    """

    n_samples: int = -1
    view: ViewOf | None = None
    damage: str = ""
    extent: Extent | None = None

    def promised(self, n_samples: int, subtype: str, channels: int) -> tuple[int, str]:
        """Samples that the file has to give, and its damage, where libsndfile finds ``n_samples`` through the view."""
        if self.n_samples >= 0:
            return self.n_samples, self.damage
        extent = self.extent
        if extent is None:
            return n_samples, self.damage
        width = _WIDTHS.get(subtype, 0) * channels
        if extent.declared > extent.held:  # cut: libsndfile counts what is there
            whole = extent.declared // width if width else round(n_samples * extent.declared / max(1, extent.held))
            return max(n_samples, whole), self.damage
        return max(n_samples, extent.held // width) if width else n_samples, self.damage
