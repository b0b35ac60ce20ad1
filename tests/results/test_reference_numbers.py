"""Published numbers: as the papers print them, with their source, and never among measured ones."""

from __future__ import annotations

import pytest

from featstore.errors import ConfigError
from featstore.results import RunSet, read_reference, summarise
from featstore.results.page_data import page_data
from featstore.results.reference import PAPERS, reference_notes


def test_rows_and_columns() -> None:
    rows = read_reference()
    assert " ".join(rows.columns) == (
        "source place kind dataset model representation sample_rate n_mels hop_length hop_multiple scale n_frames "
        "bytes_per_clip gmacs metric value spread n detail note"
    )
    assert rows.groupby("source").size().to_dict() == {
        "ferraro2020": 118,
        "gafx2022": 13,
        "kamuni2024": 1,
        "sincresnet2021": 50,
    }
    assert rows["value"].dropna().between(0, 1).all() and set(rows["kind"]) == {"own", "cited", "chance"}
    assert rows[["dataset", "model", "metric", "place"]].notna().all().all()


@pytest.mark.parametrize(
    ("dataset", "model", "n_mels", "hop", "rate", "scale", "roc", "pr"),
    [  # anchors of the study's tables, in percent
        ("MTAT", "vgg-cnn", 96, 1, 12000, "db", 88.65, 35.33),
        ("MTAT", "vgg-cnn", 48, 1, 16000, "db", 89.32, 36.41),
        ("MTAT", "musicnn", 128, 1, 16000, "db", 90.83, 38.92),
        ("MSD", "vgg-cnn", 128, 1, 16000, "db", 86.84, 28.10),
        ("MSD", "musicnn", 96, 1, 16000, "db", 87.21, 26.96),
    ],
)
def test_anchors_of_the_study(
    dataset: str, model: str, n_mels: int, hop: int, rate: int, scale: str, roc: float, pr: float
) -> None:
    rows = read_reference("ferraro2020")
    keep = (rows["dataset"] == dataset) & (rows["model"] == model) & (rows["n_mels"] == n_mels)
    keep &= (rows["hop_multiple"] == hop) & (rows["sample_rate"] == rate) & (rows["scale"] == scale)
    found = rows[keep].set_index("metric")["value"]
    assert found.to_dict() == {"roc_auc": pytest.approx(roc / 100), "pr_auc": pytest.approx(pr / 100)}


def test_sizes_and_arithmetic_belong_to_the_configuration() -> None:
    rows = read_reference("ferraro2020")
    assert (rows["bytes_per_clip"] == rows["n_mels"] * rows["n_frames"] * 4).all()
    assert (rows["hop_length"] == 256 * rows["hop_multiple"]).all()
    vgg = rows[(rows["model"] == "vgg-cnn") & (rows["n_mels"] == 96) & (rows["sample_rate"] == 12000)]
    assert set(zip(vgg["hop_multiple"], vgg["gmacs"], strict=True)) == {(1, 10.011), (2, 4.995)}
    assert rows[rows["model"] == "musicnn"]["gmacs"].isna().all()


def test_every_file_says_where_its_numbers_come_from() -> None:
    for paper in PAPERS:
        notes = reference_notes(paper)
        assert "not measured here" in notes and not notes.startswith("#") and len(notes) > 200
    with pytest.raises(ConfigError, match=r"unknown paper 'ferraro2021'.*ferraro2020"):
        read_reference("ferraro2021")


def test_the_page_keeps_them_apart(plain: RunSet) -> None:
    told = page_data(plain, title="t", details=0)
    assert told["configurations"]["count"] == len(summarise(plain)) == 12
    assert told["reference"]["rows"]["count"] == int(read_reference()["value"].notna().sum())
    assert "ferraro2020" not in str(told["configurations"])
