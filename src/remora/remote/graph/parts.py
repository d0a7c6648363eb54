"""What a graph is made of: attention, stacks of convolutions, branches for each modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch

from remora.remote.graph.flow import Flow, base, is_layout, slot_at
from remora.remote.graph.nodes import Graph, Node, slots_read
from remora.remote.graph.program import Program

Phase = Literal["prefill", "decode", "whole"]

_MATMULS = frozenset({"mm", "bmm", "matmul", "baddbmm", "addmm", "linear", "addbmm", "einsum"})
_CONVOLUTIONS = frozenset(
    {"convolution", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d"}
)
_FUSED = "scaled_dot_product_attention"
HEAVY = _MATMULS | _CONVOLUTIONS | {_FUSED}
"""Operators that the time of a model goes into."""
_SOFTMAX = frozenset({"softmax", "_softmax"})
_BETWEEN_SCORES_AND_SOFTMAX = frozenset(
    {"add", "sub", "mul", "div", "where", "masked_fill", "clamp_min", "maximum", "rsub"}
)
_ON_THE_WAY = """
    relu relu6 leaky_relu gelu silu elu sigmoid tanh hardswish hardtanh batch_norm
    _native_batch_norm_legit_no_training group_norm native_group_norm layer_norm instance_norm add
    mul max_pool1d max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d cat pad
    constant_pad_nd upsample_nearest2d
"""
_BETWEEN_CONVOLUTIONS = frozenset(_ON_THE_WAY.split())
_STACK = 2
"""So many convolutions, one behind the other, are a stack; one alone cuts a picture in patches."""
_LATE = 0.1
"""Branches join late where no more than this of the heavy work lies behind."""


@dataclass(frozen=True)
class Attention:
    """One attention: the slots of its queries, keys and values, as attention reads them."""

    node: int
    """Where the queries meet the keys; a fused operator does all in that."""
    queries: int
    keys: int
    values: int


@dataclass(frozen=True)
class Branch:
    """A part that needs some of the inputs only, beside others that need the rest."""

    inputs: tuple[int, ...]
    """Their places among the graph's inputs."""
    nodes: tuple[int, ...]


def attentions(flow: Flow) -> Sequence[Attention]:
    """Every attention, fused or spelled out as product, softmax, product."""
    found = []
    for index, node in enumerate(flow.graph.nodes):
        if base(node) == _FUSED:
            found.append(Attention(index, *(slots_read(node)[:3])))
        elif base(node) in _SOFTMAX:
            spelled_out = _around_softmax(flow, node)
            if spelled_out is not None:
                found.append(spelled_out)
    return found


def convolution_stacks(flow: Flow) -> Sequence[tuple[int, ...]]:
    """The convolutions of each stack: those that come one behind the other, and what is between."""
    convolutions = [i for i, n in enumerate(flow.graph.nodes) if base(n) in _CONVOLUTIONS]
    stack_of: dict[int, set[int]] = {index: {index} for index in convolutions}
    for index in convolutions:
        output = flow.graph.nodes[index].outputs[0]
        if output is None:
            continue
        for reader, _ in flow.ahead(output, _between_convolutions):
            if reader in stack_of and stack_of[reader] is not stack_of[index]:
                joined = stack_of[reader] | stack_of[index]
                stack_of |= dict.fromkeys(joined, joined)
    stacks = {id(stack): tuple(sorted(stack)) for stack in stack_of.values()}
    return [stack for stack in stacks.values() if len(stack) >= _STACK]


def branches(flow: Flow) -> Sequence[Branch]:
    """Parts with heavy work that depend on different inputs and join late; none where it is one."""
    heavy = [_comes_from(flow, node) for node in flow.graph.nodes if base(node) in HEAVY]
    groups = _grouped(len(flow.graph.inputs), heavy)
    found = []
    for group in groups:
        nodes = tuple(
            index
            for index, node in enumerate(flow.graph.nodes)
            if (bits := _comes_from(flow, node)) and not bits & ~group
        )
        if sum(base(flow.graph.nodes[index]) in HEAVY for index in nodes) > 1:
            places = tuple(i for i in range(len(flow.graph.inputs)) if group >> i & 1)
            found.append(Branch(places, nodes))
    return found if len(found) > 1 else []


@torch.inference_mode()
def phase(graph: Graph, shapes: Sequence[Sequence[int]], *, has_state: bool) -> Phase:
    """What a call with inputs of ``shapes`` does: ``decode``, where one token asks for what came
    before, ``prefill``, where several do; ``whole`` where nothing is kept between calls.
    """
    found = attentions(Flow(graph))
    if not has_state or not found:
        return "whole"
    meta = torch.device("meta")
    weights = {
        w.digest: torch.empty(w.dims, dtype=getattr(torch, w.dtype), device=meta)
        for w in graph.weights
    }
    inputs = [
        torch.empty(tuple(shape), dtype=getattr(torch, value.dtype), device=meta)
        for value, shape in zip(graph.inputs, shapes, strict=True)
    ]
    program = Program(graph, weights, meta, freed=[()] * len(graph.nodes))
    values = program.begin(inputs)
    for step in program.steps[: found[0].node]:
        step(values)
    return "decode" if values[found[0].queries].shape[-2] == 1 else "prefill"


def _around_softmax(flow: Flow, softmax: Node) -> Attention | None:
    read, made = slot_at(softmax, 0), softmax.outputs[0]
    if read is None or made is None:
        return None
    scores = [i for i in flow.behind(read, _before_softmax) if _multiplies(flow, i)]
    weighted = [(i, by) for i, by in flow.ahead(made, is_layout) if _multiplies(flow, i)]
    if not scores or not weighted:
        return None
    queries, keys = _factors(flow.graph.nodes[scores[0]])
    index, by = weighted[0]
    others = [slot for slot in _factors(flow.graph.nodes[index]) if slot != by]
    return Attention(scores[0], queries, keys, others[-1]) if others else None


def _multiplies(flow: Flow, index: int) -> bool:
    """Whether it is a product of two activations: neither comes from weights alone."""
    node = flow.graph.nodes[index]
    if base(node) not in _MATMULS:
        return False
    factors = _factors(node)
    return len(factors) == 2 and all(flow.comes_from[slot] for slot in factors)


def _factors(node: Node) -> Sequence[int]:
    """The two that are multiplied; what is added to their product comes first, if anything."""
    first = 1 if base(node) in ("baddbmm", "addmm", "addbmm") else 0
    return [s for place in (first, first + 1) if (s := slot_at(node, place)) is not None]


def _before_softmax(node: Node) -> bool:
    return is_layout(node) or base(node) in _BETWEEN_SCORES_AND_SOFTMAX


def _between_convolutions(node: Node) -> bool:
    return is_layout(node) or base(node) in _BETWEEN_CONVOLUTIONS


def _comes_from(flow: Flow, node: Node) -> int:
    bits = 0
    for slot in slots_read(node):
        bits |= flow.comes_from[slot]
    return bits


def _grouped(inputs: int, heavy: Sequence[int]) -> Sequence[int]:
    """Inputs that belong together, as bits: those without heavy work of their own, or whose work
    joins early.
    """
    groups = [1 << index for index in range(inputs)]
    while True:
        for one, other in combinations(groups, 2):
            if _belong_together(one, other, heavy):
                groups = [g for g in groups if g not in (one, other)] + [one | other]
                break
        else:
            return groups


def _belong_together(one: int, other: int, heavy: Sequence[int]) -> bool:
    both = sum(1 for bits in heavy if bits & one and bits & other)
    alone = [sum(1 for b in heavy if b and not b & ~g) for g in (one, other)]
    return both > 0 and (min(alone) < _STACK or both > _LATE * (both + sum(alone)))
