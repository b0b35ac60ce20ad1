"""How much music a file's own structure holds, whatever its header declares: one answer for every container.

Decoders pass over much in silence: a length that is too small, a second file behind the first, a stream without its
end. The rule: the length of a file is what its bytes can hold. It is compared with what is declared in both directions:
less than declared is a cut, more than declared is music that would be lost.
"""

from __future__ import annotations

from featstore.audio.containers import find_extent
from featstore.audio.content import Content, LocalContent
from featstore.audio.flac import examine_flac
from featstore.audio.mp3 import examine_mpeg
from featstore.audio.ogg import ogg_damage
from featstore.audio.structure import Extent, Structure
from featstore.audio.views import ViewOf

__all__ = ["examine"]


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
        return flac
    if content[:4] == b"OggS":
        return Structure(damage=ogg_damage(content) if thoroughly and isinstance(content, LocalContent) else "")
    return examine_mpeg(content, thoroughly=thoroughly) or Structure()


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
