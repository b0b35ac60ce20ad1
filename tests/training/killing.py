"""Runs that die at a chosen step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from featstore.training.loop import Loop

__all__ = ["killed_after"]


class Killed(Exception):
    pass


@contextmanager
def killed_after(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What trains inside must die right after optimizer step ``step``."""
    show = Loop._show

    def dying(self: Loop) -> None:
        show(self)
        if self.progress.step == step:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Loop, "_show", dying)
        yield
