"""Write docs/wrong_uses.md, a transcript of wrong uses: ``python -m tests.docs.wrong_uses``."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import tempfile
from pathlib import Path

from featstore.testing.audio import make_collection
from featstore_cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "wrong_uses.md"
TRAIN = "train -s mel.zarr -f 'mel(n_mels=48,scale=db)' -m vgg-cnn -o runs/new"

USES = [
    "featurs list",
    "store inf mel.zarr",
    "quickstart --music nowhere",
    "quickstart --music empty",
    "quickstart --music music/a/0000.wav",
    "quickstart --label-column genre",
    "datasets index foldr music -o t.parquet",
    "datasets index folder nowhere -o t.parquet",
    "datasets index folder music -o t.parquet --set label_form=parent",
    "datasets index csv no_path.csv -o t.parquet",
    "datasets index csv list.csv -o t.parquet --label-column gener",
    "datasets split tracks.parquet -o t.parquet --fractions 0.5,0.6",
    "datasets split tracks.parquet -o t.parquet --group-column artist",
    "datasets split tracks.parquet -o t.parquet --repeats list.csv",
    "datasets check list.csv",
    "plan nowhere.parquet -f 'mel()'",
    "plan tracks.parquet -f 'mell(n_mels=96)'",
    "plan tracks.parquet -f 'mel(n_mell=96)'",
    "plan tracks.parquet -f 'mel(fmax=12000)'",
    "plan tracks.parquet -f 'mel(n_mels=200)' --sample 0",
    "plan tracks.parquet -f 'mel()@uint8'",
    "plan tracks.parquet -f 'mel(clip=centre(40 s))' --sample 0",
    "plan tracks.parquet -f feraro2020",
    "features show mels",
    "extract tracks.parquet -f 'mel()' -s a.zarr -s b.zarr",
    "extract tracks.parquet -f 'mel()' -s music",
    "extract tracks.parquet -f 'mel()' -s a.zarr --compression gzip",
    "extract tracks.parquet -f 'mel()' -s a.zarr --shard-range 3/2",
    "status nowhere.zarr",
    "store info music",
    "store export mel.zarr -f 'mel(n_mels=48,scale=db)'",
    TRAIN.replace("48", "96"),
    TRAIN.replace("vgg-cnn", "vgg-cn"),
    f"{TRAIN} --set epochs=3",
    f"{TRAIN} --set loop.epoch=3",
    f"{TRAIN} --set loop.epochs=many",
    f"{TRAIN} --set data.split=given",
    f"{TRAIN} --tracks list.csv --set data.split=random --set data.crop_s=60",
    "train --list-settings lop",
    "sweep -s mel.zarr -f 'mel(n_mels=48,scale=db)' -m vgg-cnn -o runs --seeds one",
    "evaluate runs/nowhere",
    "tag runs/nowhere music",
    "report table nowhere",
    "report query music",
    "recipe show quickstar",
    "recipe run quickstart --only trian -o out",
    "sonify mel.zarr a/000.wav -f 'mel(n_mels=48,scale=db)' -o heard.wav",
    "models show vgg-cn",
]

HEAD = """# Wrong uses and their messages

Every message says what is wrong, where, and what to do; nothing is lost and no file is left half written. This page is
a transcript: `music` is a folder of twelve short tracks in two sub-folders, `mel.zarr` a store of one mel-spectrogram
of them, `tracks.parquet` its track table without splits, `list.csv` a list with the columns `path` and `genre`. The
exit code is 1 each time.
"""


def prepare(folder: Path) -> None:
    """Make what the commands name."""
    make_collection(folder / "music", n_tracks=12, seconds=(1.6, 3.0))
    (folder / "empty").mkdir()
    rows = [f"music/{'ab'[n % 2]}/{n:04d}.wav,{'rock' if n % 2 else 'jazz'}" for n in range(12)]
    (folder / "list.csv").write_text("\n".join(["path,genre", *rows]) + "\n")
    (folder / "no_path.csv").write_text("file,labels\na.wav,rock\n")
    run("datasets index folder music -o tracks.parquet", folder)
    run("extract tracks.parquet -f 'mel(n_mels=48,scale=db)' -s mel.zarr --scheduler sync", folder)


def run(command: str, folder: Path) -> tuple[int, str]:
    """Exit code of a command and what it says on stderr, with the folder's own place left out."""
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(shlex.split(command))
        except SystemExit as left:
            code = int(left.code or 0)
    text = said.getvalue().replace(f"{folder}/", "")
    kept = [line for line in text.splitlines() if line and not line.startswith(("Usage:", "Try '"))]
    return code, "\n".join(kept)


def transcript(uses: list[str], folder: Path) -> list[str]:
    """An entry for each use: the command and its message."""
    return [f"```text\n$ featstore {use}\n{run(use, folder)[1]}\n```" for use in uses]


if __name__ == "__main__":
    os.environ |= {"FEATSTORE_PROGRESS": "0", "COLUMNS": "80"}
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place))
        entries = transcript(USES, Path(place))
    PAGE.write_text("\n\n".join([HEAD.strip(), *entries]) + "\n", encoding="utf-8")
