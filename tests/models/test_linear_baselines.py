"""Logistic regression on histograms and statistics: what they count, by hand."""

from __future__ import annotations

import pytest
import torch

from featstore.errors import ConfigError
from featstore.models.linear_baselines import CodeStatistics, FrameStatistics, TokenHistogram


def histogram(**settings) -> TokenHistogram:
    sizes = {"n_codebooks": 1, "n_frames": 8, "n_codes": 4, "n_classes": 2}
    return TokenHistogram(TokenHistogram.Config(**sizes | settings)).eval()


def test_a_histogram_counts_what_is_real() -> None:
    x = torch.tensor([[[0, 1, 1, 1]], [[2, 3, 0, 0]]])
    shares = torch.tensor([[0.25, 0.75, 0, 0], [0, 0, 0.5, 0.5]])
    torch.testing.assert_close(histogram().forward_features(x, torch.tensor([4, 2])), shares.sqrt())


def test_codebooks_have_a_histogram_each() -> None:
    x = torch.tensor([[[0, 0], [3, 2]]])
    found = histogram(n_codebooks=2).forward_features(x).square()
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0, 0, 0, 0, 0.5, 0.5]]))


def test_pairs_tell_orders_apart_that_single_tokens_do_not() -> None:
    up, down = torch.tensor([[[0, 1, 2, 3, 0, 1, 2, 3]]]), torch.tensor([[[3, 2, 1, 0, 3, 2, 1, 0]]])
    assert torch.equal(histogram().forward_features(up), histogram().forward_features(down))
    pairs = histogram(neighbours=2, buckets=64)
    assert not torch.equal(pairs.forward_features(up), pairs.forward_features(down))
    assert pairs.forward_features(up).square().sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", [FrameStatistics, CodeStatistics])
def test_statistics_are_those_of_the_real_frames(kind) -> None:
    x = torch.tensor([[[1.0, 3.0, 9.0], [2.0, 2.0, 7.0]]])
    sizes = {"n_mels": 2} if kind is FrameStatistics else {"n_dims": 2}
    model = kind(kind.Config(n_frames=3, n_classes=2, **sizes)).eval()
    found = model.forward_features(x[:, None] if kind is FrameStatistics else x, torch.tensor([2]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 2.0, 1.0, 0.0]]), atol=2e-4, rtol=0)


def test_a_histogram_separates_what_differs_in_it() -> None:
    torch.manual_seed(0)
    target = torch.arange(16) % 2
    x = torch.randint(0, 2, (16, 1, 40)) + 2 * target[:, None, None] * torch.randint(0, 2, (16, 1, 40))
    model = histogram().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()
    assert torch.equal(model.eval()(x).argmax(dim=1), target)


def test_sizes_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"buckets=0 is not a positive whole number \[token-histogram\]"):
        histogram(buckets=0)
