"""docs/tokens.md does what it says: its blocks run in order, a training of a few steps in place of the long one."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from featstore.testing.audio import make_collection
from featstore_cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "tokens.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(bash|python)\n(.*?)```", re.DOTALL)
QUICK = "--preset tiny --steps 4 --width 4 --codes 16 --batch 1 --minutes 0.1"


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make_collection(tmp_path / "music", n_tracks=4, seconds=(1.0, 1.6))
    monkeypatch.chdir(tmp_path)
    first = sorted(path for path in (tmp_path / "music").rglob("*.*") if path.suffix in (".wav", ".flac", ".mp3"))[0]
    blocks = BLOCK.findall(PAGE)
    assert [language for language, _ in blocks] == ["bash", "python"]
    for language, text in blocks:
        if language == "python":
            exec(compile(text, "docs/tokens.md", "exec"), {})
            continue
        for command in text.strip().splitlines():
            command = command.replace("--preset small", QUICK).replace("music/track-000.wav", str(first))
            program, *args = shlex.split(command)
            assert program == "featstore"
            args += ["--scheduler", "sync"] if args[0] == "extract" else []
            with pytest.raises(SystemExit) as left:
                main(args)
            assert left.value.code in (0, None), (command, capsys.readouterr().err)
    assert (tmp_path / "heard.wav").stat().st_size > 1000 and (tmp_path / "own.png").stat().st_size > 1000


def test_figures_quoted_are_those_of_the_report() -> None:
    report = json.loads((DOCS / "benchmarks" / "tokenizer_small.json").read_text(encoding="utf-8"))
    assert report["used"] == 1 and f"ended with all of the {report['training']['codes']} codes in use" in PAGE
    assert f"perplexity {report['perplexity']:.0f} and" in PAGE and f"({report['tokens']:,} tokens)" in PAGE
    assert f"Its {report['training']['steps']} steps" in PAGE
    assert f"quantisation error of {report['quantisation_error']:.2f}" in PAGE
    assert (
        f"spectral convergence {report['spectral_convergence']:.2f}, L2/variance {report['l2_over_variance']:.2f}"
        in PAGE
    )
    assert f"SI-SDR −{-report['si_sdr_db']:.1f} dB" in PAGE
    assert (DOCS / "figures" / "tokenizer_small.png").stat().st_size > 10_000
