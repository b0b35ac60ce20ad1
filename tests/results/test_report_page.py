"""The page: valid without a browser, and used like a person would in a headless Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from featstore.errors import ConfigError
from featstore.results import RunSet, answer_sentences, pareto, read_results, summarise, write_html, write_result
from featstore.results.fronts import standing
from featstore.results.losses import loss_number
from featstore.results.page import render_page
from featstore.results.page_data import page_data
from featstore.testing.runs import mel_grid, write_runs
from tests.results.chromium import PROGRAM, Browser

needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here: apt-get install chromium")
NASTY = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'> & \u2028 {{script}}"


def chromium(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that opens the page in a browser, which takes seconds."""
    marked: Callable[..., None] = pytest.mark.slow(needs_chromium(test))
    return marked


# ---- without a browser ----------------------------------------------------------------------------------------------


def test_the_file_asks_for_nothing(plain: RunSet, tmp_path: Path) -> None:
    text = write_html(plain, tmp_path / "page.html", title="A report").read_text()
    assert "<title>A report</title>" in text and text.count("<script") == 2
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", text)
    assert not re.search(r"\b(?:fetch|XMLHttpRequest|import|eval|innerHTML|document\.write)\s*\(|innerHTML", text)
    assert "default-src 'none'" in text and "unsafe-inline" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_what_runs_contain_is_data_and_never_markup(tmp_path: Path, result: dict[str, Any]) -> None:
    write_result(tmp_path / "run", result | {"model": NASTY, "dataset": NASTY, "config": {NASTY: NASTY}})
    text = render_page(page_data(read_results(tmp_path), title=NASTY, details=1))
    assert "<img" not in text and "window.hacked = 1</script>" not in text
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    told = json.loads(data[1])
    assert told["title"] == NASTY and told["configurations"]["model"]["texts"] == [NASTY]


def test_pages_without_scores_are_refused(tmp_path: Path, result: dict[str, Any]) -> None:
    write_result(tmp_path / "run", result | {"scores": {"valid": {"roc_auc": 0.5}}})
    with pytest.raises(ConfigError, match="no runs with test scores"):
        write_html(read_results(tmp_path), tmp_path / "page.html")
    with pytest.raises(ConfigError, match="no runs with test scores"):
        page_data(RunSet(), title="", details=0)


def test_folders_are_relative_to_the_page(tmp_path: Path, result: dict[str, Any]) -> None:
    write_result(tmp_path / "out/runs/first/seed0", result)
    torn = tmp_path / "out/runs/broken/result.json"
    torn.parent.mkdir()
    torn.write_text("{")
    page = write_html(read_results(tmp_path / "out/runs"), tmp_path / "out/report/index.html")
    text = page.read_text(encoding="utf-8")
    assert '"texts":["../runs/first"]' in text and "../runs/broken: result.json is not valid JSON" in text
    assert str(tmp_path) not in text


def test_numbers_stay_whole_where_some_rows_have_none(tmp_path: Path, result: dict[str, Any]) -> None:
    for number, feature in enumerate(["mel(n_mels=16,scale=db)", "mel(n_mels=96,scale=db)", "waveform()"]):
        write_result(tmp_path / str(number), result | {"feature": feature, "config_hash": f"{number:012d}"})
    found = page_data(read_results(tmp_path), title="", details=0)
    [bands] = [each for each in found["filters"] if each["name"] == "n_mels"]
    assert [option["value"] for option in bands["options"]] == ["16", "96", ""]
    assert set(found["configurations"]["n_mels"]["texts"]) == {"16", "96", ""}


@pytest.mark.slow
def test_details_go_to_the_front_first(grid: RunSet) -> None:
    told = page_data(grid, title="", details=6)
    front = pareto(summarise(grid), runs=grid).frame
    on_front = {run for ids in front[front["on_front"] | front["guaranteed"]]["run_ids"] for run in ids}
    detailed = {told["runs"]["id"][int(row)] for row in told["details"]["runs"]}
    assert len(detailed) == 6 and detailed <= on_front
    assert page_data(grid, title="", details=0)["details"]["runs"] == {}


@pytest.mark.slow
def test_the_page_holds_the_bounds(runs: RunSet) -> None:
    data = page_data(runs, title="", details=100)
    keys = data["configurations"]["configuration"]
    keys = [keys["texts"][code] for code in keys["codes"]]
    for dataset in ("demo", "gtzan"):
        part = runs.select(lambda record, d=dataset: record.dataset == d)
        metric = "roc_auc" if dataset == "demo" else "accuracy"
        front = pareto(summarise(part), y=metric, runs=part)
        bounds = data["bounds"][metric]
        assert bounds["statements"][dataset] == front.statement
        for row in front.frame.to_dict("records"):
            place = keys.index(row["configuration"])
            assert bounds["standing"][place] == standing(row)
            assert bounds["most"][place] == pytest.approx(row["loss_most"], rel=1e-5, abs=1e-9)
            assert bounds["least"][place] == pytest.approx(row["loss_least"], rel=1e-5, abs=1e-9)
    place, said = next(iter(data["details"]["classes"].items()))
    assert said["runs"] == 3 and said["shown"] == "f1" and sum(map(sum, said["confusion"])) == 3 * 80
    rows = [row for row, index in enumerate(data["runs"]["configuration"]) if index == int(place)]
    own = [data["details"]["runs"][str(row)]["classes"]["scores"][0][0] for row in rows]
    assert len(own) == 3 and said["scores"][0][0] == pytest.approx(sum(own) / 3, abs=1e-3)


# ---- with a browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    """Two data sets: many configurations with three seeds, and a single-label task with predictions."""
    root = tmp_path_factory.mktemp("page")
    write_runs(root / "a", mel_grid(n_mels=[96, 48, 24, 8], hop_multiple=[1, 2, 4], encoding=["float32", "uint8"]))
    single = mel_grid(n_mels=[96, 48], hop_multiple=[1, 2], dataset=["gtzan"])
    write_runs(root / "b", single, predictions=80, task="single_label")
    (root / "torn").mkdir()
    (root / "torn" / "result.json").write_text("{")
    return read_results(root)


@pytest.fixture
def page(browser: Browser, runs: RunSet, tmp_path: Path) -> Browser:
    """The page, freshly opened, with a record of what happens on it."""
    browser.events.clear()
    browser.open(write_html(runs, tmp_path / "page.html", title="Try me"))
    return browser


ROWS = "[...document.querySelectorAll('#table tbody tr')]"
MARKS = "#chart > svg .mark"


@chromium
def test_opening_is_quiet_and_complete(page: Browser) -> None:
    assert page.run("document.title") == "Try me"
    assert page.run("document.querySelector('#facts').textContent") == (
        "84 runs · 28 configurations · 2 data sets · 1 folder skipped"
    )
    assert page.run(f"{ROWS}.length") == 24 and page.run(f"document.querySelectorAll('{MARKS}').length") == 24
    assert "torn" in page.run("document.querySelector('#skipped-list').textContent")
    assert "valid for all 24 configurations at once" in page.run("document.querySelector('#statement').textContent")
    assert page.problems() == [] and page.requests() == []


@chromium
def test_the_page_judges_as_python_does(page: Browser, runs: RunSet) -> None:
    demo = runs.select(lambda record: record.dataset == "demo")
    front = pareto(summarise(demo), runs=demo)
    answer = page.run("document.querySelector('#answer').textContent")
    assert answer.startswith(f"Keep {front.frame['label'][front.answer]}≤ ")
    for sentence in answer_sentences(front)[3:]:
        assert sentence in answer
    heads = page.run("[...document.querySelectorAll('#table thead button')].map(b => b.dataset.key)")
    cells = page.run(f"{ROWS}.map(row => [...row.cells].map(cell => cell.textContent))")
    told = {row[0]: dict(zip(heads, row, strict=True)) for row in cells}
    for row in front.frame.to_dict("records"):
        own = told[row["label"]]
        assert own["roc_auc"].startswith(
            f"{row['roc_auc_mean']:.4f} ± {row['roc_auc_std']:.4f} [{row['roc_auc_low']:.4f}"
        )
        assert ("measured" in own["front"]) == row["on_front"]
        assert ("guaranteed" in own["front"]) == row["guaranteed"]
        assert own["standing"] == standing(row)
        assert own["at_most"] == loss_number("roc_auc", row["loss_most"])


@chromium
def test_filters_change_table_chart_and_tests(page: Browser) -> None:
    page.run("document.querySelector('input[data-field=encoding][data-value=float32]').click()")
    assert page.run(f"{ROWS}.length") == 12 and page.run(f"document.querySelectorAll('{MARKS}').length") == 12
    assert page.run("document.querySelector('#count').textContent") == "12 of 24 configurations"
    statement = page.run("document.querySelector('#statement').textContent")
    assert "all 24 configurations" in statement and "The best of all 24 configurations is meant" in statement
    assert page.run(f"{ROWS}.every(row => row.cells[0].textContent.includes('uint8'))")
    for value in (8, 24, 48, 96):
        page.run(f"document.querySelector('input[data-field=n_mels][data-value=\"{value}\"]').click()")
    assert page.run(f"{ROWS}.length") == 0
    assert "No configuration" in page.run("document.querySelector('#answer').textContent")
    page.run("document.querySelector('#reset').click()")
    assert page.run(f"{ROWS}.length") == 24
    assert page.problems() == []


@chromium
def test_search_by_words(page: Browser) -> None:
    page.run("""(() => { const box = document.querySelector('#search'); box.value = 'hop 1024 UINT8';
                box.dispatchEvent(new Event('input', {bubbles: true})); })()""")
    page.run("new Promise(done => setTimeout(done, 250))")
    assert page.run(f"{ROWS}.length") == 4


@chromium
def test_sorting_by_mouse_and_keyboard(page: Browser) -> None:
    def column(key: str) -> list[str]:
        index = page.run(
            f"[...document.querySelectorAll('#table thead button')].findIndex(b => b.dataset.key === '{key}')"
        )
        return list(page.run(f"{ROWS}.map(row => row.cells[{index}].textContent)"))

    box = page.run("""(() => { const b = document.querySelector('#table thead button[data-key=bytes_alone]');
                      b.scrollIntoView({block: 'center', behavior: 'instant'}); const r = b.getBoundingClientRect();
                      return [r.x + r.width / 2, r.y + r.height / 2]; })()""")
    page.click(*box)
    sizes = [_bytes(text) for text in column("bytes_alone")]
    assert sizes == sorted(sizes) and len(sizes) == 24
    sort = "document.querySelector('#table thead button[data-key=bytes_alone]').closest('th').getAttribute('aria-sort')"
    assert page.run(sort) == "ascending"
    assert page.run("document.activeElement.dataset.key") == "bytes_alone"
    page.press("Enter")
    assert [_bytes(text) for text in column("bytes_alone")] == sizes[::-1] and page.run(sort) == "descending"


def _bytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


@chromium
def test_a_click_on_a_mark_opens_its_runs(page: Browser) -> None:
    x, y, label = (
        page.run("""(() => { document.querySelector('#chart').scrollIntoView({block: 'center', behavior: 'instant'});
        const r = document.querySelector('#chart > svg .best').getBoundingClientRect();
        return [r.x + r.width / 2, r.y + r.height / 2, '']; })()""")
    )
    page.move(x, y)
    assert "best" in page.run("document.querySelector('#tip').textContent")
    assert page.run("!document.querySelector('#tip').hidden")
    page.click(x, y)
    label = page.run("document.querySelector('#details-title').textContent")
    assert label and label == page.run("document.querySelector('#tip b').textContent")
    assert page.run("!document.querySelector('#details').hidden")
    assert page.run("document.activeElement.id") == "details-title"
    assert page.run("document.querySelectorAll('#details table tbody tr').length") == 3
    assert page.run("document.querySelectorAll('#details svg.curves').length") >= 2
    assert "training.learning_rate" in page.run("document.querySelector('#details').textContent")
    assert page.run("document.querySelector('#table tr.picked').cells[0].textContent") == label
    page.press("Escape")
    assert page.run("document.querySelector('#details').hidden") and page.problems() == []


@chromium
def test_the_chart_by_keyboard_speaks(page: Browser) -> None:
    page.run("document.querySelector('#chart').focus()")
    page.press("ArrowRight")
    first = page.run("document.querySelector('#chart-reader').textContent")
    assert re.match(r"\d+ of 24: .*ROC AUC 0\.\d{4} ± 0\.\d{4} \(n = 3\); .*MB, at most \d", first)
    page.press("ArrowRight")
    assert page.run("document.querySelector('#chart-reader').textContent") != first
    page.press("Enter")
    assert page.run("!document.querySelector('#details').hidden")
    page.press("Escape")
    assert page.run("document.activeElement.id") == "chart"  # back where the reader came from


@chromium
def test_single_label_runs_show_classes_and_confusion(page: Browser) -> None:
    page.run("""(() => { const s = document.querySelector('#dataset'); s.value = 'gtzan';
                s.dispatchEvent(new Event('change')); })()""")
    offered = page.run("[...document.querySelector('#metric').options].map(o => o.value)")
    assert {"accuracy", "macro_f1", "loss"} <= set(offered)
    page.run("""(() => { const s = document.querySelector('#metric'); s.value = 'accuracy';
                s.dispatchEvent(new Event('change')); })()""")
    assert page.run(f"{ROWS}.length") == 4
    page.run("document.querySelector('#table tbody button').click()")
    cells = page.run("[...document.querySelectorAll('.matrix tbody td')].map(c => Number(c.textContent))")
    assert len(cells) == 64 and sum(cells) == 3 * 80
    bars = page.run("[...document.querySelectorAll('.bar rect')].slice(0, 2).map(e => getComputedStyle(e).fill)")
    assert len(set(bars)) == 2 and "rgb(0, 0, 0)" not in bars
    page.run("""(() => { const s = document.querySelector('#details-run'); s.selectedIndex = 1;
                s.dispatchEvent(new Event('change')); })()""")
    cells = page.run("[...document.querySelectorAll('.matrix tbody td')].map(c => Number(c.textContent))")
    assert sum(cells) == 80 and page.problems() == []


@chromium
def test_what_if_follows_slider_and_numbers(page: Browser, runs: RunSet) -> None:
    def told() -> dict[str, list[str]]:
        rows = page.run(
            "[...document.querySelectorAll('#whatif tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
        )
        return {row[0]: row[3:] for row in rows}

    def put(selector: str, value: str) -> None:
        page.run(f"""(() => {{ const i = document.querySelector('{selector}'); i.value = '{value}';
                     i.dispatchEvent(new Event('input', {{bubbles: true}})); }})()""")

    put("#tracks", "241904")
    put("#minutes", "0.485")  # as long as the measured ones
    row = summarise(runs.select(lambda record: record.dataset == "demo")).iloc[0]
    size, files = told()[row["label"]]
    assert _bytes(size) == pytest.approx(row["bytes_alone"] / 1000 * 241904, rel=0.005)
    assert int(files.replace(",", "")) > 0
    put("#tracks-slider", "400")
    assert page.run("document.querySelector('#tracks').value") == "10000000"
    put("#tracks-slider", "0")
    assert page.run("document.querySelector('#tracks').value") == "1000"
    assert page.run("document.querySelector('#tracks-slider').getAttribute('aria-valuetext')") == "1,000 tracks"
    assert _bytes(told()[row["label"]][0]) == pytest.approx(row["bytes_alone"], rel=0.005)
    put("#minutes", "0.97")
    assert _bytes(told()[row["label"]][0]) == pytest.approx(2 * row["bytes_alone"], rel=0.005)


@chromium
def test_published_numbers_are_shown_apart(page: Browser) -> None:
    assert page.run("document.querySelectorAll('#chart > svg .published').length") == 0
    page.run("""(() => { const s = document.querySelector('#cost'); s.value = 'gmacs';
                s.dispatchEvent(new Event('change')); document.querySelector('#published').click(); })()""")
    assert page.run("document.querySelectorAll('#chart > svg .published').length") == 36
    assert page.run(f"{ROWS}.length") == 24
    text = page.run("document.querySelector('#reference').textContent")
    assert "ferraro2020 (118 numbers)" in text and "No mean, front or test on this page contains them" in text
    assert page.problems() == []


@chromium
def test_everything_has_a_name_for_those_who_cannot_see_it(page: Browser) -> None:
    reached = set()
    for _ in range(40):
        page.press("Tab")
        reached.add(page.run("document.activeElement.id || document.activeElement.tagName"))
    assert {"dataset", "metric", "cost", "search", "reset", "chart"} <= reached
    page.run("document.querySelector('#table tbody button').click()")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    wanting = {
        "button",
        "checkbox",
        "combobox",
        "slider",
        "spinbutton",
        "searchbox",
        "application",
        "table",
        "region",
        "link",
    }
    nameless = [
        node["role"]["value"]
        for node in nodes
        if not node.get("ignored")
        and node["role"]["value"] in wanting - {"table"}
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    headings = [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "heading"]
    assert {"How little is enough?", "Score against cost", "All configurations"} <= set(headings)


def _narrow(page: Browser, width: int = 420) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
    page.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")


@chromium
def test_a_narrow_page_begins_with_the_answer_and_folds_the_choices(page: Browser) -> None:
    wide = page.run("document.querySelector('#chart > svg').viewBox.baseVal.width")
    assert page.run("document.querySelector('#choose').open")
    assert page.run("getComputedStyle(document.querySelector('#choose summary')).display") == "none"
    _narrow(page)
    try:
        assert not page.run("document.querySelector('#choose').open")
        assert page.run("document.querySelector('#chosen').textContent") == (
            "demo · ROC AUC · bytes, stored on its own · 24 of 24 configurations"
        )
        tops = page.run("['answer', 'collection', 'choose', 'chart', 'table'].map(id => "
                        "document.getElementById(id).getBoundingClientRect().top)")  # fmt: skip
        assert tops == sorted(tops) and tops[0] < 200
        narrow = page.run("[document.querySelector('#chart > svg').viewBox.baseVal.width, "
                          "document.querySelector('#chart').clientWidth]")  # fmt: skip
        assert narrow[0] == narrow[1] < 420 < wide, "drawn again: text keeps its size"
        hint = "getComputedStyle(document.querySelector('#table .hint')).visibility"
        assert not page.run("document.querySelector('#table .hint').hidden") and page.run(hint) == "visible"
        page.run(
            "(() => { const box = document.querySelector('#table .scroll'); box.scrollLeft = box.scrollWidth; })()"
        )
        page.run("new Promise(done => setTimeout(done, 100))")
        assert page.run(hint) == "hidden"
    finally:
        _narrow(page, 1280)
    assert page.run("document.querySelector('#choose').open") and page.problems() == []


@pytest.mark.slow
@chromium
def test_a_link_leads_to_a_state_of_the_page(page: Browser, tmp_path: Path) -> None:
    page.run("document.querySelector('input[data-field=encoding][data-value=float32]').click()")
    page.run("""(() => { const put = (id, value, event) => { const e = document.getElementById(id); e.value = value;
                         e.dispatchEvent(new Event(event, {bubbles: true})); };
                put('cost', 'gmacs', 'change'); put('tracks', '5000', 'input'); put('budget', '3', 'input');
                put('margin', '0.05', 'change'); })()""")
    page.run("document.querySelector('#table tbody button').click()")
    opened = page.run("document.querySelector('#details-title').textContent")
    page.run("new Promise(done => setTimeout(done, 500))")
    link = page.run("location.hash")
    assert link == page.run("document.querySelector('#here').getAttribute('href')")
    seen = "[...document.querySelectorAll('#answer, #collection-answer, #count')].map(e => e.textContent)"
    before = page.run(seen)
    page.run("location.hash = ''")
    page.run("new Promise(done => setTimeout(done, 100))")
    assert page.run("document.querySelector('#count').textContent") == "24 of 24 configurations"
    assert page.run("document.querySelector('#details').hidden") and page.run(seen) != before
    page.run(f"location.hash = {json.dumps(link)}")
    page.run("new Promise(done => setTimeout(done, 100))")
    assert page.run(seen) == before and page.run("document.querySelector('#details-title').textContent") == opened
    values = page.run("['tracks', 'budget', 'cost'].map(id => document.getElementById(id).value)")
    assert values == ["5000", "3", "gmacs"]
    page.run("location.hash = '#metric=nonsense&tracks=-3&margin=7&dataset=' + encodeURIComponent('<b>')")
    page.run("new Promise(done => setTimeout(done, 100))")
    assert page.run("document.querySelector('#metric').value") == "roc_auc"
    assert page.run("document.querySelector('#tracks').value") == "100000" and page.problems() == []
    page.run("location.hash = ''")


@pytest.mark.slow
@chromium
@pytest.mark.parametrize("width", [1400, 420])
def test_names_in_the_chart_lie_on_nothing_else(browser: Browser, tmp_path: Path, width: int) -> None:
    axes = {"n_mels": [128, 96, 48, 24, 8], "hop_multiple": [1, 2, 4], "scale": ["db", "log10_1p"]}
    write_runs(tmp_path / "runs", mel_grid(**axes, encoding=["float32", "uint8"]), spread=0.003, epochs=1)
    _narrow(browser, width)
    try:
        browser.events.clear()
        browser.open(write_html(read_results(tmp_path / "runs"), tmp_path / "page.html", details=0))
        boxes = """(selector => [...document.querySelectorAll(selector)].map(e => e.getBBox())
                    .map(b => [b.x, b.y + 2, b.x + b.width, b.y + b.height - 2]))"""
        names = browser.run(boxes + "('#chart > svg .name')")
        others = browser.run(boxes + "('#chart > svg .mark, #chart > svg .best, #chart > svg .quiet-text')")
        named = browser.run("[...document.querySelectorAll('#chart > svg .name')].map(e => e.textContent)")
        answer = browser.run("document.querySelector('#answer .big .link').textContent")
    finally:
        _narrow(browser, 1280)
    assert len(others) > 60 and len(names) >= 3 and answer in named
    assert [(a, b) for i, a in enumerate(names) for b in [*names[:i], *others] if _overlap(a, b)] == []
    assert browser.problems() == []


def _overlap(a: list[float], b: list[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@chromium
def test_whiskers_that_leave_the_axis_end_in_an_arrow(browser: Browser, tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", mel_grid(n_mels=[96, 48, 8], hop_multiple=[1, 4]), spread=0.01, seeds=2, epochs=1)
    runs = read_results(tmp_path / "runs")
    browser.open(write_html(runs, tmp_path / "page.html", details=0))
    lines = browser.run(
        "[...document.querySelectorAll('#chart > svg .whisker')].map(e => ['y1', 'y2'].map(k => +e.getAttribute(k)))"
    )
    top, bottom = browser.run("(() => { const d = document.querySelector('#chart > svg .axis').getAttribute('d');"
                              " return d.match(/M\\S+ (\\S+)V([^H]+)/).slice(1).map(Number); })()")  # fmt: skip
    assert len(lines) == 6 and all(top <= low <= bottom and top <= high <= bottom for low, high in lines)
    cut = sum(y in (top, bottom) for ends in lines for y in ends)
    assert cut > 0 and browser.run("document.querySelectorAll('#chart > svg .goes-on').length") == cut


@chromium
def test_narrow_windows_do_not_scroll_sideways(page: Browser) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    beyond = """[...document.querySelectorAll(".scroll caption")].filter(c =>
        c.getBoundingClientRect().width > c.closest(".scroll").clientWidth + 1).length"""
    assert page.run(beyond) == 0, "what a table is about is read without scrolling"
    try:
        assert page.run("document.documentElement.scrollWidth") <= 390
    finally:
        page.call("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)


@chromium
def test_nasty_names_stay_text(browser: Browser, tmp_path: Path, result: dict[str, Any]) -> None:
    write_result(tmp_path / "run", result | {"model": NASTY, "dataset": NASTY, "config": {NASTY: NASTY}})
    browser.events.clear()
    browser.open(write_html(read_results(tmp_path), tmp_path / "nasty.html", title=NASTY))
    browser.run("document.querySelector('#table tbody button').click()")
    assert browser.run("window.hacked === undefined")
    assert browser.run("document.querySelector('h1').textContent") == NASTY
    assert browser.problems() == [] and browser.requests() == []


@chromium
def test_files_are_counted_as_a_store_cuts_them(page: Browser) -> None:
    from importlib.resources import files
    from types import SimpleNamespace

    from featstore.store.layout import choose_shard_tracks

    source = (files("featstore.results") / "page_whatif.js").read_text()
    page.run(f"""(() => {{ const data = JSON.parse(document.getElementById('data').textContent);
                 {source}\n window.filesOf = filesOf; }})()""")
    for frame_bytes, tracks in ((1, 1000), (384, 1000), (384, 100_000), (20, 10_000_000), (100_000, 5_000)):
        header = SimpleNamespace(frame_bytes=frame_bytes, fixed_frames=1819)
        shards = -(-tracks // choose_shard_tracks([header], [29.1], tracks))  # type: ignore[list-item]
        records = 1 if shards >= 128 else shards
        assert page.run(f"filesOf({frame_bytes * 1819}, {tracks}, 29.1)") == 2 * shards + records + 9


@chromium
def test_what_if_and_plan_count_the_same_files(page: Browser, runs: RunSet) -> None:
    from featstore.datasets import TableInfo, TrackTable
    from featstore.extract.forecast import forecast
    from featstore.specs import expand_features

    row = summarise(runs.select(lambda record: record.dataset == "demo")).iloc[0]
    minutes = 60 * row["bytes_per_track"] / row["bytes_per_hour"]
    for name, value in (("tracks", 100_000), ("minutes", minutes)):
        page.run(f"""(() => {{ const i = document.querySelector('#{name}'); i.value = {value};
                    i.dispatchEvent(new Event('input', {{bubbles: true}})); }})()""")
    told = page.run("[...document.querySelectorAll('#whatif tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
    shown = next(cells[4] for cells in told if cells[0] == row["label"])
    seconds = 60 * minutes
    table = TrackTable(
        pd.DataFrame({"track_id": ["a"], "path": ["a.wav"], "labels": [[]], "duration_s": [seconds]}),
        TableInfo(name="one"),
    )
    result = forecast(table, expand_features([row["feature"]]), n_tracks=100_000, sample=0)
    assert int(shown.replace(",", "")) == result.n_files
