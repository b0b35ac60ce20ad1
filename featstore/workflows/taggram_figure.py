"""Taggrams as figures: which tags a model hears when."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featstore.workflows.tag import FileTags, TagReport

__all__ = ["TaggramFolder", "draw_taggram"]

_TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)


class TaggramFolder:
    """Figures of many files, ``FOLDER/NAME.png`` each; files of one name in several folders are numbered.

    Parameters
    ----------
    folder : path
    n_tags : int > 0
        Rows of each figure.
    """

    def __init__(self, folder: str | Path, *, n_tags: int = 10) -> None:
        self.folder, self.n_tags, self.n_drawn = Path(folder), n_tags, 0
        self._taken: dict[str, int] = {}

    def draw(self, report: TagReport, file: FileTags) -> None:
        """Draw one file; one that could not be tagged has no figure."""
        if file.error:
            return
        stem = re.sub(r"[^\w.\- ]+", "_", Path(file.path).stem) or "track"
        self._taken[stem] = self._taken.get(stem, 0) + 1
        name = stem if self._taken[stem] == 1 else f"{stem}-{self._taken[stem]}"
        draw_taggram(report, file, self.folder / f"{name}.png", n_tags=self.n_tags)
        self.n_drawn += 1


def draw_taggram(report: TagReport, file: FileTags, path: str | Path, *, n_tags: int = 10) -> list[Path]:
    """Draw the highest tags of a file, one row each, over time; darker is more probable.

    Parameters
    ----------
    report : TagReport
    file : FileTags
        One of its files.
    path : path
        Ends in .png, .svg or .pdf.
    n_tags : int > 0
        Rows; those with the highest scores of the whole file, highest on top.

    Raises
    ------
    MissingDependency
        When matplotlib is not installed.
    """
    from featstore.results.figure_style import figure_style, new_figure, save_figure

    names = [name for name, _ in file.top(report.classes, n_tags)]
    rows = [report.classes.index(name) for name in names]
    edges = window_edges(file, report)
    with figure_style():
        from matplotlib.colors import PowerNorm

        width = float(np.clip(2.6 + 0.08 * len(file.starts_s), 5.0, 11.0))
        figure, axes = new_figure(width, 1.1 + 0.24 * len(names))
        norm = PowerNorm(0.5, vmin=0, vmax=1)  # most tags are improbable: small differences show
        mesh = axes.pcolormesh(edges, np.arange(len(names) + 1), file.taggram[:, rows].T, cmap="Blues", norm=norm)
        axes.invert_yaxis()
        axes.grid(False)
        labels = [f"{name}  {score:.2f}" for name, score in file.top(report.classes, n_tags)]
        axes.set_yticks(np.arange(len(names)) + 0.5, labels)
        axes.tick_params(axis="y", length=0)
        _time_axis(axes, edges)
        axes.set_title(f"{_shown(file.path)}   ({_shown(report.model)})", loc="left")
        bar = figure.colorbar(mesh, ax=axes, pad=0.01, aspect=30)
        bar.set_label("probability")
        bar.set_ticks([0, 0.05, 0.2, 0.5, 1])
        bar.outline.set_visible(False)
        return save_figure(figure, path)


def window_edges(file: FileTags, report: TagReport) -> Any:
    """Edges of the cells, (n_windows + 1,) seconds.

    A window is drawn around its middle, up to half-way to the next one; the first begins and the last ends where the
    audio does. Windows side by side are thus drawn where they are.
    """
    middles = file.starts_s + report.window_s / 2
    inner = (middles[1:] + middles[:-1]) / 2
    return np.concatenate([file.starts_s[:1], inner, file.starts_s[-1:] + report.window_s])


def _shown(text: str, most: int = 60) -> str:
    """The name at the end of a path, cut in the middle where it is long; no dollar signs, which start mathematics."""
    name = Path(text).name.replace("$", "S")
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-most // 2 + 1 :]}"


def _time_axis(axes: Any, edges: Sequence[float]) -> None:
    """Minutes and seconds, at most eight or so marks."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step = next((step for step in _TICKS_S if edges[-1] / step <= 8), 2 * _TICKS_S[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{int(value) // 60}:{int(value) % 60:02d}"))
    axes.set_xlabel("time (minutes:seconds)")
    axes.set_xlim(edges[0], edges[-1])
