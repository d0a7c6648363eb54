"""The row of ``make gpu-check`` for hooks, on the CPU: the same functions, another device."""

from __future__ import annotations

import re

import pytest

from benchmarks import gpu, gpu_hook
from remora.core.errors import Unavailable
from remora.share.interception.building import Build
from remora.share.interception.contract import Gate
from remora.share.interception.dispatched import Dispatched


@pytest.mark.slow
def test_every_hook_is_checked() -> None:
    try:
        Build().build()
    except Unavailable as error:
        pytest.skip(str(error))
    said = gpu_hook.hooks("cpu")
    assert re.search(r"compiled: \d+ operators of 1 threads passed, a compiled forward", said)
    assert re.search(r"python: \d+ operators .* adds \d+ ns to a launch of \d+ ns", said)


def test_a_hook_that_sees_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(Dispatched):
        def begin(self, gate: Gate) -> None: ...

    monkeypatch.setattr(gpu_hook, "create", lambda name: Blind())
    with pytest.raises(gpu_hook.Wrong, match="did not come out of backward"):
        gpu_hook.training("python", "cpu")


def test_it_is_among_the_checks() -> None:
    assert "share: hooks before operators" in [what for what, _ in gpu.checks()]
