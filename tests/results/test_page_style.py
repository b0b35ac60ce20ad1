"""Colours of the pages: text is readable on every ground it stands on, by day and by night."""

from __future__ import annotations

import re

import pytest

from featstore.results.figure_style import PALETTE, PUBLISHED, QUIET
from featstore.results.page import read_part

TEXTS = ("ink", "quiet", "blue", "orange")  # colours that text has
GROUNDS = ("ground", "card", "grid", "pick")


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """Contrast of two colours, 1 to 21."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _schemes() -> dict[str, dict[str, str]]:
    """Colours by name, of the light and of the dark scheme."""
    found = re.findall(r":root \{(.*?)\}", read_part("page_base.css"), re.DOTALL)
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in found)
    return {"light": light, "dark": dark}


def test_contrast_is_what_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(
        4.48, abs=0.01
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(scheme: str) -> None:
    colours = _schemes()[scheme]
    assert set(TEXTS) | set(GROUNDS) <= set(colours)
    small = {
        (text, ground): contrast(colours[text], colours[ground])
        for text in ("ink", "quiet", "blue")
        for ground in GROUNDS
    }
    assert {pair: round(value, 2) for pair, value in small.items() if value < 4.5} == {}
    marks = {
        name: contrast(colours[name], colours["card"]) for name in ("orange", "blue", "purple", "grey", "published")
    }
    assert {name: round(value, 2) for name, value in marks.items() if value < 3} == {}


@pytest.mark.parametrize("sheet", ["page_base.css", "page.css", "paper_page.css"])
def test_text_has_no_other_colours(sheet: str) -> None:
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", read_part(sheet))
    own = [
        (selector.strip(), found)
        for selector, body in rules
        for found in re.findall(r"(?<![-\w])color: ([^;]+);", body)
    ]
    named = {f"var(--{name})" for name in (*TEXTS, "ground")} | {"inherit"}
    assert own and {pair for pair in own if pair[1] not in named} == set()
    assert [selector for selector, found in own if found == "var(--ground)"] in ([], ["#tip"])


def test_text_of_figures_is_readable() -> None:
    assert contrast(QUIET, "#ffffff") >= 4.5 and contrast(PUBLISHED, "#ffffff") >= 4.5
    assert min(contrast(colour, "#ffffff") for colour in PALETTE[:2]) >= 3
