"""Hooks before operators on a device: rows of ``make gpu-check``.

What a CPU cannot show: autograd's own thread, captured graphs, and kernels that torch.compile
launches itself.
"""

from __future__ import annotations

import array
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from remora.share.interception.contract import Gate, Hook
from remora.share.interception.registry import NAMES, create

OPERATORS = 5_000


class Wrong(RuntimeError):
    """A hook did not do on the device what it does on the CPU."""


class Stop(Exception):
    """Raised at the gate."""


@contextmanager
def _begun(name: str, passing: Callable[[], object], *, is_shut: bool = True) -> Iterator[Hook]:
    hook = create(name)
    hook.begin(Gate(memoryview(array.array("I", [int(is_shut), 0])), passing))
    try:
        yield hook
    finally:
        hook.end()


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(what)


def training(name: str, device: str) -> str:
    """A step of training: values, threads, and an exception out of backward."""
    want = _trained(device)
    threads: set[int] = set()
    with _begun(name, lambda: threads.add(threading.get_ident())) as hook:
        got = _trained(device)
        passed = hook.operators
    _check(all(map(torch.equal, want, got)), "values differ from those without a hook")
    _check(device == "cpu" or len(threads) > 1, "autograd's thread did not pass")
    error, here = Stop(), threading.get_ident()

    def passing() -> None:
        if device == "cpu" or threading.get_ident() != here:
            raise error

    try:
        with _begun(name, passing):
            _trained(device)
    except Stop as caught:
        _check(caught is error, "another exception came out of backward")
    else:
        raise Wrong("an exception at the gate did not come out of backward")
    return f"{passed} operators of {len(threads)} threads passed"


def graphs(name: str, device: str) -> str:
    """A captured graph: nothing is asked while it is captured, and each replay passes as one."""
    x, graph, asked = torch.ones(64, device=device), torch.cuda.CUDAGraph(), [0]

    def passing() -> None:
        asked[0] += 1
        torch.cuda.current_stream().query()  # fails the capture if it is asked within one

    with _begun(name, passing):
        with torch.cuda.graph(graph):
            y = (x * 2).add_(1).relu()
        before = asked[0]
        for _ in range(3):
            graph.replay()
        replayed = asked[0] - before
    torch.cuda.synchronize()
    _check(y.sum().item() == 3 * 64, "a replay gave something else")
    _check(replayed == 3, f"3 replays passed {replayed} times")
    return f"3 replays passed {replayed} times"


def compiled(name: str, device: str) -> str:
    """Steps that torch.compile compiled: each forward and backward passes, whatever is launched."""
    torch._dynamo.reset()
    model: Any = torch.compile(_model(device))
    x = torch.randn(16, 64, device=device)
    model(x).square().sum().backward()
    asked = [0]

    def passing() -> None:
        asked[0] += 1

    with _begun(name, passing):
        out = model(x)
        forward = asked[0]
        loss = out.square().sum()
        before = asked[0]
        loss.backward()
    _check(forward > 0, "a compiled forward did not pass")
    _check(asked[0] > before, "a compiled backward did not pass")
    return f"a compiled forward passed {forward} times, its backward {asked[0] - before}"


def cost(name: str, device: str) -> str:
    """Nanoseconds that an open gate adds to a launch, the least of some rounds."""
    x = torch.ones(1, device=device)
    alone_ns = min(_launches_ns(x) for _ in range(7))
    with _begun(name, lambda: None, is_shut=False):
        beside_ns = min(_launches_ns(x) for _ in range(7))
    return f"adds {beside_ns - alone_ns:.0f} ns to a launch of {alone_ns:.0f} ns"


def _launches_ns(x: torch.Tensor) -> float:
    began = time.perf_counter_ns()
    for _ in range(OPERATORS):
        torch.add(x, x)
    took_ns = time.perf_counter_ns() - began
    if x.is_cuda:
        torch.cuda.synchronize()
    return took_ns / OPERATORS


def _model(device: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.LayerNorm(64)).to(device)


def _trained(device: str) -> list[torch.Tensor]:
    model = _model(device)
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(16, 64).to(device)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return [each.detach() for each in model.parameters()]


def hooks(device: str = "cuda") -> str:
    """All of it for each hook.

    Raises:
        Wrong: something is not as it is to be.
        Unavailable: the compiled hook cannot be had here; the message says why.
    """
    checks = [training, compiled, cost]
    if device != "cpu":
        checks.insert(1, graphs)
    return "; ".join(
        f"{name}: {', '.join(check(name, device) for check in checks)}" for name in NAMES
    )
