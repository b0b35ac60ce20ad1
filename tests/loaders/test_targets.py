"""Targets from labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer

from featstore.errors import ConfigError, DatasetError
from featstore.loaders import class_index, class_names, multi_hot, select_split, split_targets

CLASSES = ("classical", "jazz", "rock")


@given(st.lists(st.lists(st.sampled_from(CLASSES)), min_size=1))
def test_multi_hot_equals_scikit_learn(labels):
    if not any(labels):
        return
    expected = MultiLabelBinarizer(classes=CLASSES).fit_transform(labels)
    found = multi_hot(labels, CLASSES)
    assert found.dtype == np.float32 and np.array_equal(found, expected)


def test_labels_outside_the_class_list_are_left_out():
    assert multi_hot([["jazz", "solo"], ["solo"]], ["jazz"]).tolist() == [[1.0], [0.0]]


def test_class_index():
    found = class_index([["rock"], ["classical"]], CLASSES)
    assert found.tolist() == [2, 0] and found.dtype == np.int64


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["rock"], []], r"0 labels where a single-label task needs one: \[\] \[track b\]"),
        ([["rock"], ["jazz", "rock"]], r"2 labels .* \[track b\]"),
        ([["rock"], ["jaz"]], r"label 'jaz' is not one of the classes \[track b\]. Did you mean jazz"),
        ([[], None], "they carry no label at all"),
    ],
)
def test_class_index_names_the_track(labels, message):
    with pytest.raises(DatasetError, match=message):
        class_index(labels, CLASSES, ["a", "b"])


def test_no_track_with_a_label_of_the_list():
    with pytest.raises(DatasetError, match=r"none of 2 tracks has a label .*they carry blues, folk"):
        multi_hot([["folk"], ["blues"]], CLASSES)


def test_a_class_named_twice():
    with pytest.raises(ConfigError, match="Name each class once"):
        multi_hot([["a"]], ["a", "a"])
    with pytest.raises(ConfigError, match="0 classes"):
        multi_hot([["a"]], [])


def test_splits_and_targets_of_a_table():
    frame = pd.DataFrame(
        {"track_id": ["a", "b", "c"], "split": ["train", None, "test"], "labels": [["jazz"], ["rock"], ["rock"]]}
    )
    assert select_split(frame, "train")["track_id"].tolist() == ["a"]
    assert len(select_split(frame, None)) == 3
    assert class_names(frame["labels"]) == ("jazz", "rock")
    assert split_targets(frame, ["jazz", "rock"], "single_label").tolist() == [0, 1, 1]
    assert split_targets(frame, ["jazz", "rock"], "multi_label").tolist() == [[1, 0], [0, 1], [0, 1]]
    with pytest.raises(DatasetError, match=r"no track in split 'valid' \[3 tracks\]. Splits here: test, train"):
        select_split(frame, "valid")
    with pytest.raises(DatasetError, match="The table has no splits"):
        select_split(frame.assign(split=None), "train")
    with pytest.raises(ConfigError, match="task='none' has no targets"):
        split_targets(frame, ["jazz"], "none")
