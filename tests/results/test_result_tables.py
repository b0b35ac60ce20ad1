"""Tables in five styles: the same numbers, each readable by its reader."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from featstore.errors import ConfigError
from featstore.results import RunSet, format_table, join_published, pareto, query, read_results, summarise
from featstore.results.page_data import page_data
from featstore.results.tables import display_table, format_rows
from featstore.testing.runs import mel_grid, write_runs
from featstore.units import format_bytes, format_seconds, parse_bytes, parse_within


def test_text_says_once_what_is_the_same_in_all_rows(plain: RunSet) -> None:
    lines = format_table(summarise(plain)).splitlines()
    assert lines[0] == "All: demo, vgg-cnn, mel, 16 kHz, dB"
    assert lines[1].split()[:3] == ["configuration", "n", "(runs)"]
    assert len(lines) == 3 + 12
    assert len({len(line) for line in lines[3:]}) <= 2 and "loss" not in lines[1]


def test_text_rounds_and_uses_units(plain: RunSet) -> None:
    summary = summarise(plain)
    heads, rows, _ = display_table(summary)
    row = summary.iloc[0]
    cell = rows[0][heads.index("ROC AUC")]
    assert cell == (
        f"{row['roc_auc_mean']:.4f} ± {row['roc_auc_std']:.4f} [{row['roc_auc_low']:.4f}, {row['roc_auc_high']:.4f}]"
    )
    assert rows[0][heads.index("alone")] == format_bytes(row["bytes_alone"])
    assert rows[0][heads.index("of audio")].endswith(" %")


def test_what_weights_have_seen_has_a_column_of_its_own(tmp_path: Path) -> None:
    """In tables, SQL and on the page, and nowhere else in a row's name; left out where no weights saw anything."""
    pytest.importorskip("duckdb")
    folders = write_runs(tmp_path, mel_grid(n_mels=[96, 48, 24]), seeds=2)
    for number, folder in enumerate(folders):
        result = json.loads((folder / "result.json").read_text())
        result["outside_data"] = ("", "", "MagnaTagATune", "MagnaTagATune")[number] if number < 4 else None
        (folder / "result.json").write_text(json.dumps(result))
    runs = read_results(tmp_path)
    heads, rows, note = display_table(summarise(runs))
    place = heads.index("outside data")
    assert sorted(row[place] for row in rows) == ["MagnaTagATune", "none", "–"] and "MagnaTagATune" not in note
    assert not any("MagnaTagATune" in cell for row in rows for cell in row[:place])
    found = query(runs, "SELECT outside_data, count(*) AS n FROM runs GROUP BY ALL ORDER BY ALL NULLS LAST")
    assert found["n"].tolist() == [2, 2, 2] and found["outside_data"].tolist()[:2] == ["MagnaTagATune", "none"]
    data = page_data(runs, title="", details=0)
    assert "outside_data" in [each["name"] for each in data["filters"]]
    assert set(data["configurations"]["outside_data"]["texts"]) == {"MagnaTagATune", "none", ""}
    (tmp_path / "clean").mkdir()
    write_runs(tmp_path / "clean", mel_grid(n_mels=[96, 48]))
    assert "outside data" not in display_table(summarise(read_results(tmp_path / "clean")))[0]


def test_csv_and_json_hold_every_number_in_full(plain: RunSet) -> None:
    summary = summarise(plain)
    read = list(csv.DictReader(io.StringIO(format_table(summary, "csv"))))
    told = json.loads(format_table(summary, "json"))
    assert len(read) == len(told) == 12
    for row, other, (_, own) in zip(read, told, summary.iterrows(), strict=True):
        assert float(row["roc_auc_mean"]) == other["roc_auc_mean"] == own["roc_auc_mean"]
        assert other["roc_auc_values"] == list(own["roc_auc_values"])
        assert [float(v) for v in row["roc_auc_values"].split()] == other["roc_auc_values"]
        assert int(row["n_mels"]) == other["n_mels"] == own["n_mels"]


def test_markdown_and_latex(plain: RunSet) -> None:
    summary = summarise(plain, ["n_mels", "encoding"])
    markdown = format_table(summary, "markdown").splitlines()
    table = [line for line in markdown if line.startswith("|")]
    assert len(table) == 2 + 6 and len({line.count("|") for line in table}) == 1
    assert table[1].startswith("|---:|---|---:|")
    latex = format_table(summary, "latex")
    assert latex.count(r"\\") == 7 and all(rule in latex for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert r"$\pm$" in latex and r"\%" in latex and "±" not in latex
    body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    columns = latex.split(r"\begin{tabular}{")[1].split("}")[0]
    assert {line.count("&") + 1 for line in body} == {len(columns)}


def test_what_a_cell_holds_cannot_break_a_table() -> None:
    rows = [["a|b_c", r"50% & \more {x}", "~^#$"]]
    assert format_rows(["h"] * 3, rows, "markdown").splitlines()[2] == r"| a\|b_c | 50% & \\more {x} | ~^#$ |"
    line = format_rows(["h"] * 3, rows, "latex").splitlines()[-3]
    assert line == (r"a|b\_c & 50\% \& \textbackslash{}more \{x\} & \textasciitilde{}\textasciicircum{}\#\$ \\")


def test_columns_of_wide_and_chosen_costs(plain: RunSet) -> None:
    heads, _, _ = display_table(summarise(plain), wide=True)
    assert {"per hour", "inference", "loss"} <= set(heads)
    heads, _, _ = display_table(summarise(plain), costs=["bytes_per_hour"])
    assert "per hour" in heads and "alone" not in heads
    with pytest.raises(ConfigError, match=r"'bytes' is no cost.*bytes_alone"):
        display_table(summarise(plain), costs=["bytes"])
    with pytest.raises(ConfigError, match=r"unknown style 'html'"):
        format_table(summarise(plain), "html")  # type: ignore[arg-type]


def test_fronts_and_unbalanced_groups_are_told(plain: RunSet) -> None:
    text = format_table(pareto(summarise(plain)).frame)
    assert "at most, at least: points below the best" in text
    assert "measured and guaranteed" in text
    assert "may be the best" in text
    assert "PR AUC" not in text, "a front is about one metric"
    assert "Warning: 1 of 1 rows lack some seeds" in format_table(summarise(plain[1:], ["model"]))


def test_single_runs_have_no_columns_of_bounds(tmp_path: Path) -> None:
    write_runs(tmp_path, mel_grid(n_mels=[96, 48, 24]), seeds=1)
    summary = pareto(summarise(read_results(tmp_path))).frame
    assert summary["loss_most"].isna().all()
    heads, _, note = display_table(summary)
    assert "ROC AUC" in heads and not {"at most", "at least"} & set(heads) and "at most" not in note
    assert "ROC AUC" in format_table(summary, width=60)


def test_published_numbers_stand_in_columns_of_their_own(plain: RunSet) -> None:
    summary = summarise(plain)
    joined = join_published(summary)
    assert joined[summary.columns.tolist()].equals(summary)  # no measured number is touched
    column = joined.set_index("label")["published MTAT roc_auc"]
    assert column["48 mels, hop 256 (16 ms), float32"] == "0.8932 ± 0.0022"
    assert column["96 mels, hop 512 (32 ms), uint8"] == "0.8886 ± 0.0011"
    assert (
        joined["published MSD roc_auc"].notna().sum() == 8
        and column["8 mels, hop 256 (16 ms), uint8"] != column.iloc[0]
    )
    assert "the papers' own numbers, on their own data" in format_table(joined)


def test_units_round_trip() -> None:
    assert [format_bytes(v) for v in (0, 999, 1000, 999_999, 123_456_789)] == [
        "0 B",
        "999 B",
        "1.00 kB",
        "1,000 kB",
        "123 MB",
    ]
    assert [format_seconds(v) for v in (0, 59.9, 3600)] == ["0 s", "59.9 s", "1.00 h"]
    assert parse_bytes("2TiB") == 2 << 40 and parse_bytes("1k") == 1000
    assert parse_within("2 %") == (0.02, True)
    for text in ("50 XB", "GB", "-3", "", "1e400"):
        with pytest.raises(ConfigError, match="is not a size"):
            parse_bytes(text)
    with pytest.raises(ConfigError, match="is not a tolerance"):
        parse_within("half")
