"""Views of files: patched bytes are shown, all others are the file's, whatever is read at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from featstore.audio.views import FileView, ViewOf


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_patches_are_shown_in_reads_of_any_size(size: int, tmp_path: Path) -> None:
    content = bytes(range(40))
    path = tmp_path / "file"
    path.write_bytes(content)
    expected = bytearray(content)
    expected[2:5], expected[20:26] = b"abc", b"uvwxyz"
    view = FileView(str(path), ViewOf(start=1, stop=38, patches={2: b"abc", 20: b"uvwxyz"}))
    parts = []
    while part := view.read(size):
        parts.append(part)
    assert b"".join(parts) == bytes(expected[1:38])
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    view.seek(22 - 1)
    assert view.read(3) == b"wxy"
    view.close()
