"""Progress of an extraction, as those who started it and all others see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from featstore.errors import ObjectStorageError
from featstore.extract import run_progress
from featstore.extract.report import ExtractReport
from featstore.extract.run_progress import RunProgress
from featstore.store.location import FolderLocation


def test_a_look_that_fails_adds_no_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Note:
        slot = 6

    report = ExtractReport("x.zarr")
    with RunProgress(FolderLocation(tmp_path), "run", report, 10, "none") as progress:
        monkeypatch.setattr(run_progress, "notes_of", lambda *_: [Note()])
        progress._show()
        assert progress.in_work == 6

        def refuses(*_: object) -> None:
            raise OSError("the folder is away")

        monkeypatch.setattr(run_progress, "notes_of", refuses)
        report.tracks = 8
        progress._show()
        assert progress.in_work == 2  # of ten tracks, eight are done


def test_a_note_that_cannot_be_written_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = FolderLocation(tmp_path)

    def refuses(*_: object) -> None:
        raise ObjectStorageError("no answer", "s3://bucket", "Try again")

    with RunProgress(location, "run", ExtractReport("x.zarr"), 10, "none") as progress:
        monkeypatch.setattr(location, "write", refuses)
        progress._file()
