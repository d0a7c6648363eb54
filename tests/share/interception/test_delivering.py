"""An exception that is on its way to the program is handed over once, whatever runs until then."""

from __future__ import annotations

import array

import pytest
import torch

from remora.core.errors import Unavailable
from remora.share.interception.compiled import Compiled
from remora.share.interception.contract import Gate
from remora.share.interception.delivering import Delivery


def test_it_is_handed_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hook, handed = Compiled(), []
    try:
        hook.load()
    except Unavailable as error:
        pytest.skip(str(error))
    original = Delivery.hand_over

    def counted(delivery: Delivery, error: BaseException) -> type[BaseException] | None:
        handed.append(error)
        return original(delivery, error)

    def passing() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Delivery, "hand_over", counted)
    x = torch.ones(1, requires_grad=True)
    numbers = array.array("I", [0, 0])
    hook.begin(Gate(memoryview(numbers), passing))
    try:
        y = x.sin().cos().exp().sum()
        gradient = torch.ones(())
        numbers[0] = 1
        with pytest.raises(KeyboardInterrupt):
            y.backward(gradient)
        assert len(handed) == 1
    finally:
        hook.end()
