"""Every command and every line of Python in docs/training.md is run, except where a reason is given."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
from small_store import make_collection

from featstore_cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
BLOCK = re.compile(r"(<!-- not run here: .+? -->\n)?```(bash|python)\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make_collection(tmp_path / "store.zarr", n=20, n_frames=220, spec="mel(n_mels=96,hop_length=512,scale=db)")
    monkeypatch.setenv("FEATSTORE_PROGRESS", "0")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == 9
    for reason, language, text in blocks:
        if reason:
            continue
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), {})
            continue
        for command in text.replace("\\\n", " ").strip().splitlines():
            program, *args = shlex.split(command)
            assert program == "featstore"
            with pytest.raises(SystemExit) as left:
                main(args)
            assert left.value.code in (0, None), (command, capsys.readouterr().err)


def test_every_setting_on_the_page_exists() -> None:
    from featstore.models import setting_names
    from featstore.training import OBJECTIVES, TrainConfig

    sections = {name: set(inner) for name, inner in TrainConfig().as_mapping().items() if isinstance(inner, dict)}
    sections["model"] = set(setting_names("vgg-cnn"))
    for objective in OBJECTIVES:
        sections["objective"] |= {field.name for field in dataclasses.fields(OBJECTIVES.load(objective).Config)}
    named = re.findall(
        r"\b(data|model|objective|start|augment|optimizer|schedule|loop|evaluate|device)\.([a-z_]+)", PAGE.read_text()
    )
    assert len(named) > 40
    assert [(section, key) for section, key in named if key not in sections[section]] == []
