"""Figures: drawn in every format, the same bytes twice, holding what they say."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.text import Text

from featstore.errors import ConfigError, MissingDependency
from featstore.results import RunSet, pareto, plot_pareto, read_results, summarise, where
from featstore.results.figure_curves import _draw_curve
from featstore.results.figure_gallery import draw_gallery
from featstore.results.figure_pareto import draw_pareto
from featstore.results.figure_study import draw_study
from featstore.results.figure_style import MARKERS, PALETTE, figure_style, save_figure
from featstore.results.figures import KINDS, draw
from featstore.specs import parse_feature
from featstore.testing.runs import mel_grid, write_runs

MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.slow
def test_every_format_and_the_same_bytes_twice(plain: RunSet, tmp_path: Path) -> None:
    front = pareto(summarise(plain))
    paths = [tmp_path / f"front{suffix}" for suffix in MAGIC]
    assert plot_pareto(front, paths) == paths
    first = [path.read_bytes() for path in paths]
    assert all(data.startswith(MAGIC[path.suffix]) for path, data in zip(paths, first, strict=True))
    plot_pareto(front, paths[1:2])
    assert paths[1].read_bytes() == first[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.pdf", "front.png", "front.svg"]


def test_the_front_is_drawn_where_the_numbers_are(plain: RunSet) -> None:
    front = pareto(summarise(plain))
    with figure_style():
        figure = draw_pareto(front, title="A title")
    axes = figure.axes[0]
    [step] = [line for line in axes.lines if line.get_label() == "measured front"]
    rows = front.frame[front.frame["on_front"]]
    assert np.allclose(step.get_xdata(), rows["bytes_alone"]) and np.allclose(step.get_ydata(), rows["roc_auc_mean"])
    [star] = [line for line in axes.lines if line.get_label() == "best mean"]
    assert star.get_ydata()[0] == front.frame["roc_auc_mean"].max()
    [sure] = [line for line in axes.lines if line.get_label().startswith("guaranteed")]
    rows = front.frame[front.frame["guaranteed"]]
    assert np.allclose(sure.get_ydata(), front.frame["roc_auc_mean"].max() - rows["loss_most"])
    assert axes.get_ylim()[1] <= 1
    assert any(text.get_text().startswith("the audio files: 465 MB") for text in axes.texts)
    assert axes.get_xscale() == "log" and axes.get_title(loc="left") == "A title"


def test_whiskers_that_leave_the_axis_end_in_an_arrow(tmp_path: Path) -> None:
    write_runs(tmp_path, mel_grid(n_mels=[96, 48, 8], hop_multiple=[1, 4]), spread=0.01, seeds=2)
    front = pareto(summarise(read_results(tmp_path)))
    with figure_style():
        axes = draw_pareto(front).axes[0]
    bottom, top = axes.get_ylim()
    arrows = [spot for line in axes.lines if line.get_marker() == 6 for spot in line.get_xydata().tolist()]
    beyond = front.frame[front.frame["roc_auc_high"] > top]
    assert 0 < len(beyond) < len(front.frame)
    assert sorted(arrows) == sorted([float(cost), top] for cost in beyond["bytes_alone"]) and 0 < bottom < top <= 1
    drawn = [ends for marks in axes.collections if hasattr(marks, "get_segments") for ends in marks.get_segments()]
    assert drawn and all(bottom <= y <= top for ends in drawn for y in ends[:, 1])


@pytest.mark.slow
def test_names_do_not_lie_on_one_another_with_sixty_configurations(tmp_path: Path) -> None:
    axes = {"n_mels": [128, 96, 48, 24, 8], "hop_multiple": [1, 2, 4], "scale": ["db", "log10_1p"]}
    write_runs(tmp_path, mel_grid(**axes, encoding=["float32", "uint8"]), spread=0.003)
    front = pareto(summarise(read_results(tmp_path)))
    assert len(front.frame) == 60
    with figure_style():
        figure = draw_pareto(front)
        figure.draw_without_rendering()
    labels = set(front.frame["label"])
    names = [text for text in figure.axes[0].texts if text.get_text() in labels]
    boxes = [Text.get_window_extent(text) for text in names]  # without the line to the point
    assert {front.frame["label"][front.best], front.frame["label"][front.answer]} <= {t.get_text() for t in names}
    assert len(boxes) >= 3
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


# a gallery needs a store, probes need runs of pretraining: each has tests of its own
@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"gallery", "probes"}))
def test_every_kind(kind: str, grid: RunSet, tmp_path: Path) -> None:
    chosen = grid.select(lambda record: record.result["feature_fields"]["encoding"] == "uint8")
    [path] = draw(grid if kind == "encoding" else chosen, kind, [tmp_path / f"{kind}.svg"], metric="roc_auc", title="T")
    text = path.read_text()
    words = {"curves": "epoch", "classes": "reel", "figure1": "GMACs", "gmacs": "GMACs"}.get(kind, "ROC AUC")
    assert words in text


def test_the_study_s_figure_with_published_numbers(plain: RunSet) -> None:
    summary = summarise(plain)
    with figure_style():
        figure = draw_study(summary, metrics=["roc_auc"], published="MTAT")
    scores, gmacs = figure.axes[:2]
    right = figure.axes[2]  # other data: an axis of its own, shifted, with the same step
    assert right.get_ylabel() == "published, MTAT"
    assert np.ptp(right.get_ylim()) == pytest.approx(np.ptp(scores.get_ylim()))
    hollow = [line for line in scores.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata()) > 1]
    assert all(line.get_transform() == right.transData for line in hollow)
    measured = [each.lines[0].get_zorder() for each in scores.containers if each.lines[0] not in hollow]
    assert min(measured) > max(line.get_zorder() for line in hollow), "measured marks lie above published ones"
    assert {round(float(y), 4) for line in hollow for y in line.get_ydata()} >= {0.8932, 0.8897, 0.8912, 0.8886}
    labels = [text.get_text() for text in gmacs.get_xticklabels()]
    # 128, 96, 48 mels are published, 8 is not
    assert labels.count("256\n16") == 4 and labels.count("512\n32") == 4
    assert gmacs.get_xlabel().startswith("hop in samples, and in ms")
    with pytest.raises(ConfigError, match=r"no data set 'GTZAN'.*MSD, MTAT"):
        draw_study(summary, published="GTZAN")
    with figure_style():
        figure = draw_study(summary.assign(dataset="mtat"), metrics=["roc_auc"], published="MTAT")
    assert len(figure.axes) == 2, "the same data: one axis"
    assert any(line.get_markerfacecolor() == "white" for line in figure.axes[0].lines)


def test_names_of_groups_stand_clear_where_hops_are_not_known(plain: RunSet) -> None:
    summary = summarise(where(plain, "encoding=uint8"))
    summary["hop_length"] *= 5  # the same multiples of another hop than the paper's
    with figure_style():
        figure = draw_study(summary, metrics=["roc_auc"], published="MTAT")
        figure.draw_without_rendering()
    gmacs = figure.axes[1]
    assert {text.get_text() for text in gmacs.get_xticklabels()} >= {"×1", "×2"}
    assert gmacs.get_xlabel() == "hop; in groups by number of mel bands"
    words = gmacs.xaxis.label.get_window_extent()
    names = [text.get_window_extent() for text in gmacs.texts]
    assert len(names) == 4 and not any(words.overlaps(name) for name in names)


@pytest.mark.slow
def test_two_costs(plain: RunSet, tmp_path: Path) -> None:
    [path] = plot_pareto(pareto(summarise(plain), ["bytes_alone", "gmacs"]), tmp_path / "two.svg")
    assert "GMACs per model input" in path.read_text()


def test_zero_cost_is_drawn_without_a_logarithm(plain: RunSet) -> None:
    with figure_style():
        assert draw_pareto(pareto(summarise(plain), "bytes_added")).axes[0].get_xscale() == "linear"


def test_one_configuration_and_one_run(plain: RunSet, tmp_path: Path) -> None:
    front = pareto(summarise(plain[:1]))
    assert plot_pareto(front, tmp_path / "one.png")[0].stat().st_size > 10_000


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("pareto", "figure.gif", r"cannot draw '\.gif'"),
        ("pareto", "figure", "cannot draw 'a file without suffix'"),
        ("pie", "figure.png", r"unknown figure 'pie'.*pareto"),
        ("classes", "figure.png", "no run kept predictions"),
    ],
)
def test_what_cannot_be_drawn(plain: RunSet, tmp_path: Path, kind: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(plain, kind, [tmp_path / path])
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_extra_is_named(plain: RunSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match=r"pip install 'featstore\[report\]'"):
        plot_pareto(pareto(summarise(plain)), tmp_path / "x.png")


def test_colours_are_told_apart_in_grey_and_by_marker() -> None:
    def grey(colour: str) -> float:
        r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * r + 0.587 * g + 0.114 * b

    first = sorted(grey(colour) for colour in PALETTE[:2])
    assert len(set(MARKERS)) == len(MARKERS) >= len(PALETTE) == 8 and first[1] - first[0] > 15


class _Store(dict[str, Any]):
    """A store of two made-up features."""

    features = ("small", "large")


def _reader(n_mels: int, hop: int) -> Any:
    spec = parse_feature(f"mel(n_mels={n_mels},hop_length={hop},scale=db)").spec
    values = np.random.default_rng(0).normal(-40, 10, (n_mels, 16000 * 4 // hop)).astype(np.float32)

    class Reader:
        shape_of_item, encoding, name, bytes_alone = (n_mels,), "uint8(low=-100,high=40)", "x", 1000
        track_ids = ("a", "b")

        def __len__(self) -> int:
            return 2

        def __getitem__(self, track: str) -> Any:
            return values

    Reader.spec = spec  # type: ignore[attr-defined]
    return Reader()


def test_validations_of_some_epochs_are_joined_by_a_line() -> None:
    gaps = np.array([np.nan, 0.5, np.nan, 0.7, np.nan, 0.8])
    drawn: list[tuple[Any, ...]] = []
    axes = SimpleNamespace(plot=lambda *given, **_: drawn.append(given), fill_between=lambda *given, **_: None)
    _draw_curve(axes, (gaps, gaps, gaps), 0, "-")
    assert drawn[0][0].tolist() == [2, 4, 6] and drawn[0][1].tolist() == [0.5, 0.7, 0.8]


def test_gallery(tmp_path: Path) -> None:
    store = _Store(small=_reader(8, 2560), large=_reader(96, 256))
    with figure_style():
        [path] = save_figure(draw_gallery(store, [], seconds=2.0), tmp_path / "gallery.svg")
    text = path.read_text()
    assert "track a" in text and "8 mels, hop 2560 (160 ms)" in text and "6,000 values a second" in text
    for word in ("Hz", "seconds", "dB", "4000"):
        assert f">{word}<" in text
    with pytest.raises(ConfigError, match="track 'z' is not stored"):
        draw_gallery(store, [], track="z")
    with pytest.raises(ConfigError, match="no feature has bands"):
        draw_gallery(_Store(a=SimpleNamespace(shape_of_item=(), spec=None)), ["a"])
