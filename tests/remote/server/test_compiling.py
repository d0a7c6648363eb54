"""Calls that come again are compiled meanwhile, give the same, and are interpreted else."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.remote.conftest import decoded_here, prompt
from tests.remote.processes.conftest import within

from remora.core.errors import Refused
from remora.remote.client.placed import Placed
from remora.remote.client.server import connect
from remora.remote.client.session import RemoteSession
from remora.remote.graph.capture import capture
from remora.remote.graph.fx_graph import as_fx
from remora.remote.graph.nodes import Graph, Node, Slot, Value
from remora.remote.graph.program import Program
from remora.remote.server import compiling
from remora.remote.server.compiling import SEEN, CompiledProgram, Compiler, Job, Variant
from remora.remote.server.server import Server

HERE = torch.device("cpu")


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.GELU(approximate="tanh")
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        low, high = self.layers(x).chunk(2, dim=1)
        return low.softmax(-1), high.mean((2, 3))


def program(model: torch.nn.Module, *inputs: torch.Tensor) -> tuple[Program, dict[str, Any]]:
    captured = capture(model.eval(), inputs, {})
    return Program(captured.graph, captured.tensors, HERE), dict(captured.tensors)


def test_a_graph_as_fx_gives_what_its_program_gives() -> None:
    x = torch.randn(2, 3, 9, 9)
    interpreter, weights = program(Network(), x)
    module = as_fx(interpreter.graph, weights, HERE)
    with torch.inference_mode():
        for one, other in zip(interpreter.run([x]), module(x), strict=True):
            assert torch.equal(one, other)


def test_no_text_of_a_client_is_compiled() -> None:
    for text in ("x'); import os #", "two words", "a" * 21):
        node = Node("aten.gelu.default", (Slot(0),), {"approximate": text}, (1,))
        graph = Graph(2, (), (Value(0, "float32", (2,)),), (node,), (Slot(1),))
        with pytest.raises(Refused, match="text"):
            as_fx(graph, {}, HERE)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Variant]]:
    """What is compiled, which a stand-in does: as the interpreter, and a little more."""
    found = list[weakref.ref[Variant]]()

    def compiled(job: Job) -> Callable[..., Any]:
        found.append(weakref.ref(job.variant))
        run = job.program.interpreter.run
        return lambda *inputs: [output + 1000 for output in run(inputs)]

    monkeypatch.setattr(compiling, "_compiled", compiled)
    return found


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def compiler(said: list[str]) -> Iterator[Compiler]:
    compiler = Compiler(most=2, said=said.append)
    yield compiler
    compiler.close()


def linear(compiler: Compiler) -> CompiledProgram:
    interpreter, weights = program(torch.nn.Linear(3, 2), torch.randn(2, 3))
    return CompiledProgram(interpreter, weights, compiler, decoder=False)


def is_compiled(there: CompiledProgram, x: torch.Tensor) -> bool:
    return bool(there.run([x])[0].max() > 500)


def test_a_call_is_compiled_when_it_has_come_some_times(
    compiler: Compiler, made: list[weakref.ref[Variant]], said: list[str]
) -> None:
    there, x = linear(compiler), torch.randn(4, 3)
    assert not any(is_compiled(there, x) for _ in range(SEEN))
    assert within(5, lambda: is_compiled(there, x))
    assert not is_compiled(there, x[:2]), "another shape is another kind"
    assert len(made) == 1
    assert said == ["a graph of 1 operators is compiled"]


def test_no_more_are_compiled_than_may_be_until_models_have_gone(
    compiler: Compiler, made: list[weakref.ref[Variant]], said: list[str]
) -> None:
    there = linear(compiler)
    for rows in (2, 3, 4, 5):
        for _ in range(SEEN + 1):
            there.run([torch.randn(rows, 3)])
    assert within(5, lambda: len(made) == 2)
    assert said.count("2 kinds of calls are compiled; others are interpreted") == 1
    made.clear()
    del there
    another = linear(compiler)
    assert within(5, lambda: is_compiled(another, torch.randn(9, 3)))


def test_what_cannot_be_compiled_is_interpreted_and_said_once(
    compiler: Compiler, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(job: Job) -> None:
        raise RuntimeError("no C++ compiler here\nand much more")

    monkeypatch.setattr(compiling, "_compiled", fails)
    there, x = linear(compiler), torch.randn(4, 3)
    expected = there.interpreter.run([x])[0]
    assert all(torch.equal(there.run([x])[0], expected) for _ in range(SEEN))
    assert within(5, lambda: bool(said))
    assert all(torch.equal(there.run([x])[0], expected) for _ in range(2 * SEEN))
    assert said == ["a graph is interpreted, as it cannot be compiled: no C++ compiler here"]


def test_what_fails_when_it_runs_is_interpreted_from_then_on(
    compiler: Compiler, made: list[weakref.ref[Variant]]
) -> None:
    there, x = linear(compiler), torch.randn(4, 3)
    assert within(5, lambda: is_compiled(there, x))
    calls = list[int]()

    def fails(*inputs: torch.Tensor) -> None:
        calls.append(1)
        raise RuntimeError("broken")

    (variant,) = there._variants.values()
    variant.run = fails  # type: ignore[assignment]
    assert not is_compiled(there, x)
    assert not is_compiled(there, x)
    assert len(calls) == 1


def test_what_gives_something_else_is_not_used() -> None:
    one, other = torch.ones(3), torch.tensor([1.0, 1.0, 1.001])
    with pytest.raises(Refused, match="differs by 1"):
        compiling._check_same([one], [other])
    compiling._check_same([one, 7], [one + 1e-6, 7])
    with pytest.raises(Refused, match="shapes"):
        compiling._check_same([one], [one[:2]])
    with pytest.raises(Refused, match="differs"):
        compiling._check_same([one], [one * float("nan")])


needs_cxx = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles by g++")


@needs_cxx
@pytest.mark.slow
def test_a_decoder_is_compiled_for_any_length_and_gives_the_same_tokens(
    decoder: Placed, language_model: torch.nn.Module
) -> None:
    said = list[str]()
    with (
        Server("tcp://127.0.0.1:0", compiles=True, troubled=said.append) as server,
        connect(server.address, reconnect_s=0) as remote,
        RemoteSession(remote, Placed(decoder.captured, decoder=True), deadline_s=None) as session,
    ):
        session.prefill(prompt(5))
        list(session.generate(10))
        assert within(240, lambda: "compiled" in "".join(said)), said
        assert "cannot" not in "".join(said)
        session.rewind(5)
        (model,) = server.house.models._models.values()
        assert isinstance(model.program, CompiledProgram)
        (variant,) = model.program._variants.values()
        given, run = list[tuple[torch.Tensor, ...]](), variant.run
        assert run is not None

        def noting(*inputs: torch.Tensor) -> Any:
            given.append(inputs)
            return run(*inputs)

        variant.run = noting
        assert list(session.generate(100)) == decoded_here(language_model, prompt(5), 100)
        assert variant.run is noting, "it never failed"
    assert len(given) >= 90
    with torch.profiler.profile() as profile:
        for inputs in given:
            run(*inputs)
    assert sum(event.name == "aten::layer_norm" for event in profile.events()) <= NORMS


NORMS = 5
"""Of the one step behind the rewind, whose state is laid out otherwise: torch runs it eagerly."""


@needs_cxx
@pytest.mark.slow
def test_what_is_compiled_runs_no_operator_of_the_graph_by_itself() -> None:
    said = list[str]()
    compiler, x = Compiler(said=said.append), torch.randn(2, 3, 9, 9)
    interpreter, weights = program(Network(), x)
    there = CompiledProgram(interpreter, weights, compiler, decoder=False)
    for _ in range(SEEN):
        expected = there.run([x])
    assert within(240, lambda: bool(said))
    for weight in weights.values():
        weight.zero_()  # what is compiled has them in it, laid out as it likes them
    with torch.profiler.profile() as profile:
        outputs = there.run([x])
    names = {event.name for event in profile.events()}
    assert "aten::softmax" not in names, "it would be there if torch had run it eagerly"
    for one, other in zip(expected, outputs, strict=True):
        torch.testing.assert_close(one, other)
    compiler.close()
