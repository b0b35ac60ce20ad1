"""Plain questions, checked by looking at all rows."""

from __future__ import annotations

import re

import pytest

from featstore.errors import ConfigError
from featstore.results import RunSet, fit_budget, good_enough, minimise, pareto, summarise, where
from featstore.results.conditions import parse_bounds, parse_condition


def test_conditions_pick_rows(plain: RunSet) -> None:
    frame = plain.frame
    assert len(where(plain, "n_mels=96")) == 12
    assert len(where(plain, "n_mels>=48 and encoding=uint8")) == 12
    assert len(where(plain, ["n_mels=96|8", "seed!=0"])) == 16
    assert len(where(plain, "feature~UINT8, hop_multiple<2")) == 9
    assert len(where(plain, "fold=")) == 36 and len(where(plain, "fold!=")) == 0
    assert len(where(plain, f"run_id='{frame['run_id'].iloc[0]}'")) == 1
    assert len(where(plain, f"feature={frame['feature'].iloc[0]}")) == 3  # commas inside brackets belong to the name
    assert len(where(plain, "config.training.batch_size=32")) == 36
    middle = frame["test.roc_auc"].median()
    assert len(where(plain, f"roc_auc>{middle}")) == 18
    assert where(plain, "bytes_alone<100MB")["bytes_alone"].max() < 1e8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_mels", "'n_mels' is no condition"),
        ("mels=3", r"no column 'mels'.*n_mels"),
        ("model<b", "'b' is not a number"),
        ("model<3", "model holds words and has no order"),
        ("bytes_alone<many", "'many' is not a size"),
        ("config.nothing=1", "no run has a setting"),
    ],
)
def test_wrong_conditions(plain: RunSet, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        where(plain, text)


def test_parsing() -> None:
    assert parse_condition("a == b") == ("a", "=", "b") and parse_condition('a!="b c"') == ("a", "!=", "b c")
    assert parse_bounds(["a=1", "b=2e-3"], "--min") == {"a": 1.0, "b": 0.002}
    with pytest.raises(ConfigError, match=r"'a>1' is not NAME=NUMBER \[--min\]"):
        parse_bounds(["a>1"], "--min")


def test_the_cheapest_that_is_good_enough(plain: RunSet) -> None:
    summary = summarise(plain)
    bound = float(summary["roc_auc_mean"].quantile(0.6))
    choice = minimise(summary, "bytes", at_least={"roc_auc": bound})
    good = summary[summary["roc_auc_mean"] >= bound]
    assert choice.frame["bytes_alone"].iloc[0] == good["bytes_alone"].min()
    assert len(choice.frame) == len(good) and choice.considered == 12
    assert choice.frame["bytes_alone"].is_monotonic_increasing
    assert choice.sentence.startswith(choice.frame["label"].iloc[0]) and "n=3" in choice.sentence
    told = choice.as_json()
    assert told["answer"]["label"] == choice.frame["label"].iloc[0]
    assert told["answer"]["loss_most"] >= told["answer"]["loss"]


def test_sure_asks_the_whole_interval(plain: RunSet) -> None:
    summary = summarise(plain)
    bound = float(summary["roc_auc_mean"].iloc[3])
    sure = minimise(summary, at_least={"roc_auc": bound}, sure=True).frame
    assert (sure["roc_auc_low"] >= bound).all()
    assert len(sure) < len(minimise(summary, at_least={"roc_auc": bound}).frame)


def test_within_a_share_or_a_number_of_the_best(plain: RunSet) -> None:
    summary = summarise(plain)
    best = summary["roc_auc_mean"].max()
    relative = minimise(summary, within=(0.01, True)).frame
    assert set(relative["label"]) == set(summary[summary["roc_auc_mean"] >= best * 0.99]["label"])
    absolute = minimise(summary, "gmacs", within=(0.004, False)).frame
    assert set(absolute["label"]) == set(summary[summary["roc_auc_mean"] >= best - 0.004]["label"])
    assert minimise(summary, within=(0.0, True)).sentence.count("it has the best mean of all 12") == 1


def test_good_enough_takes_the_bound_not_the_mean(plain: RunSet) -> None:
    summary = summarise(plain)
    choice = good_enough(summary, "bytes", margin=0.02, runs=plain)
    frame = pareto(summary, runs=plain).frame
    sure = frame[frame["loss_most"] <= 0.02]
    assert choice.frame["label"].iloc[0] == sure.sort_values("bytes_alone", kind="stable")["label"].iloc[0]
    assert choice.sentence.startswith(f"Keep {choice.frame['label'].iloc[0]}: ")
    assert len(choice.frame) == len(sure) < len(minimise(summary, within=(0.02, False)).frame) + 1
    with pytest.raises(ConfigError, match=r"No configuration is known to be within 0.001 points.*smallest bound"):
        good_enough(summary, margin=0.00001, runs=plain)


def test_nothing_is_good_enough(plain: RunSet) -> None:
    with pytest.raises(ConfigError, match=r"no configuration reaches roc_auc of 0.99 .*The best is .* mels"):
        minimise(summarise(plain), at_least={"roc_auc": 0.99})
    with pytest.raises(ConfigError, match=r"no run has the metric 'roc'"):
        minimise(summarise(plain), at_least={"roc": 0.5})
    with pytest.raises(ConfigError, match=r"'size' is no cost"):
        minimise(summarise(plain), "size")


def test_the_best_that_fits_the_disk(plain: RunSet) -> None:
    summary = summarise(plain)
    choice = fit_budget(summary, 20 * 10**9, 241_904)
    sizes = summary["bytes_alone"] / 1000 * 241_904  # the runs' stores hold 1,000 tracks
    fitting = summary[sizes <= 20e9]
    assert choice.frame["roc_auc_mean"].iloc[0] == fitting["roc_auc_mean"].max()
    assert len(choice.frame) == len(fitting) and "241,904 tracks" in choice.sentence
    assert choice.frame["loss_most"].iloc[0] == choice.frame["loss_most"].min()
    assert "kbit/s" in choice.sentence
    longer = fit_budget(summary, 20 * 10**9, 241_904, track_seconds=58.2)  # twice as long as measured
    assert longer.frame["bytes_predicted"].min() == pytest.approx(2 * choice.frame["bytes_predicted"].min())


def test_nothing_fits_the_disk(plain: RunSet) -> None:
    with pytest.raises(ConfigError, match=r"nothing fits in 1.00 kB for 1,000,000 tracks .*The smallest is 8 mels"):
        fit_budget(summarise(plain), 1000, 1_000_000)


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ("extract", r"costs [\d.]+ \w+, "),
        ("train", r"costs [\d.]+ \w+ of training, "),
        ("bytes_per_hour", r"costs [\d.]+ \wB per hour, "),
        ("gmacs", r"costs [\d.e-]+ gmacs, "),
    ],
)
def test_each_cost_is_told_in_its_unit(plain: RunSet, cost: str, words: str) -> None:
    assert re.search(words, minimise(summarise(plain), cost).sentence)
