"""What is fixed by an encoder's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from featstore.models.interface import InnerLayer
from featstore.models.trained_on import TrainedOn
from featstore.specs import parse_spec

__all__ = ["EncoderInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInfo:
    """What is fixed by an encoder's weights.

    Attributes
    ----------
    model : str
        An entry of :data:`~featstore.models.encoders.ENCODERS`, or of the registry of models.
    digest : str
        32 hexadecimal digits over the tensors that decide the vectors, and over the settings that no shape shows.
    takes : str
        Feature that it takes, as a spec; a window is a stretch of it.
    sample_rate : int
        Hz that it was trained at.
    other_rates : tuple of int
        Hz at which it is used as well, as a paper does; it reads the same samples then, in other seconds.
    layers : mapping of str to InnerLayer
        Shape of each layer, in the order of our numbering; its step and field are columns of the input.
    usual_layers : str
        Layers that are kept unless others are named.
    window : int
        Columns of the input that it was trained on.
    least, most : int
        Columns of the shortest and of the longest window that it takes; ``most`` is None where there is no longest.
    tail : {"drop", "align"}
        What becomes, unless asked otherwise, of columns behind the last window: dropped, as the authors do, or seen by
        a last window that ends with the track.
    licence, source : str
        Of the weights, as their publisher states it; provenance, not identity.
    trained_on : TrainedOn or None
        What it has seen; None where that is not recorded.
    """

    model: str
    digest: str
    takes: str
    sample_rate: int
    layers: Mapping[str, InnerLayer]
    usual_layers: str
    window: int
    least: int
    most: int | None = None
    tail: Literal["drop", "align"] = "align"
    licence: str = "unknown"
    source: str = ""
    trained_on: TrainedOn | None = None
    other_rates: tuple[int, ...] = ()

    def at(self, sample_rate: int) -> EncoderInfo:
        """Facts of the encoder at one of its rates; its window lasts as long as at its own."""
        if sample_rate == self.sample_rate:
            return self
        takes = str(parse_spec(self.takes).replace(sample_rate=sample_rate))
        window = round(self.window * sample_rate / self.sample_rate)
        return replace(self, takes=takes, sample_rate=sample_rate, window=window)
