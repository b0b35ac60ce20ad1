"""Command ``filters``."""

from __future__ import annotations

from pathlib import Path

import click

from featstore_cli.commands import Command
from featstore_cli.common import emit, json_option, render_table, wide_option

__all__ = ["filters"]


@click.command(cls=Command)
@click.argument("run")
@click.option("--figure", type=click.Path(path_type=Path, dir_okay=False), help="Draw them here: .png, .svg or .pdf.")
@click.option("--track", default="", help="Track id of the clip below the responses; the first one by default.")
@click.option("--start", type=float, default=0.0, show_default=True, help="Where the clip begins, in seconds.")
@click.option("--no-clip", is_flag=True, help="Only the responses: the store of the run is not read.")
@wide_option
@json_option
def filters(run: str, figure: Path | None, track: str, start: float, no_clip: bool, as_json: bool) -> None:
    """Say how far a run's learned filters moved; draw their responses, and what they make of a clip.

    The figure has the frequency responses of every bank before and after training and their sum; below them one clip as
    spectrogram, harmonic and percussive part, mel-spectrogram, and as each bank draws it.

    Example:  featstore filters runs/ms-sinc-resnet --figure filters.png
    """
    from featstore.workflows.filters_figure import draw_filters, read_banks, read_clip

    banks = read_banks(run)
    files: list[Path] = []
    if figure is not None:
        clip = None if no_clip else read_clip(run, track=track, start_s=start)
        files = draw_filters(banks, figure, clip=clip, title=run)

    def text() -> str:
        rows = [list(bank.as_json().values()) for bank in banks]
        shown = [[*row[:3], *(f"{value:.3g}" for value in row[3:])] for row in rows]
        table = render_table(shown, ["bank", "filters", "taps", "moved on average, Hz", "at most, Hz"])
        return "\n".join([table, *(f"drawn: {path}" for path in files)])

    payload = {"run": run, "banks": [bank.as_json() for bank in banks], "files": [str(path) for path in files]}
    emit(payload, as_json, text)
