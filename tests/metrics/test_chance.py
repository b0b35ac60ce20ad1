"""What guessing scores, against closed form, simulation and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from featstore.metrics.chance import GUESSES, chance_levels, expected_f1

# tracks of the 16 genres of FMA-medium, of the training and of the test split
TRAIN = [5681, 5050, 1801, 1761, 1215, 1045, 945, 814, 495, 408, 306, 142, 94, 94, 58, 13]
TEST = [711, 632, 225, 220, 152, 174, 119, 102, 62, 51, 39, 18, 42, 12, 8, 6]


def test_guessing_the_genres_of_fma_medium_is_worth_less_than_the_paper_says() -> None:
    assert sum(TRAIN) == 19_922 and sum(TEST) == 2_573
    train, test = (np.repeat(np.arange(16), counts) for counts in (TRAIN, TEST))
    chance = chance_levels(test, 16, train_targets=train)
    assert tuple(chance) == GUESSES
    assert chance["uniform"].mean == pytest.approx(0.045, abs=0.001)
    assert chance["uniform"].deviation == pytest.approx(0.004, abs=0.001)
    assert chance["class_share"].mean == pytest.approx(0.062, abs=0.001)
    assert chance["class_share"].deviation == pytest.approx(0.005, abs=0.001)
    assert chance["largest"].mean == pytest.approx(0.027, abs=0.001)
    assert chance["largest"].deviation == pytest.approx(0, abs=1e-12)
    nine = chance_levels(np.repeat(np.arange(9), 100), 9)
    assert nine["uniform"].mean == pytest.approx(1 / 9, abs=1e-3)


def test_always_the_largest_class_is_what_scikit_learn_says() -> None:
    targets = np.array([0, 0, 0, 1, 1, 3])
    always = f1_score(targets, np.zeros(6, dtype=int), labels=range(5), average="macro", zero_division=0)
    assert chance_levels(targets, 5)["largest"].mean == pytest.approx(always)


@pytest.mark.slow
def test_the_closed_form_is_what_many_guesses_give() -> None:
    rng = np.random.default_rng(0)
    targets, shares = rng.choice(4, 400, p=[0.6, 0.2, 0.15, 0.05]), np.array([0.1, 0.4, 0.3, 0.2])
    guesses = [rng.choice(4, 400, p=shares) for _ in range(300)]
    simulated = [f1_score(targets, each, labels=range(4), average=None, zero_division=0) for each in guesses]
    closed = expected_f1(np.bincount(targets, minlength=4) / 400, shares)
    np.testing.assert_allclose(np.mean(simulated, axis=0), closed, atol=0.01)
