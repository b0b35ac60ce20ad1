"""The report as one HTML file: no network, no other file, no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from featstore.atomic import write_text
from featstore.results.fronts import MARGIN
from featstore.results.page_data import page_data
from featstore.results.run_set import RunSet

__all__ = ["fill_template", "read_part", "render_page", "write_html"]

# joined into one script in this order
_SCRIPTS = (
    "page_data.js",
    "page_stats.js",
    "page_labels.js",
    "page_chart.js",
    "page_table.js",
    "page_details.js",
    "page_whatif.js",
    "page_clips.js",
    "page_link.js",
    "page_main.js",
)


def write_html(
    runs: RunSet,
    path: str | Path,
    *,
    title: str = "featstore report",
    details: int = 300,
    margin: float = MARGIN,
    late_gain: float | None = None,
    clips: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write a page on ``runs`` that needs nothing else: the answer, what-if, fronts, table, filters, details.

    Parameters
    ----------
    runs : RunSet
        From ``read_results``; thousands are fine.
    path : path
        The file to write.
    title : str
        Heading of the page.
    details : int
        Most runs with learning curves, class scores and confusion matrix on the page.
    margin : float
        Loss that is accepted when the page opens, on the scale of the scores; the reader may choose another.
    late_gain : float, optional
        Gain of the first metric in the last quarter of training beyond which a row is undertrained, see
        ``mark_undertrained``; nothing is marked by default.
    clips : sequence of mapping
        From ``workflows.page_clips.make_clips``: music to be played beside its spectra.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ConfigError
        When there are no runs, or none has a test score.
    """
    folder = Path(path).parent
    data = page_data(runs, title=title, details=details, margin=margin, late_gain=late_gain, folder=folder)
    write_text(path, render_page(data | {"clips": list(clips)}))
    return Path(path)


def render_page(data: dict[str, Any]) -> str:
    """The page as text. What runs contain is data in it: never markup, never code."""
    script = "(() => {\n'use strict';\n" + "\n".join(map(read_part, _SCRIPTS)) + "\n})();\n"
    content = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":  # so that no text can end the element that holds it
        content = content.replace(character, f"\\u{ord(character):04x}")
    return fill_template("page", title=data["title"], clips=data["clips"], script=script, data=content)


def fill_template(name: str, **values: Any) -> str:
    """The page of this room with ``name``: its template, with its own style and the values, which are escaped.

    Nothing may be loaded, and only this very script and style may run: a template's policy names their digests.
    """
    import jinja2

    loader = jinja2.FunctionLoader(read_part)
    pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    pages.globals["digest_of"] = digest_of
    style = read_part("page_base.css") + read_part(f"{name}.css")
    return pages.get_template(f"{name}.html").render(style=style, **values) + "\n"


def read_part(name: str) -> str:
    """A file of this room that pages are made of."""
    return (files("featstore.results") / name).read_text(encoding="utf-8")


def digest_of(text: str) -> str:
    """How a page's policy names the one style or script that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
