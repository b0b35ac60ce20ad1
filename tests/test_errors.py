"""Advice for names that are not known."""

import difflib

import pytest

from featstore.errors import did_you_mean

MANY = [f"artist{number // 1000}/{number:06d}.mp3" for number in range(100_000)]


def test_the_nearest_of_very_many_names_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    plain = difflib.get_close_matches

    def counting(name: str, known: list[str], **options: float) -> list[str]:
        compared.append(len(known))
        return plain(name, known, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(difflib, "get_close_matches", counting)
    for name in ("artist5/005123.mp", "artst5/005123.mp3", "artist5/005123.mp33", "005123.mp3"):  # its end, its start
        assert did_you_mean(name, MANY).startswith("Did you mean artist5/005123.mp3 or "), name
    assert did_you_mean("?", MANY).startswith("There are 100,000, such as ")
    assert max(compared) <= 4000, "letter by letter a million take a minute"


def test_names_that_are_no_more_than_some_thousands_are_all_compared() -> None:
    assert did_you_mean("xartist1/001500xmp3", MANY[:3000]).startswith("Did you mean artist1/001500.mp3")
