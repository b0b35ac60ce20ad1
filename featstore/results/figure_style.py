"""One look for all figures: readable in print, in grey, and by colour-blind people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featstore.atomic import atomic_path
from featstore.errors import MissingDependency, check_known
from featstore.metrics import bounds_of, title_of
from featstore.results.costs import COSTS, cost_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "GREY",
    "INK",
    "MARKERS",
    "PALETTE",
    "PUBLISHED",
    "QUIET",
    "cost_axes",
    "draw_audio",
    "draw_marks",
    "figure_style",
    "footnote",
    "new_figure",
    "save_figure",
    "score_limits",
    "size_axis",
]

# the palette of Okabe and Ito, told apart with every kind of colour vision; order chosen for contrast in grey too
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#8A8A8A"  # of lines
QUIET = "#696969"  # of text: readable on white
INK = "#222222"
PUBLISHED = "#5B5B5B"
FORMATS = (".png", ".svg", ".pdf")

_SETTINGS: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "featstore",
    "pdf.fonttype": 42,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw with the project's settings, and leave those of the caller as they were.

    Raises
    ------
    MissingDependency
        When matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependency.of("matplotlib", "report", "drawing a figure") from error
    settings: Any = _SETTINGS
    with mpl.rc_context(settings):
        yield


def save_figure(figure: Figure, paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Write ``figure`` to each of ``paths``, each in the format of its suffix, without dates inside.

    Raises
    ------
    ConfigError
        For a suffix other than .png, .svg or .pdf.
    """
    targets = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    for target in targets:
        what = f"cannot draw {target.suffix or 'a file without suffix'!r}"
        check_known(target.suffix.lower(), FORMATS, what, str(target))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, the same in every format
    for target in targets:
        suffix = target.suffix.lower().removeprefix(".")
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[suffix]
        with atomic_path(target) as part:
            figure.savefig(part, format=suffix, metadata=metadata, bbox_inches="tight", pad_inches=0.06)
    return targets


def new_figure(width: float, height: float, **settings: Any) -> tuple[Figure, Any]:
    """A figure and its axes, drawn without any window system, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**settings)


def footnote(figure: Figure, text: str) -> None:
    """Write what a reader has to know below a figure, in lines that are as wide as it is."""
    import textwrap

    width = int(figure.get_figwidth() * 19)
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, width)]
    figure.supxlabel("\n".join(lines), fontsize=6.5, color=QUIET, x=0.01, ha="left")


def size_axis(axis: Any, name: str, limits: tuple[float, float]) -> None:
    """Ticks of a cost axis in units that people use; bytes as kB, MB, GB."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = limits
    decades = math.log10(high / low) if high > low > 0 else 0.0
    axis.set_major_locator(LogLocator(base=10, subs=(1.0,) if decades > 3 else (1.0, 2.0, 5.0), numticks=30))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(cost_text(name, value))))


def cost_axes(axes: Any, cost: str, values: Iterable[float], metric: str) -> None:
    """Name a cost and a score at the axes; the cost is on a logarithm where every value is above 0."""
    found = np.array([*values], dtype=float)
    if found.min() > 0:
        axes.set_xscale("log")
        size_axis(axes.xaxis, cost, (float(found.min()), float(found.max())))
    axes.set_xlabel(COSTS[cost].axis.replace("bit per", "kbit per"))
    axes.set_ylabel(title_of(metric, split="test"))


def score_limits(axis: Any, metric: str) -> None:
    """Keep an axis of scores within what the metric can be, with a little room for marks at the edge."""
    low, high = axis.get_view_interval()
    least, most = bounds_of(metric)
    axis.axes.set_ylim(max(low, least), min(high, most))


def draw_marks(axes: Any, x: Any, y: Any, number: int, **look: Any) -> None:
    """Marks of one series in its shape and colour, with whiskers (``xerr``, ``yerr``) where they are known."""
    whiskers = {name: np.nan_to_num(np.asarray(look[name], float)) for name in ("xerr", "yerr") if name in look}
    own = {"marker": MARKERS[number], "color": PALETTE[number], "markersize": 4.5, "elinewidth": 1}
    axes.errorbar(x, y, **{"linestyle": "none"} | own | look | whiskers)


def draw_audio(axes: Any, cost: float | None, name: str) -> None:
    """A line where the audio files of the same music lie on a cost axis; nothing where they are not known.

    Its name stands above the axes, where there are no ticks. The axis is extended up to the line when it lies less than
    a hundred times beyond its end; else the line is at the edge and says so.
    """
    if cost is None or cost <= 0:
        return
    low, high = axes.get_xlim()
    far = cost > 100 * high or cost < low
    if not far:
        axes.set_xlim(low, max(high, cost * (1.3 if axes.get_xscale() == "log" else 1.05)))
    size = cost_text(name, cost)
    at = cost if not far else (high if cost > high else low)
    axes.axvline(at, color=INK, linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=2)
    share = axes.transAxes.inverted().transform(axes.transData.transform((at, axes.get_ylim()[0])))[0]
    side = "right" if share > 0.7 else "left" if share < 0.3 else "center"
    axes.annotate(
        f"the audio files: {size}{' (beyond)' if far else ''}",
        (at, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha=side,
        va="bottom",
        fontsize=7,
        color=QUIET,
    )


def _short(text: str) -> str:
    """``10.0 MB`` as ``10 MB``."""
    number, blank, unit = text.partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return number + blank + unit
