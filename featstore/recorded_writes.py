"""A file whose refused writes are kept, for libraries that lose why a write was refused."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["recorded_writes"]


class _Recorded(io.FileIO):
    """A file that writes nothing more after a refused write, and raises nothing; ``refused`` says why."""

    refused: OSError | None = None

    def write(self, data: object) -> int:
        """Bytes that were taken: 0 after a refusal."""
        view, done = memoryview(data).cast("B"), 0  # type: ignore[arg-type]
        while self.refused is None and done < len(view):
            try:
                done += super().write(view[done:]) or 0
            except OSError as error:
                self.refused = error
        return done


@contextmanager
def recorded_writes(path: str | os.PathLike[str]) -> Iterator[io.FileIO]:
    """A new file for a library such as libsndfile, which calls a full disk a "System error", or nothing at all.

    Raises
    ------
    OSError
        At the end, of the first write that the disk refused, in place of what the library made of it.
    """
    with _Recorded(path, "w+") as file:
        try:
            yield file
        except Exception:
            if file.refused is None:
                raise
        if file.refused is not None:
            raise file.refused
