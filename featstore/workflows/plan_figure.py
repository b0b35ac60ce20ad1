"""The graph of an extraction as a figure: steps from left to right, each drawn once however many features need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featstore.extract.forecast import Forecast
from featstore.features import Node
from featstore.results.figure_style import GREY, INK, PALETTE, figure_style, new_figure, save_figure
from featstore.specs import parse_feature
from featstore.units import counted, format_bytes, format_seconds

__all__ = ["draw_plan"]

_ARRAY = "#F2F2F2"
_ROW, _COLUMN = 0.5, 1.3  # inches


# Colour of a step, and what it does, in a line or two.
_STEPS = {
    "decode": (PALETTE[3], "decode\n{decoder}"),
    "mono": (PALETTE[3], "mono"),
    "resample": (PALETTE[4], "resample\n{sample_rate} Hz"),
    "cut": (PALETTE[4], "cut\n{clip}"),
    "clips": (PALETTE[4], "excerpts\n{clip}"),
    "power_spectrum": (PALETTE[0], "STFT {n_fft}\nhop {hop_length}"),
    "stride": (PALETTE[5], "1 frame\nof {step}"),
    "exponent": (PALETTE[5], "|X|^{power:g}"),
    "magnitude_to": (PALETTE[5], "|X|^{power:g}"),
    "mel_bank": (PALETTE[2], "{n_mels} mel bands"),
    "scale": (PALETTE[7], "{scale.name}"),
    "hpss_medians": (PALETTE[1], "medians\n{kernel} x {kernel}"),
    "hpss_part": (PALETTE[1], "{component}\nmargin {margin:g}"),
}


def draw_plan(result: Forecast, path: str | Path) -> Path:
    """Draw a plan's graph with the arrays that hang on it; the path's ending names the format.

    Raises
    ------
    MissingDependency
        When matplotlib is not installed.
    ConfigError
        For an ending that names no format.
    """
    with figure_style():
        places, arrays, links = _arrange(result)
        depth = max(x for x, _ in [*places.values(), *(place for place, _ in arrays)])
        rows = max(1, len(arrays))
        figure, axes = new_figure(_COLUMN * (depth + 2.7), _ROW * rows + 1.0)
        axes.set_axis_off()
        for (x0, y0), (x1, y1) in links:
            bend = (x0 + x1) / 2
            axes.plot([x0, bend, bend, x1], [y0, y0, y1, y1], color=GREY, linewidth=0.8, zorder=1)
        for node, (x, y) in places.items():
            colour, text = _STEPS.get(node.op, (GREY, node.op.replace("_", " ")))
            _box(axes, x, y, text.format(**dict(node.params)), colour)
        for (x, y), text in arrays:
            axes.text(
                x - 0.4, y, text, fontsize=7, color=INK, va="center",
                bbox={"boxstyle": "round,pad=0.25", "facecolor": _ARRAY, "edgecolor": GREY, "linewidth": 0.6},
            )  # fmt: skip
        axes.set_xlim(-0.5, depth + 2.2)
        axes.set_ylim(rows - 0.4, -0.6)
        axes.set_title(_title(result), loc="left")
        return save_figure(figure, path)[0]


def _title(result: Forecast) -> str:
    views = sum(1 for feature in result.features if not feature["stored"])
    cost = f"{format_bytes(result.n_bytes)} in {counted(result.n_files, 'file')}"
    if result.core_time:
        cost += f", {result.core_time}"
    return (
        f"{counted(len(result.features), 'feature')}: {counted(len(result.arrays), 'array')} and "
        f"{counted(views, 'view')} of them\n"
        f"{counted(result.n_tracks, 'track')}, {format_seconds(result.duration_s)} of audio: {cost}"
    )


def _box(axes: Any, x: float, y: float, text: str, colour: str) -> None:
    axes.text(
        x, y, text, fontsize=7, color="white", ha="center", va="center", zorder=2, linespacing=1.1,
        bbox={"boxstyle": "round,pad=0.3", "facecolor": colour, "edgecolor": "none"},
    )  # fmt: skip


Place = tuple[float, float]


def _arrange(result: Forecast) -> tuple[dict[Node, Place], list[tuple[Place, str]], list[tuple[Place, Place]]]:
    """Places of steps, of arrays with their texts, and the lines between: a row for each array, steps amid theirs."""
    graph, places = result.plan.graph, {}
    arrays: list[tuple[Place, str]] = []
    links: list[tuple[Place, Place]] = []
    texts = {array["key"]: _array_text(array) for array in result.arrays}

    def place(node: Node, depth: float) -> Place:
        below = [place(child, depth + 1) for child in graph.children[node]]
        for key in graph.sinks.get(node, ()):
            spot = (depth + 1, float(len(arrays)))
            arrays.append((spot, texts[key]))
            below.append(spot)
        here = (depth, sum(y for _, y in below) / len(below))
        places[node] = here
        links.extend((here, spot) for spot in below)
        return here

    for root in graph.roots:
        place(root, 0.0)
    return places, arrays, links


def _array_text(array: dict[str, Any]) -> str:
    request = parse_feature(array["name"])
    views = f", {array['views']} views" if array["views"] else ""
    name = f"{request.spec.short()}@{request.encoding.name if request.encoding else ''}"
    return f"{_wrapped(name)}\n{format_bytes(array['bytes'])}{views}"


def _wrapped(name: str, width: int = 62) -> str:
    """A name broken behind commas into lines of a largest length."""
    lines = [""]
    for part in name.replace(",", ",\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
