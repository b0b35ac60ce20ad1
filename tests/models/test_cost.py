"""What a model costs, where it is not run as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from featstore.models.cost import count_macs

SETTINGS = [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 3, "batch_first": True}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_recurrent_layers_are_counted_as_if_they_ran(settings: dict[str, Any]) -> None:
    recurrent = torch.nn.LSTM(5, 7, **settings, device="meta")
    with FlopCounterMode(display=False) as counter:
        recurrent(torch.empty(11, 2, 5, device="meta"))
    model = torch.nn.Sequential(recurrent)
    assert count_macs(model, (11, 2, 5)) == counter.get_total_flops() // 2 > 0
    assert "forward" not in vars(recurrent), "the layer runs again afterwards"
