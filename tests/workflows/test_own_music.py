"""One's own music: what a folder or list allows is said before any work, and nothing of it ends in a traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from featstore.errors import DatasetError
from featstore.results import read_results
from featstore.testing.audio import tone
from featstore.workflows.own_music import survey_music
from featstore.workflows.recipe_execution import prepare_data
from featstore.workflows.steps import steps_of
from featstore_cli.main import main
from tests.models.jukebox_files import random_level, small_config, write_container


def write(path: Path, number: int = 0, *, artist: str = "", seconds: float = 3.2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", 16000, 1) as file:
        if artist:
            file.artist = artist
        file.write(tone(seconds, 16000, seed=number))


def music(root: Path, name: str = "{label}/{artist}/{track}.wav", *, tagged: bool = False) -> Path:
    """Sixteen tracks of two labels, each with four artists of two tracks."""
    for label in ("jazz", "rock"):
        for number in range(8):
            place = name.format(label=label, artist=f"{label}ist {number // 2}", track=number)
            write(root / place, number, artist=f"{label} {number // 2}" if tagged else "")
    return root


def test_folders_below_the_labels_are_groups(tmp_path: Path) -> None:
    survey = survey_music(str(music(tmp_path / "music")))
    assert survey.trains and survey.data["group_from"] == "second" and not survey.advice
    assert "Classes are the sub-folders: jazz (8), rock (8)." in survey.sentences
    assert "Groups are the folders below the labels (8 of them): none is on two sides of a split." in survey.sentences
    assert survey.sentences[-1].endswith("whole groups at a time: 8 train, 4 valid, 4 test.")
    assert survey.clip == "centre(3.2 s)" and survey.settings["data"]["crop_s"] == 3.0


def test_clips_that_fill_no_window_of_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are there, and its features are left out of the recipe all the same: they would be refused."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "featstore" / "weights").mkdir(parents=True)
    (tmp_path / "featstore" / "weights" / "musicnn-0.1.0-py3-none-any.whl").touch()
    for number, seconds in enumerate((2.5, 3.5)):
        folder = tmp_path / str(seconds)
        for label in ("jazz", "rock"):
            for track in range(3):
                write(folder / label / f"{track}.wav", track, seconds=seconds)
        survey = survey_music(str(folder))
        assert survey.vectors is bool(number)
        assert any("takes clips of 3 s and more" in sentence for sentence in survey.sentences) is not survey.vectors
        kinds = [entry["kind"] for entry in survey.recipe().features]
        assert ("embedding" in kinds) is survey.vectors and {"mel", "vq_tokens"} <= set(kinds)
        assert survey.recipe().optional == ["mtt-musicnn"] * number


def test_artist_tags_go_before_folders(tmp_path: Path) -> None:
    survey = survey_music(str(music(tmp_path / "music", tagged=True)))
    assert survey.data["group_from"] == "artist"
    assert set(survey.table.frame["group"]) == {f"{label} {n}" for label in ("jazz", "rock") for n in range(4)}
    assert any(sentence.startswith("Groups are the artist tags (8 of them)") for sentence in survey.sentences)


def test_one_group_in_each_class(tmp_path: Path) -> None:
    survey = survey_music(str(music(tmp_path / "music", "{label}/{label}ist/{track}.wav")))
    assert survey.trains and survey.data["group_from"] == "none" and survey.table.frame["group"].isna().all()
    assert any("Groups are given up" in sentence and "jazz (1), rock (1)" in sentence for sentence in survey.sentences)
    assert "single artists" in survey.advice[0]


def test_files_beside_folders_and_small_classes(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "{label}/{track}.wav")
    for number in range(2):
        write(root / f"beside {number}.wav")
        write(root / "folk" / f"{number}.wav")
    (root / "rock" / "page.mp3").write_text("<html>404</html>")
    survey = survey_music(str(root))
    said = " ".join(survey.sentences)
    assert "2 tracks beside the sub-folders have no label: they are extracted, not trained on." in said
    assert "Left out of training: folk (2); a class needs 3 tracks to be in every split." in said
    assert "1 file cannot be read and will be listed as failed: rock/page.mp3" in said
    assert (
        survey.settings["data"]["classes"] == ["jazz", "rock"] and "sort the files as LABEL/ARTIST" in survey.advice[0]
    )


def test_two_tracks_in_each_class(tmp_path: Path) -> None:
    for label in ("jazz", "rock"):
        for number in range(2):
            write(tmp_path / "music" / label / f"{number}.wav", number)
    survey = survey_music(str(tmp_path / "music"))
    assert not survey.trains
    assert any("Fewer than two classes have 3 tracks (jazz (2), rock (2))" in each for each in survey.sentences)


def test_one_folder_around_all(tmp_path: Path) -> None:
    survey = survey_music(str(music(tmp_path / "around" / "music").parent))
    assert survey.data["root"] == str(tmp_path / "around" / "music") and survey.trains
    assert survey.sentences[0] == f"All music is in {tmp_path / 'around' / 'music'}."


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", "no such folder or list"),
        (lambda root: (root / "empty").mkdir() or root / "empty", "the folder is empty"),
        (lambda root: write(root / "a.wav") or root / "a.wav", "this is one audio file"),
    ],
)
def test_what_is_refused(tmp_path: Path, make, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        survey_music(str(make(tmp_path)))


def test_no_file_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.mp3").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"none of 1 files can be read .a.mp3: "):
        survey_music(str(tmp_path / "music"))


def test_lists(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "{label}/{track}.wav")
    rows = [f"{label}/{n}.wav,{label},{n // 2}{label}" for label in ("jazz", "rock") for n in range(8)]
    (root / "list.csv").write_text("\n".join(["path,genre,group", *rows]) + "\n")
    bare = survey_music(str(root / "list.csv"))
    assert not bare.trains and bare.advice == ["Name the column of the labels: --label-column genre"]
    named = survey_music(str(root / "list.csv"), label_column="genre")
    assert named.trains and any("column 'group' of the list (8 of them)" in each for each in named.sentences)
    (root / "list.csv").write_text("\n".join(["path,labels,split", *(f"{r.rpartition(',')[0]},train" for r in rows)]))
    drawn = survey_music(str(root / "list.csv"))
    assert any("no split valid and no split test: new splits are drawn" in each for each in drawn.sentences)


def test_short_tracks_are_filled_up(tmp_path: Path) -> None:
    for label in ("jazz", "rock"):
        for number in range(3):
            write(tmp_path / "music" / label / f"{number}.wav", number, seconds=0.4)
    survey = survey_music(str(tmp_path / "music"))
    assert survey.clip == "centre(1 s,pad=zeros)" and survey.trains
    assert "6 shorter ones filled up with zeros" in survey.sentences[1]


def test_music_without_labels_is_extracted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for number in range(3):
        write(tmp_path / "flat" / f"{number}.wav", number)
    (tmp_path / "flat" / "broken.mp3").write_bytes(b"no audio")
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as left:
        main(["quickstart", "--music", str(tmp_path / "flat"), "-o", str(out), "--smoke", "-j", "1"])
    shown = capsys.readouterr()
    assert left.value.code == 2 and "There are no sub-folders, hence no labels" in shown.err
    assert f"1 of 4 tracks failed: featstore status {out / 'store.zarr'} --failures" in shown.err
    assert "4 tracks" in shown.out and "Next:\n" in shown.out and "one folder for each label" in shown.out
    assert (out / "steps.sh").read_text().splitlines()[-1] == f"featstore store info {out / 'store.zarr'}"
    assert not (out / "runs").exists()
    shutil.rmtree(out / "store.zarr")
    subprocess.run(["sh", out / "steps.sh"], check=True, capture_output=True, timeout=100)
    assert (out / "store.zarr").is_dir(), "a broken file does not end the steps"
    steps = (out / "steps.sh").read_text().replace("datasets index", "datasets nothing")
    assert subprocess.run(["sh", "-c", steps], check=False, capture_output=True, timeout=100).returncode == 1


@pytest.mark.slow
def test_steps_repeat_what_was_done(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """From a folder to the answer; the recipe and the single commands that were written give the same runs."""
    out, again = tmp_path / "out", tmp_path / "again"
    root = music(tmp_path / "music")
    with pytest.raises(SystemExit) as left:
        main(["quickstart", "--music", str(root), "-o", str(out), "--smoke", "-j", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert left.value.code == 0 and found["answer"]["sentences"] and found["survey"]["trains"]
    steps = (out / "steps.sh").read_text().replace(str(out), str(again))
    subprocess.run(["sh", "-c", steps], check=True, capture_output=True, timeout=500)
    runs = [{run.path.relative_to(each): run for run in read_results(each)} for each in (out / "runs", again / "runs")]
    assert runs[0].keys() == runs[1].keys() and len(runs[0]) == 3
    for path, run in runs[0].items():
        assert run.run_id == runs[1][path].run_id and run.result["scores"] == runs[1][path].result["scores"]
    with pytest.raises(SystemExit):
        main(
            [
                "recipe",
                "run",
                str(out),
                "-o",
                str(tmp_path / "third"),
                "-j",
                "1",
                "--only",
                "train",
                "--only",
                "extract",
            ]
        )
    assert {run.run_id for run in read_results(tmp_path / "third" / "runs")} == {run.run_id for run in runs[0].values()}


def test_steps_name_what_was_chosen(tmp_path: Path) -> None:
    survey = survey_music(str(music(tmp_path / "music")))
    recipe = replace(survey.recipe(smoke=True), tokenizer={}, features=survey.recipe(smoke=True).features[:1])
    index, split, extract, sweep, *_ = steps_of(recipe, "out")
    assert index.endswith(f"folder {tmp_path / 'music'} -o out/tracks.parquet --set group_from=second")
    assert "hop_length=1024" in extract and "-s out/store.zarr" in extract
    assert split.endswith("datasets split out/tracks.parquet -o out/tracks.parquet --fractions 0.6,0.2,0.2 --seed 0")
    assert "--seeds 0 -o out/runs" in sweep and "data.split=" not in sweep


def test_steps_train_the_tokenizer_first(tmp_path: Path) -> None:
    """The tokenizer is named by its path, and trained on the training split of the table."""
    level = random_level(small_config(2), 2)
    (tmp_path / "out").mkdir()
    write_container("safetensors file", [level], tmp_path / "out").rename(tmp_path / "out" / "tokenizer.safetensors")
    recipe = survey_music(str(music(tmp_path / "music"))).recipe(smoke=True)
    steps = steps_of(recipe, tmp_path / "out")
    weights = tmp_path / "out" / "tokenizer.safetensors"
    assert [step.split()[1:3] for step in steps[:4]] == [
        ["datasets", "index"],
        ["datasets", "split"],
        ["tokenizer", "train"],
        ["extract", str(tmp_path / "out" / "tracks.parquet")],
    ]
    assert f"-o {weights} --preset tiny --sample-rate 16000" in steps[2]
    sweep = next(step for step in steps if "-m token-histogram" in step)
    assert f"weights={weights}," in steps[3] and f"weights={weights}," in sweep


def test_splits_that_lack_a_part_are_drawn_again_each_time(tmp_path: Path) -> None:
    root = music(tmp_path / "music", "{label}/{track}.wav")
    rows = [f"{label}/{n}.wav,{label},train" for label in ("jazz", "rock") for n in range(8)]
    (root / "list.csv").write_text("\n".join(["path,labels,split", *rows]) + "\n")
    survey = survey_music(str(root / "list.csv"))
    assert survey.data["split_from"] == "none" and set(survey.table.frame["split"]) == {"train", "valid", "test"}
    again = prepare_data(survey.recipe(), tmp_path, 1, plans=survey.recipe().model_plans())
    assert again.frame["split"].tolist() == survey.table.frame["split"].tolist()


def test_tokens_need_a_second_of_music(tmp_path: Path) -> None:
    for number in range(6):
        write(tmp_path / "music" / ("jazz" if number % 2 else "rock") / f"{number}.wav", number, seconds=0.4)
    recipe = survey_music(str(tmp_path / "music")).recipe()
    assert not recipe.tokenizer and not any(entry["kind"] == "vq_tokens" for entry in recipe.features)
