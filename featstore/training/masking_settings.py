"""Settings of masked prediction: how public models choose what is hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from featstore.training.config import ObjectiveConfig
from featstore.training.settings import Range, require

__all__ = ["CONVENTIONS", "MaskedPositionsConfig"]

CONVENTIONS: dict[str, dict[str, Any]] = {
    "span": {"share": 0.3, "span_ms": 100.0, "hidden": 0.8, "swapped": 0.1, "overlap": False},
    "bert": {"share": 0.15, "span_ms": 0.0, "hidden": 0.8, "swapped": 0.1, "overlap": False},
    "mam": {"share": 0.15, "span_ms": 70.0, "hidden": 0.8, "swapped": 0.1, "overlap": True},
    "w2v2": {"share": 0.49, "span_ms": 200.0, "hidden": 1.0, "swapped": 0.0, "overlap": True},
    "hubert": {"share": 0.57, "span_ms": 200.0, "hidden": 1.0, "swapped": 0.0, "overlap": True},
    "mae": {"share": 0.75, "span_ms": 0.0, "hidden": 1.0, "swapped": 0.0, "overlap": False},
    "cfm+ccm": {"share": 0.15, "span_ms": 70.0, "hidden": 1.0, "swapped": 0.0, "overlap": True, "band_share": 0.2},
}
"""How public models mask: share of the positions, length of a span (0: one position), what is shown instead, and
whether spans overlap. The shares of wav2vec 2.0 and HuBERT are what their start probabilities of 0.065 and 0.08 cover;
``mae`` hides patches, it does not remove them from the encoder. ``cfm+ccm`` (MusiCoder) hides neighbouring bands, too,
a fifth of them at most unless ``band_share`` says otherwise; its other values are those of ``mam``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedPositionsConfig(ObjectiveConfig):
    """Which positions are hidden; what is left at None follows from the convention.

    Parameters
    ----------
    convention : {"span", "bert", "mam", "w2v2", "hubert", "mae", "cfm+ccm"}
        A key of :data:`CONVENTIONS`.
    share : float in (0, 1), optional
        Share of the positions that is chosen.
    span_ms : float >= 0, optional
        Length of one span; 0 is one position.
    hidden, swapped : float, optional
        Shares of the spans that show the mask symbol, and another stretch of the crop; the rest is shown as it is.
    overlap : bool, optional
        Spans start anywhere.
    band_share : float in [0, 1), optional
        Of spectra: neighbouring bands that are hidden in a whole crop, besides the positions; this share at most. They
        are hidden in training alone, so that scores with and without them compare.
    """

    convention: Literal["span", "bert", "mam", "w2v2", "hubert", "mae", "cfm+ccm"] = "span"
    share: Annotated[float, Range.PROPER_SHARE] | None = None
    span_ms: Annotated[float, Range.NOT_NEGATIVE] | None = None
    hidden: float | None = None
    swapped: float | None = None
    overlap: bool | None = None
    band_share: Annotated[float, Range.BELOW_ONE] | None = None

    def check(self) -> None:
        """Settle what is left open, and refuse settings that contradict each other."""
        for name, usual in {"band_share": 0.0, **CONVENTIONS[self.convention]}.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, usual)
        hidden, swapped = self.how["hidden"], self.how["swapped"]
        right = hidden >= 0 and swapped >= 0 and 0 < hidden + swapped <= 1
        require(right, f"hidden={hidden} and swapped={swapped} are not shares of a whole", "objective")

    @property
    def how(self) -> dict[str, Any]:
        """What ``draw_spans`` takes."""
        return {name: getattr(self, name) for name in ("share", "span_ms", "hidden", "swapped", "overlap")}
