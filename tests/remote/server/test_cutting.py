"""What a server says of the time that measuring cuts takes."""

from __future__ import annotations

import pytest
import torch

from remora.remote.graph.asked import Asked
from remora.remote.server import cutting
from remora.share.policies.registry import create

ADD = torch.ops.aten.add.Tensor


def test_why_first_steps_are_long_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    cuts = cutting.cuts_for(create("priority+slicing"), said=said.append)
    assert cuts is not None
    asked = Asked(ADD, (torch.ones(4096), torch.ones(4096)), {})
    cuts.pieces(asked)
    assert said == []
    monkeypatch.setattr(cutting, "LONG_NS", 0)
    for _ in range(3):
        cuts.pieces(asked)
    assert len(said) == 1
    assert "the first steps of a training take much longer" in said[0]
