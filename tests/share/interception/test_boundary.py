"""What no hook sees, operators that torch.compile or a CUDA graph swallowed, passes as a whole."""

from __future__ import annotations

import array
import itertools
import sys
import traceback
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.share.interception.hooks import built_or_skipped
from torch import nn

from remora.share.interception import compiled_regions
from remora.share.interception.contract import Gate, Hook
from remora.share.interception.registry import NAMES, create


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return built_or_skipped(request.param)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def hook(name: str, said: list[str]) -> Iterator[Hook]:
    hook = create(name, said.append)
    yield hook
    hook.end()


@pytest.fixture
def shut() -> memoryview:
    return memoryview(array.array("I", [1, 0]))


# ---------------------------------------------------------------- CUDA graphs


class Graph:
    """Stands in for ``torch.cuda.CUDAGraph``."""

    log: list[str]

    def capture_begin(self, pool: object = None) -> None:
        self.log.append(f"capture {pool}")

    def capture_end(self) -> None:
        self.log.append("captured")

    def replay(self) -> None:
        self.log.append("replay")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    log: list[str] = []
    monkeypatch.setattr(Graph, "log", log, raising=False)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    return log


def test_a_replay_passes_as_one_and_a_capture_waits_for_nobody(
    hook: Hook, shut: memoryview, log: list[str]
) -> None:
    graph, x = Graph(), torch.ones(1)
    hook.begin(Gate(shut, lambda: log.append("passing"), every=1))
    torch.add(x, x)
    graph.capture_begin(pool="pool")
    torch.add(x, x)
    graph.capture_end()
    graph.replay()
    graph.replay()
    hook.end()
    graph.replay()
    assert log == [
        *("passing", "capture pool", "captured"),
        *("passing", "replay", "passing", "replay", "replay"),
    ]
    assert hook.operators == 4
    assert vars(Graph)["replay"].__qualname__ == "Graph.replay"
    assert not hasattr(Graph.replay, "__wrapped__")


def test_an_exception_while_a_replay_waits_comes_to_the_program(
    hook: Hook, shut: memoryview, log: list[str]
) -> None:
    error = KeyboardInterrupt()

    def passing() -> None:
        raise error

    def program() -> None:
        Graph().replay()
        log.append("went on")

    hook.begin(Gate(shut, passing))
    with pytest.raises(KeyboardInterrupt) as caught:
        program()
    assert caught.value is error
    assert log == []


def test_a_capture_that_fails_or_is_dropped_is_over(
    hook: Hook, shut: memoryview, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(_: Graph) -> None:
        raise RuntimeError("capture failed")

    monkeypatch.setattr(Graph, "capture_end", failed)
    asked, x = itertools.count(), torch.ones(1)
    hook.begin(Gate(shut, lambda: next(asked)))
    graph = Graph()
    graph.capture_begin()
    with pytest.raises(RuntimeError, match="capture failed"):
        graph.capture_end()
    torch.add(x, x)
    graph.capture_begin()
    torch.add(x, x)
    del graph
    torch.add(x, x)
    assert next(asked) == 2


def test_a_stream_that_others_capture_waits_for_nobody(
    hook: Hook, shut: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, x = itertools.count(), torch.ones(1)
    hook.begin(Gate(shut, lambda: next(asked)))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    torch.add(x, x)  # there is no CUDA, so nobody asks its stream
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    torch.add(x, x)
    assert next(asked) == 1


def test_graphs_of_another_kind_are_told_of_once(
    hook: Hook, shut: memoryview, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    for _ in range(2):
        hook.begin(Gate(shut, lambda: None))
        hook.end()
    assert said == [
        "remora: captured CUDA graphs do not pass the gate: torch.cuda.CUDAGraph has no replay"
    ]


# ---------------------------------------------------------------- torch.compile


class Regions(ModuleType):
    """Stands in for the module of inductor's that has the classes of its graphs."""

    class CompiledFxGraph:
        def __call__(self, inputs: list[int]) -> int:
            return sum(inputs)


def test_a_graph_of_inductors_passes_call_by_call(
    hook: Hook, shut: memoryview, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, compiled_regions.MODULE, Regions("regions"))
    asked, graph = itertools.count(), Regions.CompiledFxGraph()
    hook.begin(Gate(shut, lambda: next(asked)))
    assert [graph([1, 2]), graph([3])] == [3, 3]
    assert hook.operators == 2
    hook.end()
    assert graph([4]) == 4
    assert next(asked) == 2
    assert not hasattr(Regions.CompiledFxGraph.__call__, "__wrapped__")
    assert said == []


def test_an_inductor_of_another_kind_is_told_of_once(
    hook: Hook, shut: memoryview, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, compiled_regions.MODULE, ModuleType("regions"))
    for _ in range(2):
        hook.begin(Gate(shut, lambda: None))
        hook.end()
    assert said == [
        "remora: graphs that torch.compile made do not pass the gate as a whole: this torch has "
        "none of CompiledFxGraph, CompiledAOTI in torch._inductor.output_code"
    ]


def block() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8))


def step(model: Any, x: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    loss = model(x).square().sum()
    loss.backward()
    return [loss.detach(), *(each.grad.clone() for each in model.parameters())]


@pytest.mark.slow
def test_a_compiled_step_passes_forward_and_backward_and_is_compiled_once(
    hook: Hook, shut: memoryview, said: list[str]
) -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    x, model = torch.randn(4, 8), block()
    compiled: Any = torch.compile(model, fullgraph=True)
    regions: list[bool] = []

    def passing() -> None:
        callers = [each.name for each in traceback.extract_stack()]
        regions.extend(callers[at : at + 2] == ["_around", "_pass"] for at in range(len(callers)))

    hook.begin(Gate(shut, passing))
    begun_before = [step(compiled, x) for _ in range(3)][-1]
    hook.end()
    assert sum(regions) == 2 * 3, "a forward and a backward each"
    assert dict(counters["stats"])["unique_graphs"] == 1
    after = step(compiled, x)
    hook.begin(Gate(shut, passing))
    again = step(compiled, x)
    hook.end()
    assert sum(regions) == 2 * 4
    assert dict(counters["stats"])["unique_graphs"] == 1, "it was compiled anew"
    for other in (after, again):
        assert all(torch.equal(a, b) for a, b in zip(begun_before, other, strict=True))
    assert said == []


@pytest.mark.slow
def test_what_was_compiled_before_the_hook_began_passes_too(hook: Hook, shut: memoryview) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: x.sin().cos() + 1)
    x = torch.randn(4)
    alone = compiled(x)
    asked = itertools.count()
    hook.begin(Gate(shut, lambda: next(asked)))
    beside = compiled(x)
    hook.end()
    assert next(asked) >= 1
    assert torch.equal(alone, beside)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_backends_that_call_operators_pass_operator_by_operator(
    hook: Hook, shut: memoryview, backend: str
) -> None:
    torch._dynamo.reset()
    x, model = torch.randn(4, 8), block()
    compiled: Any = torch.compile(model, backend=backend)
    want = step(compiled, x)
    asked = itertools.count()
    hook.begin(Gate(shut, lambda: next(asked)))
    got = step(compiled, x)
    hook.end()
    assert next(asked) > 10
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
