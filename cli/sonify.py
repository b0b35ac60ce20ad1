"""Command ``sonify``."""

from __future__ import annotations

from typing import Any

import click

from featstore_cli.commands import Command
from featstore_cli.common import emit, json_option

__all__ = ["sonify"]


@click.command(cls=Command)
@click.argument("store")
@click.argument("track")
@click.argument("feature", required=False)
@click.option("-f", "--feature", "named", help="A spec or a preset of one feature; may follow TRACK without -f, too.")
@click.option("-o", "--out", required=True, metavar="FILE", help="Sound file; its ending names the format.")
@click.option(
    "--method", default="noise", show_default=True, help="Phases: noise (of white noise) or griffin-lim (fitting ones)."
)
@click.option("--iterations", type=int, default=32, show_default=True, help="Rounds of Griffin-Lim.")
@click.option("--start", "start_s", type=float, default=0.0, help="Begin at this second.")
@click.option("--seconds", type=float, help="Length of the passage; to the end by default.")
@click.option("--excerpt", type=int, default=0, help="Which excerpt, of a feature extracted with clip=every(…).")
@click.option("--seed", type=int, default=0, help="Of the noise.")
@json_option
def sonify(
    store: str,
    track: str,
    feature: str | None,
    named: str | None,
    out: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Hear what a representation keeps: make sound of a stored feature of one track.

    Example:  featstore sonify mel.zarr a/song.mp3 -f 'mel(n_mels=48,scale=db)' -o heard.wav
    """
    from featstore.errors import ConfigError
    from featstore.features import expand_features
    from featstore.workflows.sonify import SonifyOptions
    from featstore.workflows.sonify import sonify as make_sound

    if (feature is None) == (named is None):
        found = "no feature is named" if feature is None else f"two features are named: {feature} and {named}"
        raise ConfigError(found, "sonify", f"Name one with -f; featstore store info {store} lists what is stored")
    asked = expand_features([str(feature or named)])
    if len(asked) > 1:
        raise ConfigError(
            f"{feature or named} is {len(asked)} features", "sonify", f"Name one of them, such as -f '{asked[0].spec}'"
        )
    report = make_sound(store, track, asked[0], out, SonifyOptions(**options))

    def text() -> str:
        loud = f"; its peak of {report.peak:.2f} was turned down to full scale" if report.peak > 1 else ""
        return f"{report.path}: {report.seconds:.2f} s at {report.sample_rate} Hz ({report.method}){loud}"

    emit(report, as_json, text)
