"""Commands ``tokenizer train``, ``tokenizer encode`` and ``tokenizer decode``."""

from __future__ import annotations

from typing import Any

import click

from featstore_cli.commands import Group
from featstore_cli.common import emit, json_option

__all__ = ["tokenizer"]


@click.group(cls=Group)
def tokenizer() -> None:
    """Neural codecs: train a tokenizer on your own music, turn audio into tokens and back.

    Example:  featstore tokenizer train --data tracks.parquet --preset tiny -o own.safetensors
    """


@tokenizer.command()
@click.option("--data", "tracks", required=True, help="A track table (Parquet), a CSV file, or a folder of audio.")
@click.option("--preset", default="small", show_default=True, help="tiny (a minute), small (minutes), jukebox (days).")
@click.option("-o", "--out", "target", required=True, help="Checkpoint: .safetensors, or the original's container.")
@click.option("--minutes", type=float, default=30.0, show_default=True, help="Music to hold in memory and train on.")
@click.option("--level", type=int, help="0 (hop 8), 1 (hop 32) or 2 (hop 128).")
@click.option("--codes", type=int, help="Rows of the codebook.")
@click.option("--width", type=int, help="Channels of the model.")
@click.option("--steps", type=int, help="Training steps.")
@click.option("--batch", type=int, help="Excerpts a step.")
@click.option("--sample-rate", type=int, help="Hz that the tokenizer works at; 44100 by default.")
@click.option("--seed", type=int, help="Of weights and excerpts.")
@click.option("--figure", help="PNG of what the tokenizer keeps of a held-out excerpt.")
@json_option
def train(
    tracks: str, preset: str, target: str, minutes: float, figure: str | None, as_json: bool, **settings: Any
) -> None:
    """Train a tokenizer; stopped and run again, it goes on where it was.

    Example:  featstore tokenizer train --data music/ --preset small -o own.safetensors --figure own.png
    """
    from featstore.workflows.tokenizer import train_tokenizer
    from featstore.workflows.toplevel import load_tracks

    made = train_tokenizer(load_tracks(tracks), target, preset=preset, minutes=minutes, **settings)
    if figure:
        from featstore.workflows.tokenizer_figure import draw_reconstruction

        draw_reconstruction(made, figure)
    emit(made.as_json(), as_json, lambda: _report(made))


def _report(made: Any) -> str:
    found, how = made.report, made.report["training"]
    lines = [
        f"{made.path}: {how['codes']} codes, hop {how['hop']} at {how['sample_rate']} Hz, weights {made.digest}",
        f"{how['steps']} steps in {how['seconds']:.0f} s on {how['music_s'] / 60:.1f} min of music",
        f"held out: {found['used']:.0%} of the codes used, perplexity {found['perplexity']:.0f}, "
        f"quantisation error {found['quantisation_error']:.3f}",
    ]
    if found["spectral_convergence"] is not None:
        lines.append(
            f"decoded: spectral convergence {found['spectral_convergence']:.2f}, "
            f"L2/variance {found['l2_over_variance']:.2f}, SI-SDR {found['si_sdr_db']:.1f} dB"
        )
    level = {8: 0, 32: 1, 128: 2}.get(how["hop"], 2)
    lines.append(f"extract with: -f 'vq_tokens(codec=jukebox,level={level},weights={made.path})'")
    return "\n".join(lines)


@tokenizer.command()
@click.argument("audio")
@click.option("--codec", default="jukebox", show_default=True, help="jukebox, encodec, dac or mimi.")
@click.option("--weights", required=True, help="Checkpoint: a file or a folder.")
@click.option("-o", "--out", "target", required=True, help="Tokens: .npz or .safetensors.")
@click.option("--level", type=int, default=2, show_default=True, help="Of jukebox.")
@click.option("--normalize", default="none", show_default=True, help="none, or peak: other tokens.")
@click.option("--bandwidth", type=float, help="Of encodec, kbit/s.")
@click.option("--n-quantizers", type=int, help="Codebooks to keep.")
@json_option
def encode(audio: str, target: str, as_json: bool, **fields: Any) -> None:
    """Write the tokens of an audio file: the same that an extraction stores.

    Example:  featstore tokenizer encode song.mp3 --weights own.safetensors -o song.npz
    """
    from featstore.features.vq_tokens import VqTokensSpec
    from featstore.workflows.tokenizer import encode_file

    spec = VqTokensSpec.from_text({name: str(value) for name, value in fields.items() if value is not None})
    made = encode_file(audio, spec, target)
    facts = made.as_json()
    emit(
        facts,
        as_json,
        lambda: (
            f"{target}: {' x '.join(map(str, facts['tokens']))} tokens, {facts['bytes']:,} bytes, "
            f"{facts['codes_used']} codes used; {facts['seconds_per_minute']:.2f} s a minute of music"
        ),
    )


@tokenizer.command()
@click.argument("tokens")
@click.option("--weights", required=True, help="The checkpoint that made the tokens.")
@click.option("-o", "--out", "target", required=True, help="WAV file.")
@json_option
def decode(tokens: str, weights: str, target: str, as_json: bool) -> None:
    """Turn tokens back into audio, to hear what a codec keeps.

    Example:  featstore tokenizer decode song.npz --weights own.safetensors -o song.wav
    """
    from featstore.workflows.tokenizer import decode_file

    made = decode_file(tokens, target, weights=weights)
    emit(made, as_json, lambda: f"{made['path']}: {made['seconds']:.1f} s at {made['sample_rate']} Hz")
