"""Draw the pictures of docs/reports.md from generated runs: ``python -m tests.results.doc_figures``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from featstore.results import RunSet, read_results, write_html
from featstore.results.figures import draw
from featstore.testing.runs import mel_grid, write_runs
from tests.results.chromium import Browser

FIGURES = Path(__file__).parents[2] / "docs" / "figures"


def example_runs(root: Path) -> RunSet:
    """The runs of the page: a grid of mel configurations, three seeds each, drawn from a seed."""
    grid = mel_grid(n_mels=[96, 48, 24, 8], hop_multiple=[1, 2, 4], encoding=["float32", "uint8"])
    write_runs(root / "demo", grid)
    genres = mel_grid(n_mels=[96, 48], hop_multiple=[1, 2], dataset=["genres"])
    write_runs(root / "genres", genres, predictions=800, task="single_label")
    return read_results(root)


def main() -> None:
    """Write the figures and the screenshots."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        runs = example_runs(root / "runs")
        demo = runs.select(lambda record: record.dataset == "demo")
        genres = runs.select(lambda record: record.dataset == "genres")
        draw(demo, "pareto", [FIGURES / "report_pareto.png"])
        float32 = demo.select(lambda record: record.result["feature_fields"]["encoding"] == "float32")
        draw(float32, "figure1", [FIGURES / "report_figure1.png"])
        draw(genres, "classes", [FIGURES / "report_classes.png"], metric="accuracy")
        page = write_html(runs, root / "page.html", title="How low can you go? (generated runs)")
        with Browser(root / "profile", width=1280, height=1000) as browser:
            browser.open(page)
            browser.run("document.querySelector('#chart').focus()")
            browser.press("ArrowRight")
            browser.screenshot(FIGURES / "report_page.png")
            browser.run(
                "(() => { const s = document.querySelector('#dataset'); s.value = 'genres';"
                " s.dispatchEvent(new Event('change')); })()"
            )
            browser.run("document.querySelector('#answer .link').click()")
            browser.run("new Promise(done => setTimeout(done, 1000))")  # the page has moved to what was opened
            browser.run("document.querySelector('#details').scrollIntoView({behavior: 'instant', block: 'start'})")
            browser.screenshot(FIGURES / "report_page_details.png")


if __name__ == "__main__":
    main()
