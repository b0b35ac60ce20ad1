"""How much music a file's own structure holds, whatever its header declares: one answer for every container.

Decoders pass over much in silence: a length that is too small, a second file behind the first, a stream without its
end. The rule: the length of a file is what its bytes can hold. It is compared with what is declared in both directions:
less than declared is a cut, more than declared is music that would be lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from featstore.audio.containers import Extent, find_extent
from featstore.audio.content import Content, LocalContent
from featstore.audio.flac import examine_flac
from featstore.audio.mp3 import TOLERANCE_S, examine_mpeg
from featstore.audio.ogg import ogg_damage
from featstore.audio.views import ViewOf

__all__ = ["Structure", "examine"]

# bytes of a sample, where a coding has whole ones
_WIDTHS = MappingProxyType(
    {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
)


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


def examine(content: Content, *, thoroughly: bool) -> Structure:
    """Compare what a file declares with what its bytes can hold.

    Parameters
    ----------
    content : Content
        The file.
    thoroughly : bool
        Whether to look at all of it, as before decoding; otherwise only where its header and its size disagree.
    """
    extent = find_extent(content)
    if extent is not None:
        return _of_extent(extent)
    flac = examine_flac(content, thoroughly=thoroughly)
    if flac is not None:
        spare = TOLERANCE_S * flac.sample_rate
        view = ViewOf(patches=flac.patches)
        if flac.is_joined:
            return Structure(damage="several files were joined, and only the first is decoded")
        if flac.found > 0 and flac.declared == 0:
            return Structure(flac.found, view)
        if flac.found > flac.declared + spare:
            what = f"the header declares {flac.declared} samples where the frames hold {flac.found}"
            return Structure(flac.found, view, what)
        return Structure()
    if content[:4] == b"OggS":
        return Structure(damage=ogg_damage(content) if thoroughly and isinstance(content, LocalContent) else "")
    mpeg = examine_mpeg(content, thoroughly=thoroughly)
    return Structure() if mpeg is None else Structure(mpeg.n_samples, mpeg.view, mpeg.damage)


def _of_extent(extent: Extent) -> Structure:
    if extent.is_joined:
        what = "another file follows behind the length that the header declares, and is not decoded"
        return Structure(view=ViewOf(stop=extent.at + extent.declared), damage=what)
    if extent.declared < 0 or extent.held <= extent.declared:
        return Structure(extent=extent)
    view = ViewOf(patches=extent.patches) if extent.patches else None
    if extent.is_wrapped:
        return Structure(view=view, extent=extent)
    extra = extent.held - extent.declared
    what = (
        f"the header declares {extent.declared} bytes of samples, and {extra} more follow that belong to nothing else"
    )
    return Structure(view=view, damage=what, extent=extent)
