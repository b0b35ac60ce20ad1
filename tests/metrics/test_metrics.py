from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from featstore.errors import ConfigError
from featstore.metrics import METRICS, bootstrap_interval, bootstrap_values, is_better, lower_is_better
from featstore.metrics.decisions import confusion_matrix

TOLERANCE = 1e-12  # the same sums of float64 in another order


def data(seed: int, n: int, classes: int, levels: int, *, single: bool) -> tuple[np.ndarray, np.ndarray]:
    """Targets and scores; few levels give many ties, and classes that are never or always true do occur."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels + 1, (n, classes)) / levels
    if single:
        return rng.integers(0, classes, n), scores
    return (rng.random((n, classes)) < rng.random(classes)).astype(np.float32), scores


sizes = {
    "seed": st.integers(0, 2**32 - 1),
    "n": st.integers(1, 60),
    "classes": st.integers(1, 6),
    "levels": st.sampled_from([1, 2, 5, 1000]),
    "single": st.booleans(),
}


def compute(name: str, targets: np.ndarray, scores: np.ndarray):
    return METRICS.load(name)(targets, scores)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(**sizes)
def test_areas_equal_scikit_learn_class_by_class(seed: int, n: int, classes: int, levels: int, single: bool) -> None:
    targets, scores = data(seed, n, classes, levels, single=single)
    positive = targets[:, None] == np.arange(classes) if single else targets > 0.5
    expected = {"roc_auc": {}, "pr_auc": {}}
    for c in range(classes):
        if 0 < positive[:, c].sum() < n:
            expected["roc_auc"][c] = reference.roc_auc_score(positive[:, c], scores[:, c])
            expected["pr_auc"][c] = reference.average_precision_score(positive[:, c], scores[:, c])
    for name, values in expected.items():
        result = compute(name, targets, scores)
        assert result.left_out == tuple(c for c in range(classes) if c not in values)
        assert np.isnan(result.per_class[list(result.left_out)]).all()
        for c, value in values.items():
            assert result.per_class[c] == pytest.approx(value, abs=TOLERANCE)
        if values:
            assert result.value == pytest.approx(np.mean(list(values.values())), abs=TOLERANCE)
        else:
            assert np.isnan(result.value)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(**sizes)
def test_decisions_equal_scikit_learn(seed: int, n: int, classes: int, levels: int, single: bool) -> None:
    targets, scores = data(seed, n, classes, levels, single=single)
    if single:
        true, found, everything = targets, scores.argmax(axis=1), {"labels": np.arange(classes)}
        present = np.unique(targets)
        assert compute("accuracy", targets, scores).value == pytest.approx(reference.accuracy_score(true, found))
        assert np.array_equal(confusion_matrix(targets, scores), reference.confusion_matrix(true, found, **everything))
    else:
        assume(classes > 1)  # scikit-learn takes one column for a binary problem
        true, found = targets > 0.5, scores >= 0.5
        present = np.flatnonzero(true.any(axis=0))
        assert compute("accuracy", targets, scores).value == pytest.approx(1 - reference.hamming_loss(true, found))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zero_division
        strict = reference.f1_score(true, found, average="macro", labels=np.arange(classes), zero_division=0)
        micro = reference.f1_score(true, found, average="micro", labels=np.arange(classes))
        macro = reference.f1_score(true, found, average="macro", labels=present) if len(present) else None
    if macro is not None:
        result = compute("macro_f1", targets, scores)
        assert result.value == pytest.approx(macro, abs=TOLERANCE)
        assert set(result.left_out) == set(range(classes)) - set(present.tolist())
        assert compute("micro_f1", targets, scores).value == pytest.approx(micro, abs=TOLERANCE)
        assert compute("macro_f1_all", targets, scores).value == pytest.approx(strict, abs=TOLERANCE)


@pytest.mark.parametrize("name", list(METRICS))
@pytest.mark.parametrize("single", [False, True])
def test_merged_state_equals_whole(name: str, single: bool) -> None:
    metric = METRICS.load(name)
    targets, scores = data(7, 50, 4, 5, single=single)
    whole = metric(targets, scores)
    left, right = metric.start(), metric.start()
    for rows in (slice(0, 10), slice(10, 11)):
        left.update(targets[rows], scores[rows])
    for rows in (slice(11, 11), slice(11, 50)):
        right.update(targets[rows], scores[rows])
    right.merge(left)
    merged = right.compute()
    assert merged.value == pytest.approx(whole.value, abs=TOLERANCE)
    np.testing.assert_allclose(merged.per_class, whole.per_class, rtol=0, atol=TOLERANCE)
    assert merged.left_out == whole.left_out


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_has_a_direction_and_is_best_for_perfect_scores(name: str) -> None:
    metric = METRICS.load(name)
    assert metric.name == name
    assert metric.higher_is_better and not lower_is_better(name)
    assert is_better(name, 0.6, 0.5)
    assert not is_better(name, 0.5, 0.5)
    assert is_better(name, 0.1, float("nan"))
    assert not is_better(name, float("nan"), 0.1)
    targets = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    assert metric(targets, targets.astype(float)).value == 1.0


def test_classes_with_one_value_are_left_out_and_named() -> None:
    targets = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
    scores = np.array([[0.9, 0.2, 0.8], [0.1, 0.9, 0.9], [0.8, 0.5, 0.7]])
    result = compute("roc_auc", targets, scores)
    assert result.value == 1.0
    assert result.left_out == (1, 2)


@pytest.mark.parametrize("name", list(METRICS))
@pytest.mark.parametrize(
    ("targets", "scores", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 4)), "do not fit together"),
        (np.zeros(4, int), np.zeros((3, 4)), "do not fit together"),
        (np.array([0, 4]), np.zeros((2, 4)), "outside the 4 classes: 0 to 4"),
        (np.array([0, 1]), np.array([[0.1, np.nan], [0.2, 0.8]]), "1 of 2 rows of scores hold NaN"),
    ],
)
def test_faulty_input_is_refused(name: str, targets: np.ndarray, scores: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compute(name, targets, scores)


def test_states_of_different_metrics_do_not_merge() -> None:
    with pytest.raises(ConfigError, match="cannot merge a state of pr_auc into one of roc_auc"):
        METRICS.load("roc_auc").start().merge(METRICS.load("pr_auc").start())
    with pytest.raises(ConfigError, match="accuracy has seen no tracks"):
        METRICS.load("accuracy").start().compute()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(**sizes)
def test_resamples_of_weight_one_are_the_score(seed: int, n: int, classes: int, levels: int, single: bool) -> None:
    targets, scores = data(seed, n, classes, levels, single=single)
    once = np.ones((1, n))
    for name in METRICS:
        metric, whole = METRICS.load(name), compute(name, targets, scores)
        per_class = metric.per_class(targets, scores, np.repeat(once, 2, axis=0))
        np.testing.assert_allclose(per_class, [whole.per_class] * 2, rtol=0, atol=TOLERANCE)
        value = metric.overall(targets, scores, once, per_class[:1])
        np.testing.assert_allclose(value, [whole.value], rtol=0, atol=TOLERANCE)
        interval = bootstrap_interval(metric, targets, scores, n_resamples=20, seed=seed)
        low, high = metric.bounds
        if not np.isnan(whole.value):
            assert low - TOLERANCE <= interval.low <= whole.value <= interval.high <= high + TOLERANCE
        # all tracks in one group: every resample is the whole
        values = bootstrap_values(metric, targets, scores, n_resamples=3, groups=np.zeros(n))
        np.testing.assert_allclose(values, [whole.value] * 3, rtol=0, atol=TOLERANCE)


def test_a_resample_without_a_positive_track_has_the_score_of_all_tracks() -> None:
    targets, scores = np.array([[1], [0]]), np.array([[0.9], [0.1]])
    values = bootstrap_values(METRICS.load("micro_f1"), targets, scores, n_resamples=50)
    np.testing.assert_array_equal(values, 1.0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), single=st.booleans())
def test_weights_are_the_same_as_repeated_tracks(seed: int, single: bool) -> None:
    targets, scores = data(seed, 20, 3, 5, single=single)
    drawn = np.random.default_rng(seed).integers(0, 20, 20)
    weights = np.bincount(drawn, minlength=20).astype(float)[None]
    for name in METRICS:
        metric, repeated = METRICS.load(name), compute(name, targets[drawn], scores[drawn])
        for factor in (1.0, 0.5):  # halves take the way without whole numbers
            per_class = metric.per_class(targets, scores, factor * weights)
            np.testing.assert_allclose(per_class[0], repeated.per_class, rtol=0, atol=1e-9)
            value = metric.overall(targets, scores, factor * weights, per_class)[0]
            np.testing.assert_allclose(value, repeated.value, rtol=0, atol=1e-9)


def test_a_class_that_a_resample_does_not_draw_keeps_its_value() -> None:
    targets = np.array([0] * 18 + [1, 2])  # two rare classes, one never found: without it resamples would score higher
    scores = np.eye(3)[[0] * 18 + [1, 0]]
    metric = METRICS.load("macro_f1")
    assert metric(targets, scores).left_out == ()
    values = bootstrap_values(metric, targets, scores, n_resamples=200)
    assert values.max() <= 2 / 3 + TOLERANCE  # the class that is never found counts as 0 in every resample
    assert np.isnan(bootstrap_values(metric, targets[:0], scores[:0], n_resamples=2)).all()


def test_bootstrap_interval_holds_the_value_and_narrows_with_data() -> None:
    metric = METRICS.load("roc_auc")
    widths = []
    for n in (50, 800):
        rng = np.random.default_rng(0)
        targets = rng.random((n, 3)) < 0.4
        scores = rng.normal(size=(n, 3)) + targets
        interval = bootstrap_interval(metric, targets, scores, n_resamples=100, seed=3)
        assert interval == bootstrap_interval(metric, targets, scores, n_resamples=100, seed=3)
        assert interval.low < metric(targets, scores).value < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0] / 2.5  # a quarter in theory: 16 times the tracks


def test_bootstrap_draws_groups_together() -> None:
    metric = METRICS.load("accuracy")
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(10), 20)
    targets = rng.integers(0, 2, 10)[groups]  # tracks of a group share their class and their error
    scores = np.eye(2)[np.where(groups % 3 == 0, 1 - targets, targets)]
    alone = bootstrap_interval(metric, targets, scores, seed=0)
    together = bootstrap_interval(metric, targets, scores, seed=0, groups=groups)
    assert together.high - together.low > 2 * (alone.high - alone.low)


@pytest.mark.parametrize("wrong", [{"level": 1.0}, {"n_resamples": 0}])
def test_bootstrap_refuses_what_gives_no_interval(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="give no interval"):
        bootstrap_interval(METRICS.load("accuracy"), np.zeros(3, int), np.ones((3, 2)), **wrong)
