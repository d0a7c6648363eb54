"""Graphs on a server: interpreted, and compiled as ``remora serve --compile`` does.

Both in one process and one thread of compute, in turns, so that both meet the same machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from benchmarks.page import table
from benchmarks.remote import gpt2
from remora.remote.graph import masks
from remora.remote.graph.capture import Captured, capture
from remora.remote.graph.decoder import capture_decoder, state_in
from remora.remote.graph.program import Program
from remora.remote.server.compiling import SEEN, CompiledProgram, Compiler

ROUNDS = 30
BLOCK_S = 0.1
"""How long one goes on before the other takes its turn."""
LENGTHS = range(64, 128)
"""Tokens that a decoder's state holds."""
WITHIN_S = 300.0
_CPU = torch.device("cpu")
Inputs = Callable[[int], list[torch.Tensor]]
"""Those of the call with that number."""


class Case(NamedTuple):
    """One model and one kind of call of it."""

    name: str
    captured: Captured
    inputs: Inputs
    decoder: bool = False


def cases() -> Iterator[Case]:
    """What is compared."""
    from transformers import BertConfig, BertModel

    from remora.workloads.builder import workload_model

    for name, layers, width in (("2 layers of 128", 2, 128), ("124 M", 12, 768)):
        captured = capture_decoder(gpt2(layers, width, 1024)).captured
        yield Case(f"GPT-2, {name}, a token", captured, _steps(captured), decoder=True)
    torch.manual_seed(0)
    resnet = workload_model("resnet50-forward", {"scale": "standard"}).eval()
    yield _whole("ResNet-50, 1 picture", resnet, torch.randn(1, 3, 224, 224))
    yield _whole("BERT, 128 tokens", BertModel(BertConfig()).eval(), torch.randint(30000, (1, 128)))


def _whole(name: str, model: torch.nn.Module, x: torch.Tensor) -> Case:
    return Case(name, capture(model, (x,), {}), lambda number: [x])


def _steps(captured: Captured) -> Inputs:
    graph = captured.graph

    def inputs(number: int) -> list[torch.Tensor]:
        held = LENGTHS[number % len(LENGTHS)]
        mask = masks.mask_for(graph.inputs[2], 1, held, torch.zeros(1, dtype=torch.int64), _CPU)
        state = [torch.randn(1, s.dims[1], held, s.dims[3]) for s in state_in(graph)]
        return [torch.tensor([[number % 1000]]), torch.tensor([[held]]), mask, *state]

    return inputs


@torch.inference_mode()
def compared(case: Case) -> tuple[str, ...]:
    """A row: seconds to compile, milliseconds of both, and the ratio of the two by rounds."""
    said = list[str]()
    compiler = Compiler(said=said.append)
    interpreter = Program(case.captured.graph, case.captured.tensors, _CPU)
    weights: Mapping[str, torch.Tensor] = dict(case.captured.tensors)
    there = CompiledProgram(interpreter, weights, compiler, decoder=case.decoder)
    for number in range(SEEN):
        there.run(case.inputs(number))
    began = time.monotonic()
    while not said and time.monotonic() - began < WITHIN_S:
        time.sleep(0.05)
    compiled_s = time.monotonic() - began
    compiler.close()
    if "is compiled" not in "".join(said):
        return (case.name, "–", "–", "–", "–", "–")
    ours, theirs = _in_turns(case, interpreter.run, there.run)
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return (
        case.name,
        f"{compiled_s:.0f}",
        f"{statistics.median(ours):.1f}",
        f"{statistics.median(theirs):.1f}",
        f"{statistics.median(ratios):.2f}",
        f"{min(theirs) / min(ours):.2f}",
    )


Run = Callable[[Sequence[torch.Tensor]], Any]


def _in_turns(case: Case, *ways: Run) -> list[list[float]]:
    """For each way its milliseconds a call, round by round."""
    found: list[list[float]] = [[] for _ in ways]
    calls = max(1, round(BLOCK_S * 1e3 / _block(ways[0], [case.inputs(0)] * 3)))
    for number in range(ROUNDS):
        given = [case.inputs(number * calls + call) for call in range(calls)]
        order = range(len(ways)) if number % 2 else reversed(range(len(ways)))
        for way in order:
            found[way].append(_block(ways[way], given))
    return found


def _block(run: Run, given: Sequence[Sequence[torch.Tensor]]) -> float:
    began = time.perf_counter()
    for inputs in given:
        run(inputs)
    return (time.perf_counter() - began) / len(given) * 1e3


def section() -> str:
    """The section's text."""
    columns = ("call", "compiled in, s", "interpreted, ms", "compiled, ms", "ratio", "of the least")
    return (
        f"{ROUNDS} rounds in which both take a turn: medians, and the ratio of the quickest. "
        "The states of decoding grow and shrink within what was compiled once:\n\n"
        + table(columns, [compared(case) for case in cases()])
    )


if __name__ == "__main__":
    print(section())
