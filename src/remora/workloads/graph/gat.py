"""The graph attention network: Veličković et al. 2018."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from remora.workloads.contract import Workload
from remora.workloads.graph.citations import CORA, GraphSizes
from remora.workloads.graph.workload import GraphWorkload
from remora.workloads.optimizers import adam
from remora.workloads.sessions import Batch

_DROPOUT = 0.6
_SLOPE = 0.2
"""Of the leaky rectifier that attention goes through (section 2.1)."""


class _Attention(nn.Module):
    """Every head weighs each node's neighbours anew (section 2.1, equations 1 to 4).

    The scores are of all pairs of nodes, those without an edge being masked, as programs do that
    have no sparse kernels.
    """

    def __init__(self, inputs: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(_DROPOUT)
        self.linear = nn.Linear(inputs, heads * width, bias=False)
        self.to_source = nn.Parameter(torch.zeros(heads, width, 1))
        self.to_target = nn.Parameter(torch.zeros(heads, width, 1))
        self.bias = nn.Parameter(torch.zeros(heads * width))

    def forward(self, nodes: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
        by_head = self.linear(self.dropout(nodes)).unflatten(1, (self.heads, -1)).transpose(0, 1)
        scores = by_head @ self.to_target + (by_head @ self.to_source).mT
        weights = leaky_relu(scores, _SLOPE).masked_fill(apart, -torch.inf).softmax(-1)
        mixed: torch.Tensor = self.dropout(weights) @ self.dropout(by_head)
        return mixed.transpose(0, 1).flatten(1) + self.bias


class Gat(nn.Module):
    """A graph to logits (nodes, classes)."""

    def __init__(self, sizes: GraphSizes) -> None:
        super().__init__()
        self.hidden = _Attention(sizes.features, sizes.width, sizes.heads)
        self.elu = nn.ELU()
        self.output = _Attention(sizes.heads * sizes.width, sizes.classes, heads=1)

    def forward(self, batch: Batch) -> torch.Tensor:
        hidden = self.elu(self.hidden(batch["features"], batch["apart"]))
        logits: torch.Tensor = self.output(hidden, batch["apart"])
        return logits


@dataclass(eq=False)
class GatWorkload(GraphWorkload):
    """``apart`` (nodes, nodes) tells the pairs that have no edge, targets by row."""

    def network(self, sizes: GraphSizes) -> nn.Module:
        return Gat(sizes)

    def edges(self, graph: Batch) -> Batch:
        nodes = len(graph["features"])
        apart = graph["features"].new_ones(nodes, nodes, dtype=torch.bool)
        joined = apart.new_zeros(()).expand(len(graph["targets"]))
        return {"apart": apart.index_put((graph["targets"], graph["sources"]), joined)}


def workloads() -> Iterator[Workload]:
    full = GraphSizes(**CORA, width=8, heads=8)
    yield GatWorkload(
        "gat",
        "train",
        {"quick": GraphSizes(256, 512, 512, 7, 140, 8, 8), "standard": full, "paper": full},
        "Veličković et al. (ICLR 2018), section 3.3, on the sizes of Cora; dropout 0.6; "
        "a workload of TrainCheck (OSDI 2025)",
        optimizer=adam(lr=0.005, weight_decay=5e-4),
    )
