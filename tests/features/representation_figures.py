"""One clip in every representation, for docs/features.md: ``python -m tests.features.representation_figures``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from featstore.extract import ExtractOptions, extract
from featstore.results.figure_spectrum import draw_spectrum
from featstore.results.figure_style import INK, figure_style, new_figure, save_figure
from featstore.specs import expand_features
from featstore.store import FeatureReader, open_store
from featstore.units import format_bytes
from featstore.workflows.indexing import index_tracks

FIGURE = Path(__file__).parents[2] / "docs" / "figures" / "representations.png"
SECONDS = 8.0
CLIP = f"clip=centre({SECONDS:g} s)"

# title, feature; each row reads from left to right as one story
PANELS: list[tuple[str, str]] = [
    ("waveform, 16 kHz", f"waveform({CLIP})@int16"),
    ("spectrum, 512 samples, hop 256 (16 ms), dB", f"stft({CLIP},scale=db)"),
    ("a window of 8 ms in a transform of 64 ms, dB", f"stft(n_fft=1024,win_length=128,{CLIP},scale=db)"),
    ("128 mel bands, dB", f"mel({CLIP},n_mels=128,scale=db)"),
    ("48 mel bands, dB", f"mel({CLIP},n_mels=48,scale=db)"),
    ("8 mel bands, dB", f"mel({CLIP},n_mels=8,scale=db)"),
    ("96 mel bands, power as it is", f"mel({CLIP})"),
    ("the same, log10(1 + 10000 x)", f"mel({CLIP},scale=log10_1p)"),
    ("the same, dB", f"mel({CLIP},scale=db)"),
    ("every 2nd frame: hop 512 (32 ms)", f"mel({CLIP},scale=db,hop_length=512)"),
    ("every 5th frame: hop 1280 (80 ms)", f"mel({CLIP},scale=db,hop_length=1280)"),
    ("every 10th frame: hop 2560 (160 ms)", f"mel({CLIP},scale=db,hop_length=2560)"),
    ("harmonic, margin 2", f"hpss({CLIP},hop_length=128,margin=2,scale=db)"),
    ("percussive, margin 2", f"hpss({CLIP},hop_length=128,margin=2,component=percussive,scale=db)"),
    ("residual, margin 2", f"hpss({CLIP},hop_length=128,margin=2,component=residual,scale=db)"),
    ("harmonic through 48 mel bands", f"hpss({CLIP},hop_length=128,n_mels=48,scale=db)"),
    ("one byte a value (uint8)", f"mel({CLIP},scale=db)@uint8"),
    ("four excerpts of 3 s, a new one each 1.5 s", "mel(clip=every(3 s,1.5 s),scale=db)"),
]
COLUMNS = 3


def _draw(axes: Any, reader: FeatureReader, track: str, title: str) -> None:
    values = reader[track]
    step = reader.spec.frame_step / reader.spec.sample_rate
    rate = reader.base.header.encoding.dtype.itemsize * reader.spec.sample_rate / reader.spec.frame_step
    rate *= int(np.prod(reader.shape_of_item, dtype=int))
    if reader.clip_frames is not None:  # the first four, side by side
        rate *= reader.spec.clip.length_s / reader.spec.clip.step_s
        gap = np.full((*values.shape[1:-1], 4), np.nan)
        values = np.concatenate([part for one in values[:4] for part in (one, gap)][:-1], axis=-1)
    if values.ndim == 1:
        axes.plot(np.arange(len(values)) * step, values, color="#0072B2", linewidth=0.3)
        axes.set_xlim(0, SECONDS)
    else:
        scale = getattr(reader.spec, "scale", None)
        decibels = scale is not None and scale.name == "db"
        top = float(np.nanmax(values) if decibels else np.nanquantile(values, 0.995))
        limits = (top - 70 if decibels else 0.0, top)
        unit = "dB" if decibels else "value"
        spec = reader.spec
        draw_spectrum(axes, values, centres_hz=spec.band_centres, step_s=step, limits=limits, unit=unit, ticks=4)
        axes.set_xlabel("")
        axes.set_ylabel("Hz", labelpad=1)
    kept = "" if reader.view.is_identity else ", a view"
    axes.set_title(f"{title}\n{format_bytes(rate)} a second{kept}", fontsize=8, loc="left", color=INK)
    axes.grid(False)
    axes.tick_params(labelsize=7, length=2)


def draw(folder: Path, path: Path = FIGURE) -> Path:
    """Extract all panels from one clip of the demo music, and draw them."""
    tracks = index_tracks("demo", folder / "demo", size=1)
    tracks = type(tracks)(tracks.frame.iloc[5:6].reset_index(drop=True), tracks.info)
    names = [name for _, name in PANELS]
    extract(tracks, expand_features(names), folder / "s.zarr", ExtractOptions(scheduler="sync"))
    store = open_store(folder / "s.zarr")
    track = store.table.frame.index[0]
    rows = len(PANELS) // COLUMNS
    with figure_style():
        import matplotlib as mpl

        mpl.rcParams["savefig.dpi"] = 110  # the style's context puts it back
        figure, grid = new_figure(11.6, 1.75 * rows, nrows=rows, ncols=COLUMNS)
        for (title, name), axes in zip(PANELS, grid.flat, strict=True):
            _draw(axes, store[name], track, title)
        for axes in grid[-1]:
            axes.set_xlabel("seconds", labelpad=1)
        return save_figure(figure, path)[0]


def main() -> None:
    """Write the figure."""
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name))


if __name__ == "__main__":
    main()
